"""Run Snakemake and write down what happens: ``python -m maskdistill.workflow.events FILE OPTIONS``.

Snakemake logs through Python's logger ``snakemake``. Records about jobs have an ``event`` and the fields that
its interface for logger plugins documents. A handler sees them without being installed as a plugin, and
Snakemake's own output and command line stay as they are.
"""

import json
import logging
import sys
from pathlib import Path
from typing import Any

FIELDS = {
    "run_info": ("stats",),
    "job_info": ("jobid", "rule_name", "log"),
    "job_finished": ("job_id",),
    "job_error": ("jobid", "rule_name", "log"),
}
"""Events to write, and the fields of each. ``stats``: number of jobs by rule, and ``total``; ``log``: paths;
``jobid`` and ``job_id``: number of the job.
"""


def as_event(record: logging.LogRecord) -> dict[str, Any] | None:
    """What to write of a record: ``event``, ``time`` (s since the epoch) and its :data:`FIELDS`; None for
    others.
    """
    event = str(getattr(record, "event", None))
    if event not in FIELDS:
        return None
    fields = {name: getattr(record, name) for name in FIELDS[event]}
    return {"event": event, "time": record.created} | fields


class EventFile(logging.Handler):
    """Appends each event to a file, as one line of JSON.

    Args:
        path: the file.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self._stream = open(path, "a", encoding="utf-8")  # noqa: SIM115

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record if it is an event; if writing fails, the run goes on."""
        event = as_event(record)
        if event is None:
            return
        try:
            self._stream.write(json.dumps(event, default=str) + "\n")
            self._stream.flush()
        except OSError:
            self.handleError(record)


def main() -> None:
    """Run Snakemake with the options that follow the file's name."""
    from snakemake import cli  # type: ignore[import-untyped]

    path, *options = sys.argv[1:]
    logging.getLogger("snakemake").addHandler(EventFile(path))
    sys.argv = [cli.__file__, *options]  # the workflow prints this as the command that was given
    cli.main()


if __name__ == "__main__":
    main()
