"""How well different numbers of clusters fit, without labels: inertia and silhouettes (Rousseeuw 1987)."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.metrics import silhouette_score

from maskdistill.clusters.kmeans import Floats

FACTORS = (0.25, 0.5, math.sqrt(0.5), 1, math.sqrt(2), 2, 4)
CHUNK = 512
Labels = npt.NDArray[np.int64]


def candidates(num_clusters: int, count: int, chosen: Sequence[int] | None = None) -> list[int]:
    """Numbers of clusters to compare: ``chosen``, or from 1/4 to 4 times ``num_clusters``.

    Only those from 2 to ``count - 1`` remain, for silhouettes are defined for no others.
    """
    wanted = [round(factor * num_clusters) for factor in FACTORS] if chosen is None else chosen
    return sorted({k for k in wanted if 2 <= k < count})


def simplified_silhouette(points: Floats, centroids: Floats, assignments: Labels) -> float:
    """Mean of ``(b - a) / max(a, b)``: a, b the distances to the own and to the nearest other centroid.

    Args:
        points: float32 (N, D).
        centroids: float32 (K, D), K at least 2.
        assignments: (N,), nearest centroids.

    Returns:
        In [0, 1], larger is better; a point on two centroids counts 0.
    """
    total = 0.0
    for start in range(0, len(points), CHUNK):
        part = slice(start, start + CHUNK)
        distances = _distances(points[part], centroids)
        rows = np.arange(len(distances))
        own = distances[rows, assignments[part]]
        distances[rows, assignments[part]] = np.inf
        total += float(_ratio(own, distances.min(axis=1)).sum())
    return total / len(points)


def silhouettes(points: Floats, labels: Sequence[Labels]) -> list[float]:
    """Mean silhouette of several clusterings of the same points (scikit-learn's).

    A point's silhouette is ``(b - a) / max(a, b)``: a its mean distance to the others of its cluster, b the
    smallest mean distance to another cluster; 0 where it is alone in its cluster.

    Args:
        points: float32 (N, D).
        labels: each (N,).

    Returns:
        In [-1, 1] for each clustering, larger is better; 0 where all points, or none, share a cluster.
    """
    exact = points.astype(np.float64)
    return [
        float(silhouette_score(exact, one)) if 1 < len(np.unique(one)) < len(one) else 0.0 for one in labels
    ]


def _ratio(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    larger = np.maximum(a, b)
    return (b - a) / np.where(larger == 0, 1, larger)


def _distances(rows: Floats, columns: Floats) -> npt.NDArray[np.float64]:
    """Euclidean distances, float64 (len(rows), len(columns))."""
    x, y = rows.astype(np.float64), columns.astype(np.float64)
    squared = (x * x).sum(axis=1)[:, None] + (y * y).sum(axis=1)[None] - 2 * x @ y.T
    return np.asarray(np.sqrt(np.maximum(squared, 0)))
