"""Which steps of the method made a run's scores worse, in words."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from maskdistill.report.scores import STAGES, ScoreRow
from maskdistill.report.tables import HEADLINE, row_name

COMPARED = ("miou", "corloc")
OTSU = "otsu"


def worse_steps(rows: Sequence[ScoreRow], baselines: Mapping[str, Mapping[str, float]]) -> list[str]:
    """One sentence for each stage that scores below the one before it, and for each below Otsu's threshold.

    Scores are compared as the tables show them, in percent with one decimal, so no difference is called that a reader
    does not see. The linear probe, which is trained on labels, is left out.

    Args:
        rows: of the run's own settings, in the order of the stages.
        baselines: scores by baseline.
    """
    chain = [row for row in rows if row.stage in STAGES and not row.stage.startswith("probe")]
    said = []
    for metric in COMPARED:
        scored = [(row_name(row), round(row.mean[metric], 1)) for row in chain if metric in row.mean]
        name = HEADLINE[metric]
        said += [
            f"{_scores(stage)} worse than the {before} before it: {name} {value:.1f} after {earlier:.1f}."
            for (before, earlier), (stage, value) in pairwise(scored)
            if value < earlier
        ]
        otsu = baselines.get(OTSU, {}).get(metric)
        if otsu is not None:
            said += [
                f"{_scores(stage)} worse than Otsu's threshold, which splits a picture by its grey values:"
                f" {name} {value:.1f}, Otsu {otsu:.1f}."
                for stage, value in scored
                if value < round(otsu, 1)
            ]
    return said


def _scores(stage: str) -> str:
    return f"The {stage} {'score' if stage == 'masks' else 'scores'}"
