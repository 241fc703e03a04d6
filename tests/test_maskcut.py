"""MaskCut against the whole pencil (D - E) x = lambda D x with its edges written one by one, cut after
cut.
"""

from typing import Any

import numpy as np
import pytest
from scipy import linalg, ndimage

from maskdistill.config import load_config
from maskdistill.config.limits import refuse_more_clusters
from maskdistill.features.store import ImageFeatures
from maskdistill.masks import ncut
from maskdistill.masks.registry import read
from maskdistill.masks.rules import maskcut as rule
from maskdistill.runtime.errors import MaskDistillError

Array = np.ndarray[Any, np.dtype[Any]]


def random_keys(seed: int, grid: tuple[int, int]) -> Array:
    """Neighbours have similar keys, and the picture's mean key is not zero."""
    rng = np.random.default_rng(seed)
    field = np.stack([ndimage.gaussian_filter(rng.normal(size=grid), 1.2) for _ in range(8)], -1).reshape(
        -1, 8
    )
    return np.asarray(field / field.std() + 0.3 * rng.normal(size=field.shape) + 0.3, np.float32)


def slow_maskcut(keys: Array, grid: tuple[int, int], tau: float, cuts: int, sides: bool) -> list[Array]:
    """By the paper: keys of patches in earlier masks are set to zero, and each graph is solved whole."""
    n, masks = len(keys), list[Array]()
    units = keys.astype(float) / np.linalg.norm(keys, axis=1, keepdims=True)
    for _ in range(cuts):
        covered = np.any([np.zeros(n, bool), *masks], axis=0)
        edges = np.where((units * ~covered[:, None]) @ (units * ~covered[:, None]).T >= tau, 1, 1e-5)
        if (edges == 1).sum() in ((~covered).sum(), (~covered).sum() ** 2):
            break
        degrees = np.diag(edges.sum(axis=1))
        vector = linalg.eigh(degrees - edges, degrees)[1][:, 1]
        one = {i for i in range(n) if vector[i] > vector.mean() and not covered[i]}
        other = {i for i in range(n) if vector[i] <= vector.mean() and not covered[i]}
        if not one or not other:
            break
        corners = {0, grid[1] - 1, n - grid[1], n - 1}
        first = max(one | other, key=lambda i: abs(vector[i]))
        if (len(one & corners) < 2) == (len(other & corners) < 2):  # corners do not tell
            object_ = one if first in one else other
        else:
            object_ = one if len(one & corners) < 2 else other
        mask = np.isin(np.arange(n), list(object_))
        if not sides:
            labels = ndimage.label(mask.reshape(grid))[0].ravel()
            mask = labels == labels[max(object_, key=lambda i: abs(vector[i]))]
        masks.append(mask)
    return [mask.reshape(grid) for mask in masks]


@pytest.mark.parametrize("solver", ["lapack", "lanczos"])
def test_it_agrees_with_the_paper_written_slowly(solver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ncut, "SMALL", {"lapack": 1000, "lanczos": 0}[solver])
    counts = []
    for seed in range(12):
        grid, tau, sides = [(9, 10), (1, 60), (12, 7)][seed % 3], [0.15, 0.3][seed % 2], seed % 4 > 1
        keys = random_keys(seed, grid)
        expected = slow_maskcut(keys, grid, tau, 4, sides)
        found = rule.maskcut(keys, grid, tau, 4, sides)
        np.testing.assert_array_equal([mask for mask, _ in found], expected, err_msg=f"seed {seed}")
        assert all(mask[place] for mask, place in found)
        assert np.sum([mask for mask, _ in found], axis=0).max() == 1
        counts.append(len(found))
    assert max(counts) == 4


@pytest.mark.parametrize("shape", [(12, 16), (24, 30)])
def test_three_planted_objects_are_found_one_after_the_other(shape: tuple[int, int]) -> None:
    """A block of m patches that are like no others costs about N / m weak edges a patch: the largest comes
    first.
    """
    kind = np.zeros(shape, int)
    kind[2:4, 2:5], kind[6:9, 8:12], kind[1:4, 9:15] = 1, 2, 3
    keys = np.eye(4, dtype=np.float32)[kind.ravel()]
    found = rule.maskcut(keys, shape, cuts=4)
    assert [int(kind[place]) for _, place in found] == [3, 2, 1]
    for mask, place in found:
        np.testing.assert_array_equal(mask, kind == kind[place])
    assert len(rule.maskcut(keys, shape, cuts=2)) == 2


