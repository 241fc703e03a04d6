"""MaskCut (Wang et al. 2023, arXiv 2301.11320): normalised cuts, each of what the last left.

Written from the paper's §3.2, which extends TokenCut (:mod:`maskdistill.masks.rules.tokencut`). Its outlines
are sharpened by a conditional random field; here ``masks.refine`` does that.
"""

from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from maskdistill.config.types import NUMBER, Positive, Section
from maskdistill.masks.ncut import Vector, alike_patches, is_cut, most_prominent, second_eigenvector
from maskdistill.masks.patches import Float, Mask, PatchMask, Place, component
from maskdistill.masks.registry import mask_rule

if TYPE_CHECKING:
    from maskdistill.features.store import ImageFeatures

Found = list[tuple[Mask, Place]]


class MaskCutParams(Section):
    """Settings of MaskCut."""

    tau: Annotated[float, Field(ge=0, lt=1), NUMBER] = Field(
        0.15, description="patches are alike if the cosine similarity of their keys is at least this"
    )
    cuts: Positive = Field(3, description="number of cuts, and so of masks at most")
    sides: bool = Field(
        False, description="a mask is the whole side of a cut, not the component of its most prominent patch"
    )


@mask_rule("maskcut", MaskCutParams, most="cuts")
def maskcut_masks(image: "ImageFeatures", params: MaskCutParams) -> list[PatchMask]:
    """MaskCut: normalised cuts of the graph of keys, each without the patches of the masks before it."""
    return [PatchMask(*one) for one in maskcut(image.keys, image.grid, params.tau, params.cuts, params.sides)]


def maskcut(keys: Float, grid: Place, tau: float = 0.15, cuts: int = 3, sides: bool = False) -> Found:
    """Objects' patches, in the order of discovery, disjoint.

    1. Edges E and their second eigenvector x as in TokenCut; edges of patches in earlier masks are
       :data:`~maskdistill.masks.ncut.WEAK`, as of keys of length 0.
    2. Above the mean of x is one side, the rest the other; patches of earlier masks are on neither. The
       object is on the side of :func:`foreground`.
    3. The mask is the 4-connected component of the side's patch of largest ``|x|``, as TokenCut has it (the
       paper speaks of the side alone; with ``sides`` it is that).

    The search ends early where what is left has no cut, or the cut only parts off earlier masks, as it does
    once they are most of the grid. Where the first graph has no cut, the one mask is the whole grid, as
    TokenCut's.

    Args:
        keys: float32 (N, D) with N = R*C.
        grid: (R, C).
        tau, cuts: 0.15 and 3 in MaskCut.
        sides: whether a mask is the whole side.

    Returns:
        Of each: bool (R, C), and the (row, column) of the side's patch of largest ``|x|``, which is true in
        it.
    """
    alike = alike_patches(keys, tau)
    left = np.ones(len(keys), bool)
    found: Found = []
    vector: Vector | None = None
    for _ in range(cuts):
        if not is_cut(alike, int(np.count_nonzero(left))):
            break
        vector = second_eigenvector(alike, vector)
        side = foreground(vector, left, grid)
        if side is None:
            break
        place = divmod(most_prominent(vector, side), grid[1])
        mask = side.reshape(grid) if sides else component(side.reshape(grid), place)
        found.append((mask, place))
        taken = mask.ravel()
        left &= ~taken
        alike[taken], alike[:, taken] = False, False
    return found or [(np.ones(grid, bool), (0, 0))]


def foreground(vector: Vector, left: Mask, grid: Place) -> Mask | None:
    """The side of a cut that is the object.

    It is the one with less than two of the grid's four corners. If that holds of both sides or of neither
    (where each has two), it is the one with the patch of largest ``|vector|``.

    Args:
        vector: float64 (N,), whose mean parts the sides.
        left: bool (N,), the patches that are on one.
        grid: (R, C).

    Returns:
        bool (N,), or None where all patches are on one side.
    """
    above = vector > vector.mean()
    sides: tuple[Mask, Mask] = left & above, left & ~above
    if not (sides[0].any() and sides[1].any()):
        return None
    rows, columns = sorted({0, grid[0] - 1}), sorted({0, grid[1] - 1})
    fit = [side for side in sides if np.count_nonzero(side.reshape(grid)[np.ix_(rows, columns)]) < 2]
    if len(fit) == 1:
        return fit[0]
    return sides[0] if sides[0][most_prominent(vector, left)] else sides[1]
