"""Instance AP of masks or candidates, by all protocols of the configuration [P §4.2, §A.4, Table 3]."""

from collections.abc import Mapping

from maskdistill.evaluation.ap_bootstrap import resampled_ap
from maskdistill.evaluation.average_precision import STATS, average_precision, percent
from maskdistill.evaluation.instances import ImageInstances, image_instances
from maskdistill.evaluation.metrics.registry import Family, Metric, Scores, Setting, View
from maskdistill.evaluation.protocols import protocol_scores
from maskdistill.evaluation.stages import DETECTING

METRICS = (
    Metric(
        "ap50", "AP50", 40, ("table", "card", "oracle", "detection", "bench"),
        meaning="Average precision: how many objects are found, and how few false ones, where an IoU of a "
        "half counts as found.",
    ),
    Metric(
        "ap", "AP", 50, ("table", "detection", "bench"),
        meaning="The mean of the AP at ten demands, from an IoU of 0.50 to 0.95.",
    ),
    Metric(
        "ap75", "AP75", 60, ("oracle", "detection", "bench"),
        meaning="AP50 with a stricter demand: an IoU of three quarters.",
    ),
    *(
        Metric(
            f"ar_{most}", f"AR{most}", place, ("detection", "bench") if most == 100 else ("detection",),
            meaning=f"Average recall: the share of the objects that the {most} best detections of a picture "
            "find, mean over the ten demands of AP.",
        )
        for most, place in ((1, 62), (10, 64), (100, 66))
    ),
)  # fmt: skip
NAMES = tuple(metric.name for metric in METRICS)


def of_image(view: View) -> ImageInstances | None:
    """Detections compared with objects; None if the objects have no masks."""
    if not view.image.has_masks:
        return None
    return image_instances(view.image.id, view.detections, view.image.annotations)


def scores(found: Mapping[int, ImageInstances], setting: Setting) -> Scores:
    """Class-agnostic AP and AR of all detections; their details are
    :func:`maskdistill.evaluation.protocols.protocol_scores`.
    """
    images, config = list(found.values()), setting.config
    stats = dict(zip(STATS, average_precision(images, class_agnostic=True).stats.tolist(), strict=True))
    values = {name: percent(stats[name]) for name in NAMES}
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
    "AP, AP50 and AR are class-agnostic, on masks",
    of_image,
    scores,
    stages=DETECTING,
    counted="instances",
)
