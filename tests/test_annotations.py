"""Pseudo-annotations: a valid COCO dataset that says exactly what the masks say."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pycocotools.coco import COCO

from maskdistill import rle
from maskdistill.annotations import build_annotations, category_names
from maskdistill.cli import main
from maskdistill.data.manifest import ImageRow, write_manifest
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import write_json

MASKS = {}  # image_id -> bool (H, W)
for _id, _shape in {1: (20, 30), 2: (30, 20), 3: (16, 16), 4: (25, 25), 5: (18, 40)}.items():
    MASKS[_id] = np.random.default_rng(_id).random(_shape) < 0.3
MASKS[3][:] = False


def row(image_id: int) -> ImageRow:
    height, width = MASKS[image_id].shape
    return ImageRow(image_id, f"key {image_id}", "x.jpg", width, height, 0)


def mask(image_id: int) -> dict[str, Any]:
    """A mask record whose own box and area are wrong: they must be measured."""
    return {"image_id": image_id, "segmentation": rle.encode(MASKS[image_id]), "bbox": [0, 0, 1, 1], "area": 1}


def test_dataset_says_what_the_masks_say() -> None:
    content = build_annotations([row(1), row(2), row(3)], [(mask(1), 4), (mask(3), 0), (mask(2), 0)], 5)
    assert content["images"][0] == {"id": 1, "file_name": "key 1", "width": 30, "height": 20}
    assert len(content["images"]) == 3
    assert [(a["id"], a["image_id"], a["category_id"]) for a in content["annotations"]] == [(1, 1, 5), (2, 2, 1)]
    for annotation in content["annotations"]:
        expected = MASKS[annotation["image_id"]]
        np.testing.assert_array_equal(rle.decode(annotation["segmentation"]), expected)
        rows, columns = np.nonzero(expected)
        assert annotation["bbox"] == [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
        assert annotation["area"] == expected.sum()
        assert annotation["iscrowd"] == 0 and annotation["score"] == 1.0


@pytest.mark.parametrize(("k", "first", "last"), [(1, "cluster-00", "cluster-00"), (20, "cluster-00", "cluster-19"),
                                                  (101, "cluster-000", "cluster-100")])  # fmt: skip
def test_exactly_k_categories(k: int, first: str, last: str) -> None:
    names = category_names(k)
    assert len(names) == len(set(names)) == k and (names[0], names[-1]) == (first, last) and names == sorted(names)
    assert build_annotations([], [], k)["categories"] == [{"id": i + 1, "name": name} for i, name in enumerate(names)]


def test_wrong_masks_are_refused() -> None:
    with pytest.raises(MaskDistillError, match="cluster 5, but there are 5"):
        build_annotations([row(1)], [(mask(1), 5)], 5)
    with pytest.raises(MaskDistillError, match="image 2 has size"):
        build_annotations([row(1)], [(mask(2), 0)], 5)
    turned = {**mask(2), "image_id": 1}
    with pytest.raises(MaskDistillError, match=r"image 1 has size \[30, 20\], its image \[20, 30\]"):
        build_annotations([row(1)], [(turned, 0)], 5)


def make_run(folder: Path) -> list[str]:
    """Images 1..5 in two shards; 2 is only scored, 3 has an empty mask, 5 has no mask."""
    table = pd.DataFrame(
        {
            "image_id": range(1, 6), "key": [f"key {i}" for i in range(1, 6)], "path": "x.jpg",
            "width": [MASKS[i].shape[1] for i in range(1, 6)], "height": [MASKS[i].shape[0] for i in range(1, 6)],
            "mode": "RGB", "sha256": "", "shard": [0, 0, 0, 1, 1], "train": [True, False, True, True, True],
            "eval": [False, True, False, False, False], "status": "ok", "reason": "",
        }
    )  # fmt: skip
    write_manifest(folder / "manifest.csv", table)
    shards = []
    for shard, ids in enumerate([[1, 2, 3], [4]]):
        shards.append(str(folder / f"masks/shard-{shard:04d}.json"))
        write_json(shards[-1], {"provenance": {}, "masks": [mask(i) for i in ids]})
    places = {1: (0, 0), 2: (0, 1), 3: (0, 2), 4: (1, 0)}
    clusters = [
        {"image_id": i, "shard": shard, "mask_index": index, "cluster": i % 3, "distance": 0.1}
        for i, (shard, index) in places.items()
    ]
    write_json(folder / "clusters.json", {"provenance": {}, "num_clusters": 3, "assignments": clusters})
    return shards


def annotate(folder: Path, shards: list[str], k: int = 3) -> int:
    return main(
        ["annotations", "--manifest", str(folder / "manifest.csv"), "--masks", *shards, "--clusters",
         str(folder / "clusters.json"), "--num-clusters", str(k), "--output", str(folder / "annotations.json")]
    )  # fmt: skip


def test_entry_point_output_loads_in_pycocotools(tmp_path: Path) -> None:
    shards = make_run(tmp_path)
    assert annotate(tmp_path, shards) == 0
    dataset = COCO(str(tmp_path / "annotations.json"))
    assert sorted(dataset.imgs) == [1, 3, 4, 5] and sorted(dataset.cats) == [1, 2, 3]
    assert {a["image_id"]: a["category_id"] for a in dataset.anns.values()} == {1: 2, 4: 2}
    for annotation in dataset.anns.values():
        np.testing.assert_array_equal(dataset.annToMask(annotation).astype(bool), MASKS[annotation["image_id"]])
    text = (tmp_path / "annotations.json").read_text()
    assert "null" not in text and str(tmp_path) not in text
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")) + "\n"


def test_equal_bytes_whatever_the_order_of_the_shards(tmp_path: Path) -> None:
    shards = make_run(tmp_path)
    assert annotate(tmp_path, shards) == 0
    first = (tmp_path / "annotations.json").read_bytes()
    assert annotate(tmp_path, shards[::-1]) == 0
    assert (tmp_path / "annotations.json").read_bytes() == first


def test_stale_inputs_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards = make_run(tmp_path)
    assert annotate(tmp_path, shards, k=4) == 1
    assert "clusters.json: has 3 clusters, --num-clusters says 4" in capsys.readouterr().err
    write_json(shards[1], {"provenance": {}, "masks": [mask(5), mask(4)]})
    assert annotate(tmp_path, shards) == 1
    assert "no cluster for mask 0" in capsys.readouterr().err
    write_json(shards[1], {"provenance": {}, "masks": []})
    write_json(shards[0], {"provenance": {}, "masks": []})
    assert annotate(tmp_path, shards) == 1
    assert "no training image has a mask" in capsys.readouterr().err
    assert not (tmp_path / "annotations.json").exists()
