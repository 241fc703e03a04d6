"""The curve of a training: its rows as they come, in a CSV that can be watched, and the sealed table at the
end.

While it trains, ``metrics.csv`` in the folder of its state holds all rows with their times. A killed training
that goes on writes the rows of its state anew, so that no step is missing or there twice. The sealed table
has no times: two runs give equal bytes.
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
"""Name of the file in the folder of the state."""
TIMES = ("seconds", "images_per_second")
"""Columns that differ from run to run."""


class CurveState(TypedDict):
    """What a training that goes on needs of its curve.

    Attributes:
        rows: of the steps so far.
        seconds: of training until each of them, waiting between attempts left out.
        spent: seconds of training until the state was saved.
    """

    rows: list[MetricRow]
    seconds: list[float]
    spent: float


class Curve:
    """The rows of a training that runs.

    Args:
        path: file to watch; None writes none.
        batch_size: images of a step, of all processes.
        saved: of the state that the training goes on from.
        clock: seconds, from any beginning.
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
        """What is to be saved with the state of the training."""
        return {"rows": self.rows, "seconds": self._seconds, "spent": self._clock() - self._begun}

    def add(self, row: MetricRow) -> None:
        """Take in a row, and append it to the file: a kill loses none that was appended."""
        self.rows.append(row)
        self._seconds.append(self._clock() - self._begun)
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(self._path, "a", encoding="utf-8") as stream:
                stream.write(_lines([self._timed(len(self.rows) - 1)], stream.tell() == 0))

    def said(self) -> str:
        """The last row in words; empty before the first."""
        return in_words(self.rows[-1]) if self.rows else ""

    def _timed(self, place: int) -> MetricRow:
        """A row with its times behind the step."""
        row = self.rows[place]
        before, since = (self.rows[place - 1]["step"], self._seconds[place - 1]) if place else (0.0, 0.0)
        seconds = self._seconds[place]
        speed = self._batch_size * (row["step"] - before) / max(seconds - since, 1e-9)
        return {"step": row["step"], "seconds": round(seconds, 3), "images_per_second": round(speed, 3)} | row


def in_words(row: MetricRow) -> str:
    """All of a row but its step, with four digits."""
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
    """Keep a finished training's rows with their times, where such files lie: beside the job's benchmark."""
    if live.is_file():
        with atomic_path(path) as temporary:
            temporary.write_bytes(live.read_bytes())


@dataclass(frozen=True)
class Written:
    """A curve as a file holds it.

    Attributes:
        rows: without their times.
        times: ``seconds`` and ``images_per_second`` of each row; empty where the file has none.
    """

    rows: list[MetricRow]
    times: list[MetricRow]


def read_curve(path: Path, sealed: bool) -> Written:
    """Read a curve; half a line at the end, which is being written, is left out.

    Args:
        path: the CSV.
        sealed: whether the training has ended, and the file has a seal.

    Raises:
        MaskDistillError: it is damaged, or no table of numbers.
        FileNotFoundError: there is none (any more).
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
