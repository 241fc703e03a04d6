"""A bounded uniform sample of masks that depends on the seed and on which masks there are, on nothing else.

Every mask draws a 64-bit number from the seed, its image's id and its place among the image's masks; the
smallest numbers win. Shards, blocks and their order do not enter, and a larger sample holds every smaller
one.
"""

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]
ALL = np.uint64(2**64 - 1)
_PLACES = 2**16


def draw(seed: int, image_id: npt.NDArray[np.int64], ordinal: npt.NDArray[np.int64]) -> Keys:
    """The number of each mask, uint64 (n,): SplitMix64's mixing function (Steele, Lea and Flood 2014), twice.

    The mixing is one-to-one, so different masks never share a number.

    Args:
        seed: 0 or larger.
        image_id: (n,), below 2**47.
        ordinal: (n,) place among the masks of its image, below 2**16.
    """
    if len(ordinal) and int(ordinal.max()) >= _PLACES:
        raise ValueError(f"more than {_PLACES} masks in one image")
    name = image_id.astype(np.uint64) * np.uint64(_PLACES) + ordinal.astype(np.uint64)
    return _mix(_mix(name) ^ _mix(np.array([seed], np.uint64)))


def _mix(keys: Keys) -> Keys:
    keys = keys + np.uint64(0x9E3779B97F4A7C15)
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> np.uint64(31))


def ordinals(image_id: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """For each entry, how many earlier entries name the same image: int64 (n,)."""
    order = np.argsort(image_id, kind="stable")
    ordered = image_id[order]
    starts = (
        np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        if len(order)
        else np.zeros(0, int)
    )
    result = np.empty(len(order), np.int64)
    result[order] = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    return result


class SmallestKeys:
    """The ``size`` smallest of all numbers added, in memory for about twice as many."""

    def __init__(self, size: int) -> None:
        self.size, self.count = size, 0
        self._parts: list[Keys] = []
        self._held = 0

    def add(self, keys: Keys) -> None:
        """Take further numbers into account."""
        self.count += len(keys)
        self._parts.append(keys)
        self._held += len(keys)
        if self._held > 2 * self.size:
            self._shrink()

    def _shrink(self) -> None:
        keys = np.concatenate(self._parts)
        self._parts = (
            [np.partition(keys, self.size - 1)[: self.size].copy()] if len(keys) > self.size else [keys]
        )
        self._held = len(self._parts[0])

    @property
    def chosen(self) -> int:
        """How many are chosen: ``size``, or all if there are fewer."""
        return min(self.size, self.count)

    def threshold(self) -> np.uint64:
        """The largest chosen number: what is not above it is chosen."""
        if self.count <= self.size:
            return ALL
        self._shrink()
        return np.uint64(self._parts[0].max())
