"""Run lengths against a slow codec written from COCO's definition: columns first, a run of zeros first."""

import numpy as np
import pytest

from maskdistill.formats import rle
from maskdistill.runtime.errors import MaskDistillError


def slow_counts(mask: np.ndarray) -> str:
    """COCO's compressed run lengths, run by run."""
    runs, value, length = [], False, 0
    for pixel in mask.T.ravel():
        if pixel != value:
            runs.append(length)
            value, length = pixel, 0
        length += 1
    runs.append(length)
    text = ""
    for index, run in enumerate(runs):
        number = run - runs[index - 2] if index > 2 else run
        while True:
            code, number = number & 31, number >> 5
            more = number != (-1 if code & 16 else 0)
            text += chr(48 + code + (32 if more else 0))
            if not more:
                break
    return text


@pytest.mark.parametrize("seed", range(40))
def test_encode_decode_box_and_area_match_the_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(1, 40, size=2)) < rng.choice([0.0, 0.02, 0.5, 0.98, 1.0])
    encoded = rle.encode(mask)
    assert encoded == {"size": list(mask.shape), "counts": slow_counts(mask)}
    decoded = rle.decode(encoded)
    assert decoded.dtype == np.bool_
    assert np.array_equal(decoded, mask)
    assert rle.area(encoded) == mask.sum()
    rows, columns = np.nonzero(mask)
    box: tuple[object, ...] = (0, 0, 0, 0)
    if mask.any():
        box = (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)
    assert tuple(rle.bbox(encoded)) == box


def test_large_masks_survive() -> None:
    mask = np.zeros((1200, 3000), dtype=bool)
    mask[100:1100, 7:2900] = True
    mask[500, 600] = False
    assert np.array_equal(rle.decode(rle.encode(mask)), mask)


def test_counts_as_bytes_are_accepted() -> None:
    mask = np.eye(5, dtype=bool)
    encoded = rle.encode(mask)
    assert np.array_equal(rle.decode({"size": [5, 5], "counts": encoded["counts"].encode()}), mask)


@pytest.mark.parametrize("damage", ["", "1", "cut", "long", "é", "11111111"])
def test_damaged_run_lengths_are_refused(damage: str) -> None:
    counts = rle.encode(np.eye(6, dtype=bool))["counts"]
    text = {"cut": counts[:-1], "long": counts + "5"}.get(damage, damage)
    with pytest.raises(MaskDistillError, match="damaged"):
        rle.decode({"size": [6, 6], "counts": text})


@pytest.mark.parametrize(
    "array",
    [np.zeros((2, 2), np.uint8), np.zeros(4, bool), np.zeros((1, 2, 2), bool), np.zeros((0, 3), bool)],
)
def test_only_two_dimensional_bool_masks_are_encoded(array: np.ndarray) -> None:
    with pytest.raises(ValueError, match="bool"):
        rle.encode(array)


def test_runs_of_many_masks_are_those_of_the_definition() -> None:
    rng = np.random.default_rng(3)
    masks = [rng.random((23, 31)) < share for share in (0.0, 0.02, 0.5, 0.5, 0.98, 1.0)]
    for mask, (starts, stops) in zip(masks, rle.runs([rle.encode(mask) for mask in masks]), strict=True):
        pixels = [0, *mask.T.ravel().astype(int), 0]
        steps = [pixels[i + 1] - pixels[i] for i in range(len(pixels) - 1)]
        assert starts == [i for i, step in enumerate(steps) if step == 1]
        assert stops == [i for i, step in enumerate(steps) if step == -1]
    assert rle.runs([]) == []


def test_one_damaged_mask_among_others_is_refused() -> None:
    good = rle.encode(np.eye(6, dtype=bool))
    for counts in (good["counts"][:-1], good["counts"] + "5", "", "P"):
        with pytest.raises(MaskDistillError, match="damaged"):
            rle.runs([good, {"size": [6, 6], "counts": counts}, good])


def test_overlaps_means_a_shared_pixel() -> None:
    rng = np.random.default_rng(4)
    masks = [rng.random((9, 11)) < 0.04 for _ in range(12)] + [np.zeros((9, 11), dtype=bool)]
    expected = [[bool((one & other).any()) for other in masks] for one in masks]
    assert rle.overlaps([rle.encode(mask) for mask in masks]).tolist() == expected
    assert {True, False} <= {value for row in expected for value in row}
