"""The pseudo-labels' part of the report."""

from collections.abc import Sequence

from maskdistill.pseudo_labels.summary import LabelSummary
from maskdistill.report.collect import Run


def sum_pseudo_labels(summaries: Sequence[LabelSummary]) -> LabelSummary:
    """Sums of images, kept, fallback and empty over shards, and the mean coverage's share."""
    images = sum(record["images"] for record in summaries)
    return {
        "images": images,
        "kept": sum(record["kept"] for record in summaries),
        "fallback": sum(record["fallback"] for record in summaries),
        "empty": sum(record["empty"] for record in summaries),
        "mean_coverage": sum(record["mean_coverage"] * record["images"] for record in summaries)
        / max(1, images),
    }


def label_facts(run: Run) -> list[tuple[str, str]]:
    """Numbers of the run's pseudo-labels, each with what it counts."""
    found = run.pseudo_labels
    return [
        (f"{found['kept']:,}", "candidates kept as pseudo-labels"),
        (f"{found['fallback']:,}", "images left with their best candidate"),
        (f"{found['empty']:,}", "empty pseudo-labels"),
        (f"{100 * found['mean_coverage']:.0f} %", "mean coverage of the pseudo-labels"),
    ]
