"""Scores of one stage: what its metrics count of each image, gathered, and how they stand in its JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from maskdistill.evaluation.metrics.registry import Family, Setting, View, families


class Scorer:
    """Scores of one stage.

    First the images are counted and scored without a matching, which is then known, then with it.

    Args:
        setting: of the evaluation.

    Attributes:
        result: the scores as they stand in the JSON: every metric, null where it is not scored; ``intervals``;
            ``images``, the number of evaluation images, and ``counts`` of those that metrics are of; and the details
            of each family.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        known = families()
        self.result: dict[str, Any] = {
            **{metric.name: None for family in known for metric in family.metrics},
            "images": sum(image.evaluated for image in setting.truth.images),
            "counts": {family.counted: 0 for family in known if family.counted},
            "intervals": {},
        }

    def families(self, matched: bool = False) -> list[Family]:
        """Those that score the stage before, or after, the matching is known."""
        name = self.setting.stage.name
        return [family for family in families() if family.matched == matched and name in family.stages]

    def count(self, view: View, matched: bool = False) -> list[Any]:
        """What an image adds to each of :meth:`families`."""
        return [family.of_image(view) for family in self.families(matched)]

    def score(self, counts: Mapping[int, Sequence[Any]], matched: bool = False) -> None:
        """Add to the result what the images make.

        Args:
            counts: image id -> see :meth:`count`, in the order of the images.
            matched: as of :meth:`count`.
        """
        for place, family in enumerate(self.families(matched)):
            found = {number: row[place] for number, row in counts.items() if row[place] is not None}
            scores = family.scores(found, self.setting)
            self.result |= {**scores.values, **scores.details}
            self.result["intervals"] |= scores.intervals
            if family.counted:
                self.result["counts"][family.counted] = len(found)

    @property
    def class_of(self) -> npt.NDArray[np.uint8]:
        """Class uint8 (P,) of each label by the matching that was found, G where it has none."""
        classes, matching = len(self.setting.truth.class_names), self.result["matching"]
        found = np.full(len(matching), classes, dtype=np.uint8)
        for label, matched in matching.items():
            found[int(label)] = classes if matched is None else matched
        return found
