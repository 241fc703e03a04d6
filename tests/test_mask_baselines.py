"""LOST and DINO's attention against N x N matrices and loops; LOST's published boxes in the pipeline's
conventions.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from maskdistill.features.store import ImageFeatures
from maskdistill.formats import rle
from maskdistill.masks import registry
from maskdistill.masks.rules import attention as att
from maskdistill.masks.rules import lost
from maskdistill.masks.upsample import upsample

Array = np.ndarray[Any, np.dtype[Any]]
Grid = tuple[int, int]
DATA = Path(__file__).parents[2] / "shared/data"


def integer_keys(seed: int, grid: Grid, width: int = 6) -> Array:
    """Small integers, so that float32 is exact and degrees tie and products vanish often."""
    return np.random.default_rng(seed).integers(-2, 3, (grid[0] * grid[1], width)).astype(np.float32)


# ---------------------------------------------------------------- LOST


def slow_lost(keys: Array, grid: Grid, k: int) -> tuple[Array, int, list[int]]:
    """LOST as its paper and public code describe it: on the whole matrix, with loops.

    Returns mask, seed, degrees.
    """
    values = [[int(x) for x in row] for row in keys]
    n = len(values)
    matrix = [[sum(x * y for x, y in zip(p, q, strict=True)) for q in values] for p in values]
    degrees = []
    for i in range(n):
        degree = 0
        for j in range(n):
            if i != j and matrix[i][j] > 0:
                degree += 1
        degrees.append(degree)
    ordered = sorted(range(n), key=lambda i: (degrees[i], i))
    seed = ordered[0]
    similar = [j for j in ordered[:k] if matrix[seed][j] > 0]
    votes = np.array([sum(matrix[i][j] for i in similar) for j in range(n)])
    labels, _ = ndimage.label((votes > 0).reshape(grid))
    return labels == labels.reshape(-1)[seed], seed, degrees


GRIDS = [(5, 6), (1, 30), (30, 1), (7, 4)]


@pytest.mark.parametrize("seed", range(24))
@pytest.mark.parametrize("k", [1, 5, 12, 100])
def test_lost_agrees_with_the_whole_matrix(seed: int, k: int) -> None:
    grid = GRIDS[seed % 4]
    keys = integer_keys(seed, grid)
    expected, place, degrees = slow_lost(keys, grid, k)
    assert lost.lost_degrees(keys).tolist() == degrees
    mask, found = lost.lost(keys, grid, k)
    assert found == divmod(place, grid[1])
    np.testing.assert_array_equal(mask, expected)
    assert mask.dtype == bool and mask.shape == grid and mask[found]


def test_the_cases_above_hold_ties_components_and_unrelated_patches() -> None:
    tied = parts = unrelated = shared = 0
    for seed in range(24):
        grid = GRIDS[seed % 4]
        keys = integer_keys(seed, grid)
        mask, place, degrees = slow_lost(keys, grid, 12)
        ordered = sorted(degrees)
        tied += ordered[11] == ordered[12]
        shared += ordered[0] == ordered[1]
        similar = sorted(range(len(keys)), key=lambda i: (degrees[i], i))[:12]
        similar = [j for j in similar if keys[place] @ keys[j] > 0]
        unrelated += len(similar) < 12
        parts += ((keys @ keys[similar].sum(axis=0)) > 0).sum() > mask.sum()
    assert tied >= 5 and parts >= 5 and unrelated >= 12 and shared >= 2


@pytest.mark.parametrize("rows", [1, 7, 35, 64])
def test_degrees_do_not_depend_on_the_size_of_a_block(rows: int) -> None:
    keys = np.random.default_rng(3).normal(size=(35, 5)).astype(np.float32)
    matrix = keys @ keys.T
    np.fill_diagonal(matrix, 0)
    np.testing.assert_array_equal(lost.lost_degrees(keys, rows), (matrix > 0).sum(axis=1))


def test_a_seed_of_length_zero_is_a_mask_of_its_own() -> None:
    keys = np.ones((6, 2), np.float32)
    keys[4] = 0
    mask, seed = lost.lost(keys, (2, 3), 100)
    assert seed == (1, 1) and mask.sum() == 1


# ---------------------------------------------------------------- attention


def slow_attention(query: Array, cls_key: Array, keys: Array) -> list[float]:
    """Softmax over CLS and patches, head by head, summed over heads; without CLS's own share."""
    heads, width = query.shape
    total = [0.0] * len(keys)
    for h in range(heads):
        others = [cls_key[h], *(key[h * width : (h + 1) * width] for key in keys)]
        weights = [math.exp(sum(float(q) * float(x) for q, x in zip(query[h], o,
        strict=True)) / math.sqrt(width))
                   for o in others]  # fmt: skip
        for j in range(len(keys)):
            total[j] += weights[j + 1] / sum(weights)
    return total


def slow_mass(attention: list[float], mass: float) -> set[int]:
    """From the lowest up: those whose cumulative share exceeds ``1 - mass``; of equals the higher index is
    lower.
    """
    kept, running = set(), 0.0
    for j in sorted(range(len(attention)), key=lambda j: (attention[j], -j)):
        running += attention[j]
        if running / sum(attention) > 1 - mass:
            kept.add(j)
    return kept


def slow_largest(inside: set[int], grid: Grid) -> set[int]:
    """The largest 4-connected part, of equals the one that begins first, by growing each patch."""
    left, best = sorted(inside), set[int]()
    while left:
        part, queue = {left[0]}, [left[0]]
        while queue:
            row, column = divmod(queue.pop(), grid[1])
            for r, c in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
                place = r * grid[1] + c
                if 0 <= r < grid[0] and 0 <= c < grid[1] and place in inside and place not in part:
                    part.add(place)
                    queue.append(place)
        left = [place for place in left if place not in part]
        if len(part) > len(best):
            best = part
    return best


