"""Boundary IoU against a walk over all pairs of pixels."""

import numpy as np
import pytest

from maskdistill.evaluation.metrics.boundaries import boundary_bands, boundary_counts, boundary_width, mean

Labels = np.ndarray


def slow_band(labels: Labels, width: int) -> np.ndarray:
    """A pixel belongs to its region's band if a square of side 2 * width + 1 around it holds anything
    else.
    """
    height, breadth = labels.shape
    band = np.zeros(labels.shape, dtype=bool)
    for row in range(height):
        for column in range(breadth):
            for y in range(row - width, row + width + 1):
                for x in range(column - width, column + width + 1):
                    inside = 0 <= y < height and 0 <= x < breadth
                    band[row, column] |= not inside or labels[y, x] != labels[row, column]
    return band


def slow_boundary_iou(maps: list[tuple[Labels, Labels]], classes: int) -> float:
    """Mean over classes; each class by itself, as sets of pixels over all images."""
    values = []
    for wanted in range(classes):
        both = either = 0
        for predicted, target in maps:
            width = max(1, round(0.02 * float(np.hypot(*target.shape))))
            shown = np.where(target == 255, 255, predicted)
            found = slow_band(shown, width) & (shown == wanted)
            true = slow_band(target, width) & (target == wanted)
            both += int((found & true).sum())
            either += int((found | true).sum())
        values.append(both / either if either else 0.0)
    return float(np.mean(values))


def blobs(rng: np.random.Generator, shape: tuple[int, int], classes: int) -> Labels:
    labels = np.zeros(shape, dtype=np.uint8)
    for label in range(1, classes):
        y, x = rng.integers(0, shape[0] - 6), rng.integers(0, shape[1] - 6)
        labels[y : y + rng.integers(4, 20), x : x + rng.integers(4, 20)] = label
    return labels


@pytest.mark.parametrize("width", [1, 2, 5])
def test_bands_are_those_of_every_region(width: int) -> None:
    rng = np.random.default_rng(width)
    for _ in range(4):
        labels = blobs(rng, (26, 31), 4)
        labels[rng.random(labels.shape) < 0.01] = 255
        assert np.array_equal(boundary_bands(labels, width), slow_band(labels, width))


def test_mean_over_classes_and_images() -> None:
    rng = np.random.default_rng(0)
    maps = []
    for shape in ((40, 60), (75, 50), (21, 30)):
        predicted, target = (blobs(rng, shape, 4) for _ in range(2))
        predicted[target == 2] = 2
        predicted[rng.random(shape) < 0.02] = 5  # a label without a class
        target[:3] = 255
        maps.append((predicted, target))
    counts = sum(boundary_counts(*pair, 5) for pair in maps)
    expected = slow_boundary_iou(maps, 5)
    assert 0.1 < expected < 0.9
    assert mean(counts) == pytest.approx([expected])


def test_a_shifted_object_loses_more_at_its_boundary() -> None:
    """A square of 200, moved by 2 pixels, in 1000 x 1000: IoU 0.98, Boundary IoU by counting the two
    frames.
    """
    target = np.zeros((1000, 1000), dtype=np.uint8)
    target[300:500, 300:500] = 1
    predicted = np.roll(target, 2, axis=1)
    assert boundary_width(target.shape) == 28
    intersection, union = boundary_counts(predicted, target, 2)
    frame = 200 * 200 - 144 * 144
    common = 198 * 200 - 146 * 144  # common part of the squares less the union of what lies inside the frames
    assert intersection[1] / union[1] == pytest.approx(common / (2 * frame - common))
    assert intersection[1] / union[1] < 200 * 198 / (200 * 202)


def test_small_pictures_have_a_band_of_one_pixel() -> None:
    assert boundary_width((10, 10)) == 1
    assert boundary_width((375, 500)) == 12  # 12.5 to even


def test_perfect_maps_score_one_with_ignored_pixels_anywhere() -> None:
    rng = np.random.default_rng(4)
    target = blobs(rng, (50, 50), 3)
    predicted = target.copy()
    target[20:30, 10:40] = 255
    assert mean(boundary_counts(predicted, target, 3)) == [1]
