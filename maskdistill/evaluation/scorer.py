"""Scores of one stage: collects what its metrics count in each image, and formats the stage's JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from maskdistill.evaluation.metrics.registry import Family, Setting, View, families, metrics

KEPT = 1000


class Scorer:
    """Scores of one stage.

    Images are counted and scored twice: first without a matching, which gives the matching, then with it.

    Args:
        setting: of the evaluation.

    Attributes:
        values: every metric in its unit, None where it is not scored.
        intervals: 95 %, by metric.
        counts: numbers of images behind metrics.
        details: further results of families, by key.
        drawn: float64 (resamples,) by metric: its values in the resamples.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.values: dict[str, float | None] = dict.fromkeys(metrics())
        self.intervals: dict[str, list[float]] = {}
        self.counts = {family.counted: 0 for family in families() if family.counted}
        self.details: dict[str, object] = {}
        self.drawn: dict[str, npt.NDArray[np.float64]] = {}

    def families(self, matched: bool = False) -> list[Family]:
        """Families that score the stage before, or after, the matching is known."""
        name = self.setting.stage.name
        return [family for family in families() if family.matched == matched and name in family.stages]

    def count(self, view: View, matched: bool = False) -> list[Any]:
        """What an image contributes to each of :meth:`families`."""
        return [family.of_image(view) for family in self.families(matched)]

    def score(self, counts: Mapping[int, Sequence[Any]], matched: bool = False) -> None:
        """Add the scores of all images to the result.

        Args:
            counts: image id -> see :meth:`count`, in the order of the images.
            matched: as for :meth:`count`.
        """
        for place, family in enumerate(self.families(matched)):
            found = {number: row[place] for number, row in counts.items() if row[place] is not None}
            scores = family.scores(found, self.setting)
            self.values |= scores.values
            self.intervals |= scores.intervals
            self.details |= scores.details
            self.drawn |= scores.drawn
            if family.counted:
                self.counts[family.counted] = len(found)

    def record(self) -> dict[str, object]:
        """The scores as written to a file; ``images`` is the number of evaluation images.

        At most :data:`KEPT` resampled scores per metric, rounded to a ten-thousandth: enough to compare
        methods pairwise.
        """
        images = sum(image.evaluated for image in self.setting.truth.images)
        drawn = {
            name: [round(value, 4) if np.isfinite(value) else None for value in values[:KEPT].tolist()]
            for name, values in self.drawn.items()
        }
        told = {"images": images, "counts": self.counts, "intervals": self.intervals, "resampled": drawn}
        return {**self.values, **told, **self.details}

    @property
    def class_of(self) -> npt.NDArray[np.uint8]:
        """Class of each label by the matching, uint8 (P,); G if it has none."""
        classes, matching = len(self.setting.truth.class_names), self.details["matching"]
        assert isinstance(matching, dict)
        found = np.full(len(matching), classes, dtype=np.uint8)
        for label, matched in matching.items():
            found[int(label)] = classes if matched is None else matched
        return found
