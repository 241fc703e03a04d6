"""The CLS attention of DINO (Caron et al. 2021, arXiv 2104.14294), for comparison [P Table 3, §A.4]."""

from typing import TYPE_CHECKING, Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field

from maskdistill.config.types import NUMBER, Section
from maskdistill.masks.patches import Float, Mask, PatchMask, Place, largest_component, largest_share
from maskdistill.masks.registry import mask_rule

if TYPE_CHECKING:
    from maskdistill.features.store import ImageFeatures


class AttentionParams(Section):
    """Settings of DINO's attention."""

    mass: Annotated[float, Field(gt=0, lt=1), NUMBER] = Field(
        description="share of the attention that the mask's patches hold"
    )
    largest: bool = Field(False, description="keep the largest component")


@mask_rule("attention", AttentionParams)
def attention_masks(image: "ImageFeatures", params: AttentionParams) -> list[PatchMask]:
    """The patches that hold the share MASS of DINO's CLS attention, or their largest component."""
    found = dino_attention(
        image.cls_query, image.cls_key, image.keys, image.grid, params.mass, params.largest
    )
    return [PatchMask(*found)]


def cls_attention(cls_query: Float, cls_key: Float, keys: Float) -> npt.NDArray[np.float64]:
    """Attention of CLS to each patch, summed over heads, float64 (N,): softmax over CLS and patches a head.

    Args:
        cls_query, cls_key: (H, D/H).
        keys: (N, D), heads concatenated.
    """
    heads, width = cls_query.shape
    every = np.concatenate([cls_key[:, None], keys.reshape(-1, heads, width).swapaxes(0, 1)], axis=1)
    scores = np.einsum("hd,hnd->hn", cls_query.astype(np.float64), every.astype(np.float64)) / np.sqrt(width)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    attention: npt.NDArray[np.float64] = (weights / weights.sum(axis=1, keepdims=True))[:, 1:].sum(axis=0)
    return attention


def dino_attention(
    cls_query: Float, cls_key: Float, keys: Float, grid: Place, mass: float = 0.75, largest: bool = False
) -> tuple[Mask, Place]:
    """The patches that hold the share ``mass`` of the CLS attention to patches [P §A.4].

    Args:
        cls_query, cls_key: (H, D/H).
        keys: (N, D) with N = R*C.
        grid: (R, C).
        mass: share; ties at its limit go to the lower index.
        largest: keep the largest 4-connected component, the first in reading order of several.

    Returns:
        bool (R, C) and the (row, column) of the highest attention in it.
    """
    attention = cls_attention(cls_query, cls_key, keys)
    mask = largest_share(attention, mass).reshape(grid)
    if largest:
        mask = largest_component(mask)
    return mask, divmod(int(np.where(mask.ravel(), attention, -1).argmax()), grid[1])
