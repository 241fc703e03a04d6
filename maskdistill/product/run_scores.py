"""What a finished run scored, from its summary."""

from collections.abc import Mapping
from typing import Any


def score_rows_of(summary: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """What a summary scores, in the order of the stages: name and scores in percent."""
    rows = [*summary["baselines"].items()]
    stages = dict(summary["stages"])
    rows += [(name, stages.pop(name)) for name in ("masks", "detector") if name in stages]
    for scores in (*summary["rounds"], *({"stage": name} | scores for name, scores in stages.items())):
        number = scores.get("crf_round")
        rows.append((scores["stage"] + (f", round {number}" if number else ""), scores))
    return rows
