"""The mask rule against the N x N affinity matrix, formed head by head in exact integer arithmetic."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from pydantic import ValidationError
from scipy import ndimage

from maskdistill.backbones.registry import find_backbone
from maskdistill.backbones.vit import load_vit
from maskdistill.config import AffinityConfig, MasksConfig
from maskdistill.features import extraction
from maskdistill.masks.rules import maskdistill as rule
from maskdistill.masks.upsample import upsample

PHOTOGRAPHS = Path(__file__).parents[2] / "shared/data/pets/images"

Array = np.ndarray[Any, np.dtype[Any]]
Grid = tuple[int, int]
Matrix = list[list[int]]


# -------------------------------------------------------- slow references, in Python's unbounded integers


def slow_affinities(keys: Array, query: Array, used: int, center: bool) -> tuple[list[int], Matrix]:
    """``used * a_j`` over the first ``used`` heads and ``A_ij`` over all heads, times a positive constant.

    Products a head, then summed over heads: the mean but for the constant. Keys and query are integers.
    Centring multiplies the keys by their number first, which keeps them integers.
    """
    heads = len(query)
    width = query.shape[1]
    values = [[int(x) for x in row] for row in keys]
    queries = [[int(x) for x in row] for row in query]
    a = []
    for key in values:
        total = 0
        for h in range(used):
            total += sum(queries[h][d] * key[h * width + d] for d in range(width))
        a.append(total)
    if center:
        sums = [sum(column) for column in zip(*values, strict=True)]
        values = [[len(values) * x - s for x, s in zip(key, sums, strict=True)] for key in values]
    matrix = [[0] * len(values) for _ in values]
    for i, p in enumerate(values):
        for j, q in enumerate(values):
            for h in range(heads):
                matrix[i][j] += sum(p[h * width + d] * q[h * width + d] for d in range(width))
    return a, matrix


def slow_mass(a: list[int], mass: Fraction) -> list[int]:
    """Walk from the largest entry down; keep while the entry and all below it hold more than ``1 - mass`` of
    the sum.

    The rule as DINO words it: sorted ascending, the cumulative share exceeds ``1 - mass``.
    """
    falling = sorted(range(len(a)), key=lambda j: (-a[j], j))
    kept = [0] * len(a)
    for place, j in enumerate(falling):
        if Fraction(sum(a[i] for i in falling[place:]), sum(a)) > 1 - mass:
            kept[j] = a[j]
    return kept


def slow_rule(a: list[int], matrix: Matrix, grid: Grid, topk: float, component: bool) -> tuple[Array, int]:
    """The rule by double loops; ties go to the lower index; the component by breadth-first search."""
    count = max(int(topk * len(a)), 1)
    return slow_rule_of(sorted(range(len(a)), key=lambda j: (-a[j], j))[:count], matrix, grid, component)


def slow_rule_of(chosen: list[int], matrix: Matrix, grid: Grid, component: bool) -> tuple[Array, int]:
    """The same for a given P."""
    source = chosen[0]
    related = [j for j in chosen if matrix[source][j] > 0]
    inside = {source}
    for j in range(len(matrix)):
        total = 0
        for i in related:
            total += matrix[i][j]
        if total > 0:
            inside.add(j)
    if component:
        inside = flood(inside, source, grid)
    mask = np.zeros(grid[0] * grid[1], bool)
    mask[sorted(inside)] = True
    return mask.reshape(grid), source


def flood(inside: set[int], start: int, grid: Grid) -> set[int]:
    seen, queue = {start}, [start]
    while queue:
        row, column = divmod(queue.pop(0), grid[1])
        for r, c in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            place = r * grid[1] + c
            if 0 <= r < grid[0] and 0 <= c < grid[1] and place in inside and place not in seen:
                seen.add(place)
                queue.append(place)
    return seen


def integer_case(seed: int, grid: Grid = (4, 8), heads: int = 3, width: int = 3) -> tuple[Array, Array]:
    """Small integers: float32 holds every product and sum exactly, and ties and affinities of 0 abound."""
    rng = np.random.default_rng(seed)
    keys = rng.integers(-2, 3, (grid[0] * grid[1], heads * width)).astype(np.float32)
    return keys, rng.integers(-2, 3, (heads, width)).astype(np.float32)


# ---------------------------------------------------------------- affinities


@pytest.mark.parametrize("used", [None, 1, 2, 3])
def test_cls_affinity_is_the_mean_of_products_a_head(used: int | None) -> None:
    keys, query = integer_case(5)
    expected, _ = slow_affinities(keys, query, used or 3, False)
    mean = np.array(expected) / (used or 3)
    np.testing.assert_allclose(rule.cls_affinity(query, keys, used), mean, rtol=1e-6)


@pytest.mark.parametrize("used", [4, -1])
def test_more_heads_than_the_network_has_are_refused(used: int) -> None:
    keys, query = integer_case(0)
    with pytest.raises(ValueError, match="3 heads"):
        rule.cls_affinity(query, keys, used)


def test_the_matrix_of_concatenated_keys_is_the_sum_over_heads() -> None:
    keys, query = integer_case(6)
    _, matrix = slow_affinities(keys, query, 3, False)
    np.testing.assert_array_equal(keys @ keys.T, np.array(matrix))


# ---------------------------------------------------------------- the mask rule


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("component", ["source_4conn", "all"])
@pytest.mark.parametrize("center", [False, True])
def test_the_rule_agrees_with_double_loops_over_the_matrix(seed: int, component: Any, center: bool) -> None:
    grid = (4, 8)
    keys, query = integer_case(seed)
    used, topk = (1, 2, 3, 3)[seed % 4], (0.4, 0.15, 0.75, 1.0)[seed % 4]
    config = MasksConfig(
        topk=topk, cls_heads=used, component=component, affinity=AffinityConfig(center=center)
    )
    found = rule.distil(keys, query, grid, config)
    a, matrix = slow_affinities(keys, query, used, center)
    expected, source = slow_rule(a, matrix, grid, topk, component == "source_4conn")
    assert found.source == divmod(source, grid[1])
    np.testing.assert_array_equal(found.mask, expected)
    np.testing.assert_allclose(found.cls_affinity.reshape(-1), np.array(a) / used, rtol=1e-6)


def test_the_cases_above_hold_ties_and_affinities_of_zero() -> None:
    tied = zero = smaller = 0
    for seed in range(12):
        keys, query = integer_case(seed)
        a, matrix = slow_affinities(keys, query, 3, False)
        falling = sorted(a, reverse=True)
        tied += falling[11] == falling[12]
        zero += any(value == 0 for row in matrix for value in row)
        whole, _ = slow_rule(a, matrix, (4, 8), 0.4, False)
        part, _ = slow_rule(a, matrix, (4, 8), 0.4, True)
        smaller += part.sum() < whole.sum()
    assert tied >= 3 and zero == 12 and smaller >= 3


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("mass", [0.25, 0.5, 0.75])
def test_mass_rule_agrees_with_a_slow_walk(seed: int, mass: float) -> None:
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 9, 40).astype(np.float32)
    a[-1] += 256 - a.sum()  # shares are multiples of 1/256, exact in float32, some exactly 1 - mass
    expected = slow_mass([int(x) for x in a], Fraction(mass))
    np.testing.assert_array_equal(rule.keep_mass(a, mass), expected)


def test_mass_rule_excludes_a_share_of_exactly_the_limit_and_prefers_the_lower_index() -> None:
    a = np.array([1, 1, 1, 1], np.float32)
    np.testing.assert_array_equal(rule.keep_mass(a, 0.5), [1, 1, 0, 0])
    np.testing.assert_array_equal(rule.keep_mass(np.array([2, 1, 5, 8], np.float32), 0.5), [0, 0, 0, 8])


def test_mass_rule_keeps_about_half_of_a_flat_positive_input() -> None:
    a = np.random.default_rng(0).uniform(0.95, 1.05, 2160).astype(np.float32)
    kept = rule.keep_mass(a, 0.5)
    assert 0.45 < (kept > 0).mean() < 0.52
    assert (a[kept > 0].min()) >= a[kept == 0].max()


@pytest.mark.parametrize("seed", range(8))
def test_the_rule_with_mass_breaks_the_ties_at_zero_as_torch_does(seed: int) -> None:
    grid = (4, 8)
    keys, query = integer_case(seed)
    keys += np.float32(1)
    query = np.abs(query) + np.float32(1)
    a, matrix = slow_affinities(keys, query, 3, False)
    assert sum(a) > 0
    ranked = slow_mass(a, Fraction(1, 4))
    above = sum(value > 0 for value in ranked)
    assert above < 12  # so that P is filled up from the ties
    chosen = torch.topk(torch.tensor(ranked, dtype=torch.float32), 12).indices.tolist()
    expected, source = slow_rule_of(chosen, matrix, grid, True)
    found = rule.distil(keys, query, grid, MasksConfig(cls_mass=0.25))
    assert found.source == divmod(source, grid[1])
    np.testing.assert_array_equal(found.mask, expected)
    assert found.tied == pytest.approx((12 - above) / 12)


@pytest.mark.parametrize(
    ("values", "count", "share"),
    [
        ([5, 4, 3, 2], 2, 0.0),
        ([5, 0, 0, 0], 3, 2 / 3),
        ([5, 0, 0, 0], 4, 0.0),  # all are taken: their order decides nothing
        ([1, 1, 1, 1], 1, 1.0),
        ([7, 7, 3, 3, 3, 1], 4, 0.5),
        ([-1, -1, 0, -1], 2, 0.5),
    ],
)
@pytest.mark.parametrize("as_torch", [False, True])
def test_the_share_of_ties_counts_what_their_order_chose(
    values: list[int], count: int, share: float, as_torch: bool
) -> None:
    ranked = np.array(values, np.float32)
    chosen = rule.highest(ranked, count, as_torch)
    assert len(set(chosen.tolist())) == count
    assert sorted(ranked[chosen], reverse=True) == sorted(values, reverse=True)[:count]
    assert rule.tied_share(ranked, chosen) == pytest.approx(share)


def released_rule(keys: Array, query: Array, grid: Grid, by_index: bool) -> Array:
    """The code preset's rule written out with torch over the N x N matrix [method §2a, §2b]; bool (R, C).

    Args:
        by_index: take ties in P by their index instead, which the released code does not.
    """
    per_head = torch.from_numpy(keys).reshape(len(keys), len(query), -1).transpose(0, 1)  # (H, N, d)
    a = torch.einsum("hd,hnd->hn", torch.from_numpy(query), per_head)[:5].mean(0)
    value, order = torch.sort(a)
    kept = torch.zeros_like(a)
    kept[order] = (torch.cumsum(value / value.sum(), 0) > 1 - 0.5).float()
    ranked, k = a * kept, int(0.4 * len(a))
    chosen = (
        torch.sort(ranked, descending=True, stable=True).indices[:k]
        if by_index
        else torch.topk(ranked, k).indices
    )
    affinity = (per_head.double() @ per_head.double().transpose(1, 2)).sum(0)
    related = chosen[affinity[chosen[0], chosen] > 0]
    labels, _ = ndimage.label((affinity[related].sum(0) > 0).reshape(grid).numpy())
    return labels == labels.reshape(-1)[int(chosen[0])]  # type: ignore[no-any-return]


@pytest.mark.slow
def test_the_code_preset_finds_the_released_codes_masks_on_photographs() -> None:
    """Six photographs, random weights: with ties by index patch IoU falls as low as the released rule never
    does.
    """
    if not PHOTOGRAPHS.exists():
        pytest.skip(f"{PHOTOGRAPHS} is not on this machine")
    settings = yaml.safe_load((Path(__file__).parents[1] / "config/presets/code.yaml").read_text())["masks"]
    backbone, model = find_backbone("dino_vits16"), load_vit("dino_vits16", "random")
    agreement, by_index, tied = [], [], []
    for file in sorted(PHOTOGRAPHS.glob("*.jpg"))[::25][:6]:
        photo = extraction.resize(Image.open(file).convert("RGB"), 160)
        (image,) = extraction.extract(model, backbone, [photo], torch.device("cpu")).get()
        found = rule.distil(image.keys, image.cls_query, image.grid, MasksConfig(**settings))
        for scores, index in ((agreement, False), (by_index, True)):
            expected = released_rule(image.keys, image.cls_query, image.grid, index)
            scores.append((found.mask & expected).sum() / (found.mask | expected).sum())
        tied.append(found.tied)
    assert len(agreement) == 6 and min(agreement) > 0.99
    assert min(by_index) < 0.99 and max(tied) > 0.3


def test_mass_is_off_by_default() -> None:
    config = MasksConfig()
    assert config.cls_mass is None and config.cls_heads is None and config.topk == 0.4
    keys, query = integer_case(3)
    plain, massed = (rule.distil(keys, query, (4, 8), MasksConfig(cls_mass=mass)) for mass in (None, 0.05))
    assert (plain.mask != massed.mask).any() or plain.source != massed.source


# ---------------------------------------------------------------- invariants


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("center", [False, True])
def test_source_lies_in_the_candidates_the_mask_and_the_component(seed: int, center: bool) -> None:
    rng = np.random.default_rng(seed)
    grid = (int(rng.integers(1, 9)), int(rng.integers(1, 9)))
    keys = rng.normal(size=(grid[0] * grid[1], 8)).astype(np.float32)
    query = rng.normal(size=(2, 4)).astype(np.float32)
    found = rule.distil(keys, query, grid, MasksConfig(affinity=AffinityConfig(center=center)))
    assert found.mask.shape == found.cls_affinity.shape == grid and found.mask.dtype == bool
    assert found.mask[found.source]
    assert found.source == divmod(int(found.cls_affinity.argmax()), grid[1])
    inside = set(np.flatnonzero(found.mask).tolist())
    assert flood(inside, found.source[0] * grid[1] + found.source[1], grid) == inside


@pytest.mark.parametrize("factor", [1e-4, 0.37, 8.0, 5e3])
@pytest.mark.parametrize("center", [False, True])
def test_the_mask_does_not_depend_on_the_scale_of_the_keys(factor: float, center: bool) -> None:
    rng = np.random.default_rng(1)
    keys = rng.normal(size=(60, 8)).astype(np.float32)
    query = rng.normal(size=(2, 4)).astype(np.float32)
    config = MasksConfig(affinity=AffinityConfig(center=center))
    first = rule.distil(keys, query, (6, 10), config)
    second = rule.distil(keys * np.float32(factor), query, (6, 10), config)
    assert first.source == second.source
    np.testing.assert_array_equal(first.mask, second.mask)


@pytest.mark.parametrize(("count", "taken"), [(1, 1), (2, 1), (4, 1), (5, 2), (12, 4), (14, 5), (25, 10)])
def test_candidates_number_int_of_topk_times_n(count: int, taken: int) -> None:
    """Unit keys that answer only to themselves: the mask is P' = P, wherever it lies."""
    keys = np.eye(count, dtype=np.float32) + np.float32(0.01)
    query = np.arange(count, 0, -1, dtype=np.float32)[None]
    config = MasksConfig(component="all", affinity=AffinityConfig(center=True))
    orthogonal = rule.distil(np.eye(count, dtype=np.float32), query, (1, count), MasksConfig(component="all"))
    assert orthogonal.mask.sum() == 1  # P' holds the source alone
    shared = rule.distil(keys, query, (1, count), MasksConfig(component="all"))
    assert shared.mask.all()  # every pair is related
    assert rule.distil(keys, query, (1, count), config).mask.sum() == 1
    column = np.zeros((count, count + 1), np.float32)
    column[:, 0], column[:, 1:] = -0.1, np.eye(count)
    column[0, 0] = 1.0
    column[1:taken, 0] = 1.0  # the first `taken` are related to the source, a later one to none
    row = np.concatenate([[0], np.arange(count, 0, -1)]).astype(np.float32)[None]
    found = rule.distil(column, row, (1, count), MasksConfig(component="all"))
    assert found.mask.sum() == taken == max(int(0.4 * count), 1)


