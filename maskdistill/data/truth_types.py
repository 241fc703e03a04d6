"""Objects of the ground truth, what was dropped of it, and how a place in its files is named."""

import logging
from collections import Counter
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from maskdistill.data.manifest import ImageRow, tolerated
from maskdistill.formats.rle import RLE
from maskdistill.runtime.errors import MaskDistillError

log = logging.getLogger("maskdistill")

IGNORE = 255
LOGGED = 1000
"""Dropped things that the log names one by one; all stand in ``dropped.json``."""

Kind = Literal["annotation", "mask", "polygon", "image", "repetition", "unscored image"]
NO_LOSS = ("repetition", "unscored image")
"""Listed, and never too many: what stands there twice, and pictures that nobody labelled."""


class TrueObject(NamedTuple):
    """One object. ``segmentation`` is an RLE at the image's size, or None where only the box is known."""

    category_id: int
    bbox: list[float]
    area: float
    iscrowd: int
    segmentation: RLE | None


class ImageTruth(NamedTuple):
    """Ground truth of one image.

    Attributes:
        image_id: the manifest's id.
        objects: its objects, possibly none.
        has_masks: every object that must be found has a mask.
        semantic: uint8 (H, W), 0 background, category ids, 255 ignore; None where unknown.
    """

    image_id: int
    objects: list[TrueObject]
    has_masks: bool
    semantic: npt.NDArray[np.uint8] | None


class Place(NamedTuple):
    """A file, or an entry of it, that a message names."""

    source: str
    entry: str = ""

    def wrong(self, what: str, remedy: str = "correct it") -> MaskDistillError:
        """The error that something is wrong here."""
        return MaskDistillError(
            ": ".join(part for part in (self.source, self.entry, f"{what}; {remedy}") if part)
        )


class Dropped(NamedTuple):
    """An unused piece of ground truth: an annotation, its mask or a part of it, or an image."""

    kind: Kind
    entry: str
    reason: str


class Losses:
    """What is dropped of the ground truth: counted, listed and logged; too much of it stops the run.

    Args:
        limit: share of the annotations, and of the images, that may be lost; a single one is tolerated unless
            it is 0.
        logged: number that the log names one by one.
    """

    def __init__(self, limit: float, logged: int = LOGGED) -> None:
        self.limit = limit
        self.dropped: list[Dropped] = []
        self._logged = logged
        self._totals: Counter[str] = Counter()

    def expect(self, what: Literal["annotations", "images"], count: int = 1) -> None:
        """Count annotations or images of which some may be dropped."""
        self._totals[what] += count

    def drop(self, kind: Kind, place: Place, reason: str) -> None:
        """Note that something is not used."""
        self.dropped.append(
            Dropped(kind, f"{place.source}: {place.entry}" if place.entry else place.source, reason)
        )
        if len(self.dropped) <= self._logged:
            log.warning("ground truth: dropped %s: %s: %s", *self.dropped[-1])

    @property
    def counts(self) -> dict[str, int]:
        """Number of dropped things by kind."""
        return dict(sorted(Counter(item.kind for item in self.dropped).items()))

    def text(self) -> str:
        """``2 annotations, 1 image``; empty if nothing was dropped."""
        return ", ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in self.counts.items())

    def refuse_many(self) -> None:
        """Stop where more was dropped than is tolerated.

        Raises:
            MaskDistillError: with the first reasons.
        """
        for kind, count in self.counts.items():
            total = self._totals["images" if kind == "image" else "annotations"]
            if kind in NO_LOSS or count <= (allowed := tolerated(self.limit, total)):
                continue
            first = "".join(f"\n  {item.entry}: {item.reason}" for item in self.dropped if item.kind == kind)
            first = "\n".join(first.split("\n")[:6])
            of = "images" if kind == "image" else "annotations"
            raise MaskDistillError(
                f"ground truth: {count} {kind}s of {total} {of} would be dropped, more than the {allowed} "
                f"tolerated (max_dropped: {self.limit:g}); correct them, or raise it{first}"
            )


def check_size(place: Place, row: ImageRow, height: int, width: int) -> None:
    """Refuse ground truth of another size than the upright picture's.

    Raises:
        MaskDistillError: naming both.
    """
    if (height, width) != (row.height, row.width):
        raise place.wrong(
            f"ground truth of {row.key!r} is {width}x{height}, the upright picture {row.width}x{row.height}",
            "give the ground truth that belongs to this picture",
        )
