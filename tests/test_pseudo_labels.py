"""Threshold, fallback and overlap rule, against painting pixel by pixel."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from maskdistill.cli import main
from maskdistill.data.manifest import write_manifest
from maskdistill.formats import rle
from maskdistill.formats.label_png import read_label_png
from maskdistill.pseudo_labels.painting import paint, painting_steps
from maskdistill.pseudo_labels.regions import box_region, grabcut_region
from maskdistill.pseudo_labels.summary import TAUS, count_image, join, rows
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import write_json

SHAPE = (12, 16)
Compare = Literal["gt", "ge"]
Overlap = Literal["drop", "pixel", "legacy"]


def box(
    x: int, y: int, w: int, h: int, score: float, category: int, shape: tuple[int, int] = SHAPE
) -> dict[str, Any]:
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
        (
            [box(0, 0, 2, 2, 0.4, 1), box(8, 8, 2, 2, 0.4, 2)],
            "gt",
            "drop",
            [0],
            True,
        ),  # stable on equal scores
        ([EMPTY, LOW], "gt", "drop", [1], True),  # a mask without a pixel neither passes nor stands in
        ([EMPTY], "gt", "drop", [], False),
        ([], "gt", "drop", [], False),
    ],
)
def test_table(
    candidates: list[Any], compare: Compare, overlap: Overlap, kept: list[int], fallback: bool
) -> None:
    found = paint(candidates, SHAPE, 0.9, compare, overlap)
    assert (found.kept, found.fallback) == (kept, fallback)
    assert found.labels.dtype == np.uint8 and found.labels.shape == SHAPE
    assert set(np.unique(found.labels)) - {0} == {candidates[i]["category_id"] for i in kept}


@pytest.mark.parametrize("overlap", ["drop", "pixel", "legacy"])
def test_a_best_candidate_whose_region_is_empty_paints_nothing(overlap: Overlap) -> None:
    found = paint([LOW], SHAPE, 0.9, "gt", overlap, lambda candidate: EMPTY["segmentation"])
    assert not found.labels.any() and (found.kept, found.fallback) == ([], False)


def test_pixel_rule_keeps_the_most_confident_label() -> None:
    labels = paint([B, A], SHAPE, 0.9, "gt", "pixel").labels
    expected = np.zeros(SHAPE, dtype=np.uint8)
    expected[2:8, 6:12] = 2
    expected[0:4, 0:8] = 1
    np.testing.assert_array_equal(labels, expected)


def test_a_mask_in_the_first_rows_blocks_only_what_it_touches() -> None:
    # the released overlap check looked at rows 0 and 1 only [method §6.4]
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


@pytest.mark.parametrize("compare", ["gt", "ge"])
@pytest.mark.parametrize("overlap", ["drop", "pixel"])
def test_unsure_pixels_are_those_a_lower_threshold_would_paint_in_the_background(
    compare: Compare, overlap: Overlap
) -> None:
    rng = np.random.default_rng(12)
    unsure = fallbacks = 0
    for _ in range(25):
        candidates = []
        for _ in range(rng.integers(0, 7)):
            x, y, w, h = (int(v) for v in rng.integers(0, [12, 9, 7, 7]))
            score = float(rng.choice([0.2, 0.3, 0.5, 0.8, 0.9, 0.95]))
            candidates.append(box(x, y, w, h, score, int(rng.integers(1, 7))))
        found = paint(candidates, SHAPE, 0.8, compare, overlap, unsure=0.3)
        plain = paint(candidates, SHAPE, 0.8, compare, overlap)
        sure, lower = (slow_paint(candidates, tau, compare, overlap) for tau in (0.8, 0.3))
        expected = np.where((sure == 0) & (lower > 0), 255, sure)
        np.testing.assert_array_equal(found.labels, expected)
        assert (found.kept, found.fallback) == (plain.kept, plain.fallback)
        unsure += (expected == 255).any()
        fallbacks += found.fallback
    assert unsure > 5 and fallbacks > 1


def test_unsure_above_tau_changes_nothing() -> None:
    found, plain = (paint([A, B, C, LOW], SHAPE, 0.4, unsure=unsure) for unsure in (0.93, None))
    np.testing.assert_array_equal(found.labels, plain.labels)
    assert found.kept == plain.kept and 255 not in plain.labels


def transcribed_legacy(candidates: list[Any], tau: float) -> np.ndarray[Any, Any]:
    """The released check as [method §6.4] describes it: the uint8 mask itself is the index."""
    canvas = None
    for candidate in sorted(candidates, key=lambda candidate: -candidate["score"]):
        if candidate["score"] <= tau and canvas is not None:
            break
        mask = rle.decode(candidate["segmentation"]).astype(np.uint8)
        if canvas is None:
            canvas = np.zeros(mask.shape, np.uint8)
        elif canvas[mask].any():
            continue
        canvas[mask == 1] = candidate["category_id"]
    return np.zeros(SHAPE, np.uint8) if canvas is None else canvas


def test_legacy_against_its_description() -> None:
    rng = np.random.default_rng(5)
    overwritten = blocked = 0
    for turn in range(150):
        candidates = []
        for _ in range(rng.integers(0, 6)):
            x, y, w, h = (int(v) for v in rng.integers([0, 0, 1, 1], [12, 9, 8, 8]))
            candidates.append(box(x, y, w, h, float(rng.uniform(0.5, 1)), int(rng.integers(1, 7))))
        if turn % 5 == 0:
            candidates.append(box(0, 0, 16, 12, float(rng.uniform(0.9, 1)), 6))  # its index has no 0
        if turn % 10 == 0:
            candidates.append(
                box(3, int(rng.integers(0, 2)), 5, 1, 0.999, 5)
            )  # only row 0 or row 1 is labelled
        found = paint(candidates, SHAPE, 0.9, "gt", "legacy")
        np.testing.assert_array_equal(found.labels, transcribed_legacy(candidates, 0.9))
        overwritten += len(found.kept) > len(paint(candidates, SHAPE, 0.9).kept)
        blocked += len(found.kept) < len(paint(candidates, SHAPE, 0.9).kept)
    assert overwritten > 5 and blocked > 5


def test_legacy_lets_the_less_confident_win_and_the_first_rows_block() -> None:
    low_first = paint([box(2, 5, 6, 4, 0.99, 2), box(4, 6, 6, 4, 0.95, 3)], SHAPE, 0.9, "gt", "legacy")
    assert low_first.kept == [0, 1] and low_first.labels[7, 5] == 3
    blocked = paint([box(0, 0, 3, 1, 0.99, 2), box(4, 6, 6, 4, 0.95, 3)], SHAPE, 0.9, "gt", "legacy")
    assert blocked.kept == [0]


@pytest.mark.parametrize("overlap", ["drop", "pixel", "legacy"])
@pytest.mark.parametrize("compare", ["gt", "ge"])
def test_counts_at_all_thresholds_are_those_of_painting_at_each(overlap: Overlap, compare: Compare) -> None:
    rng = np.random.default_rng(2)
    counts = []
    taus = [0.0, 0.3, 0.55, *TAUS[::10][-2:]]
    expected = np.zeros((len(taus), 5))
    for image in range(30):
        candidates = [EMPTY] if image % 7 == 3 else []
        for _ in range(rng.integers(0, 7)):
            x, y, w, h = (int(v) for v in rng.integers([0, 0, 1, 1], [12, 9, 8, 8]))
            score = float(rng.choice([0.3, 0.5, 0.8, 0.9, 0.95, 0.99]))
            candidates.append(box(x, y, w, h, score, int(rng.integers(1, 7))))
        counts.append(
            count_image(painting_steps(candidates, SHAPE, overlap), SHAPE[0] * SHAPE[1], compare, taus)
        )
        for row, tau in zip(expected, taus, strict=True):
            found = paint(candidates, SHAPE, tau, compare, overlap)
            row += (
                bool(found.kept) and not found.fallback, len(found.kept), found.fallback, not found.kept,
                (found.labels > 0).mean(),
            )  # fmt: skip
    for found_row, row, tau in zip(rows(join(counts, taus), taus), expected, taus, strict=True):
        names = ("images_kept", "objects_kept", "fallback", "empty")
        assert [found_row[name] for name in names] == row[:4].tolist(), tau
        assert found_row["mean_coverage"] == pytest.approx(row[4] / 30)
        assert found_row["tau"] == tau
    assert expected[0, 2] == 0 and expected[-1, 2] > 5 and expected[0, 3] > 1


def test_label_254_fits_and_255_is_refused() -> None:
    assert paint([box(0, 0, 2, 2, 0.99, 254)], SHAPE, 0.9).labels.max() == 254
    for category in (0, 255):
        with pytest.raises(MaskDistillError, match=f"category {category} is outside"):
            paint([box(0, 0, 2, 2, 0.99, category)], SHAPE, 0.9)
    with pytest.raises(MaskDistillError, match=r"size \[12, 16\], its image \[16, 12\]"):
        paint([A], (16, 12), 0.9)


# ---------------------------------------------------------------- what is painted


@pytest.mark.parametrize(
    ("bbox", "rows", "columns"),
    [
        ([2.0, 3.0, 4.0, 5.0], range(3, 9), range(2, 7)),  # both ends included
        ([1.5, 2.5, 2.0, 3.0], range(2, 7), range(2, 5)),  # halves go to the even number: 1.5, 2.5, 3.5, 5.5
        ([2.4, 0.6, 3.0, 1.0], range(1, 3), range(2, 6)),
        ([11.0, 7.0, 5.0, 5.0], range(7, 12), range(11, 16)),  # up to the edge, which is one further
        ([-3.0, -2.0, 4.0, 4.0], range(3), range(2)),
    ],
)
def test_box_region(bbox: list[float], rows: range, columns: range) -> None:
    expected = np.zeros(SHAPE, dtype=bool)
    for row in rows:
        for column in columns:
            expected[row, column] = True
    np.testing.assert_array_equal(rle.decode(box_region({**A, "bbox": bbox})), expected)


def coin(height: int = 60, width: int = 80) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """A photo (H, W, 3) of an orange disc on blue, noisy, and the disc's pixels."""
    rows, columns = np.mgrid[:height, :width]
    disc = (rows - 30) ** 2 + (columns - 36) ** 2 < 15**2
    photo = np.where(disc[..., None], (220, 140, 40), (40, 60, 170))
    noise = np.random.default_rng(0).normal(0, 12, photo.shape)
    return (photo + noise).clip(0, 255).astype(np.uint8), disc


