"""The page of all objects: what its template and its script are given."""

from collections import Counter
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from maskdistill.annotations.names import named_categories
from maskdistill.config import Compare
from maskdistill.pseudo_labels.confidence import relation
from maskdistill.report.html import Context, css
from maskdistill.report.montage import category_colors
from maskdistill.report.thumbnails import STEPS, ThumbnailsRecord
from maskdistill.runtime.files import canonical_json


def context(
    run: str, record: ThumbnailsRecord, folder: str, clusters: Sequence[int], names: Mapping[int, str]
) -> Context:
    """Everything the template shows.

    Args:
        run: its name.
        record: of the thumbnails.
        folder: address of their sheets' folder relative to the page, with a slash at its end.
        clusters: masks of each cluster, by which names that were typed in the report are known again.
        names: cluster 0..K-1 -> name; clusters may lack one.
    """
    counts = Counter(record["objects"]["category"])
    colors = category_colors(len(clusters))
    categories = [
        {
            "id": entry["id"],
            "cluster": cluster,
            "name": entry["name"],
            "usual": unnamed["name"],
            "color": css(colors[cluster]),
            "count": counts[entry["id"]],
        }
        for cluster, (entry, unnamed) in enumerate(
            zip(named_categories(len(clusters), names), named_categories(len(clusters), {}), strict=True)
        )
    ]
    data = {
        "objects": record["objects"],
        "pictures": record["pictures"],
        "side": record["side"],
        "across": record["across"],
        "per_sheet": record["per_sheet"],
        "steps": STEPS,
        "sheets": folder,
        "categories": categories,
        "run": run,
        "sizes": list(clusters),
        "given": [names.get(cluster, "") for cluster in range(len(clusters))],
    }
    return {
        "run": run,
        "subtitle": subtitle(record),
        "cut": cut(record),
        "sections": [],
        "columns": 1,
        "categories": categories,
        "total": len(record["objects"]["score"]),
        "data": inline(canonical_json(data)),
    }


def subtitle(record: ThumbnailsRecord) -> str:
    """How many objects there are, and what makes a candidate one."""
    compare: Compare = "ge" if record["compare"] == "ge" else "gt"
    empty = f"; {record['empty']:,} have none" if record["empty"] else ""
    return (
        f"{record['found']:,} objects in {record['looked_at']:,} photographs{empty}. An object is a "
        f"candidate of the detector whose score is {relation(True, compare)} τ = {record['tau']:g}."
    )


def cut(record: ThumbnailsRecord) -> str:
    """What is shown of objects that are too many; empty where all are."""
    shown = len(record["objects"]["score"])
    if shown == record["found"]:
        return ""
    return (
        f"Too many for one page: it shows the {shown - record['sampled']:,} most confident ones and, at even "
        f"steps through the others, {record['sampled']:,} more. report.objects sets how many."
    )


def inline(text: str) -> Markup:
    """JSON as it may stand in a script element, which a ``<`` could end."""
    return Markup(text.replace("<", "\\u003c"))
