"""Pseudo-annotations: a valid COCO dataset that says exactly what the masks say."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pycocotools.coco import COCO

from maskdistill.annotations.coco import annotations, categories, farthest_kept
from maskdistill.annotations.index import IndexBuilder, read_index
from maskdistill.cli import main
from maskdistill.clusters.assignments import write_assignments
from maskdistill.data import stream
from maskdistill.data.manifest import write_manifest
from maskdistill.formats import rle
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import write_json
from maskdistill.runtime.json_stream import write_json_object

MASKS = {}  # image_id -> bool (H, W)
for _id, _shape in {1: (20, 30), 2: (30, 20), 3: (16, 16), 4: (25, 25), 5: (18, 40)}.items():
    MASKS[_id] = np.random.default_rng(_id).random(_shape) < 0.3
MASKS[3][:] = False


def mask(image_id: int) -> dict[str, Any]:
    """A mask record whose own box and area are wrong: they must be measured."""
    return {
        "image_id": image_id,
        "segmentation": rle.encode(MASKS[image_id]),
        "bbox": [0, 0, 1, 1],
        "area": 1,
    }


def size(image_id: int) -> tuple[int, int]:
    height, width = MASKS[image_id].shape
    return height, width


def test_annotations_say_what_the_masks_say() -> None:
    sizes = {i: size(i) for i in (1, 2, 3)}
    found = list(annotations([(mask(1), 4), (mask(3), 0), (mask(2), 0)], sizes, 5, first_id=7))
    assert [(a["id"], a["image_id"], a["category_id"]) for a in found] == [(7, 1, 5), (8, 2, 1)]
    for annotation in found:
        expected = MASKS[annotation["image_id"]]
        np.testing.assert_array_equal(rle.decode(annotation["segmentation"]), expected)
        rows, columns = np.nonzero(expected)
        assert annotation["bbox"] == [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
        assert annotation["area"] == expected.sum()
        assert annotation["iscrowd"] == 0 and annotation["score"] == 1.0


@pytest.mark.parametrize(("k", "first", "last"), [(1, "cluster-00", "cluster-00"), (20, "cluster-00",
"cluster-19"),
                                                  (101, "cluster-000", "cluster-100")])  # fmt: skip
def test_exactly_k_categories(k: int, first: str, last: str) -> None:
    found = categories(k)
    names = [category["name"] for category in found]
    assert (
        len(names) == len(set(names)) == k
        and (names[0], names[-1]) == (first, last)
        and names == sorted(names)
    )
    assert [category["id"] for category in found] == list(range(1, k + 1))


def test_wrong_masks_are_refused() -> None:
    sizes = {1: size(1)}
    with pytest.raises(MaskDistillError, match="cluster 5, but there are 5"):
        list(annotations([(mask(1), 5)], sizes, 5))
    with pytest.raises(MaskDistillError, match="image 2 has size"):
        list(annotations([(mask(2), 0)], sizes, 5))
    turned = {**mask(2), "image_id": 1}
    with pytest.raises(MaskDistillError, match=r"image 1 has size \[30, 20\], its image \[20, 30\]"):
        list(annotations([(turned, 0)], sizes, 5))


# ---------------------------------------------------------------- the stream and its index


def test_streamed_object_has_the_bytes_of_the_whole(tmp_path: Path) -> None:
    whole: dict[str, Any] = {"a": [], "b": [{"y": 1, "x": [1.5, "ü"]}, None, [2]], "c": {"k": True}, "d": [3]}
    places = []
    with write_json_object(tmp_path / "streamed.json") as content:
        with content.array("a"):
            pass
        with content.array("b") as append:
            places = [append(item) for item in whole["b"]]
        content.value("c", whole["c"])
        with content.array("d") as append:
            append(3)
    write_json(tmp_path / "whole.json", whole)
    data = (tmp_path / "streamed.json").read_bytes()
    assert data == (tmp_path / "whole.json").read_bytes()
    assert [json.loads(data[start:stop]) for start, stop in places] == whole["b"]


def test_keys_out_of_order_and_failures_leave_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'a' after 'b'"), write_json_object(tmp_path / "x.json") as content:
        content.value("b", 1)
        content.value("a", 1)
    assert list(tmp_path.iterdir()) == []


def test_index_leads_to_each_images_annotations(tmp_path: Path) -> None:
    records = [{"image_id": i, "id": n, "text": "ä" * n} for n, i in enumerate((2, 2, 5, 9, 9, 9))]
    builder = IndexBuilder()
    with write_json_object(tmp_path / "a.json") as content, content.array("annotations") as append:
        for record in records:
            builder.add(int(str(record["image_id"])), *append(record))
    with pytest.raises(ValueError, match="image 5 after image 9"):
        builder.add(5, 0, 1)
    builder.write(tmp_path / "a.h5", 3)
    index = read_index(tmp_path / "a.json", tmp_path / "a.h5")
    assert index.image_id.tolist() == [2, 5, 9] and index.num_clusters == 3
    for place, image_id in enumerate((2, 5, 9)):
        assert index.read(place) == [record for record in records if record["image_id"] == image_id]
    (tmp_path / "a.json").write_text(" " + (tmp_path / "a.json").read_text())
    with pytest.raises(MaskDistillError, match=r"a\.json: does not fit its index"):
        index.read(1)
    with pytest.raises(MaskDistillError, match=r"a\.json: damaged.*--forcerun"):
        read_index(tmp_path / "a.json", tmp_path / "a.h5")
    with write_json_object(tmp_path / "a.json"):
        pass
    IndexBuilder().write(tmp_path / "a.h5", 3)
    with pytest.raises(MaskDistillError, match="no image has an annotation"):
        read_index(tmp_path / "a.json", tmp_path / "a.h5")


# ---------------------------------------------------------------- entry point


def make_run(folder: Path) -> list[str]:
    """Images 1..5 in two shards; 2 is only scored, 3 has an empty mask, 5 has no mask."""
    table = pd.DataFrame(
        {
            "image_id": range(1, 6), "key": [f"key {i}" for i in range(1, 6)], "path": "x.jpg",
            "width": [MASKS[i].shape[1] for i in range(1, 6)], "height": [MASKS[i].shape[0] for i in range(1,
            6)],
            "mode": "RGB", "sha256": "", "shard": [0, 0, 0, 1, 1], "train": [True, False, True, True, True],
            "eval": [False, True, False, False, False], "status": "ok", "reason": "",
        }
    )  # fmt: skip
    write_manifest(folder / "manifest.csv", table)
    shards = []
    for shard, ids in enumerate([[1, 2, 3], [4]]):
        shards.append(str(folder / f"masks/shard-{shard:04d}.json"))
        write_json(shards[-1], {"provenance": {}, "masks": [mask(i) for i in ids]})
    with write_assignments(folder / "assignments.h5", 4, 3, {}) as writer:
        writer.append(0, [1, 2, 3], [0, 1, 2], [1, 2, 0], [0.1, 0.1, 0.1])
        writer.append(1, [4], [0], [1], [0.1])
    return shards


def annotate(folder: Path, shards: list[str], k: int = 3, keep: float = 1) -> int:
    return main(
        ["annotations", "--manifest", str(folder / "manifest.csv"), "--masks", *shards, "--assignments",
         str(folder / "assignments.h5"), "--num-clusters", str(k), "--output",
         str(folder / "annotations.json"),
         "--index", str(folder / "annotations.h5"), "--params", json.dumps({"keep": keep})]
    )  # fmt: skip


def test_entry_point_output_loads_in_pycocotools(tmp_path: Path) -> None:
    shards = make_run(tmp_path)
    assert annotate(tmp_path, shards) == 0
    dataset = COCO(str(tmp_path / "annotations.json"))
    assert sorted(dataset.imgs) == [1, 3, 4, 5] and sorted(dataset.cats) == [1, 2, 3]
    assert {a["image_id"]: a["category_id"] for a in dataset.anns.values()} == {1: 2, 4: 2}
    for annotation in dataset.anns.values():
        np.testing.assert_array_equal(
            dataset.annToMask(annotation).astype(bool), MASKS[annotation["image_id"]]
        )
    assert dataset.dataset["images"][0] == {"id": 1, "file_name": "key 1", "width": 30, "height": 20}
    index = read_index(tmp_path / "annotations.json", tmp_path / "annotations.h5")
    assert index.num_clusters == 3
    assert {int(i): index.read(n) for n, i in enumerate(index.image_id)} == {
        i: dataset.imgToAnns[i] for i in (1, 4)
    }
    text = (tmp_path / "annotations.json").read_text()
    assert "null" not in text and str(tmp_path) not in text
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")) + "\n"


@pytest.mark.parametrize(("keep", "expected"), [(1, 9.0), (0.8, 4.0), (0.79, 4.0), (0.5, 2.0), (0.01, 1.0)])
def test_the_farthest_that_is_kept(keep: float, expected: float) -> None:
    assert farthest_kept(np.array([4, 1, 9, 2, 2], np.float32), keep) == expected


def test_no_mask_has_no_limit() -> None:
    assert farthest_kept(np.zeros(0, np.float32), 0.5) == np.inf


def test_masks_far_from_their_centroids_are_left_out(tmp_path: Path) -> None:
    """The share counts masks of training images alone: image 2, only scored, is nearest of all."""
    shards = make_run(tmp_path)
    write_json(shards[0], {"provenance": {}, "masks": [mask(2), mask(1), mask(1), mask(2)]})
    with write_assignments(tmp_path / "assignments.h5", 5, 3, {}) as writer:
        writer.append(0, [2, 1, 1, 2], range(4), [0, 1, 2, 0], [0.0, 0.3, 0.1, 0.0])
        writer.append(1, [4], [0], [2], [0.2])
    for keep, expected in ((1, [(1, 2), (1, 3), (4, 3)]), (0.6, [(1, 3), (4, 3)]), (0.3, [(1, 3)])):
        assert annotate(tmp_path, shards, keep=keep) == 0
        content = json.loads((tmp_path / "annotations.json").read_text())
        assert [(a["image_id"], a["category_id"]) for a in content["annotations"]] == expected
        assert [image["id"] for image in content["images"]] == [1, 3, 4, 5]
        assert content["provenance"]["params"]["keep"] == keep


def test_equal_bytes_whatever_the_order_of_the_shards(tmp_path: Path) -> None:
    shards = make_run(tmp_path)
    assert annotate(tmp_path, shards) == 0
    names = ("annotations.json", "annotations.h5")
    first = [(tmp_path / name).read_bytes() for name in names]
    assert annotate(tmp_path, shards[::-1]) == 0
    assert [(tmp_path / name).read_bytes() for name in names] == first


def test_stale_inputs_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards = make_run(tmp_path)
    assert annotate(tmp_path, shards, k=4) == 1
    assert "assignments.h5: has 3 clusters, --num-clusters says 4" in capsys.readouterr().err
    write_json(shards[1], {"provenance": {}, "masks": [mask(5), mask(4)]})
    assert annotate(tmp_path, shards) == 1
    assert "no cluster for mask 0" in capsys.readouterr().err
    write_json(shards[1], {"provenance": {}, "masks": []})
    write_json(shards[0], {"provenance": {}, "masks": []})
    assert annotate(tmp_path, shards) == 1
    assert "no training image has a mask" in capsys.readouterr().err
    assert annotate(tmp_path, shards[:1]) == 1
    assert "shard 1 is missing" in capsys.readouterr().err
    assert not (tmp_path / "annotations.json").exists() and not (tmp_path / "annotations.h5").exists()


def test_several_masks_an_image_and_images_split_over_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masks need not stand in the order of their images, and pieces of the manifest need not end with a
    shard.
    """
    monkeypatch.setattr(stream.usable_rows, "__defaults__", (2,))
    shards = make_run(tmp_path)
    write_json(shards[0], {"provenance": {}, "masks": [mask(2), mask(1), mask(2), mask(1)]})
    with write_assignments(tmp_path / "assignments.h5", 5, 3, {}) as writer:
        writer.append(0, [2, 1, 2, 1], range(4), [0, 1, 2, 0], [0.1] * 4)
        writer.append(1, [4], [0], [2], [0.1])
    assert annotate(tmp_path, shards) == 0
    content = json.loads((tmp_path / "annotations.json").read_text())
    found = [(a["id"], a["image_id"], a["category_id"]) for a in content["annotations"]]
    assert found == [(1, 1, 2), (2, 1, 1), (3, 4, 3)]
    index = read_index(tmp_path / "annotations.json", tmp_path / "annotations.h5")
    assert index.read(0) == content["annotations"][:2] and index.read(1) == content["annotations"][2:]


