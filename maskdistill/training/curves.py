"""The curve of a training: its rows in a CSV that can be watched as it grows, and a sealed table at the end.

During the training, ``metrics.csv`` in the folder of its state holds all rows with their times. A training
that resumes rewrites the rows up to its saved state, so no step is missing or duplicated. The sealed table
has no times, so that two runs give equal bytes.
"""

import csv
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypedDict

from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import atomic_path, check_seal, sealed_path

MetricRow: TypeAlias = dict[str, float]
LIVE = "metrics.csv"
"""Name of this file in the folder of the state."""
TIMES = ("seconds", "images_per_second")
"""Columns that hold times, which differ from run to run."""


class CurveState(TypedDict):
    """What a resumed training needs of its curve.

    Attributes:
        rows: of the steps so far.
        seconds: of training up to each row, without the time between attempts.
        spent: seconds of training up to the saved state.
    """

    rows: list[MetricRow]
    seconds: list[float]
    spent: float


class Curve:
    """The rows of a training in progress.

    Args:
        path: file to write for watching; None: no file.
        batch_size: images per step, over all processes.
        saved: saved: the curve in the state from which the training resumes.
        clock: returns seconds, from any origin.
    """

    def __init__(
        self,
        path: Path | None,
        batch_size: int,
        saved: CurveState | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rows: list[MetricRow] = list(saved["rows"]) if saved else []
        self._seconds: list[float] = list(saved["seconds"]) if saved else []
        self._path, self._batch_size, self._clock = path, batch_size, clock
        self._begun = clock() - (saved["spent"] if saved else 0.0)
        if path is not None and self.rows:
            with atomic_path(path) as temporary:
                temporary.write_text(_lines([self._timed(place) for place in range(len(self.rows))], True))
        elif path is not None:
            path.unlink(missing_ok=True)

    def state(self) -> CurveState:
        """What to save with the state of the training."""
        return {"rows": self.rows, "seconds": self._seconds, "spent": self._clock() - self._begun}

    def add(self, row: MetricRow) -> None:
        """Add a row and append it to the file; appended rows survive a kill."""
        self.rows.append(row)
        self._seconds.append(self._clock() - self._begun)
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(self._path, "a", encoding="utf-8") as stream:
                stream.write(_lines([self._timed(len(self.rows) - 1)], stream.tell() == 0))

    def said(self) -> str:
        """The last row as text; empty before the first."""
        return in_words(self.rows[-1]) if self.rows else ""

    def _timed(self, place: int) -> MetricRow:
        """A row with its times inserted after the step."""
        row = self.rows[place]
        before, since = (self.rows[place - 1]["step"], self._seconds[place - 1]) if place else (0.0, 0.0)
        seconds = self._seconds[place]
        speed = self._batch_size * (row["step"] - before) / max(seconds - since, 1e-9)
        return {"step": row["step"], "seconds": round(seconds, 3), "images_per_second": round(speed, 3)} | row


def in_words(row: MetricRow) -> str:
    """A row as text, without its step, with four digits."""
    return ", ".join(f"{name} {value:.4g}" for name, value in row.items() if name != "step")


def _lines(rows: Sequence[MetricRow], header: bool) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["step"], lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_metrics(path: str | Path, rows: Sequence[MetricRow]) -> None:
    """Write rows without times as CSV, sealed and atomically."""
    with sealed_path(path) as temporary:
        temporary.write_text(_lines(rows, True))


def keep_times(live: Path, path: Path) -> None:
    """Keep a finished training's rows with their times, beside the job's benchmark."""
    if live.is_file():
        with atomic_path(path) as temporary:
            temporary.write_bytes(live.read_bytes())


@dataclass(frozen=True)
class Written:
    """A curve read from a file.

    Attributes:
        rows: without their times.
        times: ``seconds`` and ``images_per_second`` of each row; empty if the file has none.
    """

    rows: list[MetricRow]
    times: list[MetricRow]


def read_curve(path: Path, sealed: bool) -> Written:
    """Read a curve; an incomplete last line, which is still being written, is left out.

    Args:
        path: the CSV.
        sealed: whether the training has ended, and the file has a seal.

    Raises:
        MaskDistillError: it is damaged, or not a table of numbers.
        FileNotFoundError: there is no such file (any more).
    """
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    if sealed:
        check_seal(path)
    whole = [line for line in lines if line.endswith("\n") and not line.startswith("#")]
    try:
        table = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(whole)]
    except (ValueError, TypeError):
        raise MaskDistillError(f"{path}: not the metrics of a training; give the folder of a run") from None
    rows = [{name: value for name, value in row.items() if name not in TIMES} for row in table]
    return Written(rows, [{name: row[name] for name in TIMES} for row in table if set(TIMES) <= row.keys()])
