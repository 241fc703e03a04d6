"""A target as a page: a table with the paper's values and ours side by side, the protocols, and a figure's
plots.
"""

from collections.abc import Sequence
from typing import Any

from maskdistill.config import Config
from maskdistill.paper.plan import SETTINGS
from maskdistill.paper.rows import Entry, describe_data
from maskdistill.report.tables import NONE, weights_text

TITLES = {
    "table1": "Table 1: what each step adds",
    "table2": "Table 2: semantic segmentation",
    "table3": "Table 3: instance segmentation",
    "tableS1": "Table S1: what is painted of a candidate, and CRF",
    "tableS2": "Table S2: IoU of each class",
    "figure3": "Figure 3: number of clusters",
    "figure4": "Figure 4: share of patches taken as candidates (top-k)",
    "figure5": "Figure 5: threshold τ of confident candidates",
    "qualitative": "Qualitative results",
}
NOTES = {
    "table2": "The rows of other methods are quoted; those of a frozen backbone are computed where config "
    "section paper.backbones names its weights.",
    "table3": "The published AP75 of MaskDistill masks in (a) and (b) look implausible beside their AP; they "
    "are quoted as printed. “Strict” is not in the paper: images without detections count as misses.",
    "tableS1": "The paper does not say how many CRF rounds are behind 48.9.",
    "figure3": "The paper plots this without printing values; it says that AP rises with C.",
    "figure4": "The paper plots this without printing values; it chose top-k = 0.4.",
    "figure5": "The paper plots this without printing values; it says that the curve has its plateau around "
    "75 %, read here as τ = 0.75.",
}
NAMES = {"masks": "masks", "k": "K", "tau": "τ", "hard": "hard pixels", "round": "CRF round"}
TRANSPOSED = ("tableS2",)
"""Targets with so many columns that these are stacked."""


def number(value: float | None, signed: bool = False) -> str:
    """One decimal; a dash for None. Signed numbers have a sign, a real minus for a negative one."""
    if value is None:
        return NONE
    text = f"{value:+.1f}" if signed else f"{value:.1f}"
    return text.replace("-", "\N{MINUS SIGN}")


def cell(entry: Entry | None) -> dict[str, str]:
    """The texts of an entry: paper, ours, spread (± over seeds, interval over images), difference."""
    if entry is None:
        return {"paper": "", "ours": "", "interval": "", "difference": ""}
    spread = f" ± {entry.std:.1f}" if entry.std is not None else ""
    interval = "[{}, {}]".format(*map(number, entry.interval)) if entry.interval else ""
    return {
        "paper": number(entry.paper),
        "ours": number(entry.ours) + spread,
        "interval": interval,
        "difference": number(entry.difference, signed=True),
    }


def pivot(target: str, found: Sequence[Entry]) -> dict[str, Any]:
    """The table: ``columns`` and ``groups`` of rows, each row with one cell per column."""
    turned = target in TRANSPOSED
    by_key = {(entry.group, *_line(entry, turned)): entry for entry in found}
    columns = list(dict.fromkeys(column for _, _, column in by_key))
    groups = []
    for name in dict.fromkeys(group for group, _, _ in by_key):
        rows = dict.fromkeys(row for group, row, _ in by_key if group == name)
        groups.append(
            {
                "name": name,
                "rows": [
                    {
                        "name": row,
                        "cells": [cell(by_key.get((name, row, column))) for column in columns],
                        "ours": any(
                            entry.scores for (g, r, _), entry in by_key.items() if (g, r) == (name, row)
                        ),
                    }
                    for row in rows
                ],
            }
        )
    return {"columns": columns, "groups": groups}


def _line(entry: Entry, turned: bool) -> tuple[str, str]:
    """Names of an entry's row and column."""
    return (entry.column, entry.row) if turned else (entry.row, entry.column)


def protocols(found: Sequence[Entry]) -> list[dict[str, Any]]:
    """What was scored and how, once per row and protocol: stage, swept values, images, seeds."""
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for entry in found:
        if entry.source is None:
            continue
        name = " · ".join(text for text in (entry.group, entry.row) if text)
        key = (name, entry.protocol, entry.source.stage)
        if key in rows:
            rows[key]["columns"].append(entry.column)
            continue
        values = entry.source.settings
        rows[key] = {
            "name": name,
            "columns": [entry.column],
            "protocol": entry.protocol,
            "stage": entry.source.stage,
            "settings": [values.get(setting, NONE) for setting in SETTINGS],
            "images": NONE if entry.images is None else entry.images,
            "seeds": ", ".join(map(str, entry.seeds)) or NONE,
        }
    return [row | {"columns": _names(row["columns"])} for row in rows.values()]


def _names(columns: Sequence[str]) -> str:
    """Names in one line; of many, only the first and the last."""
    return ", ".join(columns) if len(columns) <= 6 else f"{columns[0]} … {columns[-1]} ({len(columns)})"


def context(
    target: str, name: str, config: Config, found: Sequence[Entry], plots: Sequence[Any]
) -> dict[str, Any]:
    """Everything that the page shows.

    Args:
        plots: pictures of a figure, as :class:`maskdistill.report.html.Picture`; none for a table. Values of
            the swept setting that the paper names are drawn in the plots, so the table omits them.
    """
    shown = [entry for entry in found if entry.x is not None] if plots else found
    seeds = sorted({seed for entry in found for seed in entry.seeds})
    sections = [("table", "Table"), ("protocols", "Protocols")]
    return {
        "run": TITLES[target],
        "subtitle": f"Run {name}: {describe_data(config)}, {config.clusters.num_clusters} categories, "
        f"weights {weights_text(config)}, seed{'s' if len(seeds) != 1 else ''} "
        f"{', '.join(map(str, seeds)) or NONE}.",
        "sections": ([("plots", "Plot")] if plots else []) + sections,
        "table": pivot(target, shown),
        "note": NOTES.get(target, ""),
        "several": len(seeds) > 1,
        "settings": [NAMES[setting] for setting in SETTINGS],
        "protocols": protocols(found),
        "plots": plots,
        "columns": 5,
    }
