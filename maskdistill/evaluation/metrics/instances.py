"""Instance AP of masks or candidates, by every protocol of the configuration [P §4.2, §A.4, Table 3]."""

from collections.abc import Mapping

from maskdistill.evaluation.ap_bootstrap import resampled_ap
from maskdistill.evaluation.average_precision import STATS, average_precision, percent
from maskdistill.evaluation.instances import ImageInstances, image_instances
from maskdistill.evaluation.metrics.registry import Family, Metric, Scores, Setting, View
from maskdistill.evaluation.protocols import protocol_scores
from maskdistill.evaluation.stages import DETECTING

METRICS = (
    Metric(
        "ap50", "AP50", 40, ("table", "card", "oracle", "bench"),
        meaning="Average precision: how many objects are found, and how few false ones, where an IoU of a "
        "half counts as found.",
    ),
    Metric(
        "ap", "AP", 50, ("table", "bench"),
        meaning="The mean of the AP at ten demands, from an IoU of 0.50 to 0.95.",
    ),
    Metric("ap75", "AP75", 60, ("oracle", "bench"),
        meaning="AP50 with a stricter demand: an IoU of three quarters.",
    ),
    Metric(
        "ar_100", "AR100", 65, ("bench",),
        meaning="Average recall: share of the objects that the best 100 finds of an image include, the mean "
        "at ten demands, from an IoU of 0.50 to 0.95.",
    ),
)  # fmt: skip


def of_image(view: View) -> ImageInstances | None:
    """Detections and objects compared; None where the objects have no masks."""
    if not view.image.has_masks:
        return None
    return image_instances(view.image.id, view.detections, view.image.annotations)


def scores(found: Mapping[int, ImageInstances], setting: Setting) -> Scores:
    """Class-agnostic AP and AR of all detections; their details are
    :func:`maskdistill.evaluation.protocols.protocol_scores`.
    """
    images, config = list(found.values()), setting.config
    stats = dict(zip(STATS, average_precision(images, class_agnostic=True).stats.tolist(), strict=True))
    values = {metric.name: percent(stats[metric.name]) for metric in METRICS}
    drawn = resampled_ap(images, True, config.bootstrap, setting.seed) if config.bootstrap else {}
    details = protocol_scores(
        images,
        setting.num_clusters,
        setting.truth.class_names,
        config.protocols,
        config.bootstrap,
        setting.seed,
        drawn,
    )
    return Scores(values, {}, {**details}, {name: 100 * part for name, part in drawn.items()})


FAMILY = Family(
    METRICS,
    "AP and AP50 are class-agnostic, on masks",
    of_image,
    scores,
    stages=DETECTING,
    counted="instances",
)
