"""The pseudo-labels' part of the report."""

from collections.abc import Iterable, Sequence

from maskdistill.pseudo_labels.summary import LabelSummary
from maskdistill.report.collect import Run


def sum_pseudo_labels(summaries: Sequence[LabelSummary]) -> LabelSummary:
    """Sums of images, kept, fallback and empty over shards, and means of shares of pixels over images."""
    images = sum(record["images"] for record in summaries)

    def mean(shares: Iterable[float]) -> float:
        parts = zip(shares, summaries, strict=True)
        return sum(share * record["images"] for share, record in parts) / max(1, images)

    return {
        "images": images,
        "kept": sum(record["kept"] for record in summaries),
        "fallback": sum(record["fallback"] for record in summaries),
        "empty": sum(record["empty"] for record in summaries),
        "mean_coverage": mean(record["mean_coverage"] for record in summaries),
        "mean_unsure": mean(record["mean_unsure"] for record in summaries),
    }


def label_facts(run: Run) -> list[tuple[str, str]]:
    """Numbers of the run's pseudo-labels, each with what it counts."""
    found = run.pseudo_labels
    facts = [
        (f"{found['kept']:,}", "candidates kept as pseudo-labels"),
        (f"{found['fallback']:,}", "images left with their best candidate"),
        (f"{found['empty']:,}", "empty pseudo-labels"),
        (f"{100 * found['mean_coverage']:.0f} %", "mean coverage of the pseudo-labels"),
    ]
    if run.config.pseudo_labels.unsure is not None:
        facts.append((f"{100 * found['mean_unsure']:.0f} %", "of the pixels left out as unsure"))
    return facts
