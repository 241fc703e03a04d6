"""Records of the evaluation, as stored in files; scores in percent, None if there was nothing to score."""

from typing import Literal, NotRequired, TypedDict

from maskdistill.formats.rle import RLE
from maskdistill.masks.types import MaskRecord


class TrueAnnotation(TypedDict):
    """An object of the ground truth, in COCO's form.

    Attributes:
        id: number in the file.
        image_id: of its image.
        category_id: class, 1..C.
        bbox: x, y, width and height in pixels.
        area: in pixels.
        iscrowd: 1 for a region of many objects.
        segmentation: absent if the image has only boxes.
    """

    id: int
    image_id: int
    category_id: int
    bbox: list[float]
    area: float
    iscrowd: Literal[0, 1]
    segmentation: NotRequired[RLE]


class PerfectMask(MaskRecord):
    """A mask of the oracle, possibly with its true class."""

    category_id: NotRequired[int]


class WorstImage(TypedDict):
    """An image that shows a class, and the IoU of the class in it, in percent."""

    image_id: int
    iou: float


class MergedObjects(TypedDict):
    """A candidate that holds several objects.

    Attributes:
        image_id: of its image.
        score: of the candidate.
        candidate: its index among the image's by descending score.
        objects: indices of the objects among the image's.
    """

    image_id: int
    score: float
    candidate: int
    objects: list[int]


class MissedObject(TypedDict):
    """An object that no candidate finds, or only one with a low score.

    Attributes:
        image_id: of its image.
        object: its index among the image's.
        score: of the candidate that finds it; None without one.
        area: in pixels.
    """

    image_id: int
    object: int
    score: float | None
    area: float


class ThresholdRow(TypedDict):
    """Pseudo-labels at a threshold against the ground truth; None without masks, or without semantic maps.

    Attributes:
        tau: the threshold.
        painted: candidates that are painted.
        found: how many of these find an object.
        merged: how many of these hold half of several objects.
        objects: how many there are.
        precision: found candidates in percent of the painted ones.
        coverage: found objects in percent of all.
        pixel_precision: pixels on objects in percent of the painted ones.
        pixel_coverage: the same pixels in percent of the objects'.
        miou: mean IoU, with clusters matched with classes at this threshold.
    """

    tau: float
    painted: int | None
    found: int | None
    merged: int | None
    objects: int | None
    precision: float | None
    coverage: float | None
    pixel_precision: float | None
    pixel_coverage: float | None
    miou: float | None


class ScoreBin(TypedDict):
    """Candidates scored ``low`` to ``high``: count, mean IoU, and percentage with at least 0.5."""

    low: float
    high: float
    count: int
    mean_iou: float
    good: float


class ScoreQuality(TypedDict):
    """Scores of candidates against their IoU with the object that they overlap best.

    Attributes:
        bins: steps of the score that hold a candidate.
        points: score and IoU of at most 600 candidates.
        rank_correlation: Spearman's, over all candidates; None if undefined.
    """

    bins: list[ScoreBin]
    points: list[list[float]]
    rank_correlation: float | None


class Curves(TypedDict):
    """Precision at recalls 0, 0.01, ... 1: for all classes by IoU, and for each class at an IoU of 0.5."""

    agnostic: dict[str, list[float]]
    classes: dict[str, list[float]]


class CandidateQuality(TypedDict):
    """``evaluation/candidates.json``: the candidates at each threshold against the ground truth.

    Attributes:
        images: number of images.
        by_tau: ascending thresholds.
        quality, curves: of all candidates.
        merged, missed: the first few.
    """

    images: int
    by_tau: list[ThresholdRow]
    quality: ScoreQuality
    curves: Curves
    merged: list[MergedObjects]
    missed: list[MissedObject]


class ProtocolScore(TypedDict):
    """Instance AP by one protocol; scores are named as in COCO's summary.

    Attributes:
        ap, ap50, ap75, ap_small, ap_medium, ap_large, ar_1, ar_10, ar_100, ar_small, ar_medium, ar_large: in
        percent. images: those that count. objects: theirs, without crowd regions. classes: class name -> AP,
        AP50 and AP75 by name; empty where classes do not count. intervals: 95 %, by score.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ar_1: float | None
    ar_10: float | None
    ar_100: float | None
    ar_small: float | None
    ar_medium: float | None
    ar_large: float | None
    images: int
    objects: int
    classes: dict[str, dict[str, float | None]]
    intervals: dict[str, list[float]]


class InstanceScores(TypedDict):
    """Instance scores by several protocols.

    Attributes:
        instance_matching: cluster 1..K -> class id; None without one.
        images_without_detections: how many there are.
        protocols: by name.
    """

    instance_matching: dict[str, int | None]
    images_without_detections: int
    protocols: dict[str, ProtocolScore]
