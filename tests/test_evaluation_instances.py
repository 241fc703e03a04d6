"""Average precision: the published table of 24, pycocotools on random cases, and hand-made cases."""

import copy
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from coco_reference import class_scores, coco_eval, merged
from pycocotools import mask as coco_mask

from maskdistill.evaluation.average_precision import STATS, AveragePrecision, average_precision, percent
from maskdistill.evaluation.instances import ImageInstances, image_instances
from maskdistill.formats import rle

FIXTURE = Path(__file__).parents[2] / "shared/data/fixtures/cocoeval"
IMAGES = [{"id": number, "height": 20, "width": 20} for number in (1, 2)]
Entries = Sequence[dict[str, Any]]


def mask(top: int, left: int, height: int = 8, width: int | None = None, size: int = 20) -> dict[str, Any]:
    array = np.zeros((size, size), dtype=bool)
    array[top : top + height, left : left + (width or height)] = True
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


def instances(
    images: Entries, annotations: Entries, detections: Entries, iou_type: Literal["segm", "bbox"] = "segm"
) -> list[ImageInstances]:
    """Annotations and results of a data set, by image."""

    def of(entries: Entries, number: int) -> list[dict[str, Any]]:
        return [entry for entry in entries if entry["image_id"] == number]

    numbers = [image["id"] for image in images]
    return [image_instances(n, of(detections, n), of(annotations, n), iou_type) for n in numbers]


def score(
    images: Entries, annotations: Entries, detections: Entries, class_agnostic: bool = False
) -> AveragePrecision:
    return average_precision(instances(images, annotations, detections), class_agnostic)


def class_agnostic_ap(images: Entries, annotations: Entries, detections: Entries) -> dict[str, float | None]:
    stats = score(images, annotations, detections, class_agnostic=True).stats
    return {name: percent(value) for name, value in zip(STATS[:3], stats, strict=False)}


def assert_classes(scores: AveragePrecision, expected: dict[int, list[float]]) -> None:
    assert list(scores.by_class) == list(expected)
    for number, values in expected.items():
        assert scores.by_class[number] == pytest.approx(values, abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["segm", "bbox"])