def planted(blobs: Array, seed: int = 0) -> tuple[Array, Array]:
    """Keys u inside ``blobs``, -u outside, in two heads; the query is u."""
    u = np.random.default_rng(seed).normal(size=8).astype(np.float32)
    keys = np.where(blobs.reshape(-1, 1), u, -u).astype(np.float32)
    return keys, u.reshape(2, 4)


def test_planted_clusters_are_found() -> None:
    blob = np.zeros((7, 9), bool)
    blob[1:5, 2:6] = True
    keys, query = planted(blob)
    found = rule.distil(keys, query, blob.shape, MasksConfig())
    assert found.source == (1, 2)  # ties: the lowest index
    np.testing.assert_array_equal(found.mask, blob)
    np.testing.assert_array_equal(rule.distil(keys, -query, blob.shape, MasksConfig()).mask, ~blob)


@pytest.mark.parametrize("bridge", [False, True])
def test_a_blob_that_touches_only_diagonally_is_removed(bridge: bool) -> None:
    main, other = np.zeros((8, 8), bool), np.zeros((8, 8), bool)
    main[0:3, 0:3] = True
    other[3:6, 3:6] = True
    both = main | other
    both[3, 2] = bridge
    keys, query = planted(both)
    found = rule.distil(keys, query, both.shape, MasksConfig())
    np.testing.assert_array_equal(found.mask, both if bridge else main)
    whole = rule.distil(keys, query, both.shape, MasksConfig(component="all"))
    np.testing.assert_array_equal(whole.mask, both)


