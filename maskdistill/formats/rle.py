"""Run-length encoded masks, the only form in which masks are stored (a thin layer over pycocotools).

An RLE is ``{"size": [H, W], "counts": str}``: COCO's compressed run lengths of the column-major
mask, starting with a run of zeros, as ASCII text so that it can stand in JSON.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from maskdistill.runtime.errors import MaskDistillError


class RLE(TypedDict):
    """A mask, as COCO stores it: height and width, and the compressed run lengths."""

    size: list[int]
    counts: str


def encode(mask: npt.NDArray[np.bool_]) -> RLE:
    """Encode a mask.

    Args:
        mask: bool (H, W), both at least 1.

    Returns:
        ``{"size": [H, W], "counts": str}``.

    Raises:
        ValueError: not a two-dimensional bool array, or without pixels.
    """
    if mask.ndim != 2 or mask.dtype != np.bool_ or mask.size == 0:
        raise ValueError(f"a mask is a non-empty bool (H, W) array, got {mask.dtype} {mask.shape}")
    encoded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in mask.shape], "counts": encoded["counts"].decode("ascii")}


def decode(rle: Mapping[str, Any]) -> npt.NDArray[np.bool_]:
    """Decode to a C-contiguous bool (H, W) array.

    Raises:
        MaskDistillError: the runs do not cover the image exactly (pycocotools would leave the rest
            of a truncated mask uninitialised).
    """
    native = _native(rle)
    _run_ends([native])
    return np.ascontiguousarray(coco_mask.decode(native), dtype=np.bool_)


def bbox(rle: Mapping[str, Any]) -> list[float]:
    """Tight box ``[x, y, width, height]`` in pixels; ``[0, 0, 0, 0]`` for an empty mask.

    A mask of the single pixel in column c and row r has the box ``[c, r, 1, 1]``.
    """
    if area(rle) == 0:
        return [0.0, 0.0, 0.0, 0.0]
    return [float(value) for value in coco_mask.toBbox(_native(rle))]


def area(rle: Mapping[str, Any]) -> int:
    """Number of pixels in the mask."""
    return int(coco_mask.area(_native(rle)))


def runs(masks: Sequence[Mapping[str, Any]]) -> list[tuple[list[int], list[int]]]:
    """Where the runs of ones of each mask start and stop in its column-major pixels; the stop is exclusive.

    Much cheaper than decoding, because its time depends on the number of runs, not of pixels.

    Raises:
        MaskDistillError: as :func:`decode`.
    """
    if not masks:
        return []
    ends = _run_ends([_native(mask) for mask in masks])
    return [(row[0 : row.size - 1 : 2].tolist(), row[1::2].tolist()) for row in ends]


def overlaps(masks: Sequence[Mapping[str, Any]]) -> npt.NDArray[np.bool_]:
    """Which masks share at least one pixel, bool (N, N); masks have one size and undamaged runs."""
    native = [_native(mask) for mask in masks]
    if not native:
        return np.zeros((0, 0), dtype=bool)
    return np.asarray(coco_mask.iou(native, native, [0] * len(native)) > 0, dtype=np.bool_)


def iou(
    masks: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]], crowd: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """IoU of all pairs of masks of one size, float64 (N, M).

    Args:
        masks: N, at least 1.
        others: M, at least 1.
        crowd: bool (M,); where True, the result is the share of the mask that lies in the other one, COCO's
            rule for regions of many objects.
    """
    pairs = coco_mask.iou(
        [_native(mask) for mask in masks], [_native(other) for other in others], crowd.tolist()
    )
    return np.asarray(pairs, dtype=np.float64)


def _native(rle: Mapping[str, Any]) -> dict[str, Any]:
    """The form for pycocotools: run lengths as bytes."""
    counts = rle["counts"]
    return {"size": list(rle["size"]), "counts": counts.encode() if isinstance(counts, str) else counts}


def _run_ends(masks: Sequence[Mapping[str, Any]]) -> list[npt.NDArray[np.int64]]:
    """Where each run of each mask ends in the column-major pixels; checked, and decoded for all masks at
    once.

    Each run is a little-endian sequence of characters 48 + (5 bits | 32 if more follow), sign-extended by bit
    16 of the last; from the fourth run on, the difference to the run two before is stored.
    """
    texts = [mask["counts"] for mask in masks]
    code = np.frombuffer(b"".join(texts), dtype=np.uint8).astype(np.int64) - 48
    text_ends = np.cumsum([len(text) for text in texts])
    last = np.flatnonzero((code & 32) == 0)
    if not all(texts) or code.min() < 0 or code.max() > 63 or (code[text_ends - 1] & 32).any():
        raise _damaged()
    first = np.concatenate(([0], last[:-1] + 1))
    length = last - first + 1
    if length.max() > 12:
        raise _damaged()
    place = np.arange(code.size) - np.repeat(first, length)
    runs = np.add.reduceat((code & 31) << (5 * place), first)
    runs -= np.where(code[last] & 16, np.int64(1) << (5 * length), 0)
    counts = np.diff(np.searchsorted(last, text_ends), prepend=0)
    used = np.arange(counts.max()) < counts[:, None]
    table = np.zeros(used.shape, dtype=np.int64)
    table[used] = runs
    table[:, 1::2] = np.cumsum(table[:, 1::2], axis=1)
    table[:, 2::2] = np.cumsum(table[:, 2::2], axis=1)
    table *= used
    ends = np.cumsum(table, axis=1)
    pixels = [mask["size"][0] * mask["size"][1] for mask in masks]
    longest = np.array(pixels)[:, None]  # bounds every run, so that no sum can wrap around to the right one
    if table.min() < 0 or (table > longest).any() or ends[:, -1].tolist() != pixels:
        raise _damaged()
    return [row[:count] for row, count in zip(ends, counts.tolist(), strict=True)]


def _damaged() -> MaskDistillError:
    return MaskDistillError(
        "a mask's RLE is damaged: its runs do not cover its image exactly; run the stage again that made the "
        "file"
    )
