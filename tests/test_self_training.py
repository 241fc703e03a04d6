"""Annotations of rounds of self-training: what the last detector is sure of, and what it left of the old
ones.
"""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from pycocotools.coco import COCO

from maskdistill.annotations.index import IndexBuilder, read_index
from maskdistill.annotations.self_training import next_annotations
from maskdistill.annotations.types import Annotation
from maskdistill.cli import main
from maskdistill.config import load_config
from maskdistill.data.manifest import write_manifest
from maskdistill.detector.types import Candidate
from maskdistill.formats import rle
from maskdistill.product.run_scores import score_rows_of
from maskdistill.report.rounds import read_rounds, round_rows
from maskdistill.report.scores import read_evaluation, score_rows
from maskdistill.report.tables import protocol, row_name
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import write_json
from maskdistill.runtime.json_stream import write_json_object

SHAPE = (24, 30)
Mask = NDArray[np.bool_]


def rectangle(generator: np.random.Generator) -> Mask:
    """A random rectangle, one of few, so that many overlap."""
    mask = np.zeros(SHAPE, bool)
    top, left = generator.integers(0, 4, 2) * 3
    mask[top : top + 6 + 3 * generator.integers(0, 2), left : left + 9] = True
    return mask


def candidate(mask: Mask, score: float, category: int = 1, image: int = 1) -> Candidate:
    return {
        "image_id": image,
        "category_id": category,
        "score": score,
        "bbox": [0.0, 0.0, 1.0, 1.0],  # the detector's own, which need not fit the mask
        "segmentation": rle.encode(mask),
    }


def annotation(mask: Mask, category: int = 1, image: int = 1, number: int = 1) -> Annotation:
    code = rle.encode(mask)
    return {
        "id": number, "image_id": image, "category_id": category, "bbox": rle.bbox(code),
        "area": rle.area(code), "segmentation": code, "iscrowd": 0, "score": 1.0,
    }  # fmt: skip


def slow(
    found: list[tuple[Mask, float]], before: list[Mask], least: float, most: float
) -> tuple[list[tuple[Mask, float]], int]:
    """The rule on pixels, pair by pair: masks with their scores, and how many are candidates."""

    def overlap(one: Mask, other: Mask) -> float:
        return float((one & other).sum() / (one | other).sum())

    sure: list[tuple[Mask, float]] = []
    for mask, score in sorted(found, key=lambda pair: -pair[1]):
        if score >= least and all(overlap(mask, other) <= most for other, _ in sure):
            sure.append((mask, score))
    left = [mask for mask in before if all(overlap(mask, other) <= most for other, _ in sure)]
    return [*sure, *((mask, 1.0) for mask in left)], len(sure)