def test_centring_separates_keys_that_share_a_large_offset() -> None:
    blob = np.zeros((6, 6), bool)
    blob[2:4, 1:4] = True
    keys, query = planted(blob)
    keys = keys + 50 * np.ones(8, np.float32)
    assert rule.distil(keys, query, blob.shape, MasksConfig()).mask.all()
    centred = rule.distil(keys, query, blob.shape, MasksConfig(affinity=AffinityConfig(center=True)))
    np.testing.assert_array_equal(centred.mask, blob)


def test_equal_keys_give_a_mask_with_the_source() -> None:
    keys, query = np.ones((12, 4), np.float32), np.ones((1, 4), np.float32)
    centred = MasksConfig(affinity=AffinityConfig(center=True))
    assert rule.distil(keys, query, (3, 4), MasksConfig()).mask.all()
    assert rule.distil(keys, query, (3, 4), centred).mask.sum() == 1


@pytest.mark.parametrize("wrong", [{"topk": 0}, {"topk": 1.2}, {"cls_mass": -0.1}, {"cls_heads": 0}])
def test_values_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        MasksConfig.model_validate(wrong)


# ---------------------------------------------------------------- full size


def slow_nearest(patches: Array, patch: int, resized: Grid, size: Grid) -> Array:
    """Pixel by pixel: the patch below the pixel's centre."""
    out = np.zeros(size, bool)
    for y in range(size[0]):
        for x in range(size[1]):
            row = int((y + 0.5) * resized[0] / size[0]) // patch
            column = int((x + 0.5) * resized[1] / size[1]) // patch
            out[y, x] = patches[row, column]
    return out


