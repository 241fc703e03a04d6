"""Instance AP of masks or candidates, by every protocol of the configuration [P §4.2, §A.4, Table 3]."""

from collections.abc import Mapping

from maskdistill.evaluation.average_precision import STATS, average_precision, percent
from maskdistill.evaluation.instances import ImageInstances, image_instances
from maskdistill.evaluation.metrics.registry import Family, Metric, Scores, Setting, View
from maskdistill.evaluation.protocols import protocol_scores
from maskdistill.evaluation.stages import DETECTING

METRICS = (
    Metric(
        "ap50", "AP50", 40, ("table", "card", "oracle"),
        meaning="Average precision: how many objects are found, and how few false ones, where an IoU of a "
        "half counts as found.",
    ),
    Metric("ap", "AP", 50, meaning="The mean of the AP at ten demands, from an IoU of 0.50 to 0.95."),
    Metric("ap75", "AP75", 60, ("oracle",), meaning="AP50 with a stricter demand: an IoU of three quarters."),
)  # fmt: skip


def of_image(view: View) -> ImageInstances | None:
    """Detections and objects compared; None where the objects have no masks."""
    if not view.image.has_masks:
        return None
    return image_instances(view.image.id, view.detections, view.image.annotations)


def scores(found: Mapping[int, ImageInstances], setting: Setting) -> Scores:
    """Class-agnostic AP; details: :func:`maskdistill.evaluation.protocols.protocol_scores`."""
    images, config = list(found.values()), setting.config
    stats = average_precision(images, class_agnostic=True).stats
    values = {name: percent(value) for name, value in zip(STATS[:3], stats[:3].tolist(), strict=True)}
    sampled = (config.protocols, config.bootstrap, setting.seed)
    details = protocol_scores(images, setting.num_clusters, setting.truth.class_names, *sampled)
    return Scores(values, details={**details})


FAMILY = Family(
    METRICS,
    "AP and AP50 are class-agnostic, on masks",
    of_image,
    scores,
    stages=DETECTING,
    counted="instances",
)