@pytest.mark.slow
def test_memory_follows_the_shard_and_not_the_run(tmp_path: Path) -> None:
    """Ten times the shards: the same peak but for 24 bytes an image."""

    def peak(count: int) -> int:
        folder, per = tmp_path / str(count), 50
        n, code = count * per, rle.encode(MASKS[5])
        table = pd.DataFrame(
            {
                "image_id": range(1, n + 1), "key": [f"k{i}" for i in range(n)], "path": "x.jpg", "width": 40,
                "height": 18, "mode": "RGB", "sha256": "", "shard": np.arange(n) // per, "train": True,
                "eval": False,
                "status": "ok", "reason": "",
            }
        )  # fmt: skip
        write_manifest(folder / "manifest.csv", table)
        shards = []
        with write_assignments(folder / "assignments.h5", n, 3, {}) as writer:
            for shard in range(count):
                ids = list(range(shard * per + 1, (shard + 1) * per + 1))
                shards.append(str(folder / f"masks/shard-{shard:04d}.json"))
                write_json(shards[-1], {"masks": [{"image_id": i, "segmentation": code} for i in ids]})
                writer.append(shard, ids, range(per), [0] * per, [0.0] * per)
        tracemalloc.start()
        assert annotate(folder, shards) == 0
        result = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream.usable_rows, "__defaults__", (100,))
        peak(2)  # loads what is loaded once
        small, large = peak(4), peak(40)
    assert large < small + 300_000, f"{small} bytes for 200 images, {large} for 2000"
