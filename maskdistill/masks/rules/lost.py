"""LOST (Siméoni et al. 2021, arXiv 2109.14279) on the features of the run, for comparison [P Table 3, §A.4].

LOST takes keys at the image's native resolution; here it gets the same features as everything else, by
default at a shortest side of 640 (``features.short_side``).
"""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import Field

from maskdistill.config.types import Positive, Section
from maskdistill.masks.patches import Float, Mask, PatchMask, Place, component
from maskdistill.masks.registry import mask_rule

if TYPE_CHECKING:
    from maskdistill.features.store import ImageFeatures


class LostParams(Section):
    """Settings of LOST."""

    k: Positive = Field(description="patches of lowest degree; 100 in LOST, 400 in the paper's comparison")


@mask_rule("lost", LostParams)
def lost_masks(image: "ImageFeatures", params: LostParams) -> list[PatchMask]:
    """LOST with its K patches of lowest degree."""
    return [PatchMask(*lost(image.keys, image.grid, params.k))]


def lost_degrees(keys: Float, rows: int = 1024) -> npt.NDArray[np.int64]:
    """Number of other patches with which each patch has a positive product, int64 (N,).

    Args:
        keys: float32 (N, D).
        rows: rows of ``K K^T`` that are held at once: memory is ``rows * N``.
    """
    degrees = np.zeros(len(keys), np.int64)
    for start in range(0, len(keys), rows):
        positive = keys[start : start + rows] @ keys.T > 0
        places = np.arange(len(positive))
        positive[places, start + places] = False
        degrees[start : start + rows] = positive.sum(axis=1)
    return degrees


def lost(keys: Float, grid: Place, k: int = 100) -> tuple[Mask, Place]:
    """LOST's seed and its expansion.

    With ``A = K K^T``: the seed s is the patch of lowest degree; of the ``k`` patches of lowest degree (all,
    if there are fewer) those with ``A_sj > 0`` are similar; ``m_j`` says whether ``A_ij`` summed over the
    similar patches is positive; the mask is the 4-connected component of s in m. Patches of equal degree come
    in the order of their index (LOST's own sort leaves it open).

    Args:
        keys: float32 (N, D) with N = R*C.
        grid: (R, C).
        k: 100 in LOST, 400 in the paper's comparison.

    Returns:
        bool (R, C), always true at the seed, and the seed's (row, column).
    """
    lowest = np.argsort(lost_degrees(keys), kind="stable")[:k]
    similar = lowest[keys[lowest] @ keys[lowest[0]] > 0]
    mask = (keys @ keys[similar].sum(axis=0, dtype=np.float32) > 0).reshape(grid)
    seed = divmod(int(lowest[0]), grid[1])
    mask[seed] = True
    return component(mask, seed), seed
