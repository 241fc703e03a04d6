"""Candidates against ground truth: every threshold by painting anew, curves by their definition, failures by
hand.
"""

import itertools
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from maskdistill.cli import main
from maskdistill.data.manifest import COLUMNS, write_manifest
from maskdistill.evaluation.average_precision import average_precision
from maskdistill.evaluation.failures import merged_objects, missed_objects, worst_images
from maskdistill.evaluation.instances import ImageInstances, image_instances
from maskdistill.evaluation.matching import match_clusters
from maskdistill.evaluation.semantic import Confusions, confusion_matrix, iou_matrix, matched_scores
from maskdistill.evaluation.thresholds import Thresholds, image_thresholds, rank_correlation, score_quality
from maskdistill.formats import rle
from maskdistill.pseudo_labels.painting import paint, painting_ranks
from maskdistill.pseudo_labels.summary import levels_passed
from maskdistill.runtime.files import write_json

SHAPE, K, CLASSES = (14, 18), 3, 3
TAUS = (0.0, 0.3, 0.5, 0.75, 0.9, 1.0)


def entry(y: int, x: int, h: int, w: int, label: int, score: float = 1.0, crowd: int = 0) -> dict[str, Any]:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[y : y + h, x : x + w] = True
    code = rle.encode(mask)
    return {
        "segmentation": code, "bbox": rle.bbox(code), "area": float(mask.sum()), "category_id": label,
        "score": score,
        "iscrowd": crowd,
    }  # fmt: skip


def random_image(rng: np.random.Generator) -> tuple[list[dict[str, Any]], list[dict[str, Any]], np.ndarray]:
    """Candidates, objects and semantic map; some candidates are objects moved a little."""
    objects = []
    for _ in range(rng.integers(0, 4)):
        y, x = (int(v) for v in rng.integers(0, (9, 12)))
        objects.append(entry(y, x, 5, 6, int(rng.integers(1, CLASSES)), crowd=int(rng.random() < 0.15)))
    target = np.zeros(SHAPE, dtype=np.uint8)
    for item in objects:
        target[rle.decode(item["segmentation"])] = item["category_id"]
    target[rng.random(SHAPE) < 0.05] = 255
    candidates = []
    for _ in range(rng.integers(0, 6)):
        y, x, h, w = (int(v) for v in rng.integers((0, 0, 1, 1), (9, 12, 7, 7)))
        if objects and rng.random() < 0.6:
            box = objects[rng.integers(len(objects))]["bbox"]
            y, x, h, w = int(box[1]), int(box[0] + rng.integers(0, 2)), 5, 6
        score = float(rng.choice([0.1, 0.3, 0.5, 0.6, 0.8, 0.9, 0.97]))
        candidates.append(entry(y, x, h, w, int(rng.integers(1, K + 1)), score))
    return candidates, objects, target


@pytest.mark.parametrize("overlap", ["drop", "pixel"])
@pytest.mark.parametrize("compare", ["gt", "ge"])
def test_every_threshold_is_that_of_painting_at_it(
    overlap: Literal["drop", "pixel"], compare: Literal["gt", "ge"]
) -> None:
    """Scores of pseudo-labels that are painted anew at each threshold; objects by all pairs, best candidate
    first.
    """
    rng = np.random.default_rng(4)
    images = [random_image(rng) for _ in range(25)]
    found = Thresholds(K + 1, CLASSES, TAUS)
    for candidates, objects, target in images:
        kept, ranks = painting_ranks(candidates, SHAPE, overlap)
        levels = levels_passed([one["score"] for one in candidates], compare, TAUS).tolist()
        labels = [one["category_id"] for one in candidates]
        instances = image_instances(1, candidates, objects)
        found.add(image_thresholds(levels, kept, ranks, labels, instances, target, CLASSES, len(TAUS)))
    for tau, row in zip(TAUS, found.rows("iou"), strict=True):
        painted = matched = singles = 0
        total = np.zeros((K + 1, CLASSES), np.int64)
        for candidates, objects, target in images:
            label = paint(candidates, SHAPE, tau, compare, overlap)
            total += confusion_matrix(label.labels, target, K + 1, CLASSES)
            free = [rle.decode(item["segmentation"]) for item in objects if not item["iscrowd"]]
            singles += len(free)
            painted += len(label.kept)
            for i in label.kept:
                mask = rle.decode(candidates[i]["segmentation"])
                ious = [(mask & other).sum() / (mask | other).sum() for other in free]
                if ious and max(ious) >= 0.5:
                    free.pop(int(np.argmax(ious)))
                    matched += 1
        assert (row["tau"], row["painted"], row["found"], row["objects"]) == (tau, painted, matched, singles)
        assert row["precision"] == pytest.approx(100 * matched / painted)
        assert row["coverage"] == pytest.approx(100 * matched / singles)
        assert row["pixel_precision"] == pytest.approx(100 * total[1:, 1:].sum() / total[1:].sum())
        assert row["pixel_coverage"] == pytest.approx(100 * total[1:, 1:].sum() / total[:, 1:].sum())
        assert row["miou"] == pytest.approx(
            100 * matched_scores(total, match_clusters(iou_matrix(total))).miou
        )
    counts = [row["painted"] for row in found.rows("iou")]
    assert counts == sorted(counts, reverse=True) and counts[0] > counts[-1] > 0


