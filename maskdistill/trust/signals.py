"""Whether a run's result can be trusted, by signals that need no label.

A signal is a function of the :class:`Evidence` and one entry of :data:`SIGNALS`, with the limits for the
verdict. The limits were fixed on generated scenes of development seeds. ``results/benchmarks/trust.md``, made
by ``tests/benchmarks/trust.py``, says how well they work and what was not measured.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from maskdistill.formats import rle

Mask = npt.NDArray[np.bool_]
Masks = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

FRAME = 96
"""Side of the square that masks are compared in; a picture is squashed to it."""
OTHERS = 5
"""Number of other pictures whose masks a mask is compared with, to measure agreement by chance."""
NEAR = 5
"""Side of the square, in pixels of the frame, by which an outline is widened, as masks consist of patches."""

USE, LOOK, AVOID = "use", "look first", "do not use"
LEVELS = (AVOID, LOOK, USE)


@dataclass(frozen=True)
class Evidence:
    """What signals are computed from, for a sample of n pictures, without labels.

    Attributes:
        masks: bool (n, FRAME, FRAME), the first initial mask of each picture; empty where it has none.
        mirrored: the same for the mirrored picture, mirrored back.
        rescaled: the same for the picture at another size.
        otsu: foreground by Otsu's threshold.
        edges: (n,), :func:`edge_contrast` of the masks.
        clusters: adjusted Rand index of each pair of clusterings of resampled masks; empty if it is
            undefined.
        found: the candidate that passes τ and is nearest to the mask, else the best candidate; None before
            there is a detector.
        confident: bool (n,), whether any passes τ; None before there is a detector.
    """

    masks: Masks
    mirrored: Masks
    rescaled: Masks
    otsu: Masks
    edges: Floats
    clusters: tuple[float, ...]
    found: Masks | None = None
    confident: npt.NDArray[np.bool_] | None = None


RECORDED = ("verdict", "reasons", "signals")
"""Keys of a verdict's record."""
LOOKS = ("mask", "mirrored", "rescaled", "otsu")
"""Keys of the sampled masks in the output of the stage ``consistency``."""


def read_evidence(record: Mapping[str, Any]) -> Evidence:
    """What the stage ``consistency`` wrote."""
    masks, mirrored, rescaled, otsu = (
        stacked([rle.decode(image[name]) for image in record["images"]]) for name in LOOKS
    )
    edges = np.array([image["edges"] for image in record["images"]], np.float64)
    return Evidence(masks, mirrored, rescaled, otsu, edges, tuple(record["clusters"]))


def stacked(frames: Sequence[Mask]) -> Masks:
    """Masks in the common square as one array, (n, FRAME, FRAME); n may be 0."""
    return np.stack(frames) if frames else np.zeros((0, FRAME, FRAME), np.bool_)


def with_detector(evidence: Evidence, found: Masks, confident: npt.NDArray[np.bool_]) -> Evidence:
    """The evidence together with the detector's candidates, bool (n, FRAME, FRAME) and (n,); see
    :class:`Evidence`.
    """
    return replace(evidence, found=found, confident=confident)


def empty() -> Mask:
    """An empty mask in the common square: bool (FRAME, FRAME)."""
    return np.zeros((FRAME, FRAME), np.bool_)


def to_frame(mask: Mask) -> Mask:
    """A mask (H, W) squashed to the common square, nearest neighbour."""
    picture = Image.fromarray(mask.astype(np.uint8))
    return np.asarray(picture.resize((FRAME, FRAME), Image.Resampling.NEAREST)) > 0


def edge_contrast(rgb: npt.NDArray[np.uint8], mask: Mask) -> float:
    """How much stronger a picture's edges are along the mask's outline than on average; 1 is chance.

    Mean grey gradient (Sobel) near the outline, divided by that of the whole picture, both squashed to the
    common square.

    Args:
        rgb: uint8 (H, W, 3), if possible not smaller than the square.
        mask: bool (FRAME, FRAME). Without an outline, or without any edge in the picture, the result is 1.
    """
    small = np.asarray(
        Image.fromarray(rgb).convert("L").resize((FRAME, FRAME), Image.Resampling.BOX), np.float32
    )
    strength = np.hypot(cv2.Sobel(small, cv2.CV_32F, 1, 0), cv2.Sobel(small, cv2.CV_32F, 0, 1))
    outline = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((NEAR, NEAR), np.uint8)) > 0
    mean = float(strength.mean())
    return float(strength[outline].mean()) / mean if outline.any() and mean > 0 else 1.0


