"""Run-length encoded masks, the one form in which masks are stored (thin over pycocotools).

An RLE is ``{"size": [H, W], "counts": str}``: COCO's compressed run lengths of the column-major
mask, starting with a run of zeros, as ASCII text so that it can stand in JSON.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from maskdistill.runtime.errors import MaskDistillError

RLE = dict[str, Any]


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
    height, width = native["size"]
    total = _total(native["counts"])
    if total != height * width:
        raise MaskDistillError(
            f"a mask's RLE is damaged: its runs cover {total} pixels of {height} x {width};"
            " delete the file that holds it and run again"
        )
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


def _native(rle: Mapping[str, Any]) -> RLE:
    """What pycocotools takes: the run lengths as bytes."""
    counts = rle["counts"]
    return {"size": list(rle["size"]), "counts": counts.encode() if isinstance(counts, str) else counts}


def _total(counts: bytes) -> int:
    """Sum of the run lengths.

    Each run is a little-endian sequence of characters 48 + (5 bits | 32 if more follow), sign-extended
    by bit 16 of the last; from the fourth run on the difference to the run before the last is stored.
    """
    code = np.frombuffer(counts, dtype=np.uint8).astype(np.int64) - 48
    if code.size == 0 or code.min() < 0 or code.max() > 63 or code[-1] & 32:
        return 0
    last = np.flatnonzero((code & 32) == 0)
    first = np.concatenate(([0], last[:-1] + 1))
    length = last - first + 1
    if length.max() > 12:
        return 0
    place = np.arange(code.size) - np.repeat(first, length)
    runs = np.add.reduceat((code & 31) << (5 * place), first)
    runs -= np.where(code[last] & 16, np.int64(1) << (5 * length), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return int(runs.sum()) if runs.min() >= 0 else 0
