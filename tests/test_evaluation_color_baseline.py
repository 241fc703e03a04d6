"""Colour baselines against textbook formulas and slow searches."""

import numpy as np
import pytest

from maskdistill.evaluation.color_baseline import (
    fit_colors,
    nearest_color,
    rgb_to_lab,
    sample_pixels,
)
from maskdistill.masks.otsu import otsu_foreground


def slow_lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of one sRGB colour, IEC 61966-2-1 and D65 white."""
    linear = np.array([v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in rgb / 255])
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    scaled = to_xyz @ linear / [0.9505, 1.0, 1.089]
    fx, fy, fz = (t ** (1 / 3) if t > (6 / 29) ** 3 else t / (3 * (6 / 29) ** 2) + 4 / 29 for t in scaled)
    return np.array([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)])


def slow_otsu(gray: np.ndarray) -> np.ndarray:
    """The side above the threshold that maximises the variance between the two sides."""
    values = gray.ravel().astype(float)

    def between(threshold: int) -> float:
        low, high = values[values <= threshold], values[values > threshold]
        if not len(low) or not len(high):
            return -1.0
        return float(len(low) * len(high) * (low.mean() - high.mean()) ** 2)

    best = max(range(255), key=lambda threshold: (round(between(threshold), 6), -threshold))
    return gray > best


def test_lab_follows_the_standard() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (6, 7, 3)).astype(np.uint8)
    expected = np.array([[slow_lab(pixel) for pixel in row] for row in rgb])
    assert rgb_to_lab(rgb) == pytest.approx(expected, abs=0.6)
    assert rgb_to_lab(np.full((1, 1, 3), 255, np.uint8))[0, 0] == pytest.approx([100, 0, 0], abs=0.1)


def test_separated_colours_are_found_whatever_the_seed() -> None:
    rng = np.random.default_rng(1)
    centers = np.array([[20, 0, 0], [80, 40, 0], [50, -60, 60], [60, 0, -70]], dtype=np.float32)
    truth = rng.integers(0, 4, 400)
    points = (centers[truth] + rng.normal(0, 2, (400, 3))).astype(np.float32)
    for seed in range(3):
        fitted = fit_colors(points, 4, seed)
        means = np.array([points[truth == index].mean(axis=0) for index in range(4)])
        order = np.argsort(fitted[:, 0])
        assert fitted[order] == pytest.approx(means[np.argsort(means[:, 0])], abs=1e-3)
        assert np.array_equal(fitted, fit_colors(points, 4, seed))


def test_few_points_are_their_own_centres() -> None:
    points = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.float32)
    assert np.array_equal(fit_colors(points, 5, 0), points)
    with pytest.raises(ValueError, match="at least one point"):
        fit_colors(points[:0], 2, 0)


@pytest.mark.parametrize("shape", [(3,), (4, 3), (5, 6, 3)])
def test_nearest_colour_is_that_of_a_full_search(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(2)
    colors, centers = (rng.uniform(-50, 50, size).astype(np.float32) for size in (shape, (7, 3)))
    distances = np.square(colors[..., None, :] - centers).sum(axis=-1)
    assert np.array_equal(nearest_color(colors, centers), distances.argmin(axis=-1))


def test_sampled_pixels_belong_to_the_picture_and_follow_the_seed() -> None:
    lab = np.arange(60, dtype=np.float32).reshape(4, 5, 3)
    sample = sample_pixels(lab, 300, (0, 1))
    assert {tuple(pixel) for pixel in sample.tolist()} == {
        tuple(pixel) for pixel in lab.reshape(-1, 3).tolist()
    }
    assert np.array_equal(sample, sample_pixels(lab, 300, (0, 1)))
    assert not np.array_equal(sample, sample_pixels(lab, 300, (0, 2)))


@pytest.mark.parametrize("dark_object", [True, False])
def test_otsu_takes_the_side_that_avoids_the_frame(dark_object: bool) -> None:
    rng = np.random.default_rng(3)
    inside = np.zeros((30, 40), dtype=bool)
    inside[8:20, 10:30] = True
    gray = np.where(inside ^ dark_object, 180, 60) + rng.integers(-20, 21, inside.shape)
    rgb = np.repeat(gray.astype(np.uint8)[..., None], 3, axis=2)
    found = otsu_foreground(rgb)
    assert np.array_equal(found, inside)
    bright = slow_otsu(rgb[..., 0])
    assert np.array_equal(found, ~bright if dark_object else bright)


def test_otsu_threshold_is_the_best_split_of_noise() -> None:
    rng = np.random.default_rng(4)
    for _ in range(10):
        gray = np.clip(rng.normal(rng.choice([70, 150], (12, 12), p=[0.7, 0.3]), 30), 0, 255).astype(np.uint8)
        bright = slow_otsu(gray)
        found = otsu_foreground(np.repeat(gray[..., None], 3, axis=2))
        assert np.array_equal(found, bright) or np.array_equal(found, ~bright)


def test_one_grey_has_no_foreground() -> None:
    for value in (0, 128, 255):
        assert not otsu_foreground(np.full((5, 6, 3), value, np.uint8)).any()
