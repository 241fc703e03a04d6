"""A paired bootstrap against one that resamples lists of images and scores each list by COCO's evaluator."""

from dataclasses import replace

import numpy as np
import pytest
from test_evaluation_ap_bootstrap import random_images, repeated

from maskdistill.evaluation.ap_bootstrap import DRAWN, resampled_ap
from maskdistill.evaluation.average_precision import STATS, average_precision
from maskdistill.evaluation.bootstrap import image_weights
from maskdistill.evaluation.instances import ImageInstances
from maskdistill.evaluation.paired import difference

RESAMPLES = 25


def worse(images: list[ImageInstances], seed: int) -> list[ImageInstances]:
    """The same images and objects, found less well."""
    rng = np.random.default_rng(seed)
    return [replace(image, overlaps=image.overlaps * rng.uniform(0.7, 1, image.overlaps.shape))
            for image in images]  # fmt: skip


@pytest.mark.parametrize("name", DRAWN)
def test_pairs_are_of_the_same_resampled_images(name: str) -> None:
    place = STATS.index(name)

    def score(images: list[ImageInstances]) -> float:
        return float(average_precision(images, class_agnostic=True).stats[place])

    first = random_images(5, count=16)
    second = worse(first, 1)
    slow = []
    for weights in image_weights(16, RESAMPLES, 3):
        drawn = [repeated(images, weights.tolist()) for images in (first, second)]
        slow.append(score(drawn[0]) - score(drawn[1]))
    fast = [resampled_ap(images, True, RESAMPLES, 3)[name] for images in (first, second)]
    found = difference([score(first)], [score(second)], [(fast[0], fast[1])])
    assert found is not None
    assert found.value == pytest.approx(score(first) - score(second))
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(slow, [2.5, 97.5])), abs=1e-9)
    assert found.above == np.mean([0.5 if abs(gap) < 1e-12 else gap > 0 for gap in slow])
    assert found.resamples == RESAMPLES and found.clear == (found.low > 0 or found.high < 0)


def test_what_all_methods_share_falls_out() -> None:
    """Two methods that differ by one point on every image, whose scores vary by tens."""
    common = np.random.default_rng(0).normal(50, 20, 400)
    found = difference([51.0], [50.0], [(common + 1, common)])
    assert found is not None and (found.low, found.high) == pytest.approx((1, 1)) and found.clear
    assert found.above == 1


def test_seeds_are_taken_together_and_what_is_not_defined_left_out() -> None:
    nan = np.nan
    drawn = [(np.array([2.0, nan]), np.array([1.0, 1.0])), (np.array([3.0, 5.0]), np.array([4.0, 5.0]))]
    found = difference([10.0, 20.0], [9.0, 18.0], drawn)
    assert found is not None and found.value == 1.5 and found.resamples == 3 and not found.clear
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile([1, -1, 0], [2.5, 97.5])))
    assert found.above == 0.5
    assert difference([1.0], [1.0], [(np.array([nan]), np.array([1.0]))]) is None
    with pytest.raises(ValueError, match="2 and 1 resamples are no pairs"):
        difference([1.0], [1.0], [(np.zeros(2), np.zeros(1))])
