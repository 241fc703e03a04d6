"""Published values and a run's own, entry by entry: their difference, the spread over seeds and over
images.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from maskdistill.config import Config
from maskdistill.evaluation.metrics.registry import images_behind
from maskdistill.paper.cited import Cited, cited_values
from maskdistill.paper.plan import SETTINGS, Place, Source, places
from maskdistill.report.tables import weights_text
from maskdistill.runtime.errors import MaskDistillError

Record = Mapping[str, Any]
Records = Mapping[str, Record]
"""Evaluations by their path below the run's folder."""


@dataclass(frozen=True)
class Entry:
    """One entry of a table, or one point of a figure.

    Attributes:
        group, row, column: its place.
        protocol: how it is scored, in words; empty where nothing was scored here.
        paper: the published value, None without one.
        cited_from: where it was printed.
        scores: one value per seed, in percent; empty where nothing was scored here.
        seeds: of ``scores``.
        interval: bootstrap interval over images, the mean of the seeds' bounds; None without one.
        images: number of images scored.
        source: what it was computed from.
        x: the swept value (figures).
    """

    group: str
    row: str
    column: str
    protocol: str = ""
    paper: float | None = None
    cited_from: str = ""
    scores: tuple[float, ...] = ()
    seeds: tuple[int, ...] = field(default=())
    interval: tuple[float, float] | None = None
    images: int | None = None
    source: Source | None = None
    x: float | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """Group, row and column."""
        return self.group, self.row, self.column

    @property
    def ours(self) -> float | None:
        """Mean over seeds."""
        return float(np.mean(self.scores)) if self.scores else None

    @property
    def std(self) -> float | None:
        """Sample standard deviation over seeds (ddof 1); None for fewer than two."""
        return float(np.std(self.scores, ddof=1)) if len(self.scores) > 1 else None

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's."""
        return None if self.ours is None or self.paper is None else self.ours - self.paper


def entries(target: str, config: Config, records: Records) -> list[Entry]:
    """All entries of a target, in the paper's order; entries that the paper lacks come last.

    Args:
        target: name of a table or a figure.
        config: of the run.
        records: the evaluations that :func:`maskdistill.paper.plan.evaluations` names.

    Raises:
        MaskDistillError: the run computes an entry twice.
    """
    found: dict[tuple[str, str, str], Entry] = {
        (cited.group, cited.row, cited.column): _published(cited) for cited in cited_values(target)
    }
    filled = set()
    for place in places(target, config):
        for entry in _computed(place, config.paper.seeds, records):
            if entry.key in filled:
                raise MaskDistillError(
                    f"{target}: {' / '.join(entry.key)} is computed twice; correct the section paper"
                )
            filled.add(entry.key)
            known = found.get(entry.key)
            found[entry.key] = (
                replace(entry, paper=known.paper, cited_from=known.cited_from) if known else entry
            )
    return list(found.values())


def csv_rows(target: str, config: Config, found: Sequence[Entry]) -> list[dict[str, Any]]:
    """The entries as rows of a CSV, one row each: numbers in full, None for a missing one."""
    return [
        {
            "target": target,
            "group": entry.group,
            "row": entry.row,
            "column": entry.column,
            "paper": entry.paper,
            "ours": entry.ours,
            "difference": entry.difference,
            "num_seeds": len(entry.seeds),
            "std_over_seeds": entry.std,
            "interval_low": entry.interval[0] if entry.interval else None,
            "interval_high": entry.interval[1] if entry.interval else None,
            "images": entry.images,
            "seeds": " ".join(map(str, entry.seeds)),
            "per_seed": " ".join(repr(score) for score in entry.scores),
            "protocol": entry.protocol,
            "stage": entry.source.stage if entry.source else None,
            **{name: entry.source.settings.get(name) if entry.source else None for name in SETTINGS},
            "data": describe_data(config) if entry.source else None,
            "weights": weights_text(config) if entry.source else None,
            "paper_source": entry.cited_from,
        }
        for entry in found
    ]


def describe_data(config: Config) -> str:
    """The scored images in a few words, without the folders above the data's own."""
    return config.data.describe()


def _published(cited: Cited) -> Entry:
    return Entry(cited.group, cited.row, cited.column, paper=cited.value, cited_from=cited.source)


def _computed(place: Place, seeds: Sequence[int], records: Records) -> Iterator[Entry]:
    """The entries of a place in the plan: one, or one per key if it stands for several."""
    by_seed = {seed: records[place.source.path(seed)] for seed in seeds}
    columns = [place.column]
    if not place.column:
        columns = list(
            dict.fromkeys(name for record in by_seed.values() for name in _at(record, place.metric) or {})
        )
    for column in columns:
        tail = () if place.column else (column,)
        values = {seed: _at(record, place.metric + tail) for seed, record in by_seed.items()}
        scored = {seed: float(value) for seed, value in values.items() if value is not None}
        bounds = [_at(by_seed[seed], place.intervals + tail) for seed in scored] if place.intervals else []
        known = bool(bounds) and all(pair is not None for pair in bounds)
        low, high = (
            np.mean(np.array(bounds, dtype=np.float64), axis=0).tolist() if known else (np.nan, np.nan)
        )
        yield Entry(
            place.group,
            place.row,
            column,
            place.protocol,
            scores=tuple(scored.values()),
            seeds=tuple(scored),
            interval=(low, high) if known else None,
            images=_images(place, by_seed[seeds[0]]),
            source=place.source,
            x=place.x,
        )


def _at(record: Record, keys: Sequence[str]) -> Any:
    """Value below nested keys; None where one is missing."""
    value: Any = record
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _images(place: Place, record: Record) -> int | None:
    """Number of images behind a score."""
    counted: tuple[str, ...] = ("images",)
    if place.metric[0] == "protocols":
        counted = (*place.metric[:2], "images")
    elif key := images_behind("miou" if place.metric[0] == "iou" else place.metric[0]):
        counted = ("counts", key)
    value = _at(record, counted)
    return None if value is None else int(value)
