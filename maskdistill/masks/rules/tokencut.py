"""TokenCut (Wang et al. 2022, arXiv 2202.11539): a normalised cut (Shi and Malik 2000) of the graph of keys.

Written from the paper: its §3.1 for the cut, §3.2 for the graph, the side that is the object, and the component.
"""

from typing import TYPE_CHECKING, Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field

from maskdistill.config.types import NUMBER, Section
from maskdistill.masks.patches import Float, Mask, PatchMask, Place, component
from maskdistill.masks.registry import mask_rule

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from maskdistill.features.store import ImageFeatures

Vector = npt.NDArray[np.float64]
WEAK = 1e-5
"""Weight of an edge between patches that are not alike, so that the graph is connected."""
SMALL = 256
"""Up to so many patches LAPACK solves the whole matrix, which takes less time than Lanczos' iterations."""
ITERATIONS = 2_000
"""Of Lanczos' method, each some ten products; graphs of keys take a few, long chains very many, then LAPACK does it."""
EQUAL = 1e-6
"""Entries of the eigenvector count as equally large if they differ by less than this share."""


class TokenCutParams(Section):
    """Settings of TokenCut."""

    tau: Annotated[float, Field(ge=0, lt=1), NUMBER] = Field(
        0.2, description="cosine similarity of two keys from which on their patches are alike"
    )


@mask_rule("tokencut", TokenCutParams)
def tokencut_masks(image: "ImageFeatures", params: TokenCutParams) -> list[PatchMask]:
    """TokenCut: a normalised cut of the graph of keys; the component of the patch that stands out most."""
    return [PatchMask(*tokencut(image.keys, image.grid, params.tau))]


def tokencut(keys: Float, grid: Place, tau: float = 0.2) -> tuple[Mask, Place]:
    """One object's patches.

    1. Edges E: 1 between patches whose keys have a cosine similarity of at least ``tau``, else :data:`WEAK`.
    2. x: eigenvector of the second smallest eigenvalue of ``(D - E) x = lambda D x``, D the sums of E's rows.
    3. The patches above the mean of x are one side, the rest the other. Seed: the patch of largest ``|x|``, of equal
       ones (:data:`EQUAL`) the first; the object is on its side, whatever the sign of x.
    4. The 4-connected component of the seed on its side.

    Where every patch is like every other, or none like another, x is not determined; nothing is split then, and the
    mask is the whole grid, as LOST and the paper's rule have it for equal keys.

    Args:
        keys: float32 (N, D) with N = R*C.
        grid: (R, C).
        tau: 0.2 in TokenCut.

    Returns:
        bool (R, C), always true at the seed, and the seed's (row, column).
    """
    alike = alike_patches(keys, tau)
    if alike.nnz in (len(keys), len(keys) ** 2):
        return np.ones(grid, bool), (0, 0)
    vector = second_eigenvector(alike)
    size = np.abs(vector)
    seed = int(np.flatnonzero(size >= (1 - EQUAL) * size.max())[0])
    vector = vector * np.sign(vector[seed])
    place = divmod(seed, grid[1])
    return component((vector > vector.mean()).reshape(grid), place), place


def alike_patches(keys: Float, tau: float, rows: int = 1024) -> "csr_array":
    """1 for each pair of patches of a cosine similarity of at least ``tau``, and on the diagonal: float64 (N, N).

    Args:
        keys: float32 (N, D); a key of length 0 is like no other.
        rows: rows of similarities that are held at once: memory is ``rows * N`` and 12 bytes a pair.
    """
    from scipy import sparse  # takes a while to load, and the configuration imports rules

    units = keys / np.maximum(np.linalg.norm(keys, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    blocks = []
    for start in range(0, len(units), rows):
        block = units[start : start + rows] @ units.T >= tau
        places = np.arange(len(block))
        block[places, start + places] = True
        blocks.append(sparse.csr_array(block, dtype=np.float64))
    return sparse.vstack(blocks, format="csr")


def second_eigenvector(alike: "csr_array") -> Vector:
    """The eigenvector of the second smallest eigenvalue of the normalised cut, of either sign, float64 (N,).

    With ``y = D^(1/2) x`` it is the second largest of the symmetric matrix ``D^(-1/2) E D^(-1/2)``, whose largest
    eigenvector is known, ``D^(1/2) 1``, and moved to the other end of the spectrum. Of up to :data:`SMALL` patches
    LAPACK solves the whole matrix; of more, Lanczos' method multiplies with it, from a fixed beginning, so that the
    result is the same at every call.

    Args:
        alike: of :func:`alike_patches`; at least one pair is not alike, so that the eigenvalue sought is positive.
    """
    degrees = WEAK * alike.shape[0] + (1 - WEAK) * alike.sum(axis=1)
    scale = 1 / np.sqrt(degrees)
    found = _by_lapack(alike, scale) if alike.shape[0] <= SMALL else _by_lanczos(alike, scale)
    vector: Vector = scale * found
    return vector


def _by_lapack(alike: "csr_array", scale: Vector) -> Vector:
    """The second largest eigenvector of ``scale E scale``, from the whole matrix."""
    from scipy import linalg

    matrix = scale[:, None] * (WEAK + (1 - WEAK) * alike.toarray()) * scale
    matrix -= 2 * np.outer(*[_largest(scale)] * 2)
    vectors: Vector = linalg.eigh(matrix, subset_by_index=[len(scale) - 1] * 2)[1]
    return vectors[:, 0]


def _by_lanczos(alike: "csr_array", scale: Vector) -> Vector:
    """The second largest eigenvector of ``scale E scale``, from products with vectors."""
    from scipy.sparse import linalg

    largest = _largest(scale)

    def product(vector: Vector) -> Vector:
        flat = vector.ravel()
        scaled = scale * flat
        out: Vector = scale * (WEAK * scaled.sum() + (1 - WEAK) * (alike @ scaled)) - 2 * largest * (largest @ flat)
        return out

    operator = linalg.LinearOperator(alike.shape, matvec=product, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(len(scale))
    try:
        vectors: Vector = linalg.eigsh(
            operator, k=1, which="LA", v0=start, maxiter=ITERATIONS, rng=np.random.default_rng(0)
        )[1]
    except linalg.ArpackNoConvergence:
        return _by_lapack(alike, scale)
    return vectors[:, 0]


def _largest(scale: Vector) -> Vector:
    """The largest eigenvector, ``D^(1/2) 1``, of length 1."""
    root = 1 / scale
    out: Vector = root / np.linalg.norm(root)
    return out
