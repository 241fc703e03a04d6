"""Cluster scores against loops over pairs and permutations."""

import itertools
import math
from typing import Any

import numpy as np
import pytest

from maskdistill.evaluation.clustering import cluster_scores, contingency, pseudo_target


def slow_scores(clusters: list[int], classes: list[int]) -> tuple[float, float, float, float]:
    n = len(clusters)
    purity = sum(
        max(
            [c for k, c in zip(clusters, classes, strict=True) if k == cluster].count(value)
            for value in set(classes)
        )
        for cluster in set(clusters)
    )
    names, values = sorted(set(clusters)), sorted(set(classes))
    padded = values + [-1] * len(names)
    accuracy = max(
        sum(dict(zip(names, choice, strict=False))[k] == c for k, c in zip(clusters, classes, strict=True))
        for choice in itertools.permutations(padded, len(names))
    )

    def entropy(items: list[Any]) -> float:
        return -sum(items.count(v) / n * math.log(items.count(v) / n) for v in set(items))

    joint = entropy(list(zip(clusters, classes, strict=True)))
    nmi = (entropy(clusters) + entropy(classes) - joint) / ((entropy(clusters) + entropy(classes)) / 2)
    pairs = list(itertools.combinations(range(n), 2))
    together = sum(clusters[i] == clusters[j] and classes[i] == classes[j] for i, j in pairs)
    in_clusters = sum(clusters[i] == clusters[j] for i, j in pairs)
    in_classes = sum(classes[i] == classes[j] for i, j in pairs)
    expected = in_clusters * in_classes / len(pairs)
    ari = (together - expected) / ((in_clusters + in_classes) / 2 - expected)
    return purity / n, accuracy / n, nmi, ari


@pytest.mark.parametrize("seed", range(15))
def test_scores_match_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    clusters = rng.integers(0, 4, 25)
    noise = rng.random(25) < rng.random()
    classes = np.where(noise, rng.integers(1, 6, 25), 1 + clusters)
    scores = cluster_scores(clusters, classes)
    expected = slow_scores(clusters.tolist(), classes.tolist())
    assert (scores.purity, scores.accuracy, scores.nmi, scores.ari) == pytest.approx(expected)


def test_published_values() -> None:
    """The example of Manning, Raghavan and Schütze, Introduction to Information Retrieval, section 16.3."""
    clusters = [0] * 6 + [1] * 6 + [2] * 5
    classes = [1, 1, 1, 1, 1, 2, 1, 2, 2, 2, 2, 3, 1, 1, 3, 3, 3]
    scores = cluster_scores(clusters, classes)
    assert round(scores.purity, 2) == 0.71
    assert round(scores.nmi, 2) == 0.36
    # Their Rand table: TP 20, TP + FP 40, TP + FN 44, all pairs 136.
    assert scores.ari == pytest.approx((20 - 40 * 44 / 136) / (42 - 40 * 44 / 136))


def test_renaming_changes_nothing_and_perfect_is_one() -> None:
    classes = np.array([1, 1, 2, 2, 3])
    scores = cluster_scores([9, 9, 0, 0, 4], classes)
    assert (scores.purity, scores.accuracy, scores.nmi, scores.ari) == pytest.approx((1, 1, 1, 1))


def test_degenerate_clusterings() -> None:
    one = cluster_scores([3, 3], [5, 5])
    assert (one.purity, one.accuracy, one.nmi, one.ari) == (1, 1, 1, 1)
    lumped = cluster_scores([0, 0, 0, 0], [1, 1, 2, 2])
    assert (lumped.purity, lumped.accuracy) == (0.5, 0.5)
    assert (lumped.nmi, lumped.ari) == pytest.approx((0, 0))
    singles = cluster_scores([0, 1, 2, 3], [1, 1, 2, 2])
    assert (singles.purity, singles.accuracy, singles.ari) == pytest.approx((1, 0.5, 0))
    assert cluster_scores([0], [1]).ari == 1


def test_contingency_counts() -> None:
    assert contingency([5, 5, 2], [1, 7, 7]).tolist() == [[0, 1], [1, 1]]
    with pytest.raises(ValueError, match="one cluster and one class"):
        contingency([], [])
    with pytest.raises(ValueError, match="one cluster and one class"):
        contingency([1], [1, 2])


def test_pseudo_target_is_the_class_of_the_best_box() -> None:
    truth = [[0, 0, 10, 10], [0, 0, 4, 4], [20, 20, 5, 5]]
    assert pseudo_target([0, 0, 5, 5], truth, [3, 1, 2]) == 1
    assert pseudo_target([21, 20, 5, 5], truth, [3, 1, 2]) == 2
    assert pseudo_target([90, 90, 2, 2], truth, [3, 1, 2]) == 3
