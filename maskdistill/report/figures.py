"""Plots as inline SVG whose colours follow the page (light or dark); equal data give equal bytes."""

import io
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, cast

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import ArrayLike, NDArray

INK, MUTED, LINE, ACCENT = "#010203", "#040506", "#070809", "#0a0b0c"
STAGE_COLORS = {"masks": "#0d0e0f", "detector": "#101112", "segmenter": "#131415", "segmenter_crf": "#161718"}
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    ACCENT: "var(--accent)",
    **{color: f"var(--{stage})" for stage, color in STAGE_COLORS.items()},
}
_SERIES = (ACCENT, *STAGE_COLORS.values(), MUTED, INK)
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "maskdistill",
    "text.parse_math": False,
    "font.size": 9,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.labelcolor": MUTED,
    "lines.linewidth": 1.6,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}  # fmt: skip
WIDTH, HEIGHT = 4.5, 2.7
POINTS = 300
NAMES = {
    "lr": "learning rate",
    "feature_std": "spread of the features",
    "teacher_entropy": "teacher's entropy",
    "coverage": "mean coverage of the masks",
    "whole_image": "share of whole-image masks",
}
STEPS = [1, 2, 2.5, 5, 10]


def style() -> AbstractContextManager[None]:
    """Settings of matplotlib for a figure of the page."""
    return mpl.rc_context(cast(Any, _STYLE))


