"""How well the objects of a run agree with those that somebody corrected.

Objects of a picture are paired one to one, whatever their categories, such that the summed IoU is the
largest; a pair below an IoU of 0.5 is none. The quality of a picture is the panoptic quality of its pairs
(Kirillov et al. 2019).
"""

import heapq
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypedDict

import numpy as np
from scipy.optimize import linear_sum_assignment

from maskdistill.data.corrected.base import NamedMask
from maskdistill.formats import rle
from maskdistill.formats.export.outlines import LEAST_IOU
from maskdistill.formats.rle import RLE

MATCHED, CLOSE = 0.5, 0.75
"""IoU from which on two objects are one, and are close."""
SAME_NAME = 0.01
"""What an equal name counts in pairing: of two masks that lie on each other the one of that name was
corrected.
"""


class Pair(NamedTuple):
    """An object of the run and its correction, by their places, and their IoU."""

    own: int
    corrected: int
    iou: float


class Numbers(TypedDict):
    """What became of objects.

    Attributes:
        run, corrected: their numbers.
        matched_50, matched_75: pairs with at least that IoU.
        removed, added: objects of either side without a partner.
        changed: pairs whose outline differs by more than simplifying may.
        mean_iou: of the pairs; None without any.
        moved: pairs that have another category now.
    """

    run: int
    corrected: int
    matched_50: int
    matched_75: int
    removed: int
    added: int
    changed: int
    mean_iou: float | None
    moved: int


class CategoryNumbers(Numbers):
    """The same for one category; ``became`` counts the names that its pairs have now."""

    name: str
    became: dict[str, int]


class PictureNumbers(Numbers):
    """The same of one picture, with its key and its quality in [0, 1]; 1: nothing was corrected."""

    key: str
    quality: float


class AgreementRecord(TypedDict):
    """All pictures together.

    Attributes:
        pictures: number of those that were compared.
        untouched: number of those in which nothing differs.
        objects: of all.
        categories: of each name that either side has objects of, by name.
        renamed: name of the run -> the one name that all its pairs have now, which the run does not know.
        worst: pictures by ascending quality.
    """

    pictures: int
    untouched: int
    objects: Numbers
    categories: list[CategoryNumbers]
    renamed: dict[str, str]
    worst: list[PictureNumbers]


def pair_objects(own: Sequence[NamedMask], corrected: Sequence[NamedMask]) -> list[Pair]:
    """The pairs of one picture; see the module.

    Args:
        own, corrected: masks of one size.
    """
    if not own or not corrected:
        return []
    iou = rle.iou(
        [item.mask for item in own], [item.mask for item in corrected], np.zeros(len(corrected), bool)
    )
    same = np.array([[one.name == other.name for other in corrected] for one in own])
    worth = np.where(iou >= MATCHED, iou + SAME_NAME * same, 0.0)
    rows, columns = linear_sum_assignment(worth, maximize=True)
    return [
        Pair(int(row), int(column), float(iou[row, column]))
        for row, column in zip(rows, columns, strict=True)
        if iou[row, column] >= MATCHED
    ]


@dataclass
class _Tally:
    run: int = 0
    corrected: int = 0
    close: int = 0
    changed: int = 0
    added: int = 0
    ious: list[float] = field(default_factory=list)
    became: Counter[str] = field(default_factory=Counter)
    moved: int = 0

    def pair(self, name: str, now: str, iou: float) -> None:
        """Count an object called ``name`` that was left with this IoU as ``now``."""
        self.ious.append(iou)
        self.close += iou >= CLOSE
        self.changed += iou < LEAST_IOU
        self.moved += name != now
        self.became[now] += 1

    def numbers(self) -> Numbers:
        """What was counted so far."""
        matched = len(self.ious)
        mean = float(np.mean(self.ious)) if matched else None
        return Numbers(
            run=self.run, corrected=self.corrected, matched_50=matched, matched_75=self.close,
            removed=self.run - matched, added=self.added, changed=self.changed, mean_iou=mean,
            moved=self.moved,
        )  # fmt: skip


