"""Box IoU by counting pixels, CorLoc of published boxes, components by flood fill."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from maskdistill.evaluation.localisation import box_iou, corloc_hits, largest_component_box

DATA = Path(__file__).parents[2] / "shared/data"


def pixels(box: np.ndarray) -> set[tuple[int, int]]:
    x, y, width, height = box
    return {(column, row) for column in range(x, x + width) for row in range(y, y + height)}


def test_box_iou_counts_pixels() -> None:
    rng = np.random.default_rng(0)
    first = np.concatenate([rng.integers(0, 8, (12, 2)), rng.integers(0, 9, (12, 2))], axis=1)
    second = np.concatenate([rng.integers(0, 8, (9, 2)), rng.integers(0, 9, (9, 2))], axis=1)
    expected = np.zeros((12, 9))
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            union = pixels(a) | pixels(b)
            expected[i, j] = len(pixels(a) & pixels(b)) / len(union) if union else 0
    assert box_iou(first, second) == pytest.approx(expected)
    assert 0 < expected.max() < 1


def test_a_hit_needs_any_object_at_the_threshold() -> None:
    truth = [np.array([[0, 0, 10, 10], [50, 50, 10, 10]])] * 5
    predicted: list[list[float] | None] = [
        [50, 50, 10, 10],
        [0, 0, 10, 5],
        [0, 0, 10, 4.99],
        None,
        [50, 55, 10, 10],
    ]
    assert corloc_hits(predicted, truth).tolist() == [True, True, False, False, False]
    assert corloc_hits([[0, 0, 1, 1]], [np.zeros((0, 4))]).tolist() == [False]
    assert corloc_hits([[0, 0, 10, 5]], truth[:1], threshold=0.6).tolist() == [False]


def test_one_box_an_image_is_required() -> None:
    with pytest.raises(ValueError, match="longer"):
        corloc_hits([None], [np.zeros((0, 4))] * 2)


def voc_corners(path: Path) -> list[tuple[float, float, float, float]]:
    boxes = [item.find("bndbox") for item in ElementTree.parse(path).getroot().iter("object")]
    return [
        tuple(float(box.findtext(side, "")) for side in ("xmin", "ymin", "xmax", "ymax"))  # type: ignore[misc]
        for box in boxes
        if box is not None
    ]


def slow_overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """IoU of two corner boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = width * height if width > 0 and height > 0 else 0
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def test_corloc_of_the_published_lost_boxes() -> None:
    """All 5,011 predictions are in the fixture; the annotations here are of an excerpt of those images.

    Over the whole of VOC2007 trainval LOST's CorLoc is 3102/5011, asserted where all annotations are present.
    """
    boxes_file, annotations = (
        DATA / "fixtures/lost/voc2007_boxes_xyxy.json",
        DATA / "voc2007/VOC2007/Annotations",
    )
    if not boxes_file.is_file() or not annotations.is_dir():
        pytest.skip(f"{boxes_file} or {annotations} is absent")
    lost = json.loads(boxes_file.read_text())
    assert len(lost) == 5011
    predicted, truth, expected = [], [], []
    for path in sorted(annotations.glob("*.xml")):
        if f"{path.stem}.jpg" not in lost:
            continue
        x, y, right, bottom = lost[f"{path.stem}.jpg"]
        corners = voc_corners(path)
        predicted.append([x, y, right - x, bottom - y])
        truth.append(np.array([[a - 1, b - 1, c - a + 1, d - b + 1] for a, b, c, d in corners]))
        expected.append(
            any(slow_overlap((x, y, right, bottom), (a - 1, b - 1, c, d)) >= 0.5 for a, b, c, d in corners)
        )
    hits = corloc_hits(predicted, truth)
    assert hits.tolist() == expected
    assert hits.size >= 473
    if hits.size == 5011:
        assert hits.sum() == 3102
    else:
        # 3102/5011 = 61.9 %: the excerpt lies within four standard errors of the published value.
        assert abs(hits.mean() - 0.619) < 4 * np.sqrt(0.619 * 0.381 / hits.size)


def slow_components(labels: np.ndarray) -> list[tuple[int, int, list[tuple[int, int]]]]:
    """(size, label, pixels) of every 4-connected region by flood fill, in reading order."""
    seen: set[tuple[int, int]] = set()
    regions = []
    for start in np.ndindex(labels.shape):
        if start in seen or labels[start] == 0:
            continue
        region, frontier = [], [start]
        seen.add(start)
        while frontier:
            row, column = frontier.pop()
            region.append((row, column))
            for near in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
                inside = 0 <= near[0] < labels.shape[0] and 0 <= near[1] < labels.shape[1]
                if inside and near not in seen and labels[near] == labels[start]:
                    seen.add(near)
                    frontier.append(near)
        regions.append((len(region), int(labels[start]), region))
    return regions


@pytest.mark.parametrize("seed", range(30))
def test_largest_component_is_that_of_a_flood_fill(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.choice(4, size=tuple(rng.integers(1, 14, 2)), p=[0.4, 0.3, 0.2, 0.1])
    regions = slow_components(labels)
    box = largest_component_box(labels)
    if not regions:
        assert box is None
        return
    largest = max(size for size, _, _ in regions)
    _, _, region = min((r for r in regions if r[0] == largest), key=lambda r: r[1])
    rows, columns = np.array(region).T
    assert box is not None
    assert box.tolist() == [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]


def test_touching_corners_and_other_labels_do_not_connect() -> None:
    labels = np.array([[1, 0, 2, 2], [0, 1, 3, 2], [0, 1, 0, 0]])
    box = largest_component_box(labels)
    assert box is not None and box.tolist() == [2, 0, 2, 2]
    assert largest_component_box(np.zeros((3, 3), dtype=int)) is None
