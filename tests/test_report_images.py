"""What the report takes from a manifest in pieces equals what a whole table gives."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from maskdistill.data import stream
from maskdistill.data.manifest import COLUMNS, image_rows, ok_images, read_manifest, write_manifest
from maskdistill.report import images
from maskdistill.report.images import find_images, read_images

COUNT = 57


def make_manifest(folder: Path, scored: bool) -> Path:
    ids = np.arange(1, COUNT + 1)
    bad = ids % 4 == 0
    columns = {
        "image_id": ids, "key": [f"k{i}" for i in ids], "path": [f"p/{i}.jpg" for i in ids],
        "width": 20 + ids,
        "height": 90 - ids, "mode": "RGB", "sha256": "", "shard": (ids - 1) // 10, "train": ids < 30,
        "eval": (ids % 3 == 1) & scored, "status": np.where(bad, "quarantined", "ok"),
        "reason": np.where(bad, np.where(ids % 8 == 0, "truncated", "empty"), ""),
    }  # fmt: skip
    write_manifest(folder / "manifest.csv", pd.DataFrame(columns)[list(COLUMNS)])
    return folder / "manifest.csv"


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [1, 7, 1000])
@pytest.mark.parametrize("scored", [True, False])
def test_pieces_give_what_the_whole_gives(
    tmp_path: Path, chunk: int, scored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream.usable_rows, "__defaults__", (chunk,))
    monkeypatch.setattr(stream.all_rows, "__defaults__", (chunk,))
    monkeypatch.setattr(images, "LISTED", 5)
    monkeypatch.setattr(images, "SAMPLED", 11)
    path = make_manifest(tmp_path, scored)
    table = read_manifest(path)
    usable, bad = ok_images(table), table[table["status"] != "ok"]
    found = read_images(path, 6, table["image_id"][table["eval"]].to_numpy())
    assert (found.total, found.usable) == (COUNT, len(usable))
    assert (found.train, found.eval) == (usable["train"].sum(), usable["eval"].sum())
    pool = usable[usable["eval"]] if scored else usable
    steps = np.linspace(0, len(pool) - 1, 6).round().astype(int)
    assert found.examples == pool["image_id"].iloc[steps].tolist()
    steps = np.linspace(0, len(usable) - 1, 11).round().astype(int)
    for name in ("width", "height"):
        assert found.sizes[name].tolist() == usable[name].iloc[steps].tolist()
    assert found.quarantined == list(zip(bad["path"], bad["reason"], strict=True))[:5]
    assert found.reasons == bad["reason"].value_counts().to_dict()


def test_rows_of_some_images(tmp_path: Path) -> None:
    path = make_manifest(tmp_path, True)
    wanted = {1, 17, 18, 57, 999}
    table = read_manifest(path)
    expected = image_rows(table[table["image_id"].isin(wanted)])
    assert list(find_images(path, wanted).values()) == expected
    assert find_images(path, set()) == {}


def test_nothing_usable(tmp_path: Path) -> None:
    path = make_manifest(tmp_path, True)
    table = read_manifest(path)
    table["status"] = "quarantined"
    write_manifest(path, table[list(COLUMNS)])
    found = read_images(path, 6, np.arange(5))
    assert (found.total, found.usable, found.examples, found.sizes["width"].size) == (COUNT, 0, [], 0)