class Agreement:
    """Counts pictures one by one.

    Args:
        names: that the run has.
        worst: number of pictures that are named.
        as_written: what the corrected file's format makes of a mask, if not the same: a correction equal to
            this is none.
    """

    def __init__(
        self, names: Sequence[str], worst: int, as_written: Callable[[RLE], RLE] | None = None
    ) -> None:
        self._names = frozenset(names)
        self._most = worst
        self._as_written = as_written
        self._all = _Tally()
        self._categories: dict[str, _Tally] = {}
        self._worst: list[tuple[float, int, PictureNumbers]] = []
        self._pictures = self._untouched = 0

    def add(self, key: str, own: Sequence[NamedMask], corrected: Sequence[NamedMask]) -> None:
        """Count a picture that was corrected, or looked at and found right."""
        pairs = pair_objects(own, corrected)
        paired = {pair.corrected for pair in pairs}
        here = _Tally()
        for item in own:
            for tally in (self._all, here, self._of(item.name)):
                tally.run += 1
        for place, item in enumerate(corrected):
            for tally in (self._all, here, self._of(item.name)):
                tally.corrected += 1
                tally.added += place not in paired
        for pair in pairs:
            name, now = own[pair.own].name, corrected[pair.corrected].name
            iou = self._iou(own[pair.own].mask, corrected[pair.corrected].mask, pair.iou)
            for tally in (self._all, here, self._of(name)):
                tally.pair(name, now, iou)
        self._note(key, here)

    def _iou(self, own: RLE, corrected: RLE, iou: float) -> float:
        """The pair's IoU, or that of what the format made of the run's mask if it is larger."""
        if self._as_written is None or iou >= LEAST_IOU:
            return iou
        written = rle.iou([self._as_written(own)], [corrected], np.zeros(1, bool))
        return max(iou, float(written[0, 0]))

    def _of(self, name: str) -> _Tally:
        return self._categories.setdefault(name, _Tally())

    def _note(self, key: str, tally: _Tally) -> None:
        """Keep the picture if it is among the worst so far; the first of equal ones stays."""
        self._pictures += 1
        numbers = tally.numbers()
        differs = numbers["removed"] + numbers["added"] + numbers["changed"] + numbers["moved"]
        self._untouched += not differs
        if not differs:
            return
        quality = sum(tally.ious) / (len(tally.ious) + (numbers["removed"] + numbers["added"]) / 2)
        entry = (-quality, -self._pictures, PictureNumbers(**numbers, key=key, quality=quality))
        heapq.heappush(self._worst, entry)
        if len(self._worst) > self._most:
            heapq.heappop(self._worst)

    def record(self) -> AgreementRecord:
        """All that was counted."""
        found = sorted(self._categories.items())
        categories = [
            CategoryNumbers(**tally.numbers(), name=name, became=dict(sorted(tally.became.items())))
            for name, tally in found
        ]
        renamed = {
            name: new
            for name, tally in found
            if len(tally.became) == 1 and (new := next(iter(tally.became))) not in self._names
        }
        return AgreementRecord(
            pictures=self._pictures,
            untouched=self._untouched,
            objects=self._all.numbers(),
            categories=categories,
            renamed=renamed,
            worst=[
                numbers for _, _, numbers in sorted(self._worst, reverse=True, key=lambda entry: entry[:2])
            ],
        )


def table(record: AgreementRecord) -> list[str]:
    """Lines that say it: categories, then all, then the worst pictures."""
    wide = max([8, *(len(item["name"]) for item in record["categories"])])
    heads = ("run", "corrected", "IoU 0.5", "IoU 0.75", "removed", "added", "changed", "mean IoU")
    lines = [f"{'category':{wide}s}" + "".join(f"{head:>11s}" for head in heads) + "  now called"]
    for item in record["categories"]:
        became = ", ".join(
            f"{name} ({count})" for name, count in item["became"].items() if name != item["name"]
        )
        lines.append(f"{item['name']:{wide}s}{_cells(item)}  {became}".rstrip())
    lines.append(f"{'all':{wide}s}{_cells(record['objects'])}")
    for picture in record["worst"]:
        said = ", ".join(
            f"{picture[key]} {key}" for key in ("removed", "added", "changed", "moved") if picture[key]
        )
        lines.append(f"{picture['key']}: quality {picture['quality']:.2f}; {said}")
    return lines


def _cells(item: Numbers) -> str:
    counts = ("run", "corrected", "matched_50", "matched_75", "removed", "added", "changed")
    mean = item["mean_iou"]
    cells = [f"{item[key]:>11d}" for key in counts]  # type: ignore[literal-required]
    return "".join(cells) + (f"{'-':>11s}" if mean is None else f"{mean:>11.3f}")
