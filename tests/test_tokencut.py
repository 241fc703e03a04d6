"""TokenCut against the whole pencil (D - E) x = lambda D x, on graphs whose cut is known, and by both
solvers.
"""

from typing import Any

import numpy as np
import pytest
from scipy import linalg, ndimage

from maskdistill.features.store import ImageFeatures
from maskdistill.masks import ncut
from maskdistill.masks.registry import read
from maskdistill.masks.rules import tokencut as cut

Array = np.ndarray[Any, np.dtype[Any]]


def random_keys(seed: int, grid: tuple[int, int]) -> Array:
    """Neighbours have similar keys, and the picture's mean key is not zero."""
    rng = np.random.default_rng(seed)
    field = np.stack([ndimage.gaussian_filter(rng.normal(size=grid), 1.5) for _ in range(8)], -1).reshape(
        -1, 8
    )
    return np.asarray(field / field.std() + 0.4 * rng.normal(size=field.shape) + 0.5, np.float32)


def slow_tokencut(keys: Array, grid: tuple[int, int], tau: float) -> tuple[Array, int, Array]:
    """Entry by entry, and the generalised eigenproblem as the paper writes it.

    Returns mask, seed, eigenvector.
    """
    n = len(keys)
    edges = np.full((n, n), 1e-5)
    for i in range(n):
        for j in range(n):
            product = float(keys[i] @ keys[j]) / float(np.linalg.norm(keys[i]) * np.linalg.norm(keys[j]))
            if i == j or product >= tau:
                edges[i, j] = 1
    degrees = np.diag(edges.sum(axis=1))
    vector = linalg.eigh(degrees - edges, degrees)[1][:, 1]
    size = np.abs(vector)
    seed = next(
        i for i in range(n) if size[i] > size.max() - 1e-9
    )  # patches with the same neighbours are equal
    side = (vector > vector.mean()) == (vector[seed] > vector.mean())
    labels, _ = ndimage.label(side.reshape(grid))
    return labels == labels.reshape(-1)[seed], seed, vector


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("solver", ["lapack", "lanczos"])
def test_it_agrees_with_the_whole_pencil(seed: int, solver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = [(6, 7), (1, 40), (9, 5)][seed % 3]
    tau = [0.2, 0.35][seed % 2]
    keys = random_keys(seed, grid)
    monkeypatch.setattr(ncut, "SMALL", {"lapack": 1000, "lanczos": 0}[solver])
    expected, place, vector = slow_tokencut(keys, grid, tau)
    found = ncut.second_eigenvector(ncut.alike_patches(keys, tau))
    found, vector = found / np.linalg.norm(found), vector / np.linalg.norm(vector)
    np.testing.assert_allclose(found * np.sign(found[place]), vector * np.sign(vector[place]), atol=1e-7)
    mask, source = cut.tokencut(keys, grid, tau)
    assert source == divmod(place, grid[1]) and mask[source] and 0 < mask.mean() < 1
    np.testing.assert_array_equal(mask, expected)


def blocks(shape: tuple[int, int], inside: tuple[slice, slice]) -> tuple[Array, Array]:
    """Keys of two kinds that are not alike, of odd lengths, and where the one kind is."""
    block = np.zeros(shape, bool)
    block[inside] = True
    lengths = 1 + np.arange(block.size) % 3
    return (np.eye(2)[block.reshape(-1).astype(int)] * lengths[:, None]).astype(np.float32), block


@pytest.mark.parametrize("shape", [(6, 8), (20, 30)])
def test_two_planted_blocks_are_split_exactly_and_the_smaller_is_the_object(shape: tuple[int, int]) -> None:
    """x is constant on each block and orthogonal to D 1, so the smaller block has the larger entries."""
    keys, block = blocks(shape, (slice(2, 5), slice(3, 6)))
    mask, source = cut.tokencut(keys, shape)
    np.testing.assert_array_equal(mask, block)
    assert source == (2, 3)
    larger, block = blocks(shape, (slice(1, None), slice(0, None)))
    np.testing.assert_array_equal(cut.tokencut(larger, shape)[0], ~block)


def test_only_the_component_of_the_seed_is_kept() -> None:
    keys, block = blocks((6, 8), (slice(1, 3), slice(1, 3)))
    keys.reshape(6, 8, 2)[4, 6] = (0, 1)
    np.testing.assert_array_equal(cut.tokencut(keys, (6, 8))[0], block)


def test_the_sign_of_the_eigenvector_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = random_keys(3, (7, 8))
    usual = cut.tokencut(keys, (7, 8))
    vector = ncut.second_eigenvector(ncut.alike_patches(keys, 0.2))
    for sign in (1, -1):
        monkeypatch.setattr(cut, "second_eigenvector", lambda alike, sign=sign: sign * vector)
        mask, source = cut.tokencut(keys, (7, 8))
        assert source == usual[1] and np.array_equal(mask, usual[0])


@pytest.mark.parametrize("keys", [np.ones((12, 3)), np.eye(12), np.zeros((12, 3)), np.ones((1, 3))])
def test_what_has_no_cut_is_whole(keys: Array) -> None:
    """Equal keys, keys of which none is like another, keys of length 0, and a single patch."""
    mask, source = cut.tokencut(keys.astype(np.float32), (len(keys) // 3 or 1, min(3, len(keys))))
    assert mask.all() and source == (0, 0)


def test_similarities_do_not_depend_on_the_size_of_a_block() -> None:
    keys = random_keys(0, (5, 7))
    whole = ncut.alike_patches(keys, 0.2)
    assert np.array_equal(whole, whole.T) and whole.diagonal().all() and 0 < whole.mean() < 1
    for rows in (1, 8, 35):
        np.testing.assert_array_equal(ncut.alike_patches(keys, 0.2, rows), whole)


def test_a_graph_that_lanczos_does_not_solve_in_time_is_solved(monkeypatch: pytest.MonkeyPatch) -> None:
    places = np.arange(300)
    chain = np.abs(places[:, None] - places) < 2
    monkeypatch.setattr(ncut, "ITERATIONS", 1)
    found = ncut.second_eigenvector(chain)
    monkeypatch.setattr(ncut, "SMALL", 1000)
    np.testing.assert_array_equal(found, ncut.second_eigenvector(chain))
    assert np.count_nonzero(np.diff(np.sign(found))) == 1  # a chain is cut in the middle
    assert abs(int((found > 0).sum()) - 150) <= 1


def test_it_is_the_same_at_every_call_and_chosen_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ncut, "SMALL", 0)
    keys, cls = random_keys(5, (8, 9)), np.zeros((1, 8), np.float32)
    first, second = (ncut.second_eigenvector(ncut.alike_patches(keys, 0.2)) for _ in range(2))
    assert np.array_equal(first, second)
    image = ImageFeatures(cls, cls, keys, (8, 9), (64, 72))
    for name, tau in {"tokencut": 0.2, "tokencut-tau0.4": 0.4}.items():
        (found,) = read(name).masks(image)
        np.testing.assert_array_equal(found.mask, cut.tokencut(keys, (8, 9), tau)[0])
