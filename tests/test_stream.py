"""The manifest read in pieces agrees with the manifest read whole."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from maskdistill.data.manifest import ok_images, read_manifest, write_manifest
from maskdistill.data.stream import read_roles, usable_rows, usable_shards
from maskdistill.runtime.errors import MaskDistillError


def make_manifest(folder: Path) -> Path:
    """Image n is quarantined if 5 divides n; trained on if n < 8, scored if n is odd and above 5."""
    ids = np.arange(1, 13)
    table = pd.DataFrame(
        {
            "image_id": ids, "key": [f"k, \"{i}\"\n" for i in ids], "path": [f"ü/{i}.jpg" for i in ids],
            "width": 20 + ids, "height": 30, "mode": "RGB", "sha256": "", "shard": (ids - 1) // 4,
            "train": ids < 8,
            "eval": (ids % 2 == 1) & (ids > 5),
            "status": ["quarantined" if i % 5 == 0 else "ok" for i in ids],
            "reason": "",
        }
    )  # fmt: skip
    write_manifest(folder / "manifest.csv", table)
    return folder / "manifest.csv"


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_pieces_together_are_the_whole(tmp_path: Path, chunk: int) -> None:
    path = make_manifest(tmp_path)
    whole = ok_images(read_manifest(path))
    parts = list(usable_rows(path, ("key", "image_id", "width"), chunk))
    assert all(len(part) <= chunk for part in parts)
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), whole[["key", "image_id", "width"]])
    assert pd.concat(usable_rows(path, ("status", "path"), chunk))["path"].tolist() == whole["path"].tolist()


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_shards_are_those_of_the_whole(tmp_path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usable_rows, "__defaults__", (chunk,))
    path = make_manifest(tmp_path)
    whole = ok_images(read_manifest(path))
    found = dict(usable_shards(path, ("image_id", "train")))
    assert list(found) == [0, 1, 2]
    for shard, rows in found.items():
        expected = whole[whole["shard"] == shard].reset_index(drop=True)
        pd.testing.assert_frame_equal(rows, expected[["image_id", "train"]])
    table = read_manifest(path)
    table["shard"] = [1] * 4 + [0] * 8
    write_manifest(path, table)
    with pytest.raises(MaskDistillError, match="shards do not follow one another"):
        list(usable_shards(path, ("image_id",)))


def test_support_is_what_is_neither_trained_on_nor_scored(tmp_path: Path) -> None:
    path = make_manifest(tmp_path)
    roles = read_roles(path)
    assert roles.image_id.tolist() == [1, 2, 3, 4, 6, 7, 8, 9, 11, 12]
    assert roles.image_id[~roles.fitted].tolist() == [9, 11]
    assert roles.shard.tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert roles.find(np.array([12, 1, 7]), "x.h5").tolist() == [9, 0, 5]
    for unknown in (0, 5, 13):
        with pytest.raises(MaskDistillError, match=rf"x\.h5: the manifest has no usable image {unknown},"):
            roles.find(np.array([1, unknown]), "x.h5")


def test_what_is_no_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(MaskDistillError, match=r"none\.csv: no such file; run the manifest stage"):
        read_roles(tmp_path / "none.csv")
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    with pytest.raises(MaskDistillError, match=r"bad\.csv: not a manifest"):
        read_roles(tmp_path / "bad.csv")