def test_the_published_table_is_reproduced(
    kind: Literal["segm", "bbox"], capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    if not FIXTURE.is_dir():
        pytest.skip(f"{FIXTURE} is absent")
    caplog.set_level("INFO")
    gt = json.loads((FIXTURE / "instances_val2014_100.json").read_text())
    results = json.loads((FIXTURE / f"instances_val2014_fake{kind}100_results.json").read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in gt["images"]}
    assert len(sizes) == 100
    table = (FIXTURE / "val2014_fake_eval_res.txt").read_text().split(f"type={kind}\n")[1].split("type=")[0]
    published = [float(value) for value in re.findall(r"\] = (\d\.\d{3})", table)]
    assert len(published) == len(STATS) == 12
    for entry in gt["annotations"]:
        entry["segmentation"] = as_rle(entry["segmentation"], *sizes[entry["image_id"]])
    for entry in results:
        entry.setdefault("bbox", [0, 0, 0, 0])
    scores = average_precision(instances(gt["images"], gt["annotations"], results, kind))
    assert np.round(scores.stats, 3).tolist() == published
    assert capsys.readouterr().out == "" and caplog.text == ""
    reference = coco_eval(gt["images"], gt["annotations"], results, kind)
    assert np.abs(scores.stats - reference.stats).max() < 1e-12
    assert_classes(scores, class_scores(reference))


def as_rle(segmentation: Any, height: int, width: int) -> dict[str, Any]:
    """COCO's polygons or uncompressed run lengths as RLE."""
    encoded = coco_mask.frPyObjects(segmentation, height, width)
    return coco_mask.merge(encoded) if isinstance(encoded, list) else encoded  # type: ignore[no-any-return]


def random_set(
    rng: np.random.Generator, images: int, detections: int, ties: bool
) -> tuple[Entries, Entries, Entries]:
    """Overlapping rectangles of three sizes in 130 x 130 pixels, with crowd regions, empty images and a rare
    class.
    """
    size = 130

    def entry(image: int, like: dict[str, Any] | None = None) -> dict[str, Any]:
        side = int(rng.choice([9, 40, 100]))
        top, left, height, width = (
            int(v) for v in (*rng.integers(0, size - side, 2), *rng.integers(5, side, 2))
        )
        if like is not None:
            left, top, width, height = (int(v) + int(rng.integers(0, 3)) for v in like["bbox"])
        encoded = mask(top, left, max(1, height), max(1, width), size)
        return {
            "image_id": image, "category_id": int(rng.choice([1, 2, 3, 9], p=[0.4, 0.3, 0.28, 0.02])),
            "segmentation": encoded, "bbox": rle.bbox(encoded), "area": rle.area(encoded),
        }  # fmt: skip

    numbers = (3 * np.arange(1, images + 1)).tolist()
    gt, results = [], []
    for number in numbers:
        count = 0 if number == 3 else rng.integers(0, 6)
        objects = [{**entry(number), "iscrowd": int(rng.random() < 0.15)} for _ in range(count)]
        gt += objects
        for _ in range(rng.integers(0, detections + 1)):
            like = objects[int(rng.integers(len(objects)))] if objects and rng.random() < 0.6 else None
            value = round(float(rng.random()), 1) if ties else float(rng.random())
            results.append({**entry(number, like), "score": value})
    return [{"id": number, "height": size, "width": size} for number in numbers], gt, results


@pytest.mark.parametrize("class_agnostic", [False, True])
@pytest.mark.parametrize(
    "images, detections, ties", [(12, 12, False), (12, 12, True), (3, 260, True), (1, 3, False)]
)
def test_all_twelve_numbers_are_those_of_pycocotools(
    images: int, detections: int, ties: bool, class_agnostic: bool
) -> None:
    for seed in range(4):
        data = random_set(np.random.default_rng(seed), images, detections, ties)
        scores = score(*data, class_agnostic)
        one = (data[0], merged(data[1]), merged(data[2])) if class_agnostic else data
        reference = coco_eval(*one)
        assert np.abs(scores.stats - reference.stats).max() < 1e-9
        assert_classes(scores, {} if class_agnostic else class_scores(reference))


def test_the_order_of_images_and_what_lies_outside_them_do_not_count() -> None:
    data = random_set(np.random.default_rng(7), 8, 9, True)
    whole = instances(*data)
    stats = average_precision(whole).stats
    assert np.array_equal(average_precision(whole[::-1]).stats, stats)
    fewer = data[0][2:5]
    assert np.array_equal(average_precision(whole[2:5]).stats, coco_eval(fewer, *data[1:]).stats)


def test_perfect_detections_score_one_hundred() -> None:
    gt = [truth(1, 0, 0), truth(1, 10, 10, 2), truth(2, 3, 3)]
    detections = [found(1, 10, 10, 0.9, 5), found(1, 0, 0, 0.8, 3), found(2, 3, 3, 0.7, 4)]
    before = copy.deepcopy((gt, detections))
    assert class_agnostic_ap(IMAGES, gt, detections) == pytest.approx({"ap": 100, "ap50": 100, "ap75": 100})
    assert (gt, detections) == before


def test_class_agnostic_equals_categories_merged_by_hand() -> None:
    data = random_set(np.random.default_rng(0), 6, 8, True)
    stats = score(*data, class_agnostic=True).stats
    assert np.array_equal(stats, score(data[0], merged(data[1]), merged(data[2])).stats)
    assert not np.array_equal(stats, score(*data).stats)


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
    assert class_agnostic_ap(IMAGES, gt, [found(1, 11, 11, 0.9), found(1, 0, 0, 0.8)])["ap"] == pytest.approx(
        100
    )


def test_nothing_found_is_zero_and_nothing_to_find_is_none() -> None:
    nothing: dict[str, float | None] = {"ap": None, "ap50": None, "ap75": None}
    assert class_agnostic_ap(IMAGES, [truth(1, 0, 0)], []) == {"ap": 0, "ap50": 0, "ap75": 0}
    assert class_agnostic_ap(IMAGES, [], [found(1, 0, 0)]) == nothing
    assert class_agnostic_ap(IMAGES, [truth(1, 0, 0, crowd=1)], [found(1, 0, 0)]) == nothing
    assert class_agnostic_ap([], [], []) == nothing


def test_a_class_with_crowd_regions_alone_has_no_score() -> None:
    gt = [truth(1, 0, 0, 1), truth(1, 11, 11, 2, crowd=1)]
    scores = score(IMAGES, gt, [found(1, 0, 0, 0.9, 1)])
    assert list(scores.by_class) == [1]
    assert scores.by_class[1] == pytest.approx([1, 1, 1])
    assert scores.stats[0] == pytest.approx(1)