def new_axes(height: float = HEIGHT, grid: str = "y") -> tuple[Figure, Axes]:
    """A figure with one pair of axes, ``height`` in inches."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(False)
    axes.grid(True, axis="x" if grid == "x" else "y")
    return figure, axes


def to_svg(figure: Figure, name: str) -> str:
    """The figure as an ``<svg>`` without fixed size or addresses, its ids prefixed by ``name``."""
    buffer = io.StringIO()
    figure.savefig(
        buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    head, body = text.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', head)
    prefix = re.sub(r"[^A-Za-z0-9]+", "-", name)
    body = re.sub(r'\bid="', f'id="{prefix}-', body)
    body = body.replace("url(#", f"url(#{prefix}-").replace('xlink:href="#', f'href="#{prefix}-')
    for color, variable in _VARIABLES.items():
        body = body.replace(color, variable)
    return f'<svg aria-hidden="true" {box[0] if box else ""}>{body.strip()}'


def histogram(
    name: str,
    series: Mapping[str, ArrayLike],
    xlabel: str,
    limits: tuple[float, float] | None = None,
    marker: tuple[float, str] | None = None,
    log: bool = False,
    ylabel: str = "images",
) -> str:
    """Histogram of one or two sets of values, the second as an outline.

    Args:
        name: unique on the page, prefix of the SVG's ids.
        series: label -> values.
        xlabel: with unit.
        limits: of the x axis; from the data if None.
        marker: position and label of a vertical line.
        log: logarithmic counts.
        ylabel: what is counted.
    """
    arrays = {label: np.asarray(values, dtype=np.float64) for label, values in series.items()}
    every = np.concatenate([*arrays.values(), np.zeros(0)])
    low, high = (
        limits
        if limits is not None
        else (float(every.min()), float(every.max()))
        if every.size
        else (0.0, 1.0)
    )
    if low == high:
        low, high = low - 0.5 * max(1.0, abs(low) * 0.1), high + 0.5 * max(1.0, abs(high) * 0.1)
    edges = np.linspace(low, high, 31)
    with style():
        figure, axes = new_axes()
        for place, (label, values) in enumerate(arrays.items()):
            if place == 0:
                axes.hist(values, bins=list(edges), color=ACCENT, rwidth=0.9, label=label)
            else:
                axes.hist(values, bins=list(edges), histtype="step", color=INK, linewidth=1.4, label=label)
        if log and every.size:
            axes.set_yscale("log")
            axes.set_ylim(
                0.7, 2 * max(1, *(int(np.histogram(values, edges)[0].max()) for values in arrays.values()), 5)
            )
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
            axes.yaxis.set_minor_locator(NullLocator())
        else:
            axes.yaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 5, 10]))
        if marker is not None:
            axes.axvline(marker[0], color=INK, linewidth=1.3, linestyle=(0, (4, 2)))
            side = "right" if marker[0] > (low + high) / 2 else "left"
            axes.annotate(
                marker[1], (marker[0], 1.0), xycoords=("data", "axes fraction"), color=INK, ha=side, va="top",
                xytext=(-5 if side == "right" else 5, -2), textcoords="offset points",
            )  # fmt: skip
        axes.set(xlabel=xlabel, ylabel=ylabel, xlim=(low, high))
        if len(arrays) > 1:
            axes.legend()
        return to_svg(figure, name)


def thin(values: NDArray[np.float64], points: int = POINTS) -> NDArray[np.float64]:
    """Means of consecutive groups, so that at most ``points`` values remain."""
    group = -(-len(values) // points) if len(values) else 1
    if group == 1:
        return values
    starts = np.arange(0, len(values), group)
    return np.asarray(np.add.reduceat(values, starts) / np.diff(np.append(starts, len(values))))


def curves(name: str, frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Every numeric column of a metrics table against its step, as one small plot each.

    Columns named ``loss_*`` share a plot, so that parts of one loss can be compared, and so do ``x`` and
    ``x_centered``; ``lr`` comes last. The x axis is the column
    ``step``, ``iteration`` or ``epoch``, else the row number.

    Returns:
        Pairs of title and SVG.
    """
    axis = next((column for column in ("step", "iteration", "epoch") if column in frame), None)
    xs = frame[axis].to_numpy(dtype=np.float64) if axis else np.arange(1, len(frame) + 1, dtype=np.float64)
    columns = [str(column) for column in frame.columns if column not in ("step", "iteration", "epoch", "lr")]
    columns += [column for column in ("lr",) if column in frame]
    parts = [column for column in columns if column.startswith("loss_")]
    groups = [
        [column, *(other for other in columns if other == f"{column}_centered")]
        for column in columns
        if (column not in parts or len(parts) == 1)
        and column.removesuffix("_centered") not in set(columns) - {column}
    ]
    if len(parts) > 1:
        groups.insert(1 if groups and groups[0] == ["loss"] else 0, parts)
    plots = []
    for place, group in enumerate(groups):
        title = "parts of the loss" if group is parts else NAMES.get(group[0], group[0].replace("_", " "))
        with style():
            figure, axes = new_axes()
            for column, color in zip(group, cycle(len(group)), strict=True):
                ys = frame[column].to_numpy(dtype=np.float64)
                known = np.isfinite(ys)
                label = column.removeprefix("loss_").replace("_", " ")
                marker = "o" if known.sum() < 12 else ""
                axes.plot(
                    thin(xs[known]), thin(ys[known]), color=color, label=label, marker=marker, markersize=3
                )
            axes.set(xlabel=axis or "row")
            axes.yaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
            axes.xaxis.set_major_locator(MaxNLocator(5, steps=STEPS, integer=True))
            axes.margins(x=0.02)
            legend_above(figure, len(group))
            plots.append((title, to_svg(figure, f"{name}-{place}")))
    return plots


def cycle(count: int) -> list[str]:
    """Colours of so many curves."""
    return [_SERIES[place % len(_SERIES)] for place in range(count)]


