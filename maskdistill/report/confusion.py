"""Confusion of clusters with classes, as a table whose cells are shaded."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np

MOST_COLUMNS = 40


class HeatCell(TypedDict):
    """Share of a class's pixels in [0, 1], as text, and whether the label stands for the class."""

    share: float
    text: str
    hit: bool


class HeatRow(TypedDict):
    """A label, the class that it stands for (empty without one), and a cell a class."""

    name: str
    matched: str
    cells: list[HeatCell]


class HeatMap(TypedDict):
    """Names of classes, and a row a label."""

    columns: list[str]
    rows: list[HeatRow]


def heat_map(
    confusion: Sequence[Sequence[int]],
    matching: Mapping[int, int],
    labels: Sequence[str],
    classes: Sequence[str],
) -> HeatMap:
    """Where each class's pixels went; rows are predicted labels in the order of their classes.

    Args:
        confusion: pixels by label 0..K and class 0..C.
        matching: class of each label, negative without one.
        labels: names of the labels, background first.
        classes: names of the classes, background first.

    Returns:
        ``columns`` and ``rows [{name, matched, cells [{share, text, hit}]}]``; shares are of a column's
        pixels. Of more than 40 classes those with the most pixels are columns; a label without a pixel of
        them is no row, unless it stands for one.
    """
    counts = np.array(confusion, dtype=np.float64)
    pixels = counts.sum(axis=0)
    shown = np.sort(np.argsort(-pixels, kind="stable")[:MOST_COLUMNS])
    shown = shown[pixels[shown] > 0]
    shares = counts[:, shown] / np.maximum(pixels[shown], 1)
    place = {int(column): order for order, column in enumerate(shown)}
    order = sorted(
        range(len(labels)), key=lambda label: (place.get(matching.get(label, -1), len(place)), label)
    )
    rows: list[HeatRow] = []
    for label in order:
        matched = matching.get(label, -1)
        if shares[label].any() or matched in place:
            cells: list[HeatCell] = [
                {"share": round(float(share), 3), "text": f"{100 * share:.0f}" if share >= 0.005 else "",
                 "hit": int(column) == matched}
                for column, share in zip(shown, shares[label], strict=True)
            ]  # fmt: skip
            rows.append(
                {"name": labels[label], "matched": classes[matched] if matched >= 0 else "", "cells": cells}
            )
    return {"columns": [classes[column] for column in shown], "rows": rows}
