"""Normalised cuts (Shi and Malik 2000) of the graph of alike patches, for the rules that cut it.

The graph is kept as one byte a pair. A product with it turns a few rows at a time into float64, which costs
hardly more than with a whole float64 matrix and an eighth of its memory, and is as exact.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from maskdistill.masks.patches import Float, Mask

Vector = npt.NDArray[np.float64]
WEAK = 1e-5
"""Weight of an edge between patches that are not alike, so that the graph is connected."""
SMALL = 256
"""Up to so many patches LAPACK solves the whole matrix, which takes less time than Lanczos' iterations."""
ITERATIONS = 2_000
"""Of Lanczos' method, each some ten products; graphs of keys take a few, long chains very many, then LAPACK
does it.
"""
BASIS = 8
"""Vectors that Lanczos' method holds: after so many products it first looks whether they were enough."""
TOLERANCE = 1e-8
"""Length of what the eigenvector found is wrong by, over the gap between its eigenvalue and the next."""
EQUAL = 1e-6
"""Entries of the eigenvector count as equally large if they differ by less than this share."""
ROWS = 64
"""Rows of the graph in float64 at once; with some thousand patches they stay in the processor's cache."""


def alike_patches(keys: Float, tau: float, rows: int = 1024) -> Mask:
    """Whether patches have a cosine similarity of at least ``tau``: bool (N, N), true diagonal.

    Args:
        keys: float32 (N, D); a key of length 0 is like no other.
        tau: threshold.
        rows: rows of similarities that are held at once: memory is ``4 * rows * N`` bytes beside the result.
    """
    units = keys / np.maximum(np.linalg.norm(keys, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    alike = np.empty((len(units), len(units)), bool)
    for start in range(0, len(units), rows):
        np.greater_equal(units[start : start + rows] @ units.T, tau, out=alike[start : start + rows])
    np.fill_diagonal(alike, True)
    return alike


def is_cut(alike: Mask, patches: int) -> bool:
    """Whether a graph has a cut: not if all patches are alike, or none is like another.

    Args:
        alike: bool (N, N), of :func:`alike_patches`, maybe with patches taken out (their rows and columns
            false).
        patches: how many are not taken out.
    """
    return np.count_nonzero(alike) not in (patches, patches**2)


def second_eigenvector(alike: Mask, start: Vector | None = None) -> Vector:
    """Eigenvector of the second smallest eigenvalue of ``(D - E) x = lambda D x``, float64 (N,).

    E is 1 between patches that are alike, else :data:`WEAK`; D holds the sums of its rows. With ``y = D^(1/2)
    x`` it is the second largest of the symmetric matrix ``D^(-1/2) E D^(-1/2)``, whose largest eigenvector is
    known, ``D^(1/2) 1``, and moved to the other end of the spectrum. Of up to :data:`SMALL` patches LAPACK
    solves the whole matrix; of more, Lanczos' method multiplies with it, from a fixed beginning, so that the
    result is the same at every call.

    Args:
        alike: bool (N, N), symmetric, with :func:`is_cut`.
        start: float64 (N,), an eigenvector of a graph much like this one, from which few products lead to
            this one's.
    """
    degrees = WEAK * len(alike) + (1 - WEAK) * np.count_nonzero(alike, axis=1)
    scale = 1 / np.sqrt(degrees)
    found = _by_lapack(alike, scale) if len(alike) <= SMALL else _by_lanczos(alike, scale, start)
    vector: Vector = scale * found
    return vector


def most_prominent(vector: Vector, among: Mask) -> int:
    """The patch of largest ``|vector|`` of those in ``among`` (N,), of equal ones (:data:`EQUAL`) the
    first.
    """
    size = np.where(among, np.abs(vector), -1)
    return int(np.flatnonzero(size >= (1 - EQUAL) * size.max())[0])


def _by_lapack(alike: Mask, scale: Vector) -> Vector:
    """The second largest eigenvector of ``scale E scale``, from the whole matrix."""
    from scipy import linalg

    matrix = scale[:, None] * (WEAK + (1 - WEAK) * alike) * scale
    matrix -= 2 * np.outer(*[_largest(scale)] * 2)
    vectors: Vector = linalg.eigh(matrix, subset_by_index=[len(scale) - 1] * 2)[1]
    return vectors[:, 0]


def _by_lanczos(alike: Mask, scale: Vector, start: Vector | None) -> Vector:
    """The second largest eigenvector of ``scale E scale``, from products with vectors."""
    from scipy.sparse import linalg

    largest = _largest(scale)
    pairs, rows = alike.view(np.uint8), np.empty((ROWS, len(alike)))

    def product(vector: npt.NDArray[Any]) -> Vector:
        flat = vector.ravel()
        scaled = scale * flat
        out = np.empty(len(flat))
        for first in range(0, len(flat), ROWS):
            block = pairs[first : first + ROWS]
            np.copyto(rows[: len(block)], block)
            np.dot(rows[: len(block)], scaled, out=out[first : first + ROWS])
        out *= 1 - WEAK
        out += WEAK * scaled.sum()
        out *= scale
        out -= 2 * (largest @ flat) * largest
        return out

    operator = linalg.LinearOperator(alike.shape, matvec=product, dtype=np.float64)
    begin = np.random.default_rng(0).standard_normal(len(scale)) if start is None else start / scale
    try:
        vectors: Vector = linalg.eigsh(
            operator,
            k=1,
            which="LA",
            v0=begin,
            ncv=BASIS,
            tol=TOLERANCE,
            maxiter=ITERATIONS,
            rng=np.random.default_rng(0),
        )[1]
    except linalg.ArpackNoConvergence:
        return _by_lapack(alike, scale)
    return vectors[:, 0]


def _largest(scale: Vector) -> Vector:
    """The largest eigenvector, ``D^(1/2) 1``, of length 1."""
    root = 1 / scale
    out: Vector = root / np.linalg.norm(root)
    return out
