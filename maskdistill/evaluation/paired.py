"""Two methods on the same images: how far their difference would move with another sample of pictures.

A paired bootstrap (Efron and Tibshirani 1993, §8.3): both methods are scored on the same resampled images, so
what makes all methods better or worse on a sample cancels in the difference.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from maskdistill.evaluation.bootstrap import interval

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """Difference between a first and a second method, in the metric's unit.

    Attributes:
        value: over all images, mean over seeds.
        low, high: 95 % interval of the difference over resampled images, pooled over seeds.
        above: share of the resamples in which the first is above the second; ties count half.
        resamples: their number, over all seeds.
    """

    value: float
    low: float
    high: float
    above: float
    resamples: int

    @property
    def clear(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


def difference(
    first: Sequence[float], second: Sequence[float], drawn: Sequence[tuple[Floats, Floats]]
) -> Difference | None:
    """Compare two methods by one metric.

    Args:
        first: the first method's score for each seed.
        second: the second method's, in the same order.
        drawn: for each seed, both methods' scores in the same resamples, float64 (resamples,) each; NaN where
            undefined.

    Returns:
        None if no resample has both scores.

    Raises:
        ValueError: the two methods differ in their number of resamples for a seed.
    """
    gaps = []
    for one, other in drawn:
        if one.shape != other.shape:
            raise ValueError(f"{one.size} and {other.size} resamples are no pairs")
        gaps.append(one - other)
    every = np.concatenate([np.zeros(0), *gaps])
    every = every[np.isfinite(every)]
    if not every.size:
        return None
    values = [one - other for one, other in zip(first, second, strict=True)]
    above = float(((every > 0) + 0.5 * (every == 0)).mean())
    return Difference(float(np.mean(values)), *interval(every), above, every.size)
