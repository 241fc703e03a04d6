"""Categories from unlabelled masks: K-means over whitened, normalised CLS features [P §3.2, §4.1].

The scale is fitted on the same features as the centroids and then applied to all. Whitening divides each
column by its standard deviation without centring, as in ``scipy.cluster.vq.whiten``; K-means is FAISS's.
"""

from dataclasses import dataclass

import faiss
import numpy as np
import numpy.typing as npt

from maskdistill.runtime.errors import MaskDistillError

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Clustering:
    """Result of K-means.

    Attributes:
        centroids: float32 (K, D), in the normalised space.
        assignments: int64 (M,), nearest centroid of every feature that was fitted.
        distances: float32 (M,), Euclidean distance to that centroid.
        inertia: sum of the squared distances.
    """

    centroids: Floats
    assignments: npt.NDArray[np.int64]
    distances: Floats
    inertia: float


def column_scale(features: Floats) -> Floats:
    """Standard deviation of every column, float32 (D,): ddof 0, and 1 where a column is constant.

    Args:
        features: float32 (M, D), M at least 1.
    """
    scale = features.std(axis=0, dtype=np.float64)
    scale[(np.ptp(features, axis=0) == 0) | (scale < np.finfo(np.float32).tiny)] = 1
    return np.asarray(scale, dtype=np.float32)


def normalise(features: Floats, scale: Floats | None, l2: bool) -> Floats:
    """Divide columns by ``scale`` (D,), if given, then rows by their length, if ``l2``; all-zero rows stay zero.

    Args:
        features: float32 (M, D).

    Returns:
        float32 (M, D), a new array.
    """
    result = features.astype(np.float32, copy=True) if scale is None else features / scale
    if l2:
        length = np.linalg.norm(result.astype(np.float64), axis=1, keepdims=True)
        result = result / np.where(length == 0, 1, length)
    return np.ascontiguousarray(result, dtype=np.float32)


def fit_kmeans(
    features: Floats,
    num_clusters: int,
    seed: int,
    niter: int = 20,
    nredo: int = 5,
    threads: int = 1,
    gpu: int | None = None,
) -> Clustering:
    """K-means with FAISS, the best of ``nredo`` starts from random features; equal seeds give equal results on a CPU.

    Every feature is used: FAISS's default of sampling 256 a centroid is lifted, and so is its
    warning below 39 a centroid.

    Args:
        features: float32 (M, D), normalised.
        num_clusters: K, 1..M.
        seed: seed of the starts.
        niter: Lloyd iterations of each start.
        nredo: starts.
        threads: CPU threads.
        gpu: number of the one CUDA device to search on, or None. Without a GPU build of FAISS the CPU is used.

    Raises:
        MaskDistillError: if K exceeds M, or a feature is not finite.
    """
    count, dim = features.shape
    if not 1 <= num_clusters <= count:
        raise MaskDistillError(
            f"{num_clusters} clusters need at least as many masks, but only {count} can be fitted;"
            " lower clusters.num_clusters or give more training images"
        )
    if not np.isfinite(features).all():
        raise MaskDistillError("the embeddings hold values that are not finite; check the backbone's weights")
    faiss.omp_set_num_threads(max(1, threads))
    kmeans = faiss.Kmeans(
        dim, num_clusters, niter=niter, nredo=nredo, seed=seed, verbose=False,
        min_points_per_centroid=1, max_points_per_centroid=count,
    )  # fmt: skip
    if gpu is not None and faiss.get_num_gpus() > 0:
        kmeans.index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), gpu, kmeans.index)
    kmeans.train(features)
    return assign(features, np.array(kmeans.centroids, dtype=np.float32))


def assign(features: Floats, centroids: Floats) -> Clustering:
    """Nearest centroid of every feature, exactly (FAISS flat search).

    Args:
        features: float32 (M, D), normalised as the fitted ones; M may be 0.
        centroids: float32 (K, D).
    """
    index = faiss.IndexFlatL2(centroids.shape[1])
    index.add(centroids)
    nearest = index.search(np.ascontiguousarray(features), 1)[1].ravel().astype(np.int64)
    distances = np.linalg.norm(features - centroids[nearest], axis=1).astype(np.float32)
    return Clustering(centroids, nearest, distances, float(np.square(distances, dtype=np.float64).sum()))
