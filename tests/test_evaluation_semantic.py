"""Confusion matrices, mIoU and its interval against loops over pixels and sets of pixels."""

import itertools

import numpy as np
import pytest

from maskdistill.config import EvaluationConfig
from maskdistill.evaluation.bootstrap import image_weights, interval, resampled_miou
from maskdistill.evaluation.ground_truth import GroundTruth
from maskdistill.evaluation.metrics import localisation
from maskdistill.evaluation.metrics.registry import Setting
from maskdistill.evaluation.semantic import Confusions, confusion_matrix, iou_matrix, semantic_scores
from maskdistill.evaluation.stages import STAGES


def random_maps(rng: np.random.Generator, labels: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    shape = tuple(rng.integers(1, 9, size=2))
    target = rng.integers(0, classes, size=shape).astype(np.uint8)
    target[rng.random(shape) < 0.2] = 255
    return rng.integers(0, labels, size=shape).astype(np.uint8), target


def slow_confusion(predicted: np.ndarray, target: np.ndarray, labels: int, classes: int) -> np.ndarray:
    table = np.zeros((labels, classes), dtype=int)
    for label, wanted in zip(predicted.ravel().tolist(), target.ravel().tolist(), strict=True):
        if wanted != 255:
            table[label, wanted] += 1
    return table


def slow_miou(
    maps: list[tuple[np.ndarray, np.ndarray]], labels: int, classes: int
) -> tuple[float, list[float]]:
    """Mean IoU of the best one-to-one matching, on sets of pixels."""
    pixels = [
        (label, wanted)
        for predicted, target in maps
        for label, wanted in zip(predicted.ravel().tolist(), target.ravel().tolist(), strict=True)
        if wanted != 255
    ]

    def iou(label: int, wanted: int) -> float:
        found = {i for i, pair in enumerate(pixels) if pair[0] == label}
        true = {i for i, pair in enumerate(pixels) if pair[1] == wanted}
        return len(found & true) / len(found | true) if found | true else 0.0

    table = [[iou(label, wanted) for wanted in range(classes)] for label in range(labels)]
    best = max(
        itertools.permutations(range(classes), labels),
        key=lambda choice: sum(table[label][wanted] for label, wanted in enumerate(choice)),
    )
    scores = [0.0] * classes
    for label, wanted in enumerate(best):
        scores[wanted] = table[label][wanted]
    return sum(scores) / classes, scores


@pytest.mark.parametrize("labels, classes", [(3, 3), (2, 4), (5, 3)])
def test_confusions_add_up_image_by_image(labels: int, classes: int) -> None:
    rng = np.random.default_rng(0)
    confusions = Confusions(labels, classes)
    expected = []
    for _ in range(12):
        predicted, target = random_maps(rng, labels, classes)
        confusions.add(predicted, target)
        expected.append(slow_confusion(predicted, target, labels, classes))
    assert len(confusions) == 12
    assert np.array_equal(confusions.total, sum(expected))
    assert np.array_equal(confusions.per_image().toarray().reshape(12, labels, classes), expected)


@pytest.mark.parametrize("labels, classes", [(3, 3), (4, 4), (2, 4)])
def test_miou_is_that_of_the_best_matching(labels: int, classes: int) -> None:
    rng = np.random.default_rng(labels)
    for _ in range(10):
        maps = [random_maps(rng, labels, classes) for _ in range(3)]
        confusion = np.sum([confusion_matrix(*pair, labels, classes) for pair in maps], axis=0)
        scores = semantic_scores(confusion)
        miou, class_iou = slow_miou(maps, labels, classes)
        assert scores.miou == pytest.approx(miou)
        assert sorted(scores.class_iou) == pytest.approx(sorted(class_iou))


@pytest.mark.parametrize("mode", ["iou", "bg_fixed"])
def test_a_permuted_perfect_prediction_scores_one(mode: str) -> None:
    rng = np.random.default_rng(5)
    target = rng.integers(0, 6, size=(40, 40))
    order = np.array([0, 3, 1, 5, 2, 4])
    predicted = order[target]
    target = target.astype(np.uint8)
    target[:3] = 255
    predicted[:3] = 1
    scores = semantic_scores(confusion_matrix(predicted, target, 6, 6), mode)  # type: ignore[arg-type]
    assert scores.miou == pytest.approx(1)
    assert scores.pixel_accuracy == pytest.approx(1)
    assert np.array_equal(scores.matching, np.argsort(order))


def test_background_may_be_any_label_unless_it_is_fixed() -> None:
    target = np.repeat([[0, 0, 1, 2]], 4, axis=0)
    predicted = np.array([1, 2, 0])[target]
    confusion = confusion_matrix(predicted, target, 3, 3)
    assert semantic_scores(confusion).miou == pytest.approx(1)
    assert semantic_scores(confusion, "bg_fixed").miou < 0.5


def test_a_class_absent_everywhere_counts_as_zero() -> None:
    target = np.array([[0, 1, 1, 0]])
    scores = semantic_scores(confusion_matrix(target, target, 3, 4))
    assert scores.class_iou.tolist() == [1, 1, 0, 0]
    assert scores.miou == pytest.approx(0.5)
    assert scores.pixel_accuracy == 1


def test_fewer_clusters_than_classes_leave_classes_at_zero() -> None:
    target = np.array([[0, 0, 1, 1, 2, 2]])
    predicted = np.array([[0, 0, 1, 1, 1, 1]])
    scores = semantic_scores(confusion_matrix(predicted, target, 2, 3))
    assert sorted(scores.class_iou) == [0, 0.5, 1]
    assert scores.pixel_accuracy == pytest.approx(4 / 6)


def test_over_clustering_merges_before_scoring() -> None:
    target = np.array([[0, 0, 0, 0, 1, 1, 1, 1]])
    predicted = np.array([[0, 0, 0, 1, 1, 1, 2, 3]])
    scores = semantic_scores(confusion_matrix(predicted, target, 4, 2))
    assert scores.matching.tolist() == [0, 1, 1, 1]
    assert scores.class_iou.tolist() == [3 / 4, 4 / 5]
    assert scores.pixel_accuracy == 7 / 8


def test_iou_of_an_empty_pair_is_zero_not_nan() -> None:
    assert np.array_equal(iou_matrix(np.array([[4, 0], [0, 0]])), [[1, 0], [0, 0]])


@pytest.mark.parametrize(
    "predicted, target, message",
    [
        (np.zeros((2, 3), int), np.zeros((3, 2), int), "differ in size"),
        (np.full((2, 2), 3), np.zeros((2, 2), int), "prediction holds values outside"),
        (np.zeros((2, 2), int), np.full((2, 2), 3), "ground truth holds values outside"),
        (np.full((2, 2), -1), np.zeros((2, 2), int), "prediction holds values outside"),
    ],
)
def test_malformed_maps_are_refused(predicted: np.ndarray, target: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        confusion_matrix(predicted, target, 3, 3)


def test_each_resample_draws_as_many_images_as_there_are() -> None:
    weights = image_weights(7, 500, seed=3)
    assert (weights.sum(axis=1) == 7).all()
    assert weights.mean() == pytest.approx(1)
    assert weights.max() > 1
    assert np.array_equal(weights, image_weights(7, 500, seed=3))
    assert not np.array_equal(weights, image_weights(7, 500, seed=4))


def slow_iou(maps: list[tuple[np.ndarray, np.ndarray]], label: int) -> float:
    """IoU of a label with the class of the same number over several images."""
    both = sum(int(((predicted == label) & (target == label)).sum()) for predicted, target in maps)
    either = sum(int(((predicted == label) | (target == label)).sum()) for predicted, target in maps)
    return both / either


def test_the_interval_is_that_of_resampled_images() -> None:
    rng = np.random.default_rng(11)
    maps = []
    for _ in range(15):
        target = rng.integers(0, 3, size=(6, 6))
        wrong = rng.random((6, 6)) < rng.random()
        maps.append((np.where(wrong, rng.integers(0, 3, size=(6, 6)), target), target))
    confusions = Confusions(3, 3)
    for pair in maps:
        confusions.add(*pair)
    whole = semantic_scores(confusions.total)
    assert whole.matching.tolist() == [0, 1, 2]
    values = []
    for weights in image_weights(15, 40, seed=9):
        drawn = [maps[index] for index, times in enumerate(weights) for _ in range(times)]
        values.append(np.mean([slow_iou(drawn, label) for label in range(3)]))
    drawn = resampled_miou(confusions, whole.matching, 40, seed=9)
    np.testing.assert_allclose(drawn, values)
    low, high = interval(drawn)
    assert (low, high) == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])))
    assert low < whole.miou < high