def test_grabcut_finds_the_object_in_a_loose_box_and_is_repeatable() -> None:
    photo, disc = coin()
    loose = {"bbox": [14.6, 9.5, 44.4, 41.2]}
    found = rle.decode(grabcut_region(loose, photo))
    assert (found & disc).sum() / (found | disc).sum() > 0.97
    assert not found[:, :15].any() and not found[:10].any()
    before = grabcut_region(loose, photo)
    grabcut_region({"bbox": [5.0, 5.0, 60.0, 30.0]}, photo)
    assert grabcut_region(loose, photo) == before


@pytest.mark.parametrize("bbox", [[0.0, 0.0, 80.0, 60.0], [10.0, 10.0, 0.2, 0.3]])
def test_grabcut_is_empty_where_opencv_refuses(bbox: list[float]) -> None:
    assert rle.area(grabcut_region({"bbox": bbox}, coin()[0])) == 0


def test_regions_decide_over_overlap_and_an_empty_one_is_not_kept() -> None:
    """A and C are disjoint as masks; painted as columns that they share, only the better one remains."""
    column = np.zeros(SHAPE, dtype=bool)
    column[:, 2] = True
    found = paint([A, C], SHAPE, 0.9, region=lambda _: rle.encode(column))
    assert found.kept == [0] and set(np.unique(found.labels)) == {0, 1}
    empty = rle.encode(np.zeros(SHAPE, dtype=bool))
    for overlap in ("drop", "pixel", "legacy"):
        found = paint([A, C], SHAPE, 0.9, "gt", overlap, lambda c: empty if c is A else c["segmentation"])
        assert found.kept == [1] and not found.fallback


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
         str(folder / "candidates.json"), "--num-clusters", str(k), "--output", str(folder / "labels"),
         *options]
    )  # fmt: skip


