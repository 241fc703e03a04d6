"""Weighted AP and AR equal COCO's of a set that holds each image as often as its weight."""

from dataclasses import replace

import numpy as np
import pytest

from maskdistill.evaluation.ap_bootstrap import DRAWN, match_classes, match_image, resampled_ap, weighted_ap
from maskdistill.evaluation.average_precision import STATS, average_precision
from maskdistill.evaluation.bootstrap import interval
from maskdistill.evaluation.instances import ImageInstances


def random_images(seed: int, count: int = 12, classes: int = 3) -> list[ImageInstances]:
    """Overlaps and scores from coarse grids, so that ties occur (of scores between images), and crowd
    regions.
    """
    rng = np.random.default_rng(seed)
    images = []
    for number in range(1, count + 1):
        found, true = int(rng.integers(0, 7)), int(rng.integers(0, 5))
        boxes, true_boxes = np.ones((found, 4)), np.ones((true, 4))
        images.append(
            ImageInstances(
                image_id=number,
                scores=rng.choice(np.arange(1, 9), found, replace=False) / 8,
                labels=rng.integers(1, classes + 1, found),
                areas=np.full(found, 50.0**2),
                boxes=boxes,
                true_labels=rng.integers(1, classes + 1, true),
                true_areas=np.full(true, 50.0**2),
                true_boxes=true_boxes,
                crowd=rng.random(true) < 0.2,
                overlaps=rng.integers(0, 21, (found, true)) / 20,
            )
        )
    return images


def repeated(images: list[ImageInstances], weights: list[int]) -> list[ImageInstances]:
    """Each image as often as its weight, numbered anew, copies beside one another."""
    every = [image for image, weight in zip(images, weights, strict=True) for _ in range(weight)]
    return [replace(image, image_id=number) for number, image in enumerate(every, start=1)]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("class_agnostic", [False, True])
def test_weights_are_repetitions(seed: int, class_agnostic: bool) -> None:
    images = random_images(seed)
    classes = match_classes(images, class_agnostic)
    for weights in ([1] * 12, np.random.default_rng(seed + 100).integers(0, 4, 12).tolist()):
        stats = average_precision(repeated(images, weights), class_agnostic).stats
        expected = [stats[STATS.index(name)] for name in DRAWN]
        np.testing.assert_allclose(weighted_ap(classes, np.array(weights)), expected, rtol=0, atol=1e-9)


def test_a_crowd_region_takes_what_finds_no_object() -> None:
    overlaps = np.array([[0.9, 0.6], [0.8, 0.7], [0.0, 0.9]])
    hits, ignored = match_image(overlaps, np.array([False, True]))
    assert hits[0].tolist() == [True, False, False] and ignored[0].tolist() == [False, True, True]
    assert hits[-1].tolist() == [False, False, False] and ignored[-1].tolist() == [False, False, False]


def test_intervals_hold_the_score_and_shrink_to_it_when_all_images_are_alike() -> None:
    images = random_images(3, count=60)
    low, high = interval(resampled_ap(images, True, 200, 0)["ap50"])
    assert low < average_precision(images, True).stats[1] < high
    alike = repeated([image for image in images if image.scores.size and image.true_labels.size][:1], [20])
    bounds = interval(resampled_ap(alike, True, 20, 0)["ap"])
    assert bounds == pytest.approx([average_precision(alike, True).stats[0]] * 2)


def test_without_objects_there_is_no_interval() -> None:
    images = [image.take(np.arange(image.scores.size), []) for image in random_images(1)]
    assert resampled_ap(images, False, 10, 0) == {}
