"""Simpler mask rules on the same features, for comparison [P Table 3, §A.4]: LOST and DINO's attention.

LOST (Siméoni et al. 2021, arXiv 2109.14279) takes keys at the image's native resolution; here it gets the same
features as everything else, by default at a shortest side of 640 (``features.short_side``).
"""

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from maskdistill.config import MASK_BASELINE
from maskdistill.features.store import ImageFeatures
from maskdistill.masks.rule import Float, Mask, component, largest_share
from maskdistill.runtime.errors import MaskDistillError

Place = tuple[int, int]


@dataclass(frozen=True)
class MaskBaseline:
    """A rule with its setting.

    Attributes:
        rule: ``lost`` or ``attention``.
        value: the number of patches (lost), or the share of the attention (attention).
        largest: keep the largest component only (attention).
    """

    rule: Literal["lost", "attention"]
    value: float
    largest: bool = False

    @classmethod
    def parse(cls, name: str) -> "MaskBaseline":
        """``lost-400``, ``attention-0.75`` or ``attention-0.75-largest``.

        Raises:
            MaskDistillError: any other name.
        """
        if not re.fullmatch(MASK_BASELINE, name):
            raise MaskDistillError(f"mask baseline {name!r}: write lost-400, attention-0.75 or attention-0.75-largest")
        rule, value, *rest = name.split("-")
        return cls("lost" if rule == "lost" else "attention", float(value), bool(rest))

    def mask(self, image: ImageFeatures) -> tuple[Mask, Place]:
        """The one mask of an image, bool (R, C), and the (row, column) that it grew from."""
        if self.rule == "lost":
            return lost(image.keys, image.grid, int(self.value))
        return dino_attention(image.cls_query, image.cls_key, image.keys, image.grid, self.value, self.largest)


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

    With ``A = K K^T``: the seed s is the patch of lowest degree; of the ``k`` patches of lowest degree (all, if there
    are fewer) those with ``A_sj > 0`` are similar; ``m_j`` says whether ``A_ij`` summed over the similar patches is
    positive; the mask is the 4-connected component of s in m. Patches of equal degree come in the order of their
    index (LOST's own sort leaves it open).

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
        labels, count = ndimage.label(mask)
        mask = labels == 1 + np.bincount(labels.ravel(), minlength=count + 1)[1:].argmax()
    return mask, divmod(int(np.where(mask.ravel(), attention, -1).argmax()), grid[1])
