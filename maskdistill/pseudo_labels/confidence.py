"""Whether a score passes a threshold: one comparison for pseudo-labels, counts, predictions, report."""

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from maskdistill.config import Compare

WORDS: dict[Compare, tuple[str, str]] = {"gt": ("above", "not above"), "ge": ("at least", "below")}


@overload
def passes(score: float, tau: float, compare: Compare) -> bool: ...
@overload
def passes(score: npt.NDArray[Any], tau: npt.NDArray[Any], compare: Compare) -> npt.NDArray[np.bool_]: ...
def passes(score: Any, tau: Any, compare: Compare) -> Any:
    """Whether ``score > tau``, or with ``compare`` ``"ge"`` ``score >= tau``; arrays broadcast."""
    return score > tau if compare == "gt" else score >= tau


def levels_passed(scores: Sequence[float], compare: Compare, taus: Sequence[float]) -> npt.NDArray[np.int64]:
    """How many of the ascending thresholds each score passes, int64 (n,); it passes the first so many.

    Args:
        scores: of candidates.
        compare: see :data:`Compare`.
        taus: thresholds.
    """
    passed = passes(
        np.asarray(scores, dtype=np.float64)[:, None], np.asarray(taus, dtype=np.float64), compare
    )
    return np.asarray(passed.sum(axis=1), dtype=np.int64)


def relation(passed: bool, compare: Compare) -> str:
    """A score's relation to τ: ``above`` or ``not above``, ``at least`` or ``below``."""
    yes, no = WORDS[compare]
    return yes if passed else no
