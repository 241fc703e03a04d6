"""One object mask an image from the affinity between patch keys [P §3.2 Eq. 1-2].

``A_ij = mean_h k_i(h) . k_j(h)`` is never formed: with the heads of the keys concatenated in K (N, D),
``A = K K^T / heads``, so a row is ``K @ K[s]`` and a sum of columns is ``K @ K[P'].sum(0)``: O(N D).
Only signs and the order of the affinities matter, so the division is left out.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from maskdistill.config import MasksConfig

Float = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class PatchMask:
    """Result for one image.

    Attributes:
        mask: bool (R, C), the object's patches.
        source: (row, column) of the patch with the highest CLS affinity.
        cls_affinity: float32 (R, C), mean over heads of q_cls . k.
    """

    mask: Mask
    source: tuple[int, int]
    cls_affinity: Float


def cls_affinity(cls_query: Float, keys: Float, heads: int | None = None) -> Float:
    """``a_j = mean_h q_cls(h) . k_j(h)`` [P Eq. 2], float32 (N,).

    Args:
        cls_query: (H, D/H).
        keys: (N, D), heads concatenated.
        heads: use the first ``heads`` only (the released code takes 5 of 6); None: all.
    """
    used = heads or len(cls_query)
    if not 1 <= used <= len(cls_query):
        raise ValueError(f"cls_heads {used} of a network with {len(cls_query)} heads")
    width = used * cls_query.shape[1]
    out: Float = keys[:, :width] @ cls_query[:used].reshape(-1) / np.float32(used)
    return out


def keep_mass(affinity: Float, mass: float) -> Float:
    """Set to 0 all but the largest entries that hold the share ``mass`` of the sum (DINO's rule; method 2b).

    Entries are sorted ascending (ties: the lower index counts as larger), divided by the sum, and kept
    where the cumulative sum exceeds ``1 - mass``. With a negative sum the rule is as odd as in the
    released code; that is why it is off by default.
    """
    order = np.lexsort((-np.arange(len(affinity)), affinity))
    share = np.cumsum(affinity[order] / affinity.sum())
    kept = np.zeros(len(affinity), bool)
    kept[order] = share > 1 - mass
    return np.where(kept, affinity, np.float32(0))


def distil(keys: Float, cls_query: Float, grid: tuple[int, int], config: MasksConfig) -> PatchMask:
    """The mask rule [P §3.2].

    1. P: the ``int(topk * N)`` (at least 1) patches of highest CLS affinity; source s: the highest.
    2. P' = {j in P: A_sj > 0}.  3. m_j = [sum over P' of A_ij > 0].  4. the component of s.

    Args:
        keys: float32 (N, D) with N = R*C; cls_query: (H, D/H).
        grid: (R, C).

    Returns:
        A mask that always contains the source.
    """
    affinity = cls_affinity(cls_query, keys, config.cls_heads)
    ranked = affinity if config.cls_mass is None else keep_mass(affinity, config.cls_mass)
    if config.affinity.center:
        keys = keys - keys.mean(axis=0)
    count = max(int(config.topk * len(keys)), 1)
    candidates = np.argsort(-ranked, kind="stable")[:count]
    source = int(candidates[0])
    related = candidates[keys[candidates] @ keys[source] > 0]
    mask = (keys @ keys[related].sum(axis=0, dtype=np.float32) > 0).reshape(grid)
    row, column = divmod(source, grid[1])
    mask[row, column] = True
    if config.component == "source_4conn":
        labels, _ = ndimage.label(mask)
        mask = labels == labels[row, column]
    return PatchMask(mask, (row, column), affinity.reshape(grid))


def upsample(
    mask: Mask, patch_size: int, resized_hw: tuple[int, int], image_hw: tuple[int, int], resize: str = "nearest"
) -> Mask:
    """Patch mask (R, C) to a full-size mask, bool ``image_hw`` (method 2.5).

    Each patch becomes a square, the padding is cropped to ``resized_hw``, and the rest is resized to
    the image: ``nearest`` (paper), or ``bicubic_nonzero`` (the released code; grows by about a pixel).
    """
    full = np.kron(mask, np.ones((patch_size, patch_size), bool))[: resized_hw[0], : resized_hw[1]]
    picture = Image.fromarray(full.astype(np.uint8) * 255)
    how = Image.Resampling.NEAREST if resize == "nearest" else Image.Resampling.BICUBIC
    return np.asarray(picture.resize((image_hw[1], image_hw[0]), how)) > 0
