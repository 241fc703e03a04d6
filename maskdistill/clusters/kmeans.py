"""Categories from unlabelled masks: K-means over whitened, normalised CLS features [P §3.2, §4.1].

The scale is measured on all features that may be fitted and applied to all. Whitening divides each column by
its standard deviation without centring, as in ``scipy.cluster.vq.whiten``; K-means is FAISS's, or
scikit-learn's mini-batch one, which the released code uses.
"""

from dataclasses import dataclass

import faiss
import numpy as np
import numpy.typing as npt
from sklearn.cluster import MiniBatchKMeans, kmeans_plusplus

from maskdistill.config import ClustersConfig
from maskdistill.runtime.errors import MaskDistillError

Floats = npt.NDArray[np.float32]
GPU_SCRATCH = 256 * 2**20
"""Bytes of scratch memory on the GPU; FAISS's own default is 1.5 GiB."""


START_ROWS = 20_000
"""Features that starts are picked among."""


@dataclass(frozen=True)
class Clustering:
    """Features and their nearest centroids.

    Attributes:
        assignments: int64 (M,), nearest centroid of every feature.
        distances: float32 (M,), Euclidean distance to that centroid.
        inertia: sum of the squared distances.
    """

    assignments: npt.NDArray[np.int64]
    distances: Floats
    inertia: float


class ColumnMoments:
    """Standard deviation of every column of features that come in blocks (Chan, Golub and LeVeque 1979).

    Means and sums of squared deviations are kept in double precision and merged block by block, so the blocks
    only matter to rounding.
    """

    def __init__(self, dim: int) -> None:
        self.count = 0
        self._mean, self._squares = np.zeros(dim), np.zeros(dim)
        self._low, self._high = np.full(dim, np.inf, np.float32), np.full(dim, -np.inf, np.float32)

    @classmethod
    def of(cls, features: Floats) -> "ColumnMoments":
        """The moments of float32 (M, D); M may be 0."""
        found = cls(features.shape[1])
        if len(features):
            deviations = features.astype(np.float64)
            found.count, found._mean = len(features), deviations.mean(axis=0)
            deviations -= found._mean
            found._squares = np.einsum("ij,ij->j", deviations, deviations)
            found._low, found._high = features.min(axis=0), features.max(axis=0)
        return found

    def add(self, other: "ColumnMoments") -> None:
        """Take the rows behind other moments into account."""
        if other.count == 0:
            return
        total = self.count + other.count
        gap = other._mean - self._mean
        self._squares += other._squares + gap**2 * (self.count * other.count / total)
        self._mean += gap * (other.count / total)
        self._low, self._high = np.minimum(self._low, other._low), np.maximum(self._high, other._high)
        self.count = total

    def scale(self) -> Floats:
        """Standard deviation, float32 (D,): ddof 0, and 1 where a column is constant."""
        scale = np.sqrt(self._squares / max(self.count, 1))
        scale[(self._low >= self._high) | (scale < np.finfo(np.float32).tiny)] = 1
        return np.asarray(scale, dtype=np.float32)


def normalise(features: Floats, scale: Floats | None, l2: bool, out: Floats | None = None) -> Floats:
    """Divide columns by ``scale`` (D,) if given, then rows by their length if ``l2``; zero rows stay.

    Args:
        features: float32 (M, D).
        out: float32 (M, D), where the result goes; a new array if None.

    Returns:
        float32 (M, D).
    """
    result = np.empty(features.shape, np.float32) if out is None else out
    if scale is None:
        result[:] = features
    else:
        np.divide(features, scale, out=result)
    if l2:
        length = np.sqrt(np.einsum("ij,ij->i", result, result, dtype=np.float64))[:, None]
        np.divide(result, np.where(length == 0, 1, length).astype(np.float32), out=result)
    return result


def pick_gpu(device: str, gpus: int) -> int | None:
    """The GPU for FAISS, None for the CPU: ``auto`` takes one if granted and FAISS can use it.

    Args:
        device: ``auto``, ``cpu`` or ``cuda[:N]``.
        gpus: GPUs granted; 0 means CPU under ``auto``.
    """
    if device == "cpu" or (device == "auto" and gpus == 0) or faiss.get_num_gpus() == 0:
        return None
    return int(device.partition(":")[2] or 0)


def check_fit(count: int, num_clusters: int) -> None:
    """Refuse more clusters than there are features to fit them on."""
    if not 1 <= num_clusters <= count:
        raise MaskDistillError(
            f"{num_clusters} clusters need at least as many masks, but only {count} can be fitted;"
            f" write `num_clusters: {count}` (times clusters.overcluster), raise clusters.max_fit, or give "
            "more images"
        )