def lines(
    name: str,
    xs: Sequence[float],
    series: Mapping[str, Sequence[float]],
    xlabel: str,
    marker: tuple[float, str],
    log: bool = True,
) -> str:
    """One or more curves over a few numbers, by default on a logarithmic axis with each number a tick.

    Args:
        name: prefix of the SVG's ids.
        xs: ascending.
        series: label -> value at each of ``xs``.
        xlabel: of the x axis.
        marker: position and label of a vertical line.
        log: logarithmic x axis; otherwise it is linear and starts at 0, as does the y axis.
    """
    with style():
        figure, axes = new_axes()
        for (label, ys), color in zip(series.items(), cycle(len(series)), strict=True):
            axes.plot(xs, ys, color=color, label=label, marker="o", markersize=3.5)
        if log:
            axes.set_xscale("log")
            axes.set_xticks(xs, labels=[str(x) for x in xs])
            axes.xaxis.set_minor_locator(NullLocator())
        else:
            axes.set_xlim(0, max(xs))
            axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
        axes.axvline(marker[0], color=INK, linewidth=1.3, linestyle=(0, (4, 2)))
        side = "left" if log or marker[0] < max(xs) / 2 else "right"
        axes.annotate(
            marker[1], (marker[0], 1.0), xycoords=("data", "axes fraction"), color=INK, ha=side, va="top",
            xytext=(5 if side == "left" else -5, -2), textcoords="offset points",
        )  # fmt: skip
        axes.set(xlabel=xlabel)
        legend_above(figure, len(series))
        return to_svg(figure, name)


def legend_above(figure: Figure, curves: int) -> None:
    """Say above the plot which curve is which, where none runs through it; nothing for a single one."""
    if curves > 1:
        figure.legend(loc="outside upper center", ncols=3)


def cluster_bars(name: str, sizes: Sequence[int], colors: Sequence[tuple[int, int, int]]) -> str:
    """Number of masks in each cluster, in the cluster's colour."""
    with style():
        figure, axes = new_axes()
        places = np.arange(len(sizes))
        axes.bar(places, sizes, width=0.78, color=["#{:02x}{:02x}{:02x}".format(*color) for color in colors])
        axes.set(xlabel="cluster", ylabel="masks", xlim=(-0.6, len(sizes) - 0.4))
        axes.xaxis.set_major_locator(MaxNLocator(min(12, max(1, len(sizes))), integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 5, 10]))
        if len(sizes) > 0:
            axes.axhline(float(np.mean(sizes)), color=MUTED, linewidth=1, linestyle=(0, (4, 2)))
        return to_svg(figure, name)


def class_bars(name: str, classes: Sequence[str], series: Mapping[str, Sequence[float]]) -> str:
    """Per-class scores of several stages side by side, as horizontal bars.

    Args:
        name: prefix of the SVG's ids.
        classes: names, from top to bottom.
        series: stage -> percent a class, NaN where there is none.
    """
    with style():
        figure, axes = new_axes(height=0.75 + 0.36 * len(classes), grid="x")
        thickness = 0.8 / max(1, len(series))
        places = np.arange(len(classes), dtype=np.float64)
        for turn, (stage, values) in enumerate(series.items()):
            shift = (turn - (len(series) - 1) / 2) * thickness
            color = STAGE_COLORS.get(stage, MUTED)
            axes.barh(
                places + shift, np.nan_to_num(values), height=thickness * 0.88, color=color, label=stage
            )
        labels = [label if len(label) <= 18 else label[:17] + "…" for label in classes]
        axes.set_yticks(places, labels=labels)
        axes.tick_params(axis="y", labelcolor=INK, length=0)
        axes.set(xlim=(0, 100), ylim=(len(classes) - 0.5, -0.5), xlabel="IoU, %")
        return to_svg(figure, name)


def variant_bars(name: str, variants: Mapping[str, tuple[str, Sequence[float]]], xlabel: str) -> str:
    """Mean over seeds of each variant as a horizontal bar, each seed as a dot on it.

    Args:
        name: prefix of the SVG's ids.
        variants: label -> stage, for the colour, and a value a seed; from top to bottom.
        xlabel: with unit.
    """
    with style():
        figure, axes = new_axes(height=0.75 + 0.3 * len(variants), grid="x")
        for place, (stage, values) in enumerate(variants.values()):
            axes.barh(place, float(np.mean(values)), height=0.62, color=STAGE_COLORS.get(stage, MUTED))
            axes.plot(values, [place] * len(values), "o", color=INK, markersize=2.6)
        axes.set_yticks(range(len(variants)), labels=list(variants))
        axes.tick_params(axis="y", labelcolor=INK, length=0)
        axes.set(ylim=(len(variants) - 0.5, -0.5), xlabel=xlabel)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
        return to_svg(figure, name)