def test_what_is_not_there_is_not_scored() -> None:
    found = Thresholds(K + 1, CLASSES, TAUS)
    found.add(image_thresholds([], [], np.zeros(SHAPE, np.uint16), [], None, None, CLASSES, len(TAUS)))
    (row, *_) = found.rows("iou")
    assert {value for name, value in row.items() if name != "tau"} == {None}
    instances = image_instances(1, [], [])
    found.add(image_thresholds([], [], np.zeros(SHAPE, np.uint16), [], instances, None, CLASSES, len(TAUS)))
    (row, *_) = found.rows("iou")
    assert (row["painted"], row["objects"], row["precision"], row["coverage"]) == (0, 0, None, None)


def scored(
    candidates: list[dict[str, Any]], objects: list[dict[str, Any]], number: int = 1
) -> ImageInstances:
    return image_instances(number, candidates, objects)


def test_score_and_quality() -> None:
    objects = [entry(0, 0, 4, 4, 1), entry(6, 6, 4, 4, 2), entry(0, 0, 14, 18, 1, crowd=1)]
    candidates = [entry(0, 0, 4, 4, 1, 0.98), entry(6, 6, 4, 2, 1, 0.52), entry(12, 0, 2, 2, 1, 0.53)]
    found = score_quality([scored(candidates, objects), scored([], objects, 2)])
    assert found["points"] == [[0.52, 0.5], [0.53, 0.0], [0.98, 1.0]]
    middle, last = found["bins"]
    assert (middle["low"], middle["count"], middle["mean_iou"], middle["good"]) == (0.5, 2, 0.25, 50.0)
    assert (last["high"], last["count"], last["mean_iou"], last["good"]) == (1.0, 1, 1.0, 100.0)
    assert found["rank_correlation"] == pytest.approx(0.5)
    assert score_quality([])["rank_correlation"] is None
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 5, 40) / 4, rng.random(40)
    assert rank_correlation(first, second) == pytest.approx(spearmanr(first, second).statistic)


def test_curves_are_those_that_average_precision_averages() -> None:
    """Precision at a recall: the best at that recall or above, over the ranked list of one class."""
    rng = np.random.default_rng(1)
    images = [scored(*random_image(rng)[:2], number) for number in range(1, 20)]
    images = [image.take(range(len(image.scores)), np.flatnonzero(~image.crowd)) for image in images]
    result = average_precision(images, class_agnostic=True)
    ranked = sorted(
        itertools.chain.from_iterable(_hits(image) for image in images), key=lambda pair: -pair[0]
    )
    hits = np.cumsum([hit for _, hit in ranked])
    total = sum(len(image.true_labels) for image in images)
    precision, recall = hits / np.arange(1, len(hits) + 1), hits / total
    expected = [precision[recall >= level - 1e-12].max(initial=0.0) for level in np.arange(101) / 100]
    assert result.curves[1][0] == pytest.approx(expected)
    assert result.stats[1] == pytest.approx(np.mean(expected))


