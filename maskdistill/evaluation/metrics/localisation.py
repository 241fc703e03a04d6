"""CorLoc: in how many of the images with objects a single box finds one."""

from collections.abc import Sequence

from maskdistill.evaluation.localisation import corloc_hits
from maskdistill.evaluation.metrics.registry import Family, Floats, Metric, View, summed
from maskdistill.evaluation.stages import ALL

CORLOC = Metric(
    "corloc", "CorLoc", 70, ("table", "card", "steps", "bench"),
    meaning="Correct localisation: share of the images whose one box overlaps an object by half or more.",
)  # fmt: skip


def of_image(view: View) -> tuple[int, int] | None:
    """Whether the box hits, and 1; None if there is no object. Crowd regions do not count as objects."""
    boxes = view.image.boxes()
    if not view.image.evaluated or not len(boxes):
        return None
    return int(corloc_hits([view.box], [boxes])[0]), 1


def share(sums: Floats) -> Sequence[float]:
    """Hits of the images."""
    hits, images = sums.tolist()
    return [hits / images]


FAMILY = Family(
    (CORLOC,),
    "CorLoc on boxes",
    of_image,
    summed((CORLOC,), share),
    stages=tuple(stage.name for stage in ALL if stage.located_by),
    counted="localisation",
)
