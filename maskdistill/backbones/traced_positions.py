"""Resampling of a positional table by matrix products, which remain valid in a trace for pictures of any
size.

``torch.onnx`` would fix torch's own resampling to the size of the picture that was traced.
"""

import math
from typing import cast

import torch
from torch import Tensor

GIVEN = -0.75
"""Cubic coefficient of torch's bicubic resampling."""
ANTIALIASED = -0.5
"""The same with antialiasing, as Pillow has it."""


def traced_positions(table: Tensor, rows: Tensor, columns: Tensor, antialiased: bool) -> Tensor:
    """The result of :func:`maskdistill.backbones.vit.interpolate_positions`, for a grid that is known only
    later.

    Args:
        table: float (1, R0*R0, D), patches only.
        rows, columns: R and C, int64 ().
        antialiased: by output size with antialiasing; else by the factor (R + 0.1) / R0, or 1 if the grid is
            the table's own.

    Returns:
        float (1, R*C, D).
    """
    side = math.isqrt(int(table.shape[1]))
    own = (rows == side) & (columns == side)
    down, across = (
        _averages(length, side) if antialiased else _samples(length, side, own) for length in (rows, columns)
    )
    found = (down @ table.reshape(side, -1)).reshape(-1, side, table.shape[-1])
    return (across @ found).reshape(1, -1, table.shape[-1])


def _samples(length: Tensor, side: int, own: Tensor) -> Tensor:
    """Weights (length, side) of four neighbours each; beyond the table's edge, its last cell is repeated."""
    step = torch.where(own, 1.0, side / (length + 0.1))
    centres = (_count(length) + 0.5) * step - 0.5
    first = centres.floor()
    cells = torch.arange(side)
    weights = torch.zeros(1)
    for tap in range(-1, 3):
        place = (first + tap).clamp(0, side - 1)
        share = _cubic(centres - first - tap, GIVEN)
        weights = weights + share[:, None] * (place[:, None] == cells)
    return weights


def _averages(length: Tensor, side: int) -> Tensor:
    """Weights (length, side) of all cells under a kernel as wide as a cell of the coarser grid."""
    step = side / length
    width = step.clamp(min=1.0)
    centres = (_count(length) + 0.5)[:, None] * step
    cells = torch.arange(side)
    weights = _cubic((cells + 0.5 - centres) / width, ANTIALIASED)
    return weights / weights.sum(dim=1, keepdim=True)


def _count(length: Tensor) -> Tensor:
    """0, 1, ...: int64 (length,)."""
    return torch.arange(cast(int, length))  # accepts a tensor too, and keeps it in a trace


def _cubic(distance: Tensor, a: float) -> Tensor:
    """Keys' kernel (1981) with coefficient ``a``: 1 at 0, 0 at every other whole number and beyond 2."""
    x = distance.abs()
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return torch.where(x <= 1, near, torch.where(x < 2, far, 0.0))
