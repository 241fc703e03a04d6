"""The output of the stage ``trust``."""

from typing import TypedDict

from maskdistill.formats.rle import RLE


class VerdictRecord(TypedDict):
    """A verdict, as stored in artefacts.

    Attributes:
        verdict: ``use``, ``look first`` or ``do not use``.
        reasons: what speaks against ``use``, in words.
        signals: value by name.
    """

    verdict: str
    reasons: list[str]
    signals: dict[str, float]


class LookedAt(TypedDict):
    """A sampled picture.

    Attributes:
        image_id, key: of the picture.
        agreement: between its mask and those of its mirrored and rescaled copies.
        frames: masks in a square of :data:`maskdistill.trust.signals.FRAME` pixels, by the way they were
            found.
    """

    image_id: int
    key: str
    agreement: float
    frames: dict[str, RLE]


class TrustRecord(VerdictRecord):
    """``trust.json``.

    Attributes:
        before_training: the verdict without the detector's candidates.
        images: how many pictures were sampled.
        pictures: a few of them.
    """

    before_training: VerdictRecord
    images: int
    pictures: list[LookedAt]
