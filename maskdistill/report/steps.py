"""Which steps of the method made a run's scores worse, in words."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from maskdistill.evaluation.metrics.registry import metrics
from maskdistill.evaluation.stages import STAGES
from maskdistill.report.scores import ScoreRow
from maskdistill.report.tables import row_name

OTSU = "otsu"


def worse_steps(rows: Sequence[ScoreRow], baselines: Mapping[str, Mapping[str, float]]) -> list[str]:
    """One sentence for each stage that scores below the one before it, and for each below Otsu's threshold.

    Scores are compared as the tables show them, with as many decimals, so no difference is called that a
    reader does not see. The linear probe, which is trained on labels, is left out.

    Args:
        rows: of the run's own settings, in the order of the stages.
        baselines: scores by baseline.
    """
    chain = [row for row in rows if row.stage in STAGES and not STAGES[row.stage].learns_labels]
    said = []
    for name, metric in metrics("steps").items():
        scored = [(row_name(row), row.mean[name]) for row in chain if name in row.mean]
        title, text = metric.title, metric.text
        said += [
            f"{_scores(stage)} worse than the {before} before it: {title} {text(value)} after "
            f"{text(earlier)}."
            for (before, earlier), (stage, value) in pairwise(scored)
            if metric.worse(value, earlier)
        ]
        otsu = baselines.get(OTSU, {}).get(name)
        if otsu is not None:
            said += [
                f"{_scores(stage)} worse than Otsu's threshold, which splits a picture by its grey values:"
                f" {title} {text(value)}, Otsu {text(otsu)}."
                for stage, value in scored
                if metric.worse(value, otsu)
            ]
    return said


def _scores(stage: str) -> str:
    return f"The {stage} {'score' if stage == 'masks' else 'scores'}"