@pytest.mark.parametrize("most", [0.0, 0.3, 0.5, 1.0])
def test_against_pixels(most: float) -> None:
    generator = np.random.default_rng(7)
    dropped = 0
    for _ in range(40):
        found = [
            (rectangle(generator), round(float(generator.random()), 1))
            for _ in range(generator.integers(0, 6))
        ]
        before = [rectangle(generator) for _ in range(generator.integers(0, 4))]
        given = [candidate(mask, score) for mask, score in found]
        records, sure = next_annotations(given, [annotation(mask) for mask in before], SHAPE, 0.4, most, 5)
        expected, candidates = slow(found, before, 0.4, most)
        assert sure == candidates
        assert [record["id"] for record in records] == list(range(5, 5 + len(expected)))
        for record, (mask, score) in zip(records, expected, strict=True):
            np.testing.assert_array_equal(rle.decode(record["segmentation"]), mask)
            rows, columns = np.nonzero(mask)
            assert record["bbox"] == [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            assert (record["area"], record["score"], record["iscrowd"]) == (mask.sum(), score, 0)
        dropped += len(found) + len(before) - len(expected)
    assert dropped > 40 or most == 1


def test_a_found_object_keeps_its_category_and_an_old_one_its_own() -> None:
    left, right = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    left[:, :10], right[:, 20:] = True, True
    old = [annotation(left, category=3), annotation(right, category=4)]
    unsure = candidate(left, 0.74, category=2)
    (first, second), found = next_annotations(
        [unsure, candidate(left, 0.75, category=5)], old, SHAPE, 0.75, 0.5
    )
    assert found == 1
    assert [(one["category_id"], one["score"]) for one in (first, second)] == [(5, 0.75), (4, 1.0)]
    again = [{**one, "id": number} for number, one in enumerate(old, 1)]
    assert next_annotations([unsure], old, SHAPE, 0.75, 0.5) == (again, 0)
    twice = [candidate(left, 0.8, category=1), candidate(left, 0.9, category=2)]
    assert [one["category_id"] for one in next_annotations(twice, [], SHAPE, 0.75, 0.5)[0]] == [2]
    empty = candidate(np.zeros(SHAPE, bool), 0.99)
    assert next_annotations([empty, unsure], old, SHAPE, 0.75, 0.5) == (again, 0)


def test_candidates_of_another_size_are_refused() -> None:
    with pytest.raises(MaskDistillError, match=r"size \[24, 30\], its image \[30, 24\]; run the candidates"):
        next_annotations([candidate(np.ones(SHAPE, bool), 1.0)], [], (30, 24), 0.5, 0.5)


# ---------------------------------------------------------------- entry point, and what the report says of it


def strip(column: int) -> Mask:
    mask = np.zeros(SHAPE, bool)
    mask[:, column : column + 5] = True
    return mask


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images 1..4 in two shards: 2 is only scored, 3 had no annotation, 4 has no candidate."""
    table = pd.DataFrame(
        {
            "image_id": range(1, 5), "key": list("abcd"), "path": "x.jpg", "width": SHAPE[1],
            "height": SHAPE[0], "mode": "RGB", "sha256": "", "shard": [0, 0, 1, 1],
            "train": [True, False, True, True], "eval": [False, True, False, False], "status": "ok",
            "reason": "",
        }
    )  # fmt: skip
    write_manifest(tmp_path / "manifest.csv", table)
    builder = IndexBuilder()
    with write_json_object(tmp_path / "annotations.json") as content, content.array("annotations") as append:
        for number, (image, column, category) in enumerate([(1, 0, 1), (1, 20, 2), (4, 5, 3)], 1):
            record = annotation(strip(column), category, image, number)
            builder.add(image, *append(record))
    builder.write(tmp_path / "annotations.h5", 3)
    found = [
        [candidate(strip(20), 0.7, 1, 1), candidate(strip(1), 0.8, 3, 1), candidate(strip(0), 0.9, 1, 2)],
        [candidate(strip(9), 0.95, 2, 3)],
    ]
    for shard, candidates in enumerate(found):
        write_json(tmp_path / f"candidates/shard-000{shard}.json", {"candidates": candidates})
    return tmp_path


def call(folder: Path, **settings: Any) -> int:
    names = (folder / f"candidates/shard-{shard}.json" for shard in ("0001", "0000"))
    return main(
        ["self_annotations", "--manifest", f"{folder}/manifest.csv", "--annotations",
         f"{folder}/annotations.json", "--index", f"{folder}/annotations.h5", "--candidates",
         *(str(name) for name in names if name.exists()), "--params", json.dumps(settings), "--output",
         f"{folder}/round-1/annotations.json", "--output-index", f"{folder}/round-1/annotations.h5"]
    )  # fmt: skip


def test_entry_point_output_loads_in_pycocotools(folder: Path) -> None:
    assert call(folder) == 0
    dataset = COCO(str(folder / "round-1/annotations.json"))
    assert sorted(dataset.imgs) == [1, 3, 4] and sorted(dataset.cats) == [1, 2, 3]
    annotations = [dataset.anns[number] for number in range(1, 5)]
    found = [(one["image_id"], one["category_id"], one["score"]) for one in annotations]
    assert found == [(1, 3, 0.8), (1, 2, 1.0), (3, 2, 0.95), (4, 3, 1.0)]
    np.testing.assert_array_equal(dataset.annToMask(annotations[0]).astype(bool), strip(1))
    index = read_index(folder / "round-1/annotations.json", folder / "round-1/annotations.h5")
    assert index.num_clusters == 3 and index.image_id.tolist() == [1, 3, 4]
    assert index.found.tolist() == [1, 1, 0]
    assert index.read(0) == annotations[:2]
    provenance = json.loads((folder / "round-1/annotations.json").read_text())["provenance"]
    assert provenance["params"] == {"round_score": 0.75, "round_overlap": 0.5}
    assert provenance["inputs"].keys() == {
        "annotations", "candidates/shard-0000.json", "candidates/shard-0001.json", "manifest"
    }  # fmt: skip


def test_more_confidence_asked_for_leaves_more_of_the_old_ones(folder: Path) -> None:
    scores = []
    for least in (0.5, 0.75, 0.99):
        assert call(folder, round_score=least) == 0
        content = json.loads((folder / "round-1/annotations.json").read_text())
        scores.append([one["score"] for one in content["annotations"]])
    assert scores == [[0.8, 0.7, 0.95, 1.0], [0.8, 1.0, 0.95, 1.0], [1.0, 1.0, 1.0]]
    assert all(before.count(1.0) <= after.count(1.0) for before, after in pairwise(scores))


def test_what_the_report_says(folder: Path) -> None:
    assert call(folder) == 0
    names = [folder / name for name in ("annotations", "round-1/annotations")]
    first, second = read_rounds(
        [f"{name}.json" for name in names], [f"{name}.h5" for name in names], examples=5
    )
    assert (first.name, second.name) == ("first detector", "round 1")
    assert (second.images, second.annotations, second.found) == (3, 4, 2)
    assert first.examples.keys() == {1} and second.examples.keys() == {1, 3}  # 4 learnt nothing new
    annotations, found = second.examples[1]
    assert ([one["category_id"] for one in annotations], found) == ([3, 2], 1)
    rows = [list(row.values())[1:] for row in round_rows([first, second])]
    assert rows == [["2", "3", "—", "—", "—"], ["3", "4", "2", "2", "1"]]
    assert read_rounds([], [], 5) == [] and round_rows([]) == []


def test_scores_of_rounds_stand_in_their_order(tmp_path: Path) -> None:
    """Of the detector each round, of the segmenter the last; what else there is was swept."""
    config = load_config(
        {"run": "r", "data": {"kind": "folder", "root": "p"}, "detector": {"weights": "random", "rounds": 1},
         "backbone": {"weights": "random"}, "segmenter": {"weights": "random"}, "crf": {"rounds": 0},
         "clusters": {"num_clusters": 3}}
    )  # fmt: skip
    seed = tmp_path / "topk-0.4/k-3/seed-1"
    files = [seed / "evaluation/masks.json"]
    for trained in ("round-2", "round-1", ""):
        tau = seed / trained / "tau-0.9"
        files += [tau / "evaluation/detector.json", tau / "hard-0.2/crf-0/evaluation/segmenter.json"]
    for number, file in enumerate(files):
        write_json(file, {"stage": file.stem, "miou": float(number)})
    rows = score_rows([read_evaluation(file) for file in files], config)
    found = [(row_name(row), row.mean["miou"], row.main, row.earlier) for row in rows]
    assert found[:4] == [
        ("masks", 0.0, True, False),
        ("detector", 5.0, False, True),
        ("detector, round 1", 3.0, True, False),
        ("segmenter", 4.0, True, False),
    ]
    assert [row[1:] for row in found[4:]] == [
        (value, False, False) for value in (6.0, 1.0, 2.0)
    ]  # of no round, then of two
    assert [protocol(row, config)["rounds"] for row in rows] == ["—", "0", "1", "1", "0", "2", "2"]
    summary = {
        "stages": {row.stage: {"miou": 0.0, "detector_round": 1} for row in rows if row.main},
        "rounds": [{"stage": "detector", "detector_round": 0}],
        "baselines": {},
    }
    names = [name for name, _ in score_rows_of(summary)]
    assert names == ["masks", "detector", "detector, round 1", "segmenter"]


def test_a_missing_shard_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "candidates/shard-0001.json").unlink()
    assert call(folder) == 1
    assert "--candidates: shard 1 is missing" in capsys.readouterr().err
    assert not (folder / "round-1/annotations.json").exists()