def test_entry_point(tmp_path: Path) -> None:
    candidates = make_run(tmp_path)
    assert label(tmp_path, candidates) == 0
    files = sorted(
        path.relative_to(tmp_path / "labels").as_posix() for path in (tmp_path / "labels").rglob("*.*")
    )
    assert files == ["a.png", "d.png", "sub/b.png", "summary.json"]
    np.testing.assert_array_equal(
        read_label_png(tmp_path / "labels/a.png"), paint([A, B, C], SHAPE, 0.9).labels
    )
    np.testing.assert_array_equal(
        read_label_png(tmp_path / "labels/sub/b.png"), paint([LOW], SHAPE, 0.0).labels
    )
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


def test_unsure_pixels_are_written_and_do_not_count_as_covered(tmp_path: Path) -> None:
    assert label(tmp_path, make_run(tmp_path), "--params", '{"tau": 0.93, "unsure": 0.9}') == 0
    labels = read_label_png(tmp_path / "labels/a.png")
    np.testing.assert_array_equal(labels, paint([A, B, C], SHAPE, 0.93, unsure=0.9).labels)
    assert np.count_nonzero(labels == 255) == 20  # C's; B overlaps A
    summary = json.loads((tmp_path / "labels/summary.json").read_text())
    assert summary["mean_coverage"] == pytest.approx((32 + 6) / (3 * 12 * 16))
    assert summary["mean_unsure"] == pytest.approx(20 / (3 * 12 * 16))
    assert [summary[name] for name in ("kept", "fallback", "empty")] == [2, 1, 1]


