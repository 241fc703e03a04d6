"""The photographs that the page opens with: the detector's surest and its least sure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from maskdistill.config import PseudoLabelsConfig
from maskdistill.detector.types import Candidate
from maskdistill.pseudo_labels.confidence import passes

SHOWN = 4
"""Photographs of each kind."""


@dataclass(frozen=True)
class Rated:
    """A photograph with what the run takes for its objects.

    Attributes:
        image_id: in the manifest.
        score: mean score of the objects, in [0, 1].
        sure: whether they pass τ; else there is one, the best candidate.
        objects: best first.
    """

    image_id: int
    score: float
    sure: bool
    objects: list[Candidate]


class Ratings:
    """The surest and the least sure photographs of a stream of shards. Memory does not follow their number.

    No label enters: the score is the detector's own. Equal ones go by the number of the image.

    Args:
        settings: τ and the comparison with it.
        count: how many of each are kept.
    """

    def __init__(self, settings: PseudoLabelsConfig, count: int = SHOWN) -> None:
        self._settings, self._count = settings, count
        self._best: list[Rated] = []
        self._worst: list[Rated] = []
        self.images = 0
        """Photographs with a candidate."""

    def add(self, candidates: Iterable[Candidate]) -> None:
        """Rate a shard's photographs.

        Args:
            candidates: all of the photographs in it, each photograph's in one row.
        """
        found = [self._rated(list(rows)) for _, rows in groupby(candidates, key=lambda row: row["image_id"])]
        self.images += len(found)
        self._best = sorted(self._best + found, key=lambda item: (-item.score, item.image_id))[: self._count]
        # as many again, for some may be among the best of few photographs
        self._worst = sorted(self._worst + found, key=lambda item: (item.score, item.image_id))[
            : 2 * self._count
        ]

    @property
    def best(self) -> list[Rated]:
        """The surest, surest first."""
        return self._best

    @property
    def worst(self) -> list[Rated]:
        """The least sure that are not among :attr:`best`, least sure first."""
        shown = {item.image_id for item in self._best}
        return [item for item in self._worst if item.image_id not in shown][: self._count]

    def _rated(self, rows: Sequence[Candidate]) -> Rated:
        ranked = sorted(rows, key=lambda row: -row["score"])
        passed = [row for row in ranked if passes(row["score"], self._settings.tau, self._settings.compare)]
        objects = passed or ranked[:1]
        mean = sum(row["score"] for row in objects) / len(objects)
        return Rated(objects[0]["image_id"], mean, bool(passed), objects)
