"""Plots of what only ground truth can tell, as inline SVG (see :mod:`maskdistill.report.figures`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import MaxNLocator

from maskdistill.evaluation.types import ScoreBin
from maskdistill.report.figures import ACCENT, INK, STEPS, cycle, legend_above, new_axes, style, to_svg

PERCENT_AXIS = (0.0, 104.0)


@dataclass(frozen=True)
class Ruled:
    """A plot on which a page lays a movable line: the axes reach from ``left`` to ``right``, in percent of
    the width, and from ``top`` to ``bottom``, in percent of the height.
    """

    svg: str
    left: float
    right: float
    top: float
    bottom: float


def threshold_lines(name: str, taus: Sequence[float], series: Mapping[str, Sequence[float | None]]) -> Ruled:
    """Shares in percent against the threshold, 0 to 1.

    Args:
        name: prefix of the SVG's ids.
        taus: ascending.
        series: label -> value at each threshold, None where there is none.
    """
    with style():
        figure, axes = new_axes()
        for (label, values), color in zip(series.items(), cycle(len(series)), strict=True):
            axes.plot(taus, np.array(values, dtype=np.float64), color=color, label=label)
        axes.set(xlim=(0, 1), ylim=PERCENT_AXIS, xlabel="τ; shares in %")
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
        legend_above(figure, len(series))
        svg = to_svg(figure, name)
        box = axes.get_position()
    return Ruled(svg, 100 * box.x0, 100 * box.x1, 100 * (1 - box.y1), 100 * (1 - box.y0))


def quality_plot(name: str, points: Sequence[Sequence[float]], bins: Sequence[ScoreBin]) -> str:
    """Score of candidates against their IoU with the best object: dots, and the mean of each step of scores.

    Args:
        name: prefix of the SVG's ids.
        points, bins: see :func:`maskdistill.evaluation.thresholds.score_quality`.
    """
    with style():
        figure, axes = new_axes()
        if points:
            scores, qualities = zip(*points, strict=True)
            axes.plot(scores, qualities, "o", color=ACCENT, markersize=2.2, alpha=0.45, markeredgewidth=0)
        middles = [(step["low"] + step["high"]) / 2 for step in bins]
        axes.plot(
            middles, [step["mean_iou"] for step in bins], color=INK, marker="o", markersize=3, label="mean"
        )
        axes.axhline(0.5, color=INK, linewidth=0.9, linestyle=(0, (4, 2)))
        axes.set(xlim=(0, 1.01), ylim=(0, 1.01), xlabel="score", ylabel="IoU with the best object")
        axes.legend(loc="lower right")
        return to_svg(figure, name)


def recall_curves(name: str, curves: Mapping[str, Sequence[float]]) -> str:
    """Precision against recall, both in percent.

    Args:
        name: prefix of the SVG's ids.
        curves: label -> precision as a fraction at recalls 0, 0.01, ... 1.
    """
    recall = np.arange(101)
    with style():
        figure, axes = new_axes()
        for (label, values), color in zip(curves.items(), cycle(len(curves)), strict=True):
            axes.plot(recall, 100 * np.asarray(values), color=color, label=label)
        axes.set(xlim=(0, 100), ylim=PERCENT_AXIS, xlabel="recall, %", ylabel="precision, %")
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
        axes.legend(loc="upper right")
        return to_svg(figure, name)
