"""A run's verdict in words, for the end of a run, predict, export and the model card."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import read_json
from maskdistill.trust import signals

KEY = "trust"
"""Where the verdict stands: in a run's ``summary.json``, and in the metadata of exported models as JSON."""
UNKNOWN = (
    "no verdict: the models come from an earlier version, or from no run; look at what they give "
    "before you use it"
)
SEEN = "by signals that need no label"


def run_verdict(summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """The verdict of a run's summary; None where an earlier version made it."""
    found: dict[str, Any] | None = summary.get(KEY) or None
    return found


def stored_verdict(metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """The verdict in the metadata of an exported model; None where there is none."""
    found: dict[str, Any] | None = json.loads(metadata[KEY]) if KEY in metadata else None
    return found


def as_metadata(record: Mapping[str, Any] | None) -> dict[str, Any]:
    """What an exported model's metadata says of the verdict, to be written as JSON; nothing without one."""
    return {} if record is None else {KEY: {name: record[name] for name in signals.RECORDED}}


def is_good(record: Mapping[str, Any] | None) -> bool:
    """Whether nothing stands against use."""
    return record is not None and record["verdict"] == signals.USE


def in_words(record: Mapping[str, Any] | None) -> str:
    """The verdict in one sentence."""
    return UNKNOWN if record is None else f"verdict: {signals.sentence(record, SEEN)}"


def in_lines(record: Mapping[str, Any] | None) -> str:
    """The verdict for a terminal: several reasons stand on a line each."""
    if record is None or len(record["reasons"]) < 2:
        return in_words(record)
    return "\n  - ".join([f"verdict: {record['verdict']} ({SEEN}):", *record["reasons"]])


def verdict_at_the_end(run: str | Path) -> str:
    """The verdict and what made it worse, printed when a run ends; empty without a report."""
    try:
        summary = read_json(Path(run) / "summary.json")
    except MaskDistillError:
        return ""
    return "\n".join(verdict_lines(summary))


def verdict_lines(summary: Mapping[str, Any]) -> list[str]:
    """Verdict and steps that made a run worse, one a line."""
    return [in_lines(run_verdict(summary)), *summary.get("worse_steps", [])]
