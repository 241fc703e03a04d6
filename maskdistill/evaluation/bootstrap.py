"""Scores over resampled images, and their percentile intervals: how far a score would move with another
sample of pictures.

They say nothing about other seeds of the training. For the same seed and number of images all scores use the
same resamples, so two methods' scores form pairs (:mod:`maskdistill.evaluation.paired`).
"""

import numpy as np
import numpy.typing as npt

from maskdistill.evaluation.semantic import Confusions, matched_scores

LEVELS = (2.5, 97.5)


def image_weights(num_images: int, resamples: int, seed: int) -> npt.NDArray[np.int64]:
    """How often each image is drawn, with replacement, in each resample.

    Returns:
        int64 (resamples, num_images); every row sums to ``num_images``.
    """
    rng = np.random.default_rng(seed)
    return rng.multinomial(num_images, np.full(num_images, 1 / num_images), size=resamples)


def interval(drawn: npt.NDArray[np.float64]) -> tuple[float, float]:
    """95 % interval of a score from its values in the resamples, NaN where undefined; at least one is
    finite.
    """
    low, high = np.nanpercentile(drawn, LEVELS)
    return float(low), float(high)


def resampled_miou(
    confusions: Confusions, matching: npt.NDArray[np.int64], resamples: int, seed: int
) -> npt.NDArray[np.float64]:
    """Mean IoU in each resample, float64 (resamples,), as fractions of 1, under the matching found on all
    images.

    The matching stays fixed: a resample holds fewer different images, so a new matching would fit it better
    than the whole set can be fitted, and the interval of a small set would lie above its own score. Likewise,
    classes that a resample happens to lack are left out of its mean rather than scored 0.

    Args:
        confusions: the images' confusion matrices, at least one image.
        matching: int64 (P,) class of each label, -1 where it has none.
        resamples: number of resamples, at least 1.
        seed: of the resampling.
    """
    iou, drawn = _resampled_iou(confusions, matching, resamples, seed)
    present = confusions.total.sum(axis=0) > 0
    values: npt.NDArray[np.float64] = iou.sum(axis=1) / np.maximum(drawn.sum(axis=1), 1) * present.mean()
    return values


def class_iou_intervals(
    confusions: Confusions, matching: npt.NDArray[np.int64], resamples: int, seed: int
) -> npt.NDArray[np.float64]:
    """95 % interval of each class's IoU, as fractions of 1; same arguments as :func:`resampled_miou`.

    Returns:
        float64 (G, 2). A class is judged by the resamples that hold it; NaN where it is absent from all
        images.
    """
    iou, drawn = _resampled_iou(confusions, matching, resamples, seed)
    result = np.full((iou.shape[1], 2), np.nan)
    for place in np.flatnonzero(drawn.any(axis=0)):
        result[place] = np.percentile(iou[drawn[:, place], place], LEVELS)
    return result


def _resampled_iou(
    confusions: Confusions, matching: npt.NDArray[np.int64], resamples: int, seed: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """IoU of each class in each resample, float64 (resamples, G), and whether the resample holds it."""
    rows = confusions.per_image()
    iou = np.zeros((resamples, confusions.shape[1]))
    drawn = np.zeros(iou.shape, dtype=bool)
    for place, weights in enumerate(image_weights(len(confusions), resamples, seed)):
        confusion = (weights @ rows).reshape(confusions.shape)
        drawn[place] = confusion.sum(axis=0) > 0
        iou[place] = matched_scores(confusion, matching).class_iou
    return iou, drawn
