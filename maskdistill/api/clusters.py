"""Clusters of unlabelled vectors."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from maskdistill.clusters.kmeans import Clustering, ColumnMoments, assign, fit, normalise
from maskdistill.config import ClustersConfig
from maskdistill.config.load import validate_section
from maskdistill.runtime.cores import available_cores
from maskdistill.runtime.errors import MaskDistillError

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Clusters:
    """The result of :func:`kmeans`.

    Attributes:
        assignments: int64 (M,), the nearest centroid 0..K-1 of every vector.
        distances: float32 (M,), Euclidean distance to that centroid, between normalised vectors.
        inertia: sum of the squared distances.
        centroids: float32 (K, D), in the space of normalised vectors.
        scale: float32 (D,), divisors that normalise the columns.
        l2: whether rows are divided by their length afterwards.
    """

    assignments: npt.NDArray[np.int64]
    distances: Floats
    inertia: float
    centroids: Floats
    scale: Floats
    l2: bool

    def assign(self, features: Floats) -> npt.NDArray[np.int64]:
        """Assign further vectors, float32 (M, D), to their nearest centroids: int64 (M,).

        >>> clusters.assign(features[:2]).tolist() == clusters.assignments[:2].tolist()
        True
        """
        return _nearest(_table(features), self.scale, self.l2, self.centroids).assignments


def kmeans(features: Floats, num_clusters: int, seed: int, **clusters: Any) -> Clusters:
    """K-means as the workflow does it: columns whitened, rows of length 1, FAISS, the best of 10 starts
    [method §3].

    Args:
        features: float32 (M, D), e.g. from ``embed_masks``; all rows are used.
        num_clusters: K, 1..M.
        seed: seed of the starts; equal seeds give equal results.
        clusters: keys of the section ``clusters`` of the configuration: ``whiten``, ``l2``, ``algorithm``,
            ``spherical``, ``niter``, ``nredo``.

    Returns:
        Clusters in the order in which they were found.

    Raises:
        MaskDistillError: fewer vectors than clusters, a value that is not finite, an array of another kind,
            or an unknown or invalid setting.

    >>> import numpy as np
    >>> from maskdistill import kmeans
    >>> features = np.repeat(np.eye(3, dtype=np.float32), 5, axis=0)
    >>> clusters = kmeans(features, 3, seed=0)
    >>> np.bincount(clusters.assignments).tolist(), round(clusters.inertia, 6)
    ([5, 5, 5], 0.0)
    """
    config = validate_section(ClustersConfig, clusters, "kmeans")
    table = _table(features)
    scale = ColumnMoments.of(table).scale() if config.whiten == "std" else np.ones(table.shape[1], np.float32)
    points = normalise(table, scale, config.l2)
    centroids = fit(points, num_clusters, seed, config, available_cores())
    found = assign(points, centroids)
    return Clusters(found.assignments, found.distances, found.inertia, centroids, scale, config.l2)


def _nearest(features: Floats, scale: Floats, l2: bool, centroids: Floats) -> Clustering:
    return assign(normalise(features, scale, l2), centroids)


def _table(features: Floats) -> Floats:
    """The vectors as K-means takes them, checked.

    Raises:
        MaskDistillError: not a table of finite floats.
    """
    if features.ndim != 2 or not np.issubdtype(features.dtype, np.floating):
        raise MaskDistillError(f"features are float32 (M, D), not {features.dtype} {features.shape}")
    if not np.isfinite(features).all():
        raise MaskDistillError("features hold values that are not finite")
    return np.ascontiguousarray(features, np.float32)
