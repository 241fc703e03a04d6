"""The grid of pictures: one row per image, one column per stage, with numbers that say how much is right."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from maskdistill.evaluation.semantic import IGNORE
from maskdistill.paper.plots import STYLE
from maskdistill.report.montage import Rgb

Labels = npt.NDArray[np.uint8]


def grid_figure(titles: Sequence[str], rows: Mapping[str, Sequence[Rgb]]) -> Figure:
    """Pictures in columns under their titles.

    Args:
        titles: of the columns.
        rows: image key -> one picture, uint8 (H, W, 3), per column.
    """
    heights = [max(tile.shape[0] / tile.shape[1] for tile in tiles) for tiles in rows.values()]
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        size = (2.0 * len(titles), 0.3 + 2.0 * sum(heights))
        figure = Figure(figsize=size, layout="constrained", dpi=120)
        panels = figure.subplots(
            len(rows), len(titles), squeeze=False, gridspec_kw={"height_ratios": heights}
        )
        for line, (key, tiles) in zip(panels, rows.items(), strict=True):
            for panel, tile in zip(line, tiles, strict=True):
                panel.imshow(tile, interpolation="antialiased")
                panel.set(xticks=[], yticks=[])
                panel.spines[:].set_visible(False)
            line[0].set_ylabel(key, fontsize=6)
        for panel, title in zip(panels[0], titles, strict=True):
            panel.set_title(title, fontsize=9)
        return figure


def agreement(
    labels: Labels, target: Labels, matching: Mapping[int, int], class_names: Sequence[str]
) -> dict[str, Any]:
    """How one image's label map agrees with its ground truth.

    Args:
        labels: uint8 (H, W) label of each pixel, 0 background.
        target: uint8 (H, W) class of each pixel, 255 where nothing is scored.
        matching: label -> class, -1 or absent for none.
        class_names: of classes 0..C.

    Returns:
        ``pixel_accuracy``, in percent of the scored pixels, None if there is none; ``coverage``, the
        percentage of all pixels with a label other than 0; ``classes``, the names of the classes that labels
        are matched with.
    """
    class_of = np.full(256, -1)
    for label, matched in matching.items():
        class_of[label] = matched
    predicted, scored = class_of[labels], target != IGNORE
    shown = [class_names[value] for value in np.unique(predicted[labels > 0]) if value > 0]
    return {
        "pixel_accuracy": 100 * float((predicted == target)[scored].mean()) if scored.any() else None,
        "coverage": 100 * float((labels > 0).mean()),
        "classes": ", ".join(shown),
    }
