"""The section on clusters: their sizes, and help to choose their number."""

from collections.abc import Sequence

import pandas as pd

from maskdistill.report import figures
from maskdistill.report.collect import Run, unnamed
from maskdistill.report.html import Context
from maskdistill.report.montage import Color

READING = (
    "No label is used. Look for the K where inertia stops falling fast (the elbow) and where the "
    "silhouettes, which say how far apart the clusters are, stay high; if neither helps, the features do not "
    "decide K and you have to."
)


def choice_section(table: pd.DataFrame, num_clusters: int) -> Context:
    """Plots of inertia and silhouettes against K, and a sentence on how to read them; empty without a table.

    Args:
        table: what ``maskdistill choose_k`` wrote.
        num_clusters: K of the run, marked in the plots.
    """
    if len(table) < 2:
        return {"plots": [], "note": ""}
    ks, masks = table["num_clusters"].tolist(), int(table["masks"].max())
    marker = (num_clusters, f"K = {num_clusters}")
    inertia = {"inertia": (table["inertia"] / table["masks"]).tolist()}
    scores = {
        "by pairs of masks": table["silhouette"].tolist(),
        "by centroids": table["simplified_silhouette"].tolist(),
    }
    best = ks[int(table["silhouette"].to_numpy().argmax())]
    elbow = figures.lines("choose-inertia", ks, inertia, "clusters", marker)
    curves = figures.lines("choose-silhouette", ks, scores, "clusters", marker)
    plots = [
        ("Inertia", elbow, "Mean squared distance of a mask to its centroid."),
        ("Silhouette", curves, f"Highest by pairs at K = {best}."),
    ]
    return {"plots": plots, "note": f"{READING} On {masks:,} masks."}


def cluster_section(run: Run, strips: list[Context], colors: Sequence[Color]) -> Context:
    """What the template shows of the clusters: ``strips`` and ``colors`` are one a cluster."""
    sizes = run.clusters["sizes"]
    return {
        "matched": bool(run.matching("masks")),
        "facts": [(len(sizes), "clusters"), (min(sizes), "smallest"), (max(sizes), "largest")],
        "sizes": figures.cluster_bars("clusters", sizes, colors),
        "strips": strips,
        "choice": choice_section(run.choices, run.config.clusters.total),
    }


def names_data(run: Run) -> Context:
    """What the page's script needs to write a file of names (see :mod:`maskdistill.annotations.names`)."""
    sizes = run.clusters["sizes"]
    titles = [unnamed(cluster) for cluster in range(len(sizes))]
    return {"run": run.name, "file": f"names-{run.name}.yaml", "sizes": sizes, "titles": titles}