def test_an_object_larger_than_the_background_is_told_by_the_corners() -> None:
    kind = np.zeros((8, 9), int)
    kind[0:8, 1:8] = 1  # more than half of the patches, no corner
    ((mask, place),) = rule.maskcut(np.eye(2, dtype=np.float32)[kind.ravel()], (8, 9))
    np.testing.assert_array_equal(mask, kind == 1)
    assert mask[place]


def test_where_both_sides_have_two_corners_the_largest_entry_tells() -> None:
    left = np.ones((4, 6), bool)
    halves = np.repeat([[1.0, 1, -0.5, -0.5, -0.5, -0.5]], 4, axis=0).ravel()
    for sign in (1, -1):
        side = rule.foreground(sign * halves, left.ravel(), (4, 6))
        assert side is not None
        np.testing.assert_array_equal(side, halves > 0)
    assert rule.foreground(halves, halves > 0, (4, 6)) is None


def test_whole_sides_hold_every_component() -> None:
    kind = np.zeros((8, 10), int)
    kind[1:3, 1:4], kind[5:7, 6:9] = 1, 1
    keys = np.eye(2, dtype=np.float32)[kind.ravel()]
    ((whole, _),) = rule.maskcut(keys, (8, 10), sides=True)
    np.testing.assert_array_equal(whole, kind == 1)
    parts = rule.maskcut(keys, (8, 10))
    assert [place for _, place in parts] == [(1, 1), (5, 6)]
    np.testing.assert_array_equal(np.sum([mask for mask, _ in parts], axis=0), kind)


@pytest.mark.parametrize("keys", [np.ones((12, 3)), np.eye(12), np.zeros((12, 3)), np.ones((1, 3))])
def test_what_has_no_cut_is_whole(keys: Array) -> None:
    ((mask, source),) = rule.maskcut(keys.astype(np.float32), (len(keys) // 3 or 1, min(3, len(keys))))
    assert mask.all() and source == (0, 0)


def test_a_start_from_elsewhere_leads_to_the_same_eigenvector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ncut, "SMALL", 0)
    alike = ncut.alike_patches(random_keys(1, (16, 20)), 0.15)
    cold = ncut.second_eigenvector(alike)
    for start in (np.arange(320.0), cold + 0.01):
        warm = ncut.second_eigenvector(alike, start)
        np.testing.assert_allclose(warm * np.sign(warm @ cold), cold, atol=1e-7 * np.abs(cold).max())


def test_it_is_chosen_by_name() -> None:
    keys, cls = random_keys(5, (8, 9)), np.zeros((1, 8), np.float32)
    image = ImageFeatures(cls, cls, keys, (8, 9), (64, 72))
    for name, given in {"maskcut": (0.15, 3, False), "maskcut-tau0.3-cuts2-sides": (0.3, 2, True)}.items():
        found = read(name).masks(image)
        expected = rule.maskcut(keys, (8, 9), *given)
        np.testing.assert_array_equal([one.mask for one in found], [mask for mask, _ in expected])
        assert [one.source for one in found] == [place for _, place in expected]


def test_as_many_clusters_as_there_can_be_masks() -> None:
    """Of rules with several masks an image the setting counts that says how many, of others one."""
    data = {"run": "r", "data": {"kind": "folder", "root": "photos"}, "clusters": {"num_clusters": 20}}
    data |= {name: {"weights": "random"} for name in ("backbone", "detector", "segmenter")}
    for name, most in {"maskcut": 3, "maskcut-cuts2": 2, "tokencut": 1, "maskdistill": 1}.items():
        config = load_config(data | {"masks": {"rule": name}})
        assert config.masks.most == most
        refuse_more_clusters(config, -(-20 // most))
        with pytest.raises(MaskDistillError, match=f"give at most {19 // most * most}"):
            refuse_more_clusters(config, 19 // most)
