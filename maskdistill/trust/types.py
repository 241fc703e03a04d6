"""What the stage ``trust`` hands on."""

from typing import TypedDict

from maskdistill.formats.rle import RLE


class VerdictRecord(TypedDict):
    """A verdict, as it stands in artefacts.

    Attributes:
        verdict: ``use``, ``look first`` or ``do not use``.
        reasons: what stands against ``use``, in words.
        signals: value by name.
    """

    verdict: str
    reasons: list[str]
    signals: dict[str, float]


class LookedAt(TypedDict):
    """A sampled picture.

    Attributes:
        image_id, key: of the picture.
        agreement: of its mask with those of its mirrored and rescaled copies.
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
        pictures: some of these.
    """

    before_training: VerdictRecord
    images: int
    pictures: list[LookedAt]
