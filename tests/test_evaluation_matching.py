"""Matching against brute force over all assignments."""

import itertools

import numpy as np
import pytest

from maskdistill.evaluation.matching import match_clusters


def objective(iou: np.ndarray, matching: np.ndarray) -> float:
    return float(sum(iou[label, matched] for label, matched in enumerate(matching) if matched >= 0))


def best_one_to_one(iou: np.ndarray) -> float:
    """Largest summed IoU over all injective maps of labels to classes."""
    labels, classes = iou.shape
    choices = itertools.permutations(range(classes), labels)
    return max(float(sum(iou[label, matched] for label, matched in enumerate(choice))) for choice in choices)


@pytest.mark.parametrize("labels, classes", [(1, 1), (2, 2), (3, 3), (5, 5), (3, 5), (1, 4), (4, 6)])
@pytest.mark.parametrize("ties", [False, True])
def test_hungarian_reaches_the_brute_force_optimum(labels: int, classes: int, ties: bool) -> None:
    rng = np.random.default_rng(labels * 10 + classes)
    for _ in range(20):
        iou = rng.random((labels, classes))
        if ties:
            iou = np.round(iou * 2) / 2
        matching = match_clusters(iou)
        used = matching[matching >= 0]
        assert len(set(used.tolist())) == len(used)
        assert objective(iou, matching) == pytest.approx(best_one_to_one(iou))


def test_greedy_would_be_worse() -> None:
    iou = np.array([[0.9, 0.8], [0.8, 0.0]])
    assert match_clusters(iou).tolist() == [1, 0]


@pytest.mark.parametrize("labels, classes", [(3, 3), (5, 5), (4, 6), (2, 2)])
def test_bg_fixed_ties_background_and_is_optimal_on_the_rest(labels: int, classes: int) -> None:
    rng = np.random.default_rng(labels)
    for _ in range(20):
        iou = rng.random((labels, classes))
        iou[0, 1], iou[1, 0] = 1.0, 1.0
        matching = match_clusters(iou, "bg_fixed")
        assert matching[0] == 0
        assert (matching[1:] != 0).all()
        assert objective(iou[1:, 1:], matching[1:] - 1) == pytest.approx(best_one_to_one(iou[1:, 1:]))


def test_bg_fixed_differs_where_background_overlaps_a_class_better() -> None:
    iou = np.array([[0.3, 0.6], [0.6, 0.3]])
    assert match_clusters(iou).tolist() == [1, 0]
    assert match_clusters(iou, "bg_fixed").tolist() == [0, 1]


def test_more_labels_than_classes_take_their_best_class_each() -> None:
    iou = np.array([[0.5, 0.1], [0.4, 0.3], [0.2, 0.6], [0.0, 0.0]])
    assert match_clusters(iou).tolist() == [0, 0, 1, -1]
    assert match_clusters(iou, "bg_fixed").tolist() == [0, 1, 1, -1]


def test_a_pair_without_overlap_is_no_match() -> None:
    assert match_clusters(np.array([[0.5, 0.0, 0.0], [0.0, 0.0, 0.0]])).tolist() == [0, -1]


@pytest.mark.parametrize("iou", [np.zeros((0, 3)), np.zeros(3), np.array([[np.nan]])])
def test_malformed_tables_are_refused(iou: np.ndarray) -> None:
    with pytest.raises(ValueError, match="finite"):
        match_clusters(iou)


def test_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="bg_fixed"):
        match_clusters(np.eye(2), "greedy")  # type: ignore[arg-type]
