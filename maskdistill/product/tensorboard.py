"""Curves as TensorBoard's event files, by its own writer."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from maskdistill.product.curves import Found, unchanged
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.training.curves import MetricRow

SPEED = "images_per_second"


class EventFiles:
    """Event files of a run's trainings, a folder each; later rows are appended.

    What is there already stays: each writer begins with a mark by which readers pass over what was written
    before for its steps. Rows that a resumed training took back are marked likewise.

    Args:
        folder: that the trainings' folders go into.

    Raises:
        MaskDistillError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError as error:
            raise MaskDistillError(
                f"--tensorboard: {error.name} is missing; install it: pip install 'maskdistill[tensorboard]'"
                " (in a checkout: make tensorboard)"
            ) from None
        self._events, self._summaries, self._writer_of = event_pb2, summary_pb2, EventFileWriter
        self._folder = folder
        self._writers: dict[str, Any] = {}
        self._written: dict[str, list[MetricRow]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        for writer in self._writers.values():
            writer.close()

    def update(self, found: Found) -> int:
        """Write a training's rows that were not written yet; their number."""
        rows, before = found.written.rows, self._written.get(found.name, [])
        kept = unchanged(before, rows)
        if found.name not in self._writers:
            self._writers[found.name] = self._writer_of(str(self._folder / found.name))
        writer = self._writers[found.name]
        if kept < len(before) or not before:
            mark = self._events.SessionLog(status=self._events.SessionLog.START)
            begin = int(rows[kept - 1]["step"]) + 1 if kept else 0
            writer.add_event(self._events.Event(step=begin, wall_time=found.last, session_log=mark))
        times = found.wall_times()
        for place in range(kept, len(rows)):
            speed = {SPEED: found.written.times[place][SPEED]} if found.written.times else {}
            self._add(writer, int(rows[place]["step"]), times[place], rows[place] | speed)
        writer.flush()
        self._written[found.name] = list(rows)
        return len(rows) - kept

    def _add(self, writer: Any, step: int, time: float, values: Mapping[str, float]) -> None:
        value = self._summaries.Summary.Value
        scalars = [value(tag=name, simple_value=number) for name, number in values.items() if name != "step"]
        summary = self._summaries.Summary(value=scalars)
        writer.add_event(self._events.Event(step=step, wall_time=time, summary=summary))
