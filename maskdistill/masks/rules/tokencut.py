"""TokenCut (Wang et al. 2022, arXiv 2202.11539): a normalised cut (Shi and Malik 2000) of the graph of keys.

Written from the paper: its §3.1 for the cut, §3.2 for the graph, the side that is the object, and the
component.
"""

from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from maskdistill.config.types import NUMBER, Section
from maskdistill.masks.ncut import alike_patches, is_cut, most_prominent, second_eigenvector
from maskdistill.masks.patches import Float, Mask, PatchMask, Place, component
from maskdistill.masks.registry import mask_rule

if TYPE_CHECKING:
    from maskdistill.features.store import ImageFeatures


class TokenCutParams(Section):
    """Settings of TokenCut."""

    tau: Annotated[float, Field(ge=0, lt=1), NUMBER] = Field(
        0.2, description="patches are alike if the cosine similarity of their keys is at least this"
    )


@mask_rule("tokencut", TokenCutParams)
def tokencut_masks(image: "ImageFeatures", params: TokenCutParams) -> list[PatchMask]:
    """TokenCut: a normalised cut of the graph of keys; the component of the patch that stands out most."""
    return [PatchMask(*tokencut(image.keys, image.grid, params.tau))]


def tokencut(keys: Float, grid: Place, tau: float = 0.2) -> tuple[Mask, Place]:
    """One object's patches.

    1. Edges E: 1 between patches whose keys have a cosine similarity of at least ``tau``, else
       :data:`~maskdistill.masks.ncut.WEAK`.
    2. x: eigenvector of the second smallest eigenvalue of ``(D - E) x = lambda D x``, D the sums of E's rows.
    3. The patches above the mean of x are one side, the rest the other. Seed: the patch of largest ``|x|``,
       of equal ones the first; the object is on its side, whatever the sign of x.
    4. The 4-connected component of the seed on its side.

    Where every patch is like every other, or none like another, x is not determined; nothing is split then,
    and the mask is the whole grid, as LOST and the paper's rule have it for equal keys.

    Args:
        keys: float32 (N, D) with N = R*C.
        grid: (R, C).
        tau: 0.2 in TokenCut.

    Returns:
        bool (R, C), always true at the seed, and the seed's (row, column).
    """
    alike = alike_patches(keys, tau)
    if not is_cut(alike, len(keys)):
        return np.ones(grid, bool), (0, 0)
    vector = second_eigenvector(alike)
    seed = most_prominent(vector, np.ones(len(keys), bool))
    vector = vector * np.sign(vector[seed])
    place = divmod(seed, grid[1])
    return component((vector > vector.mean()).reshape(grid), place), place
