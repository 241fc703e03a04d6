"""COCO's numbers: the published table of 24, and hand-made cases."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskdistill import rle
from maskdistill.evaluation.instances import STATS, class_agnostic_ap, coco_stats

FIXTURE = Path(__file__).parents[2] / "shared/data/fixtures/cocoeval"
IMAGES = [{"id": number, "height": 20, "width": 20} for number in (1, 2)]


def mask(top: int, left: int, side: int = 8) -> dict[str, Any]:
    array = np.zeros((20, 20), dtype=bool)
    array[top : top + side, left : left + side] = True
    return rle.encode(array)


def truth(image: int, top: int, left: int, category: int = 1, crowd: int = 0) -> dict[str, Any]:
    encoded = mask(top, left)
    return {
        "id": 7, "image_id": image, "category_id": category, "iscrowd": crowd,
        "segmentation": encoded, "bbox": rle.bbox(encoded), "area": rle.area(encoded),
    }  # fmt: skip


def found(image: int, top: int, left: int, score: float = 1.0, category: int = 1) -> dict[str, Any]:
    encoded = mask(top, left)
    return {
        "image_id": image, "category_id": category, "score": score,
        "segmentation": encoded, "bbox": rle.bbox(encoded),
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["segm", "bbox"])
def test_the_published_table_is_reproduced(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    if not FIXTURE.is_dir():
        pytest.skip(f"{FIXTURE} is absent")
    gt = json.loads((FIXTURE / "instances_val2014_100.json").read_text())
    results = json.loads((FIXTURE / f"instances_val2014_fake{kind}100_results.json").read_text())
    ids = {image["id"] for image in gt["images"]}
    assert len(ids) == 100
    table = (FIXTURE / "val2014_fake_eval_res.txt").read_text().split(f"type={kind}\n")[1].split("type=")[0]
    published = [float(value) for value in re.findall(r"\] = (\d\.\d{3})", table)]
    assert len(published) == len(STATS) == 12
    stats = coco_stats(gt["images"], gt["annotations"], results, kind)  # type: ignore[arg-type]
    assert np.round(stats, 3).tolist() == published
    assert capsys.readouterr().out == ""


def test_perfect_detections_score_one_hundred() -> None:
    gt = [truth(1, 0, 0), truth(1, 10, 10, 2), truth(2, 3, 3)]
    detections = [found(1, 10, 10, 0.9, 5), found(1, 0, 0, 0.8, 3), found(2, 3, 3, 0.7, 4)]
    before = copy.deepcopy((gt, detections))
    assert class_agnostic_ap(IMAGES, gt, detections) == pytest.approx({"ap": 100, "ap50": 100, "ap75": 100})
    assert (gt, detections) == before


def test_class_agnostic_equals_categories_merged_by_hand() -> None:
    rng = np.random.default_rng(0)

    def spot() -> tuple[int, int]:
        return int(rng.integers(0, 12)), int(rng.integers(0, 12))

    gt = [truth(image, *spot(), category=int(rng.integers(1, 4))) for image in (1, 2, 1, 2)]
    detections = [
        found(image, *spot(), score=float(rng.random()), category=int(rng.integers(1, 9))) for image in [1, 2] * 8
    ]
    detections += [found(1, 0, 0, 0.5, 8)]
    merged_gt, merged = ([{**entry, "category_id": 1} for entry in entries] for entries in (gt, detections))
    stats = coco_stats(IMAGES, gt, detections, class_agnostic=True)
    assert np.array_equal(stats, coco_stats(IMAGES, merged_gt, merged))
    assert not np.array_equal(stats, coco_stats(IMAGES, gt, detections))


def test_detections_of_categories_unknown_to_the_ground_truth_count() -> None:
    gt = [truth(1, 0, 0, 1)]
    scores = class_agnostic_ap(IMAGES, gt, [found(1, 0, 0, 0.5, 9), found(1, 12, 12, 0.9, 8)])
    assert scores["ap50"] == pytest.approx(50)


def test_a_duplicate_is_a_false_positive_only_below_the_last_hit() -> None:
    gt = [truth(1, 0, 0), truth(2, 0, 0)]
    late = [found(1, 0, 0, 0.9), found(2, 0, 0, 0.8), found(1, 0, 0, 0.7)]
    early = [found(1, 0, 0, 0.9), found(1, 0, 0, 0.8), found(2, 0, 0, 0.7)]
    assert class_agnostic_ap(IMAGES, gt, late)["ap"] == pytest.approx(100)
    # Precision 1 up to recall 1/2 (51 of the 101 recall points), 2/3 beyond.
    assert class_agnostic_ap(IMAGES, gt, early)["ap"] == pytest.approx(100 * (51 + 50 * 2 / 3) / 101)


def test_equal_scores_keep_file_order() -> None:
    gt = [truth(1, 0, 0)]
    hit, miss = found(1, 0, 0, category=3), found(1, 12, 12, category=1)
    assert class_agnostic_ap(IMAGES, gt, [hit, miss])["ap50"] == pytest.approx(100)
    assert class_agnostic_ap(IMAGES, gt, [miss, hit])["ap50"] == pytest.approx(50)


def test_ap50_and_ap75_differ_where_the_overlap_lies_between() -> None:
    gt = [truth(1, 0, 0)]
    scores = class_agnostic_ap(IMAGES, gt, [found(1, 2, 0)])  # IoU = 48 / 80 = 0.6
    assert scores == pytest.approx({"ap": 30, "ap50": 100, "ap75": 0})  # 0.5, 0.55 and 0.6 of ten thresholds


def test_crowd_regions_are_neither_wanted_nor_punished() -> None:
    gt = [truth(1, 0, 0), truth(1, 11, 11, crowd=1)]
    assert class_agnostic_ap(IMAGES, gt, [found(1, 11, 11, 0.9), found(1, 0, 0, 0.8)])["ap"] == pytest.approx(100)


def test_nothing_found_is_zero_and_nothing_to_find_is_none() -> None:
    assert class_agnostic_ap(IMAGES, [truth(1, 0, 0)], []) == {"ap": 0, "ap50": 0, "ap75": 0}
    assert class_agnostic_ap(IMAGES, [], [found(1, 0, 0)]) == {"ap": None, "ap50": None, "ap75": None}
    assert class_agnostic_ap([], [], []) == {"ap": None, "ap50": None, "ap75": None}


def test_other_images_do_not_count() -> None:
    gt = [truth(1, 0, 0), truth(2, 0, 0)]
    detections = [found(1, 0, 0, 0.5), found(2, 12, 12, 0.9)]
    assert class_agnostic_ap(IMAGES[:1], gt, detections)["ap"] == pytest.approx(100)
    assert class_agnostic_ap(IMAGES, gt, detections)["ap50"] < 50  # type: ignore[operator]
