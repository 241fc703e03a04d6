"""A baseline that uses only colours, which learned features must beat. It reads no label."""

import cv2
import faiss
import numpy as np
import numpy.typing as npt

Colors = npt.NDArray[np.float32]


def rgb_to_lab(rgb: npt.NDArray[np.uint8]) -> Colors:
    """CIE L*a*b* (D65) of an sRGB picture.

    Args:
        rgb: uint8 (H, W, 3).

    Returns:
        float32 (H, W, 3): L in 0..100, a and b about -127..127.
    """
    lab = cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return np.asarray(lab, dtype=np.float32)


def sample_pixels(lab: Colors, count: int, seed: tuple[int, ...]) -> Colors:
    """``count`` random pixels, drawn with replacement.

    Args:
        lab: float32 (H, W, 3).
        count: number of pixels.
        seed: for the draw, e.g. the run's seed and the image's id.

    Returns:
        float32 (count, 3).
    """
    pixels = lab.reshape(-1, 3)
    return pixels[np.random.default_rng(seed).integers(len(pixels), size=count)]


def fit_colors(points: Colors, num_clusters: int, seed: int) -> Colors:
    """K-means centres of colours (FAISS, 25 iterations, the best of 3 restarts).

    Args:
        points: float32 (n, 3), n at least 1.
        num_clusters: number of centres wanted.
        seed: of the initial centres.

    Returns:
        float32 (k, 3), k = ``num_clusters``, or n where there are fewer points.

    Raises:
        ValueError: there is no point.
    """
    if len(points) == 0:
        raise ValueError("K-means needs at least one point")
    if len(points) <= num_clusters:
        return points.copy()
    kmeans = faiss.Kmeans(
        points.shape[1], num_clusters, niter=25, nredo=3, seed=seed,
        min_points_per_centroid=1, max_points_per_centroid=len(points),
    )  # fmt: skip
    kmeans.train(points)
    return np.asarray(kmeans.centroids, dtype=np.float32)


def nearest_color(colors: Colors, centers: Colors) -> npt.NDArray[np.int64]:
    """Index of the nearest centre.

    Args:
        colors: float32 (..., 3).
        centers: float32 (k, 3).

    Returns:
        int64 (...), values 0..k-1.
    """
    index = faiss.IndexFlatL2(centers.shape[1])
    index.add(np.ascontiguousarray(centers))
    _, nearest = index.search(np.ascontiguousarray(colors.reshape(-1, 3)), 1)
    return np.asarray(nearest, dtype=np.int64).reshape(colors.shape[:-1])