def _hits(image: ImageInstances) -> list[tuple[float, int]]:
    free = set(range(len(image.true_labels)))
    found = []
    for i in np.argsort(-image.scores, kind="stable"):
        best = max(free, key=lambda j: image.overlaps[i, j], default=None)
        hit = best is not None and image.overlaps[i, best] >= 0.5
        free -= {best} if hit else set()
        found.append((float(image.scores[i]), int(hit)))
    return found


def test_merged_and_missed_objects() -> None:
    objects = [
        entry(0, 0, 4, 4, 1),
        entry(0, 5, 4, 4, 2),
        entry(8, 0, 5, 5, 1),
        entry(0, 0, 14, 18, 1, crowd=1),
    ]
    both, one = entry(0, 0, 4, 9, 1, 0.7), entry(0, 0, 4, 4, 1, 0.9)
    images = [scored([one, both], objects, 7), scored([one], objects[:1], 8), scored([], objects[:2], 9)]
    assert merged_objects(images, 5) == [{"image_id": 7, "score": 0.7, "candidate": 1, "objects": [0, 1]}]
    assert merged_objects(images, 0) == []
    assert [(row["image_id"], row["object"], row["score"]) for row in missed_objects(images, 5)] == [
        (7, 2, None), (9, 0, None), (8, 0, 0.9)
    ]  # fmt: skip


def test_worst_images_of_a_class() -> None:
    confusions = Confusions(3, 3)
    true = np.zeros((10, 20), dtype=np.uint8)
    true[:5, :10], true[5:, 10:] = 1, 2
    good, half, tiny = np.where(true == 1, 2, 0), np.where(true == 1, 2, 0), true.copy()
    half[:, :5] = 0
    tiny[true == 1] = 0
    for labels, target in ((half, true), (good, true), (good, tiny), (np.zeros_like(good), true)):
        confusions.add(labels.astype(np.uint8), target)
    found = worst_images(confusions, [11, 12, 13, 14], np.array([0, -1, 1]), 3)
    assert [(row["image_id"], row["iou"]) for row in found[1]] == [(14, 0.0), (11, 50.0), (12, 100.0)]
    assert [row["image_id"] for row in found[2]] == [11, 12, 13] and found[2][0]["iou"] == 0


def test_command(tmp_path: Path) -> None:
    """The whole stage on random images equals itself with two processes; what is listed points at real
    entries.
    """
    rng = np.random.default_rng(5)
    found: list[dict[str, Any]] = []
    truth: dict[str, list[Any]] = {"images": [], "annotations": []}
    rows: list[tuple[Any, ...]] = []
    for number in range(1, 9):
        candidates, objects, _ = random_image(rng)
        found += [one | {"image_id": number} for one in candidates]
        truth["annotations"] += [
            item | {"image_id": number, "id": len(truth["annotations"])} for item in objects
        ]
        size = {"id": number, "file_name": str(number), "height": SHAPE[0], "width": SHAPE[1]}
        truth["images"].append(size | {"has_masks": True, "has_semantic": False, "evaluated": True})
        rows.append(
            (number, str(number), f"{number}.png", SHAPE[1], SHAPE[0], "RGB", "x", 0, True, True, "ok", "")
        )
    write_manifest(tmp_path / "manifest.csv", pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS))
    write_json(
        tmp_path / "truth.json", truth | {"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]}
    )
    write_json(tmp_path / "candidates.json", {"candidates": found})
    command = ["candidate_quality", "--manifest", str(tmp_path / "manifest.csv"), "--num-clusters", str(K)]
    command += [
        "--ground-truth",
        str(tmp_path / "truth.json"),
        "--candidates",
        str(tmp_path / "candidates.json"),
    ]
    texts = []
    for threads in ("1", "2"):
        assert (
            main([*command, "--params", "{}", "--output", str(tmp_path / "out.json"), "--threads", threads])
            == 0
        )
        texts.append((tmp_path / "out.json").read_bytes())
    assert texts[0] == texts[1]
    content = json.loads(texts[0])
    assert len(content["by_tau"]) == 101 and content["by_tau"][0]["miou"] is None
    assert content["by_tau"][0]["painted"] >= content["by_tau"][90]["painted"] > 0
    assert set(content["curves"]["agnostic"]) == {"0.5", "0.75"}
    assert content["missed"] and all(row["image_id"] in range(1, 9) for row in content["missed"])
