"""What a finished run scored, from its summary."""

from collections.abc import Mapping
from typing import Any

BEFORE_SEGMENTER = ("masks", "detector")


def score_rows_of(summary: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """What a summary scores, in the order of the stages: name and scores in percent."""
    stages = [{"stage": name} | scores for name, scores in summary["stages"].items()]
    chain = [*summary["rounds"], *stages]
    order = [scores for scores in chain if scores["stage"] in BEFORE_SEGMENTER]
    order.sort(key=lambda scores: BEFORE_SEGMENTER.index(scores["stage"]))
    order += [scores for scores in chain if scores["stage"] not in BEFORE_SEGMENTER]
    return [*summary["baselines"].items(), *((_name(scores), scores) for scores in order)]


def _name(scores: Mapping[str, Any]) -> str:
    """A stage's name with its round: of self-training for the detector, of the CRF behind it."""
    number = scores.get("detector_round" if scores["stage"] == "detector" else "crf_round")
    return str(scores["stage"]) + (f", round {number}" if number else "")