def fit(
    features: Floats,
    num_clusters: int,
    seed: int,
    config: ClustersConfig,
    threads: int = 1,
    gpu: int | None = None,
) -> Floats:
    """Centroids float32 (K, D) by the configured algorithm; arguments as for :func:`fit_kmeans`."""
    if config.algorithm == "minibatch":
        return fit_minibatch(features, num_clusters, seed)
    return fit_kmeans(
        features, num_clusters, seed, config.niter, config.nredo, threads, gpu, config.spherical
    )


def fit_kmeans(
    features: Floats,
    num_clusters: int,
    seed: int,
    niter: int = 100,
    nredo: int = 10,
    threads: int = 1,
    gpu: int | None = None,
    spherical: bool = False,
) -> Floats:
    """K-means with FAISS, the best of ``nredo`` starts by k-means++; equal seeds give equal results on a CPU.

    Every feature is used: FAISS's own limit of 256 a centroid (``max_points_per_centroid``) is lifted, for
    the sample was bounded before, by ``clusters.max_fit``; and so is its warning below 39 a centroid. The
    starts are scikit-learn's (greedy k-means++, Arthur and Vassilvitskii 2007), picked among at most
    :data:`START_ROWS` features: from random ones FAISS ends 2 to 7 % above the inertia that those reach.

    Args:
        features: float32 (M, D), normalised, C-contiguous: then it is not copied.
        num_clusters: K, 1..M.
        seed: seed of the starts.
        niter: Lloyd iterations of each start at most; FAISS ends it where one of them gains nothing.
        nredo: starts.
        threads: CPU threads.
        gpu: number of the one CUDA device to search on, or None for the CPU.
        spherical: scale centroids to unit length after each iteration and compare by cosine.

    Returns:
        Centroids, float32 (K, D).

    Raises:
        MaskDistillError: if K exceeds M, or a feature is not finite.
    """
    count, dim = features.shape
    check_fit(count, num_clusters)
    if not all(np.isfinite(part).all() for part in np.array_split(features, 1 + count // 10_000)):
        raise MaskDistillError("the embeddings hold values that are not finite; check the backbone's weights")
    faiss.omp_set_num_threads(max(1, threads))
    rng = np.random.default_rng(seed)
    rows = features
    if count > max(START_ROWS, num_clusters):
        rows = np.take(
            features, np.sort(rng.choice(count, max(START_ROWS, num_clusters), replace=False)), axis=0
        )
    rows = rows.astype(np.float64)  # float32 ones scikit-learn converts anew for every centroid it picks
    kmeans = faiss.Kmeans(
        dim, num_clusters, niter=niter, nredo=1, seed=seed, spherical=spherical, verbose=False,
        min_points_per_centroid=1, max_points_per_centroid=count,
    )  # fmt: skip
    if gpu is not None:
        resources = faiss.StandardGpuResources()
        resources.setTempMemory(GPU_SCRATCH)
        kmeans.index = faiss.index_cpu_to_gpu(resources, gpu, kmeans.index)
    best, least = np.zeros((num_clusters, dim), np.float32), np.inf
    for _ in range(nredo):
        start, _ = kmeans_plusplus(rows, num_clusters, random_state=int(rng.integers(2**31)))
        objective = float(kmeans.train(features, init_centroids=np.asarray(start, np.float32)))
        error = -objective if spherical else objective
        if error < least:
            best, least = np.array(kmeans.centroids, np.float32), error
    return best


def fit_minibatch(features: Floats, num_clusters: int, seed: int) -> Floats:
    """Centroids of scikit-learn's MiniBatchKMeans with the settings of the released code [method §3.3].

    Args:
        features: float32 (M, D), normalised.
        num_clusters: K, 1..M.
        seed: ``random_state``; the released code has 1234.

    Returns:
        Centroids, float32 (K, D).

    Raises:
        MaskDistillError: if K exceeds M.
    """
    check_fit(len(features), num_clusters)
    kmeans = MiniBatchKMeans(
        n_clusters=num_clusters, init="k-means++", n_init=3, batch_size=1000, max_iter=100, tol=0.0,
        max_no_improvement=10, reassignment_ratio=0.01, random_state=seed,
    )  # fmt: skip
    return np.ascontiguousarray(kmeans.fit(features).cluster_centers_, dtype=np.float32)


def assign(features: Floats, centroids: Floats) -> Clustering:
    """Nearest centroid of every feature, exactly (FAISS flat search).

    Centroids of unit length give the same order by cosine, so this serves spherical K-means as well.

    Args:
        features: float32 (M, D), normalised as the fitted ones; M may be 0.
        centroids: float32 (K, D).
    """
    index = faiss.IndexFlatL2(centroids.shape[1])
    index.add(centroids)
    nearest = index.search(np.ascontiguousarray(features), 1)[1].ravel().astype(np.int64)
    gaps = centroids[nearest]
    np.subtract(features, gaps, out=gaps)
    squared = np.einsum("ij,ij->i", gaps, gaps, dtype=np.float64)
    return Clustering(nearest, np.sqrt(squared).astype(np.float32), float(squared.sum()))
