"""Mean IoU and pixel accuracy of label maps, after matching labels with classes [P §4.1, §A.3]."""

from collections.abc import Mapping

import numpy as np

from maskdistill.evaluation.bootstrap import class_iou_intervals, interval, resampled_miou
from maskdistill.evaluation.failures import worst_images
from maskdistill.evaluation.matching import UNMATCHED
from maskdistill.evaluation.metrics.registry import Family, Metric, Scores, Setting, View
from maskdistill.evaluation.semantic import Confusions, confusion_matrix, nonzero_cells, semantic_scores
from maskdistill.evaluation.stages import EVERY

Cells = tuple[list[int], list[int]]
WORST = 4
"""Images listed for each class."""
MIOU = Metric(
    "miou", "mIoU", 10, ("table", "card", "steps", "oracle", "bench"),
    meaning="Mean intersection over union: of each class, the pixels that are both found and true, divided "
    "by those that are either, and the mean over the classes. 100 is perfect.",
)  # fmt: skip
ACCURACY = Metric(
    "pixel_accuracy", "pixel acc.", 30, ("table", "card"),
    meaning="Pixel accuracy: share of all pixels that have the right class. Large backgrounds make it high.",
)  # fmt: skip


def of_image(view: View) -> Cells | None:
    """Confusion matrix (:func:`maskdistill.evaluation.semantic.nonzero_cells`), or None."""
    if not view.image.has_semantic:
        return None
    return nonzero_cells(confusion_matrix(view.labels, view.target, *view.setting.shape))


def scores(found: Mapping[int, Cells], setting: Setting) -> Scores:
    """Scores by a single matching for the whole set.

    Its details are ``iou {class name: value}, matching {label 0..K: class id 0..C or None}, class_intervals
    {class name: interval}`` and, of a stage with images, ``classes`` (names of 0..C), ``confusion`` (pixels
    by label and class) and ``worst_images {class id: [{image_id, iou}]}``.
    """
    if not found:
        nothing: dict[str, object] = {"iou": {}, "matching": {}, "class_intervals": {}}
        return Scores({MIOU.name: None, ACCURACY.name: None}, details=nothing)
    names, confusions = setting.truth.class_names, Confusions(*setting.shape)
    for cells in found.values():
        confusions.add_cells(*cells)
    scored = semantic_scores(confusions.total, setting.matching)
    details: dict[str, object] = {
        "iou": {name: 100 * float(value) for name, value in zip(names, scored.class_iou, strict=True)},
        "matching": {
            str(label): None if matched == UNMATCHED else int(matched)
            for label, matched in enumerate(scored.matching)
        },
        "class_intervals": {},
    }
    if not setting.stage.baseline:
        worst = worst_images(confusions, list(found), scored.matching, WORST)
        details["classes"], details["confusion"] = list(names), confusions.total.tolist()
        details["worst_images"] = {str(label): rows for label, rows in worst.items()}
    intervals, drawn = {}, {}
    if setting.config.bootstrap:
        sampled = (confusions, scored.matching, setting.config.bootstrap, setting.seed)
        drawn[MIOU.name] = 100 * resampled_miou(*sampled)
        intervals[MIOU.name] = list(interval(drawn[MIOU.name]))
        by_class = zip(names, (100 * class_iou_intervals(*sampled)).tolist(), strict=True)
        details["class_intervals"] = {name: bounds for name, bounds in by_class if np.isfinite(bounds).all()}
    values = {MIOU.name: 100 * scored.miou, ACCURACY.name: 100 * scored.pixel_accuracy}
    return Scores(values, intervals, details, drawn)


FAMILY = Family(
    (MIOU, ACCURACY),
    "mIoU and pixel accuracy after matching clusters with classes",
    of_image,
    scores,
    stages=EVERY,
    counted="semantic",
)
