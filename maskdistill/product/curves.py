"""The curves of a run's trainings: of those that train, from the folder of their state, and of those that
ended.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from maskdistill.product.plan import about
from maskdistill.training.curves import LIVE, MetricRow, Written, in_words, read_curve
from maskdistill.workflow.layout import ORACLE, ROUND, TRAINED

STAGES = {"detector": TRAINED, "segmenter": ROUND, "probe": ROUND}
"""A training stage: the folder in a run that its output and its state lie in."""
PRETRAINED = "pretrain"
MASKS = ("{masks}", ORACLE)
"""What a folder begins with: a mask rule's, or the oracle's case."""
TRAININGS = ("", "/round-*")
"""What stands for the first detector, and for those of rounds of self-training."""


@dataclass(frozen=True)
class Place:
    """Where a training writes.

    Attributes:
        name: path of its output's folder in the run, of a pretraining without suffix.
        live: the file while it trains.
        ended: the file afterwards.
        times: where the times of the rows are then.
    """

    name: str
    live: Path
    ended: Path
    times: Path


@dataclass(frozen=True)
class Found:
    """The curve of a training.

    Attributes:
        name: of its :class:`Place`.
        written: the rows, and their times where they are known.
        training: whether it has not ended.
        last: when the last row came, seconds since the epoch.
    """

    name: str
    written: Written
    training: bool
    last: float

    def line(self) -> str:
        """Name, step and the last row's values, in words."""
        *_, row = self.written.rows
        parts = [in_words(row)]
        if self.written.times:
            times = self.written.times[-1]
            parts += [f"{times['images_per_second']:.3g} images/s", about(times["seconds"])]
        ended = "" if self.training else "ended: "
        return f"{self.name}: {ended}step {row['step']:.0f}, {', '.join(parts)}"

    def wall_times(self) -> list[float]:
        """When each row came, seconds since the epoch; that of the last for all where nothing else is
        known.
        """
        if not self.written.times:
            return [self.last] * len(self.written.rows)
        until = [one["seconds"] for one in self.written.times]
        return [self.last - (until[-1] - seconds) for seconds in until]


def places(run: Path) -> Iterator[Place]:
    """Where a run's trainings write that have begun, whether they have ended or not."""
    for stage, folder in STAGES.items():
        for masks in MASKS:
            patterns = [
                re.sub(r"\{\w+\}", "*", folder.replace("{masks}", masks).replace("{trained}", trained))
                for trained in TRAININGS
            ]
            for parent in sorted(found for pattern in patterns for found in run.glob(pattern)):
                name = parent.relative_to(run).as_posix()
                times = run / "benchmarks" / stage / f"{name}.csv"
                if masks == ORACLE:
                    oracle, case, *rest = Path(name).parts
                    times = run.joinpath("benchmarks", oracle, case, stage, *rest[:-1], f"{rest[-1]}.csv")
                yield Place(
                    f"{name}/{stage}", parent / f"{stage}.state" / LIVE, parent / stage / "metrics.csv", times
                )
    pretrained = run / PRETRAINED
    for name in sorted({path.stem for path in (*pretrained.glob("*.state"), *pretrained.glob("*.csv"))}):
        times = run / "benchmarks" / PRETRAINED / f"{name}.csv"
        yield Place(
            f"{PRETRAINED}/{name}", pretrained / f"{name}.state" / LIVE, pretrained / f"{name}.csv", times
        )


def read(place: Place) -> Found | None:
    """The curve of a training; None where it has no row yet.

    A training that runs again, since a setting changed, comes before what is left of the last time.

    Raises:
        MaskDistillError: a file is damaged.
    """
    for file, training in ((place.live, True), (place.ended, False)):
        try:
            written, last = read_curve(file, sealed=not training), file.stat().st_mtime
        except (FileNotFoundError, NotADirectoryError):  # there is none, or the training has just ended
            continue
        if written.rows:
            if not training and not written.times:
                written = Written(written.rows, _times(place.times, written.rows))
            return Found(place.name, written, training, last)
    return None


def _times(file: Path, rows: Sequence[MetricRow]) -> list[MetricRow]:
    """Times of an ended training's rows; none where the file is missing or another training's."""
    try:
        kept = read_curve(file, sealed=False)
    except FileNotFoundError:
        return []
    return kept.times if kept.rows == list(rows) else []


def unchanged(before: Sequence[MetricRow], now: Sequence[MetricRow]) -> int:
    """Number of rows at the beginning that are the same: fewer than before where a training began anew or
    went back.
    """
    pairs = zip(before, now, strict=False)
    return next(
        (place for place, (one, other) in enumerate(pairs) if one != other), min(len(before), len(now))
    )
