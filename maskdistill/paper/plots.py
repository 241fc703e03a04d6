"""The paper's figures as plots: scores over a swept value, means with spreads. Equal data give equal
bytes.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from maskdistill.config import Config
from maskdistill.paper.cited import Cited
from maskdistill.paper.rows import Entry

INK, MUTED, LINE = "#1d1c1a", "#6a665f", "#e3dfd8"
SERIES = ("#3a6ea5", "#d9962b", "#2a9187", "#5b52c4")
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "maskdistill",
    "text.parse_math": False,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}


@dataclass(frozen=True)
class Axis:
    """The swept setting: its name with unit, and the run's own value."""

    label: str
    own: float


def swept_axis(target: str, config: Config) -> Axis:
    """What a figure sweeps.

    Raises:
        KeyError: no such figure.
    """
    return {
        "figure3": Axis("number of clusters C", config.clusters.total),
        "figure4": Axis("top-k, share of patches", config.masks.topk),
        "figure5": Axis("threshold τ", config.pseudo_labels.tau),
    }[target]


def sweep_plot(entries: Sequence[Entry], axis: Axis, cited: Sequence[Cited]) -> Figure:
    """One panel per column: mean over seeds with standard deviation, bootstrap interval over images as a
    band.

    Args:
        entries: with ``x``; entries without a score are left out.
        axis: of the swept value.
        cited: values of the swept setting that the paper names, drawn as vertical lines.
    """
    columns = list(dict.fromkeys(entry.column for entry in entries if entry.x is not None))
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(0.6 + 3.3 * len(columns), 3.0), layout="constrained", dpi=150)
        panels = figure.subplots(1, max(1, len(columns)), squeeze=False)[0]
        for panel, column, color in zip(panels, columns, SERIES, strict=False):
            shown = [
                entry for entry in entries if entry.column == column and entry.scores and entry.x is not None
            ]
            shown.sort(key=lambda entry: entry.x or 0.0)
            xs, means = [entry.x for entry in shown], [entry.ours for entry in shown]
            spreads = [entry.std or 0.0 for entry in shown]
            bounded = [entry for entry in shown if entry.interval]
            panel.fill_between(
                [entry.x for entry in bounded],
                [entry.interval[0] for entry in bounded if entry.interval],
                [entry.interval[1] for entry in bounded if entry.interval],
                color=color,
                alpha=0.15,
                linewidth=0,
            )
            panel.errorbar(xs, means, yerr=spreads, color=color, marker="o", markersize=4, capsize=2.5)
            panel.axvline(
                axis.own, color=INK, linewidth=1, linestyle=(0, (4, 2)), label=f"this run: {axis.own:g}"
            )
            for value in cited:
                panel.axvline(
                    value.value,
                    color=MUTED,
                    linewidth=1.4,
                    linestyle=":",
                    label=f"paper, {value.row}: {value.value:g}",
                )
            panel.set(xlabel=axis.label, ylabel=f"{column}, %")
            panel.set_xticks(
                [entry.x for entry in shown], labels=[f"{entry.x:g}" for entry in shown], rotation=45
            )
            panel.set_ylim(bottom=0, top=None if any(entry.ours for entry in shown) else 1)
            panel.yaxis.set_major_locator(MaxNLocator(5))
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=3, fontsize=8, labelcolor=MUTED)
        return figure


def encode(figure: Figure, kind: str) -> bytes:
    """The figure's bytes as ``svg`` or ``png``, without dates or addresses."""
    buffer = io.BytesIO()
    metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        figure.savefig(buffer, format=kind, metadata=metadata)
    return buffer.getvalue()
