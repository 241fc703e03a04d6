"""The words that pages of scores explain: those of the trade, and the metrics'."""

import re

from maskdistill.evaluation.metrics.registry import metrics
from maskdistill.report.glossary import WORDS


def words() -> dict[str, str]:
    """All patterns with their meanings, those of the metrics' titles among them."""
    return {
        **WORDS,
        **{re.escape(metric.title): metric.meaning for metric in metrics().values() if metric.meaning},
    }