@pytest.mark.parametrize("kind", ["bbox", "grabcut"])
def test_types_reach_the_result(tmp_path: Path, kind: str) -> None:
    photo, _ = coin(12, 16)
    photo[2:9, 4:11] = (250, 250, 20)
    make_run(tmp_path)
    Image.fromarray(photo).save(tmp_path / "x.jpg", quality=95)
    candidate = {**A, "image_id": 1, "bbox": [3.0, 1.0, 9.0, 9.0]}
    assert label(tmp_path, [candidate], "--params", json.dumps({"type": kind})) == 0
    found = read_label_png(tmp_path / "labels/a.png") > 0
    expected = np.zeros(SHAPE, dtype=bool)
    if kind == "bbox":
        expected[1:11, 3:13] = True
    else:
        expected[2:9, 4:11] = True
    assert (found != expected).sum() <= (0 if kind == "bbox" else 8)
    summary = json.loads((tmp_path / "labels/summary.json").read_text())
    assert summary["provenance"]["params"]["type"] == kind


def test_several_processes_give_the_same_files(tmp_path: Path) -> None:
    candidates = make_run(tmp_path)
    written = []
    for threads in ("1", "2"):
        assert label(tmp_path, candidates, "--threads", threads) == 0
        written.append({path.name: path.read_bytes() for path in (tmp_path / "labels").rglob("*.*")})
    assert written[0] == written[1] and len(written[0]) == 4


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
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, int],
    options: list[str],
    k: int,
    message: str,
) -> None:
    candidates = make_run(tmp_path)
    candidates[0].update(change)
    assert label(tmp_path, candidates, *options, k=k) == 1
    assert message in capsys.readouterr().err and not (tmp_path / "labels").exists()


@pytest.mark.slow
def test_summary_of_all_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = make_run(tmp_path)
    write_json(tmp_path / "shard-0000.json", {"candidates": first})
    write_json(tmp_path / "shard-0001.json", {"candidates": [{**EDGE, "image_id": 5}]})
    command = [
        "label_summary",
        "--manifest",
        str(tmp_path / "manifest.csv"),
        "--output",
        str(tmp_path / "summary.json"),
    ]
    files = [str(tmp_path / name) for name in ("shard-0000.json", "shard-0001.json")]
    written = []
    for threads in ("1", "2"):
        assert main([*command, "--candidates", *files, "--threads", threads]) == 0
        written.append((tmp_path / "summary.json").read_bytes())
    assert written[0] == written[1]
    summary = json.loads(written[0])
    assert summary["images"] == 4
    (row,) = (row for row in summary["by_tau"] if row["tau"] == 0.9)
    # image 1: A and C; 2: LOW as a fallback; 4: nothing; 5: EDGE, whose score is 0.9 itself, as a fallback
    assert [row[name] for name in ("images_kept", "objects_kept", "fallback", "empty")] == [1, 4, 2, 1]
    assert row["mean_coverage"] == pytest.approx((32 + 20 + 6 + 8) / (4 * 12 * 16))
    for given, message in (
        ([files[0], files[0]], "a shard is given twice"),
        ([files[0]], "shard 1 is missing"),
    ):
        assert main([*command, "--candidates", *given]) == 1
        assert message in capsys.readouterr().err
    write_json(tmp_path / "shard-0001.json", {"candidates": first})
    assert main([*command, "--candidates", *files]) == 1
    assert "shard-0001.json: image 1 is not a usable image of its shard" in capsys.readouterr().err
