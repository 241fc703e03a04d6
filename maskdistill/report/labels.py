"""The pseudo-labels' part of the report."""

from collections.abc import Mapping, Sequence
from typing import Any

from maskdistill.report.collect import Run

PSEUDO_LABELS = {
    "kept": "candidates kept as pseudo-labels",
    "fallback": "images left with their best candidate",
    "empty": "empty pseudo-labels",
}


def sum_pseudo_labels(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Images, kept, fallback and empty, summed over the shards' summaries, and the mean coverage as a share."""
    keys = ("images", "kept", "fallback", "empty")
    found: dict[str, Any] = {key: sum(int(record.get(key, 0)) for record in summaries) for key in keys}
    covered = sum(record.get("mean_coverage", 0.0) * record.get("images", 0) for record in summaries)
    return found | {"mean_coverage": covered / max(1, found["images"])}


def label_facts(run: Run) -> list[tuple[str, str]]:
    """Numbers of the run's pseudo-labels, each with what it counts."""
    counts = [(f"{run.pseudo_labels[name]:,}", text) for name, text in PSEUDO_LABELS.items()]
    return [*counts, (f"{100 * run.pseudo_labels['mean_coverage']:.0f} %", "mean coverage of the pseudo-labels")]
