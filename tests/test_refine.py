"""Outlines refined by GrabCut: what they reach, what they may not leave, and when the mask stays as it
was.
"""

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from maskdistill.masks.refine import CERTAIN, MAX_SIDE, REACH, refine

Mask = npt.NDArray[np.bool_]
PATCH = 8


def disc(side: int, radius: float) -> Mask:
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return np.asarray(np.hypot(y, x) <= radius)


def photo_of(solid: Mask, seed: int = 0) -> npt.NDArray[np.uint8]:
    """An orange object on a blue ground, both of two shades and noisy."""
    rng = np.random.default_rng(seed)
    shade = (np.indices(solid.shape).sum(axis=0) // 3 % 2)[..., None] * 30
    color = np.where(solid[..., None], (200, 120, 40), (40, 90, 160)) + shade
    return np.asarray(np.clip(color + rng.normal(0, 8, color.shape), 0, 255), np.uint8)


def patches_of(solid: Mask, patch: int = PATCH, share: float = 0.3) -> Mask:
    """The patches that the object covers to a share."""
    rows, columns = (side // patch for side in solid.shape)
    covered = solid.reshape(rows, patch, columns, patch).mean(axis=(1, 3)) > share
    return np.kron(covered, np.ones((patch, patch), bool))


def iou(first: Mask, second: Mask) -> float:
    return float((first & second).sum() / (first | second).sum())


def test_the_outline_of_patches_becomes_the_objects_own() -> None:
    solid = disc(96, 27.3)
    start = patches_of(solid)
    assert iou(start, solid) < 0.9
    found = refine(photo_of(solid), start, PATCH)
    assert iou(found, solid) > 0.98
    np.testing.assert_array_equal(refine(photo_of(solid), start, PATCH), found)


def test_neither_the_core_nor_what_is_far_away_changes() -> None:
    """Whatever the colours say: here they say the opposite within a corner of the mask, and the same far from
    it.
    """
    solid = disc(96, 27.3)
    start = patches_of(solid)
    shown = solid.copy()
    shown[:20], shown[44:52, 44:52] = True, False
    found = refine(photo_of(shown), start, PATCH)
    inside, outside = ndimage.distance_transform_edt(start), ndimage.distance_transform_edt(~start)
    assert found[inside > CERTAIN * PATCH + 1].all() and not found[outside > REACH * PATCH + 1].any()
    assert iou(found, solid) > 0.9


@pytest.mark.parametrize("color", ["one", "noise"])
def test_where_the_colours_tell_nothing_the_mask_stays_about_where_it_was(color: str) -> None:
    start = patches_of(disc(96, 27.3))
    rng = np.random.default_rng(3)
    photo = (
        np.full((96, 96, 3), 90, np.uint8) if color == "one" else rng.integers(0, 256, (96, 96, 3), np.uint8)
    )
    assert iou(refine(photo, start, PATCH), start) >= 0.4


@pytest.mark.parametrize("case", ["everything", "one pixel", "a line"])
def test_masks_that_leave_grabcut_nothing_to_learn_from(case: str) -> None:
    start = np.zeros((40, 56), bool)
    start[{"everything": np.s_[:], "one pixel": np.s_[7, 9], "a line": np.s_[12]}[case]] = True
    found = refine(photo_of(disc(64, 20))[:40, :56], start, PATCH)
    assert found.shape == start.shape and found.dtype == bool and found.any()
    if case == "everything":
        assert found.all()


@pytest.mark.slow
def test_a_large_photograph_is_refined_at_a_smaller_size() -> None:
    side = 4 * MAX_SIDE
    solid = disc(side, side / 3.3)
    patch = side // 16
    start = patches_of(solid, patch)
    found = refine(photo_of(solid), start, patch)
    assert found.shape == solid.shape and iou(found, solid) > 0.98 > 0.9 > iou(start, solid)