@pytest.mark.parametrize("seed", range(16))
@pytest.mark.parametrize("mass", [0.3, 0.6, 0.75])
@pytest.mark.parametrize("largest", [False, True])
def test_attention_agrees_with_loops(seed: int, mass: float, largest: bool) -> None:
    grid = GRIDS[seed % 4]
    rng = np.random.default_rng(seed)
    query, cls_key = rng.normal(size=(2, 3, 4)).astype(np.float32) * 2
    keys = rng.normal(size=(grid[0] * grid[1], 12)).astype(np.float32)
    if seed % 2:
        keys = keys[rng.integers(0, 6, len(keys))]  # six kinds of patches: attention ties
    attention = slow_attention(query, cls_key, keys)
    expected = slow_mass(attention, mass)
    expected = slow_largest(expected, grid) if largest else expected
    np.testing.assert_allclose(att.cls_attention(query, cls_key, keys), attention, rtol=1e-6)
    mask, place = att.dino_attention(query, cls_key, keys, grid, mass, largest)
    assert set(np.flatnonzero(mask).tolist()) == expected
    assert mask.shape == grid and mask.dtype == bool
    highest = max(expected, key=lambda j: (attention[j], -j))
    assert attention[place[0] * grid[1] + place[1]] == pytest.approx(attention[highest])


def test_the_attention_of_cls_to_itself_shrinks_a_heads_say() -> None:
    """Two heads look at one patch each; the head that CLS draws to itself loses, though its logits are the
    same.
    """
    query = np.ones((2, 1), np.float32)
    keys = np.array([[9, 0], [0, 9], [0, 0]], np.float32)
    even = att.cls_attention(query, np.zeros((2, 1), np.float32), keys)
    assert even[0] == pytest.approx(even[1])
    drawn = att.cls_attention(query, np.array([[12], [0]], np.float32), keys)
    assert drawn[0] < 0.1 * drawn[1]


def test_very_large_logits_do_not_overflow() -> None:
    query, cls_key = np.full((1, 2), 1e3, np.float32), np.zeros((1, 2), np.float32)
    keys = np.array([[1e3, 1e3], [0, 0]], np.float32)
    assert att.cls_attention(query, cls_key, keys).tolist() == [1, 0]
    mask, place = att.dino_attention(query, cls_key, keys, (1, 2))
    assert mask.tolist() == [[True, False]] and place == (0, 0)


def test_three_quarters_of_flat_attention() -> None:
    zero = np.zeros((2, 3), np.float32)
    mask, _ = att.dino_attention(zero, zero, np.zeros((16, 6), np.float32), (4, 4), 0.75)
    assert mask.reshape(-1).tolist() == [True] * 12 + [False] * 4  # ties: the lower index is kept


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("lost-400", {"k": 400}),
        ("lost-1", {"k": 1}),
        ("attention-0.75", {"mass": 0.75, "largest": False}),
        ("attention-0.6-largest", {"mass": 0.6, "largest": True}),
    ],
)
def test_names_choose_rules(name: str, settings: dict[str, Any]) -> None:
    chosen = registry.read(name)
    assert chosen.settings.model_dump() == settings and chosen.rule.folder(chosen.settings) == name
    rng = np.random.default_rng(0)
    query, cls_key = rng.normal(size=(2, 2, 3)).astype(np.float32)
    keys = rng.normal(size=(500, 6)).astype(np.float32)
    (found,) = chosen.masks(ImageFeatures(query, cls_key, keys, (20, 25), (160, 200)))
    if "k" in settings:
        expected = lost.lost(keys, (20, 25), settings["k"])
    else:
        expected = att.dino_attention(query, cls_key, keys, (20, 25), settings["mass"], settings["largest"])
    np.testing.assert_array_equal(found.mask, expected[0])
    assert found.source == expected[1] and 0 < found.mask.sum() < 500


# ---------------------------------------------------------------- LOST's published boxes


def published() -> dict[str, tuple[float, float, float, float]]:
    """Box x, y, right, bottom by file name of LOST on VOC07 trainval (DINO ViT-S/16, native resolution)."""
    path = DATA / "fixtures/lost/voc2007_boxes_xyxy.json"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    content = json.loads(path.read_text())
    return {name: (box[0], box[1], box[2], box[3]) for name, box in content.items()}


def test_boxes_of_our_masks_have_the_form_of_the_published_ones() -> None:
    """Every published box is one that a patch mask of ours can have: whole patches of 16, cut at the image's
    edge.

    Our mask of the same patches, painted at the image's size and boxed by the RLE, gives the same numbers.
    """
    boxes = published()
    assert len(boxes) == 5011
    for name, (x, y, right, bottom) in sorted(boxes.items())[::50]:
        assert x % 16 == 0 and y % 16 == 0 and x < right and y < bottom
        width = int(right) if right % 16 else 16 * math.ceil(max(right, 500) / 16)
        height = int(bottom) if bottom % 16 else 16 * math.ceil(max(bottom, 500) / 16)
        grid = (-(-height // 16), -(-width // 16))
        patches = np.zeros(grid, bool)
        patches[int(y) // 16 : -(-int(bottom) // 16), int(x) // 16 : -(-int(right) // 16)] = True
        full = upsample(patches, 16, (height, width), (height, width))
        box = rle.bbox(rle.encode(full))
        assert box == [x, y, right - x, bottom - y], name
