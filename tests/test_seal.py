"""Seals: whatever is damaged in an artefact is noticed by what reads it, or changes nothing that it reads."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch

from maskdistill.annotations.index import IndexBuilder, read_index
from maskdistill.backbones.weights import read_state_dict, save_weights
from maskdistill.clusters.assignments import open_assignments, write_assignments
from maskdistill.data.manifest import ImageRow, read_manifest, write_manifest
from maskdistill.data.stream import all_rows
from maskdistill.features import store
from maskdistill.formats import rle
from maskdistill.formats.label_png import read_label_png, write_label_png
from maskdistill.report.collect import read_metrics
from maskdistill.runtime import files, seal
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import (
    atomic_directory,
    atomic_path,
    check_seal,
    read_json,
    sealed_path,
    write_json,
)
from maskdistill.runtime.hdf5 import open_hdf5
from maskdistill.runtime.json_stream import write_json_object
from maskdistill.training.checkpoint import load_model, model_metadata, save_model
from maskdistill.training.curves import write_metrics

POSITIONS = 100
PAGE = 4096


class Kind(NamedTuple):
    """A kind of artefact: what writes one below a folder, and what reads everything of it that is ever
    used.
    """

    file: str
    write: Callable[[Path], object]
    read: Callable[[Path], object]


def plain(value: Any) -> Any:
    """Something that can be compared by ``==``."""
    if isinstance(value, torch.Tensor | np.ndarray):
        return str(value.dtype), tuple(value.shape), np.asarray(value).tobytes()
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def features(folder: Path) -> None:
    rng = np.random.default_rng(0)
    images = [ImageRow(i, f"k{i}", f"{i}.png", 20, 10, 0) for i in range(3)]
    with store.write_features(folder / "x.h5", images, [(2, 3)] * 3, 8, {"stage": "features"}) as writer:
        writer.create(8, 2, "float16")
        for place in range(3):
            vectors = [rng.normal(size=size).astype(np.float32) for size in ((2, 4), (2, 4), (6, 8))]
            writer.put(place, store.ImageFeatures(*vectors, (2, 3), (16, 24)))


def read_features(folder: Path) -> object:
    with open_hdf5(folder / "x.h5") as file:
        found = [
            (image.image_id, image.key, image.image_hw, vars(image.features))
            for image in store.read_features(file)
        ]
        return [found, dict(file.attrs)]


def embeddings(folder: Path) -> None:
    store.write_embeddings(
        folder / "x.h5", np.random.default_rng(0).normal(size=(40, 6)), range(40), range(40), {}
    )


def read_embeddings(folder: Path) -> object:
    with open_hdf5(folder / "x.h5") as file:
        return {name: file[name][:] for name in ("embeddings", "image_id", "mask_index")}


def assignments(folder: Path) -> None:
    with write_assignments(folder / "x.h5", 60, 5, {}) as writer:
        writer.append(0, range(30), range(30), np.arange(30) % 5, np.arange(30) / 7)
        writer.append(2, range(30, 60), range(30), np.arange(30) % 5, np.arange(30) / 7)


def read_assignments(folder: Path) -> object:
    with open_assignments(folder / "x.h5") as table:
        return [table.num_clusters, [tuple(table.of_shard(shard)) for shard in (0, 1, 2)]]


def annotations(folder: Path) -> None:
    index = IndexBuilder()
    with write_json_object(folder / "x.json") as content, content.array("annotations") as append:
        for number in range(60):
            record = {"image_id": number // 2, "bbox": [number, 1, 2, 3], "category_id": 1 + number % 3}
            index.add(number // 2, *append(record))
    index.write(folder / "x.h5", 3)


def read_annotations(folder: Path) -> object:
    index = read_index(folder / "x.json", folder / "x.h5")
    return [index.num_clusters, [index.read(place) for place in range(len(index.image_id))]]


def manifest(folder: Path) -> None:
    table = pd.DataFrame(
        {
            "image_id": range(1, 41), "key": [f"k{i}" for i in range(40)], "path": "x.jpg", "width": 40,
            "height": 18,
            "mode": "RGB", "sha256": "ab" * 32, "shard": np.arange(40) // 20, "train": True, "eval": False,
            "status": "ok", "reason": "",
        }
    )  # fmt: skip
    write_manifest(folder / "x.csv", table)


def read_whole_manifest(folder: Path) -> object:
    streamed = pd.concat(all_rows(folder / "x.csv", ["key", "width"])).to_dict("list")
    return [read_manifest(folder / "x.csv").to_dict("list"), streamed]


def read_shards_of_manifest(folder: Path) -> object:
    return [read_manifest(folder / "x.csv", shard).to_dict("list") for shard in (0, 1)]


def masks(folder: Path) -> None:
    code = rle.encode(np.eye(40, dtype=bool))
    write_json(
        folder / "x.json",
        {"provenance": {}, "masks": [{"image_id": i, "segmentation": code} for i in range(9)]},
    )


def labels(folder: Path) -> None:
    write_label_png(folder / "x.png", (np.random.default_rng(0).random((90, 120)) < 0.1).astype(np.uint8))


def net() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Linear(40, 30)


def model(folder: Path) -> None:
    metadata = {"params": "{}", "num_clusters": "3", "provenance": '{"stage":"detector"}'}
    save_model(folder / "x.safetensors", net().state_dict(), metadata)


def read_model(folder: Path) -> object:
    path = folder / "x.safetensors"
    return [model_metadata(path, "detector"), load_model(path, torch.nn.Linear(40, 30)).state_dict()]


def curves(folder: Path) -> None:
    write_metrics(folder / "x.csv", [{"step": float(step), "loss": 1 / (1 + step)} for step in range(40)])


def centroids(folder: Path) -> None:
    with sealed_path(folder / "x.npz") as temporary:
        np.savez(temporary, centroids=np.random.default_rng(0).normal(size=(9, 9)))


def read_centroids(folder: Path) -> object:
    check_seal(folder / "x.npz")
    return np.load(folder / "x.npz")["centroids"]


KINDS = {
    "features": Kind("x.h5", features, read_features),
    "embeddings": Kind("x.h5", embeddings, read_embeddings),
    "assignments": Kind("x.h5", assignments, read_assignments),
    "annotations": Kind("x.json", annotations, read_annotations),
    "index of annotations": Kind("x.h5", annotations, read_annotations),
    "manifest": Kind("x.csv", manifest, read_whole_manifest),
    "shards of a manifest": Kind("x.csv", manifest, read_shards_of_manifest),
    "index of a manifest": Kind("x.index.json", manifest, read_shards_of_manifest),
    "masks": Kind("x.json", masks, lambda folder: read_json(folder / "x.json")),
    "label map": Kind("x.png", labels, lambda folder: read_label_png(folder / "x.png")),
    "model": Kind("x.safetensors", model, read_model),
    "weights": Kind(
        "x.safetensors",
        lambda folder: save_weights(net().state_dict(), folder / "x.safetensors", {"arch": "x"}),
        lambda folder: read_state_dict(folder / "x.safetensors"),
    ),
    "training curves": Kind("x.csv", curves, lambda folder: read_metrics(folder / "x.csv").to_dict("list")),
    "centroids": Kind("x.npz", centroids, read_centroids),
}


@pytest.mark.slow
@pytest.mark.hostile(
    "hdf5: one bit flipped or one page zeroed, in any artefact", outcome="the stage stops: --forcerun FILE"
)
@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_artefact_is_named_or_reads_as_before(tmp_path: Path, name: str) -> None:
    """Single bits all over the file, each page as a power cut leaves it, and a file that was cut or grew."""
    kind = KINDS[name]
    kind.write(tmp_path)
    sound = plain(kind.read(tmp_path))
    path = tmp_path / kind.file
    content = path.read_bytes()
    rng = np.random.default_rng(len(content))
    harmed = {
        f"page {start}": content[:start]
        + b"\0" * len(content[start : start + PAGE])
        + content[start + PAGE :]
        for start in range(0, len(content), PAGE)
    }
    for place in rng.choice(len(content), min(POSITIONS, len(content)), replace=False).tolist():
        flipped = bytes([content[place] ^ (1 << int(rng.integers(8)))])
        harmed[f"byte {place}"] = content[:place] + flipped + content[place + 1 :]
    harmed |= {
        "cut": content[:-1],
        "half": content[: len(content) // 2],
        "empty": b"",
        "grown": content + b"\0" * 512,
    }
    refused = 0
    for what, bad in harmed.items():
        path.write_bytes(bad)
        try:
            assert plain(kind.read(tmp_path)) == sound, what
        except MaskDistillError as error:
            refused += 1
            assert (
                tmp_path.name in str(error) and "--forcerun" in str(error) and "delete" not in str(error)
            ), what
    assert refused > 0.8 * len(harmed), "most of a file means something"
    path.write_bytes(content)
    assert plain(kind.read(tmp_path)) == sound


def test_every_artefact_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    for name, content in (
        ("a.json", b'{"a":1}\n'),
        ("a.h5", b"\x89HDF"),
        ("a.csv", b"step\n1\n"),
        ("a.npz", b""),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(
            MaskDistillError,
            match=rf"{name}: damaged: it has no digest.*an earlier version.*--forcerun \S+{name}$",
        ):
            check_seal(tmp_path / name)


def test_weights_that_somebody_else_made_need_no_seal(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(net().state_dict(), tmp_path / "given.safetensors", {"format": "pt"})
    assert torch.equal(
        read_state_dict(tmp_path / "given.safetensors")["weight"], net().state_dict()["weight"]
    )
    with pytest.raises(MaskDistillError, match=r"given\.safetensors: damaged: it has no digest"):
        load_model(tmp_path / "given.safetensors", net())


def test_a_seal_is_the_hash_of_the_file_with_a_blank_digest(tmp_path: Path) -> None:
    import hashlib
    import json

    write_json(tmp_path / "x.json", {"b": [1], "a": None})
    text = (tmp_path / "x.json").read_text()
    digest = json.loads(text)[seal.KEY]
    blank = '{"a":null,"b":[1],"~sha256":"' + "0" * 64 + '"}\n'
    assert text.replace(digest, "0" * 64) == blank
    assert digest == hashlib.sha256(blank.encode()).hexdigest()
    assert seal.verify(tmp_path / "x.json") == hashlib.sha256(text.encode()).hexdigest()
    write_json(tmp_path / "empty.json", {})
    assert read_json(tmp_path / "empty.json") == {}
    with sealed_path(tmp_path / "x.csv") as temporary:
        temporary.write_bytes(b"a\n1\n")
    lines = (tmp_path / "x.csv").read_text().splitlines()
    assert lines[:2] == ["a", "1"] and len(lines) == 3
    assert lines[2] == "# sha256 " + hashlib.sha256(b"a\n1\n# sha256 " + b"0" * 64 + b"\n").hexdigest()
    with pytest.raises(ValueError, match="only a JSON object"), sealed_path(tmp_path / "y.json") as temporary:
        temporary.write_text("[1]\n")
    assert not (tmp_path / "y.json").exists()


def test_a_file_that_kept_its_stamp_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(tmp_path / "x.json", {"a": 1})
    hashed: list[Path] = []
    original = seal._hash
    monkeypatch.setattr(seal, "_hash", lambda path, place: hashed.append(path) or original(path, place))
    seal.verify(tmp_path / "x.json")
    seal.verify(tmp_path / "x.json")
    assert len(hashed) == 2, "it is too young: its next change might not show in its times"
    now = time.time_ns()
    monkeypatch.setattr(seal.time, "time_ns", lambda: now + 10**10)
    assert len({seal.verify(tmp_path / "x.json") for _ in range(3)}) == 1 and len(hashed) == 3
    content = (tmp_path / "x.json").read_bytes()
    time.sleep(0.02)
    (tmp_path / "x.json").write_bytes(content.replace(b"1", b"2", 1))
    with pytest.raises(seal.BrokenSeal):
        seal.verify(tmp_path / "x.json")


# ---------------------------------------------------------------- on the disk before it has its name


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is synced and renamed, in order: files of one folder together count once."""
    seen: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def synced(handle: int) -> None:
        seen.append(("sync", os.path.basename(os.readlink(f"/proc/self/fd/{handle}"))))
        fsync(handle)

    def renamed(source: Any, target: Any) -> None:
        seen.append(("rename", os.path.basename(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    return seen


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, disk: list[tuple[str, str]]) -> None:
    with atomic_path(tmp_path / "new/x.json") as temporary:
        temporary.write_text("{}")
    assert disk == [("sync", temporary.name), ("rename", "x.json"), ("sync", "new")]


def test_all_files_of_a_folder_are_synced_once(tmp_path: Path, disk: list[tuple[str, str]]) -> None:
    with atomic_directory(tmp_path / "shard-0000") as temporary:
        write_label_png(temporary / "sub/a.png", np.zeros((3, 3), np.uint8))
        write_json(temporary / "summary.json", {})
        (temporary / "link").symlink_to("nowhere")
    place = disk.index(("rename", "shard-0000"))
    assert sorted(disk[2:place]) == sorted(
        [("sync", "a.png"), ("sync", "summary.json"), ("sync", "sub"), ("sync", temporary.name)]
    )
    assert disk[:2] == [("rename", "a.png"), ("rename", "summary.json")], "alone none of them is synced"
    assert disk[place + 1 :] == [("sync", tmp_path.name)]
    assert (tmp_path / "shard-0000/sub/a.png").is_file()


def test_every_writer_syncs_file_and_folder(tmp_path: Path, disk: list[tuple[str, str]]) -> None:
    for number, kind in enumerate(KINDS.values()):
        folder = tmp_path / str(number)
        folder.mkdir()
        disk.clear()
        kind.write(folder)
        for place in [place for place, (what, _) in enumerate(disk) if what == "rename"]:
            assert disk[place - 1][0] == "sync" and disk[place + 1] == ("sync", str(number)), kind.file


def test_a_failed_sync_gives_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(tmp_path / "x.json", {"a": 1})

    def fail(_: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(files, "_sync", fail)
    with pytest.raises(OSError, match="Input/output"):
        write_json(tmp_path / "x.json", {"a": 2})
    assert read_json(tmp_path / "x.json") == {"a": 1} and [path.name for path in tmp_path.iterdir()] == [
        "x.json"
    ]


def test_copied_results_stay_sound(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for kind in (KINDS["features"], KINDS["model"], KINDS["masks"]):
        kind.write(tmp_path / "run")
    manifest(tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "copy", copy_function=shutil.copyfile)
    for kind in (KINDS["features"], KINDS["model"], KINDS["masks"]):
        assert plain(kind.read(tmp_path / "copy")) == plain(kind.read(tmp_path / "run"))
    assert len(read_manifest(tmp_path / "copy/x.csv")) == 40