@pytest.mark.parametrize(
    ("resized", "size"),
    [
        ((64, 85), (48, 64)),  # landscape, padded on the right
        ((85, 64), (64, 48)),  # portrait, padded at the bottom
        ((64, 64), (37, 37)),  # square, reduced
        ((64, 64), (152, 148)),  # enlarged
        ((64, 640), (20, 200)),  # very elongated
        ((64, 80), (64, 80)),  # as it is
    ],
)
@pytest.mark.parametrize("resize", ["nearest", "bicubic_nonzero"])
def test_full_mask_has_the_image_shape_and_nearest_is_exact(resized: Grid, size: Grid, resize: str) -> None:
    patch = 16
    grid = (-(-resized[0] // patch), -(-resized[1] // patch))
    patches = np.random.default_rng(0).random(grid) < 0.4
    found = upsample(patches, patch, resized, size, resize)
    assert found.shape == size and found.dtype == bool
    nearest = slow_nearest(patches, patch, resized, size)
    if resize == "nearest":
        np.testing.assert_array_equal(found, nearest)
    else:
        assert (found >= nearest).all() and (size == resized or found.sum() > nearest.sum())


def test_bicubic_nonzero_grows_by_the_published_amount() -> None:
    """A 160 x 160 square in an 864 x 640 mask, resized to 500 x 375, covers 4.4 % more pixels than by
    nearest.
    """
    patches = np.zeros((40, 54), bool)
    patches[15:25, 22:32] = True  # in the middle; elsewhere the share is 0 to 4.4 %, as the pixels fall
    nearest, bicubic = (
        upsample(patches, 16, (640, 864), (375, 500), how) for how in ("nearest", "bicubic_nonzero")
    )
    assert round(100 * (bicubic.sum() / nearest.sum() - 1), 1) == 4.4
    square = Image.fromarray(np.kron(patches, np.ones((16, 16), np.uint8)) * np.uint8(255))
    np.testing.assert_array_equal(
        bicubic, np.asarray(square.resize((500, 375), Image.Resampling.BICUBIC)) > 0
    )


def test_padding_is_cropped_before_resizing() -> None:
    patches = np.zeros((2, 3), bool)
    patches[:, 2] = True
    found = upsample(patches, 8, (16, 17), (16, 17))
    np.testing.assert_array_equal(np.flatnonzero(found.any(axis=0)), [16])
