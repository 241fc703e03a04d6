"""Where a score equals the threshold, everything that compares them says the same."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskdistill.config import Compare, PseudoLabelsConfig
from maskdistill.formats import rle
from maskdistill.product.objects import Choice, picked
from maskdistill.pseudo_labels.confidence import levels_passed, passes, relation
from maskdistill.pseudo_labels.painting import paint, painting_steps
from maskdistill.pseudo_labels.summary import TAUS, count_image
from maskdistill.report.collect import is_confident
from maskdistill.report.failures import score_note
from maskdistill.report.tau_explorer import _by_levels

PACKAGE = Path(__file__).parents[1] / "maskdistill"
SHAPE = (4, 8)


def candidate(score: float, column: int) -> dict[str, Any]:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[:, 2 * column : 2 * column + 2] = True
    return {"image_id": 1, "category_id": 1, "score": score, "segmentation": rle.encode(mask)}


@pytest.mark.parametrize("compare", ["gt", "ge"])
@pytest.mark.parametrize("tau", [0.0, 0.29, 0.57, 0.9, 1.0])
def test_equal_scores_pass_everywhere_or_nowhere(tau: float, compare: Compare) -> None:
    """0.29 and 0.57 are numbers that sums of hundredths miss."""
    below, above = np.nextafter(tau, -1), np.nextafter(tau, 2)
    scores = [float(score) for score in (above, tau, below) if score >= 0]
    expected = [score > tau or (compare == "ge" and score == tau) for score in scores]
    found = [candidate(score, column) for column, score in enumerate(scores)]
    settings = PseudoLabelsConfig(tau=tau, compare=compare)

    assert [passes(score, tau, compare) for score in scores] == expected
    label = paint(found, SHAPE, tau, compare)
    assert len(label.kept) == sum(expected) and not label.fallback
    kept = [item.score for item in picked(found, {1: "a"}, Choice(tau, compare))]
    assert kept == [score for score, passed in zip(scores, expected, strict=True) if passed]
    assert [is_confident(score, settings) for score in scores] == expected
    notes = {"gt": {True: "above", False: "not above"}, "ge": {True: "at least", False: "below"}}
    for score, passed in zip(scores, expected, strict=True):
        assert score_note(score, tau, compare).endswith(f", {notes[compare][passed]} τ")
        assert relation(passed, compare) == notes[compare][passed]
    place = TAUS.index(tau)
    counts = count_image(painting_steps(found, SHAPE, "drop"), 32, compare)
    assert counts.objects[place] == sum(expected) and counts.kept[place] == 1
    drawn = _by_levels({"scores": scores, "found": 3}, TAUS, compare)
    assert drawn == {"found": 3, "levels": levels_passed(scores, compare, TAUS).tolist()}
    assert [level > place for level in drawn["levels"]] == expected, "what the page's script compares"


def test_no_other_place_compares_scores_with_a_threshold() -> None:
    pattern = re.compile(r"(score\w*(\[[^]]*\]|\"\])?|tau|min_score) *[<>]=? *(score|tau|min_score|\w*\.tau)")
    found = [
        f"{path.relative_to(PACKAGE)}: {line.strip()}"
        for path in sorted(PACKAGE.rglob("*"))
        if path.suffix in (".py", ".js") and path.name != "confidence.py"
        for line in path.read_text().splitlines()
        if pattern.search(line) and not line.strip().startswith(("#", '"')) and "keeps score" not in line
    ]
    assert found == [] or all("description=" in line for line in found), found


def test_predict_takes_the_runs_comparison() -> None:
    """By default what the run calls confident; a least score that is given is one that is kept."""
    text = (PACKAGE / "cli/predict.py").read_text()
    assert "models.config.pseudo_labels.compare" in text
    found = [candidate(0.5, 0), candidate(0.4, 1)]
    assert [item.score for item in picked(found, {1: "a"}, Choice(0.5, "ge"))] == [0.5]
    assert picked(found, {1: "a"}, Choice(0.5, "gt")) == ()
