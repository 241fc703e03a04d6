"""Label Studio's brush masks: a stream of bits, checked before it is unpacked."""

from typing import Any

import numpy as np
import numpy.typing as npt

from maskdistill.data.coco_masks import Size
from maskdistill.data.truth_types import Place
from maskdistill.runtime.user_files import shown

OPAQUE = 128
"""A pixel belongs to the mask from this alpha on; edges that are painted are half transparent."""


def brush_mask(data: Any, size: Size, place: Place) -> npt.NDArray[np.bool_]:
    """A mask, bool (H, W), out of Label Studio's bytes, the inverse of ``label_studio.brush_rle``.

    Args:
        data: list of bytes.
        size: height and width of the picture.

    Raises:
        MaskDistillError: no bytes, of another picture's size, or cut off.
    """
    if not isinstance(data, list) or not all(type(byte) is int and 0 <= byte < 256 for byte in data):
        raise place.wrong(f"value.rle is {shown(data)}, not a list of bytes")
    stream = _Bits(data)
    try:
        count, word = stream.take(32), stream.take(5) + 1
        lengths = [stream.take(4) + 1 for _ in range(4)]
        if count != 4 * size[0] * size[1]:
            raise place.wrong(f"value.rle holds {count // 4} pixels, its picture {size[0] * size[1]}")
        alpha = _alpha(stream, count, word, lengths)
    except ValueError:
        raise place.wrong("value.rle is cut off, or damaged") from None
    return alpha.reshape(size) >= OPAQUE


def _alpha(stream: "_Bits", count: int, word: int, lengths: list[int]) -> npt.NDArray[np.int64]:
    """Every fourth of ``count`` values, int64 (count / 4,): runs of equal values and of single ones."""
    values: list[npt.NDArray[np.int64]] = []
    left = count
    while left:
        repeated = stream.take(1)
        length = stream.take(lengths[stream.take(2)]) + 1
        if length > left:
            raise ValueError("longer than the mask")
        left -= length
        if repeated:
            values.append(np.full(length, stream.take(word)))
        else:
            values.append(np.array([stream.take(word) for _ in range(length)]))
    return np.concatenate(values)[3::4]


class _Bits:
    """Bits that are taken from the front of bytes."""

    def __init__(self, data: list[int]) -> None:
        self._text = "".join(f"{byte:08b}" for byte in data)
        self._place = 0

    def take(self, count: int) -> int:
        """The next bits as a number; ValueError behind the end."""
        taken = self._text[self._place : self._place + count]
        if len(taken) < count:
            raise ValueError("no bits are left")
        self._place += count
        return int(taken, 2)