def inside(masks: Masks) -> float:
    """How rarely masks reach the rim of their pictures: 1 never, 0 as often as by chance, below 0 more
    often.

    Compares the masked share of the pictures' outermost pixels with that of all pixels. Objects are
    photographed with something around them; a mask of the background reaches the rim.
    """
    rims = [masks[:, 0], masks[:, -1], masks[:, 1:-1, 0], masks[:, 1:-1, -1]]
    covered = float(masks.mean())
    return 1 - float(np.concatenate(rims, axis=1).mean()) / covered if covered else 0.0


def overlaps(masks: Masks, others: Masks) -> Floats:
    """IoU of each mask with its counterpart, (n,); 0 for two empty ones."""
    both = (masks & others).sum(axis=(1, 2))
    either = (masks | others).sum(axis=(1, 2))
    return np.asarray(both / np.maximum(either, 1), np.float64)


def by_chance(masks: Masks, others: Masks) -> float:
    """Mean IoU of the masks with those of :data:`OTHERS` other pictures: what masks at a fixed place would
    reach.
    """
    steps = range(1, min(OTHERS, len(masks) - 1) + 1)
    return (
        float(np.mean([overlaps(masks, np.roll(others, step, axis=0)).mean() for step in steps]))
        if steps
        else 0.0
    )


def agreement(masks: Masks, others: Masks) -> float | None:
    """Mean IoU, corrected for what other pictures' masks reach, as kappa is: 1 if all pairs are equal, 0 if
    masks at a fixed place do as well. None for fewer than two pictures.
    """
    if len(masks) < 2:
        return None
    chance = by_chance(masks, others)
    return (float(overlaps(masks, others).mean()) - chance) / max(1 - chance, 1e-9)


def centre_boxes(shares: Floats) -> Masks:
    """Centred boxes of the picture's shape that cover these shares of it, (n,) -> (n, FRAME, FRAME)."""
    sides = np.sqrt(shares) / 2
    place = np.abs((np.arange(FRAME) + 0.5) / FRAME - 0.5)
    near = place[None] <= sides[:, None]
    return np.asarray(near[:, :, None] & near[:, None, :])


def _mirrored(evidence: Evidence) -> float | None:
    return agreement(evidence.masks, evidence.mirrored)


def _rescaled(evidence: Evidence) -> float | None:
    return agreement(evidence.masks, evidence.rescaled)


def _clusters(evidence: Evidence) -> float | None:
    return float(np.mean(evidence.clusters)) if evidence.clusters else None


def _detector(evidence: Evidence) -> float | None:
    return None if evidence.found is None else agreement(evidence.masks, evidence.found)


def _inside(evidence: Evidence) -> float | None:
    return inside(evidence.masks) if len(evidence.masks) else None


def _edges(evidence: Evidence) -> float | None:
    return float(evidence.edges.mean()) if len(evidence.edges) else None


def _whole(evidence: Evidence) -> float | None:
    rims = np.stack(
        [evidence.masks[:, 0], evidence.masks[:, -1], evidence.masks[..., 0], evidence.masks[..., -1]]
    )
    return float(rims.any(axis=2).all(axis=0).mean()) if len(evidence.masks) else None


def _chance(evidence: Evidence) -> float | None:
    return by_chance(evidence.masks, evidence.masks)


def _otsu(evidence: Evidence) -> float | None:
    return float(overlaps(evidence.masks, evidence.otsu).mean())


def _centre(evidence: Evidence) -> float | None:
    return float(overlaps(evidence.masks, centre_boxes(evidence.masks.mean(axis=(1, 2)))).mean())


def _confident(evidence: Evidence) -> float | None:
    return None if evidence.confident is None else float(evidence.confident.mean())


