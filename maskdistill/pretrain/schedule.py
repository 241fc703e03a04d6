"""Schedules of self-supervised training, which depend only on the step."""

import math


def warmup_cosine(step: int, total: int, peak: float, warmup: float, final: float = 0.0) -> float:
    """Linear rise over ``warmup * total`` steps to ``peak``, then a half cosine to ``final``."""
    rise = max(1, round(warmup * total))
    if step < rise:
        return peak * (step + 1) / rise
    return cosine(step - rise, max(1, total - rise), peak, final)


def cosine(step: int, total: int, start: float, end: float) -> float:
    """Half cosine from ``start`` at step 0 to ``end`` at ``total``."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(step / total, 1.0)))
