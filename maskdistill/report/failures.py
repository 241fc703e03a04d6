"""Which failures the gallery shows: few of those that evaluation listed."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from maskdistill.config import Compare
from maskdistill.evaluation.types import CandidateQuality, MergedObjects, MissedObject, WorstImage
from maskdistill.pseudo_labels.confidence import passes, relation
from maskdistill.report.scores import Evaluation

CLASSES, PER_CLASS, OBJECTS = 20, 2, 6


@dataclass(frozen=True)
class Failures:
    """Failures to be pictured; empty without ground truth.

    Attributes:
        worst: class id -> ``[{image_id, iou}]``, the class with the lowest IoU first.
        merged, missed: see :mod:`maskdistill.evaluation.failures`.
    """

    worst: dict[int, list[WorstImage]] = field(default_factory=dict)
    merged: Sequence[MergedObjects] = ()
    missed: Sequence[MissedObject] = ()

    @property
    def images(self) -> set[int]:
        """Ids of all images that are pictured."""
        worst = {row["image_id"] for rows in self.worst.values() for row in rows}
        return worst | {row["image_id"] for row in self.merged} | {row["image_id"] for row in self.missed}


def choose_failures(final: Evaluation | None, quality: CandidateQuality | None) -> Failures:
    """The first few of each list.

    Args:
        final: scores of the segmenter; None without.
        quality: what ``maskdistill candidate_quality`` wrote; None without.
    """
    worst: dict[int, list[WorstImage]] = {}
    if final is not None:
        order = sorted(
            final.worst_images, key=lambda label: (final.iou.get(final.classes[label], 0.0), label)
        )
        worst = {label: final.worst_images[label][:PER_CLASS] for label in order[:CLASSES]}
    if not quality:
        return Failures(worst)
    return Failures(worst, quality["merged"][:OBJECTS], quality["missed"][:OBJECTS])


def score_note(score: float | None, tau: float, compare: Compare) -> str:
    """How a missed object is missed, in words."""
    if score is None:
        return "found by no candidate"
    return f"found with a score of {score:.2f}, {relation(passes(score, tau, compare), compare)} τ"
