"""Threshold, fallback and overlap rule, against painting pixel by pixel."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest

from maskdistill import rle
from maskdistill.cli import main
from maskdistill.data.manifest import write_manifest
from maskdistill.palette import read_label_png
from maskdistill.pseudo_labels import paint
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import write_json

SHAPE = (12, 16)
Compare = Literal["gt", "ge"]
Overlap = Literal["drop", "pixel"]


def box(x: int, y: int, w: int, h: int, score: float, category: int, shape: tuple[int, int] = SHAPE) -> dict[str, Any]:
    mask = np.zeros(shape, dtype=bool)
    mask[y : y + h, x : x + w] = True
    return {"category_id": category, "score": score, "segmentation": rle.encode(mask)}


A = box(0, 0, 8, 4, 0.95, 1)
B = box(6, 2, 6, 6, 0.92, 2)  # overlaps A
C = box(0, 8, 5, 4, 0.91, 3)  # disjoint from both
LOW = box(10, 10, 3, 2, 0.5, 4)
EDGE = box(12, 0, 4, 2, 0.9, 5)
EMPTY = box(0, 0, 0, 0, 0.99, 6)


@pytest.mark.parametrize(
    ("candidates", "compare", "overlap", "kept", "fallback"),
    [
        ([A, B, C, LOW], "gt", "drop", [0, 2], False),  # B overlaps the better A
        ([A, B, C, LOW], "gt", "pixel", [0, 1, 2], False),
        ([C, LOW, B, A], "gt", "drop", [3, 0], False),  # unsorted input
        ([B, C], "gt", "drop", [0, 1], False),  # B survives where A is absent
        ([EDGE, A], "gt", "drop", [1], False),  # score == tau
        ([EDGE, A], "ge", "drop", [1, 0], False),
        ([LOW], "gt", "drop", [0], True),
        ([LOW, EDGE], "gt", "drop", [1], True),  # the single best
        ([box(0, 0, 2, 2, 0.4, 1), box(8, 8, 2, 2, 0.4, 2)], "gt", "drop", [0], True),  # stable on equal scores
        ([EMPTY, LOW], "gt", "drop", [1], True),  # a mask without a pixel neither passes nor stands in
        ([EMPTY], "gt", "drop", [], False),
        ([], "gt", "drop", [], False),
    ],
)
def test_table(candidates: list[Any], compare: Compare, overlap: Overlap, kept: list[int], fallback: bool) -> None:
    found = paint(candidates, SHAPE, 0.9, compare, overlap)
    assert (found.kept, found.fallback) == (kept, fallback)
    assert found.labels.dtype == np.uint8 and found.labels.shape == SHAPE
    assert set(np.unique(found.labels)) - {0} == {candidates[i]["category_id"] for i in kept}


def test_pixel_rule_keeps_the_most_confident_label() -> None:
    labels = paint([B, A], SHAPE, 0.9, "gt", "pixel").labels
    expected = np.zeros(SHAPE, dtype=np.uint8)
    expected[2:8, 6:12] = 2
    expected[0:4, 0:8] = 1
    np.testing.assert_array_equal(labels, expected)


def test_a_mask_in_the_first_rows_blocks_only_what_it_touches() -> None:
    # the released overlap check looked at rows 0 and 1 only (method.md §6, item 4)
    top = box(0, 0, 16, 2, 0.99, 1)
    found = paint([top, box(2, 4, 4, 4, 0.95, 2), box(10, 6, 4, 4, 0.93, 3)], SHAPE, 0.9)
    assert found.kept == [0, 1, 2]
    low_first = paint([box(2, 5, 6, 4, 0.99, 2), box(4, 6, 6, 4, 0.95, 3)], SHAPE, 0.9)
    assert low_first.kept == [0] and set(np.unique(low_first.labels)) == {0, 2}


def test_one_shared_pixel_is_an_overlap_and_touching_is_not() -> None:
    first = box(0, 0, 4, 4, 0.99, 1)
    assert paint([first, box(3, 3, 4, 4, 0.95, 2)], SHAPE, 0.9).kept == [0]
    assert paint([first, box(4, 0, 4, 4, 0.95, 2)], SHAPE, 0.9).kept == [0, 1]


def test_a_dropped_candidate_does_not_block_others() -> None:
    third = box(9, 5, 6, 6, 0.91, 3)  # overlaps B, not A
    assert paint([A, B, third], SHAPE, 0.9).kept == [0, 2]


def slow_paint(candidates: list[Any], tau: float, compare: str, overlap: str) -> np.ndarray[Any, Any]:
    """The same rules, one pixel at a time on lists."""
    height, width = SHAPE
    masks = [rle.decode(candidate["segmentation"]) for candidate in candidates]
    pixels = [{(y, x) for y in range(height) for x in range(width) if mask[y, x]} for mask in masks]
    remaining = [i for i in range(len(candidates)) if pixels[i]]
    order = []
    while remaining:
        best = remaining[0]
        for i in remaining:
            if candidates[i]["score"] > candidates[best]["score"]:
                best = i
        order.append(best)
        remaining.remove(best)
    passing = []
    for i in order:
        score = candidates[i]["score"]
        if score > tau or (compare == "ge" and score == tau):
            passing.append(i)
    labels: dict[tuple[int, int], int] = {}
    for i in passing or order[:1]:
        if overlap == "drop" and any(pixel in labels for pixel in pixels[i]):
            continue
        for pixel in pixels[i]:
            labels.setdefault(pixel, candidates[i]["category_id"])
    out = np.zeros(SHAPE, dtype=np.uint8)
    for pixel, label in labels.items():
        out[pixel] = label
    return out


@pytest.mark.parametrize("compare", ["gt", "ge"])
@pytest.mark.parametrize("overlap", ["drop", "pixel"])
def test_against_slow_painting(compare: Compare, overlap: Overlap) -> None:
    rng = np.random.default_rng(11)
    painted = 0
    for _ in range(25):
        candidates = []
        for _ in range(rng.integers(0, 7)):
            x, y, w, h = (int(v) for v in rng.integers(0, [12, 9, 7, 7]))
            score = float(rng.choice([0.5, 0.8, 0.9, 0.95, 0.99]))
            candidates.append(box(x, y, w, h, score, int(rng.integers(1, 7))))
        found = paint(candidates, SHAPE, 0.9, compare, overlap)
        np.testing.assert_array_equal(found.labels, slow_paint(candidates, 0.9, compare, overlap))
        painted += len(found.kept)
    assert painted > 15


def test_label_254_fits_and_255_is_refused() -> None:
    assert paint([box(0, 0, 2, 2, 0.99, 254)], SHAPE, 0.9).labels.max() == 254
    for category in (0, 255):
        with pytest.raises(MaskDistillError, match=f"category {category} is outside"):
            paint([box(0, 0, 2, 2, 0.99, category)], SHAPE, 0.9)
    with pytest.raises(MaskDistillError, match=r"size \[12, 16\], its image \[16, 12\]"):
        paint([A], (16, 12), 0.9)


# ---------------------------------------------------------------- entry point


def make_run(folder: Path) -> list[dict[str, Any]]:
    """Images 1..4 in shard 0 (3 is quarantined, 4 has no candidate), image 5 in shard 1."""
    table = pd.DataFrame(
        {
            "image_id": range(1, 6), "key": ["a", "sub/b", "broken", "d", "e"], "path": "x.jpg", "width": 16,
            "height": 12, "mode": "RGB", "sha256": "", "shard": [0, 0, 0, 0, 1], "train": True, "eval": False,
            "status": ["ok", "ok", "quarantined", "ok", "ok"], "reason": "",
        }
    )  # fmt: skip
    write_manifest(folder / "manifest.csv", table)
    return [{**A, "image_id": 1}, {**LOW, "image_id": 2}, {**B, "image_id": 1}, {**C, "image_id": 1}]


def label(folder: Path, candidates: list[dict[str, Any]], *options: str, k: int = 6) -> int:
    write_json(folder / "candidates.json", {"provenance": {}, "candidates": candidates})
    return main(
        ["pseudo_labels", "--manifest", str(folder / "manifest.csv"), "--shard", "0", "--candidates",
         str(folder / "candidates.json"), "--num-clusters", str(k), "--output", str(folder / "labels"), *options]
    )  # fmt: skip


def test_entry_point(tmp_path: Path) -> None:
    candidates = make_run(tmp_path)
    assert label(tmp_path, candidates) == 0
    files = sorted(path.relative_to(tmp_path / "labels").as_posix() for path in (tmp_path / "labels").rglob("*.*"))
    assert files == ["a.png", "d.png", "sub/b.png", "summary.json"]
    np.testing.assert_array_equal(read_label_png(tmp_path / "labels/a.png"), paint([A, B, C], SHAPE, 0.9).labels)
    np.testing.assert_array_equal(read_label_png(tmp_path / "labels/sub/b.png"), paint([LOW], SHAPE, 0.0).labels)
    assert not read_label_png(tmp_path / "labels/d.png").any()
    summary = json.loads((tmp_path / "labels/summary.json").read_text())
    assert [summary[name] for name in ("images", "kept", "fallback", "empty")] == [3, 3, 1, 1]
    assert summary["mean_coverage"] == pytest.approx((32 + 20 + 6) / (3 * 12 * 16))
    assert summary["provenance"]["params"]["tau"] == 0.9 and str(tmp_path) not in json.dumps(summary)


def test_settings_and_tau_reach_the_result(tmp_path: Path) -> None:
    candidates = make_run(tmp_path)
    assert label(tmp_path, candidates, "--params", '{"tau": 0.99, "overlap": "pixel"}', "--tau", "0.4") == 0
    summary = json.loads((tmp_path / "labels/summary.json").read_text())
    assert (summary["kept"], summary["fallback"]) == (4, 0)
    assert summary["provenance"]["params"]["tau"] == 0.4
    assert label(tmp_path, candidates, "--params", '{"tau": 0.99}') == 0
    summary = json.loads((tmp_path / "labels/summary.json").read_text())
    assert (summary["kept"], summary["fallback"]) == (2, 2)


@pytest.mark.parametrize(
    ("change", "options", "k", "message"),
    [
        ({}, [], 255, "255 clusters: label PNGs hold 1 to 254"),
        ({"category_id": 7}, [], 6, "category 7 is not one of 6"),
        ({"image_id": 3}, [], 6, "image 3 is not a usable image of shard 0"),
        ({"image_id": 5}, [], 6, "image 5 is not a usable image of shard 0"),
        ({}, ["--tau", "1.5"], 6, "tau"),
    ],
)
def test_entry_point_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, int], options: list[str], k: int, message: str
) -> None:
    candidates = make_run(tmp_path)
    candidates[0].update(change)
    assert label(tmp_path, candidates, *options, k=k) == 1
    assert message in capsys.readouterr().err and not (tmp_path / "labels").exists()