@dataclass(frozen=True)
class Signal:
    """A quantity that can be measured without labels; if it has limits, larger is better.

    Attributes:
        name: key in artefacts.
        title: a readable name.
        measure: computes its value; None if it cannot be computed.
        avoid: below this limit a result should not be used; None: shown, but no part of the verdict.
        use: from this limit on the signal raises no objection.
        complaint: what is wrong if the value is below ``use``.
    """

    name: str
    title: str
    measure: Callable[[Evidence], float | None]
    avoid: float | None = None
    use: float | None = None
    complaint: str = ""

    def level(self, value: float) -> str | None:
        """One of :data:`LEVELS`; None for a signal that is no part of the verdict."""
        if self.avoid is None or self.use is None:
            return None
        return LEVELS[int(value >= self.avoid) + int(value >= self.use)]

    def complain(self, value: float) -> str:
        """What is wrong if the value is below ``use``."""
        return (
            f"{self.complaint} ({value:.2f}; {self.use:.2f} is wanted, and below {self.avoid:.2f} "
            "nothing is of use)"
        )


SIGNALS = (
    Signal("mirrored", "masks agree with those of the mirrored pictures, above chance", _mirrored, 0.3, 0.5,
           "mirrored pictures get other masks"),
    Signal("rescaled", "masks agree with those of the pictures at another size, above chance", _rescaled, 0.3,
    0.5,
           "pictures at another size get other masks"),
    Signal("inside", "masks keep away from the rim of their pictures, above chance", _inside, 0.42, 0.55,
           "masks lie at the rims of their pictures, as background does"),
    Signal("edges", "edges along the masks' outlines, over those of the whole picture", _edges, 1.3, 1.5,
           "outlines of masks do not follow what is seen"),
    Signal("clusters", "categories agree when they are found again from resampled masks (adjusted Rand)",
    _clusters,
           0.15, 0.4, "categories come out differently when they are found again"),
    Signal("detector", "the detector's nearest candidate agrees with the mask, above chance", _detector, 0.3,
    0.5,
           "the detector finds something else than the masks it learned from"),
    Signal("confident", "pictures with a candidate that passes τ", _confident),
    Signal("whole", "masks that reach all four sides of their picture", _whole),
    Signal("chance", "masks agree with those of other pictures: what a fixed place reaches", _chance),
    Signal("otsu", "masks agree with Otsu's threshold on grey values", _otsu),
    Signal("centre", "masks agree with a centred box of their size", _centre),
)  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """The conclusion from a run's signals.

    Attributes:
        level: one of :data:`LEVELS`: the worst of its signals.
        reasons: what speaks against ``use``, worst first.
        signals: name -> value, for those that could be computed.
    """

    level: str
    reasons: list[str]
    signals: dict[str, float]

    def sentence(self, seen: str) -> str:
        """For a terminal: the verdict and all that speaks against ``use``."""
        return sentence(self.record(), seen)

    def record(self) -> dict[str, Any]:
        """The form that is stored in artefacts and in the metadata of exported models."""
        return dict(zip(RECORDED, (self.level, self.reasons, self.signals), strict=True))


def judge(evidence: Evidence, signals: Sequence[Signal] = SIGNALS) -> Verdict:
    """The verdict: ``do not use`` if a signal is below its lower limit, ``use`` if none is below its upper
    one.

    Signals that cannot be computed do not count; if none can, the verdict is ``look first``.
    """
    found = {signal.name: value for signal in signals if (value := signal.measure(evidence)) is not None}
    levels = {
        signal: level
        for signal in signals
        if signal.name in found and (level := signal.level(found[signal.name]))
    }
    if not levels:
        return Verdict(LOOK, ["too few pictures to tell"], found)
    worst_first = sorted(levels, key=lambda signal: LEVELS.index(levels[signal]))
    reasons = [signal.complain(found[signal.name]) for signal in worst_first if levels[signal] != USE]
    return Verdict(levels[worst_first[0]], reasons, found)


def sentence(record: Mapping[str, Any], seen: str) -> str:
    """A verdict in words: ``do not use (seen ...): reason; reason``.

    Args:
        record: see :meth:`Verdict.record`.
        seen: what was looked at.
    """
    reasons = "; ".join(record["reasons"]) or "nothing that can be seen without labels speaks against it"
    return f"{record['verdict']} ({seen}): {reasons}"
