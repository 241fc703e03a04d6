"""How pure the clusters of masks are, by the objects that the masks' boxes overlap best [P §4.2]."""

from collections.abc import Mapping

from maskdistill.evaluation.clustering import cluster_scores, pseudo_target
from maskdistill.evaluation.metrics.registry import Family, Metric, Scores, Setting, View

METRICS = (
    Metric(
        "purity", "purity", 80, ("table", "oracle"),
        meaning="Share of the masks whose object is of the class that is commonest in their cluster.",
    ),
    Metric("nmi", "NMI", 90, ()),
    Metric("ari", "ARI", 100, ()),
)  # fmt: skip
Pairs = tuple[list[int], list[int]]


def of_image(view: View) -> Pairs | None:
    """Clusters of all masks, and the classes of their objects; None without objects."""
    if not view.image.evaluated or not view.image.annotations:
        return None
    boxes, classes = view.image.boxes(crowd=True), view.image.classes()
    clusters = [mask["category_id"] for mask in view.detections]
    return clusters, [pseudo_target(mask["bbox"], boxes, classes) for mask in view.detections]


def scores(found: Mapping[int, Pairs], setting: Setting) -> Scores:
    """In percent (ARI may be negative), None without masks; so is the detail ``cluster_accuracy``."""
    clusters, classes = ([value for pairs in found.values() for value in pairs[side]] for side in (0, 1))
    if not clusters:
        return Scores(dict.fromkeys(metric.name for metric in METRICS), details={"cluster_accuracy": None})
    scored = cluster_scores(clusters, classes)
    values = {"purity": 100 * scored.purity, "nmi": 100 * scored.nmi, "ari": 100 * scored.ari}
    return Scores(values, details={"cluster_accuracy": 100 * scored.accuracy})


FAMILY = Family(METRICS, "purity of the clusters of masks", of_image, scores, stages=("masks",))
