"""What the report says of rounds of self-training: what each detector learnt, new masks beside old ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maskdistill.annotations.index import AnnotationIndex, read_index
from maskdistill.annotations.types import Annotation
from maskdistill.report.html import Context
from maskdistill.report.masks import pick_evenly


@dataclass(frozen=True)
class Learnt:
    """What the detector of a round was trained on.

    Attributes:
        number: of the round; 0 for the first detector.
        images: that have an annotation.
        annotations: of all images.
        found: how many of them the detector before found; the others are left of its own annotations.
        examples: image id -> its annotations, and how many of them, the first ones, were found.
    """

    number: int
    images: int
    annotations: int
    found: int
    examples: dict[int, tuple[list[Annotation], int]]

    @property
    def name(self) -> str:
        """What the page calls the detector."""
        return f"round {self.number}" if self.number else "first detector"


def read_rounds(files: Sequence[str | Path], indices: Sequence[str | Path], examples: int) -> list[Learnt]:
    """What was learnt in each round, the first detector's before.

    Args:
        files: annotations of each round, in their order; none without rounds.
        indices: of these files.
        examples: images to show at most, at even steps through those in which a detector found something that
            it had not learnt; where there is none, through all.
    """
    rounds = [read_index(file, index) for file, index in zip(files, indices, strict=True)]
    if not rounds:
        return []
    changed = np.unique(np.concatenate([index.image_id[index.found > 0] for index in rounds]))
    pool = changed if len(changed) else rounds[-1].image_id
    shown = pool[pick_evenly(examples, len(pool))].tolist()
    return [_learnt(number, index, shown) for number, index in enumerate(rounds)]


def _learnt(number: int, index: AnnotationIndex, shown: Sequence[int]) -> Learnt:
    places = {image_id: int(np.searchsorted(index.image_id, image_id)) for image_id in shown}
    there = {
        image_id: place
        for image_id, place in places.items()
        if place < len(index.image_id) and index.image_id[place] == image_id
    }
    examples = {image_id: (index.read(place), int(index.found[place])) for image_id, place in there.items()}
    total = index.read(len(index.image_id) - 1)[-1]["id"]
    return Learnt(number, len(index.image_id), total, int(index.found.sum()), examples)


def round_rows(rounds: Sequence[Learnt]) -> list[Context]:
    """The table: what each detector learnt, and what became of the annotations before."""
    before = [None, *(one.annotations for one in rounds)]
    return [
        {
            "name": one.name,
            "images": f"{one.images:,}",
            "annotations": f"{one.annotations:,}",
            "found": f"{one.found:,}" if one.number else "—",
            "kept": f"{one.annotations - one.found:,}" if one.number else "—",
            "replaced": "—" if last is None else f"{last - (one.annotations - one.found):,}",
        }
        for one, last in zip(rounds, before, strict=False)
    ]