def test_a_class_that_a_resample_lacks_does_not_pull_its_mean_down() -> None:
    confusions = Confusions(4, 5)
    for wanted in (1, 2, 3):
        target = np.array([[0, wanted]])
        confusions.add(target, target)
    full = semantic_scores(confusions.total)
    assert full.miou == pytest.approx(4 / 5)
    assert resampled_miou(confusions, full.matching, 50, seed=0) == pytest.approx(full.miou)


def test_the_matching_is_not_fitted_to_each_resample() -> None:
    confusions = Confusions(2, 2)
    for predicted, target in ([[0, 0]], [[0, 0]]), ([[1, 1]], [[1, 1]]), ([[1, 1]], [[0, 0]]):
        confusions.add(np.array(predicted), np.array(target))
    matching = semantic_scores(confusions.total).matching
    assert matching.tolist() == [0, 1]
    drawn = resampled_miou(confusions, matching, 200, seed=0)
    assert interval(drawn)[0] == 0  # the third image alone, three times


def test_the_interval_of_a_share_matches_the_binomial_spread() -> None:
    def interval(hits: list[bool], resamples: int) -> list[float]:
        config, truth = EvaluationConfig(bootstrap=resamples), GroundTruth((), ("background",))
        setting = Setting(STAGES["masks"], truth, 1, config, 0)
        return localisation.FAMILY.scores(dict(enumerate((hit, 1) for hit in hits)), setting).intervals[
            "corloc"
        ]

    half = 1.96 * np.sqrt(0.25 * 0.75 / 400)
    found = np.array(interval([number < 100 for number in range(400)], 4000)) / 100
    assert found == pytest.approx((0.25 - half, 0.25 + half), abs=0.006)
    assert interval([True] * 5, 10) == [100, 100]
