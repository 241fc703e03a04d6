"""Object masks of an image from the affinity between patch keys: one [P §3.2 Eq. 1-2], or several.

``A_ij = mean_h k_i(h) . k_j(h)`` is never formed: with the heads of the keys concatenated in K (N, D),
``A = K K^T / heads``, so a row is ``K @ K[s]`` and a sum of columns is ``K @ K[P'].sum(0)``: O(N D).
Only signs and the order of the affinities matter, so the division is left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from maskdistill.config.masks import FurtherMasksConfig, MasksConfig
from maskdistill.masks.patches import Float, Mask, PatchMask, component, largest_share
from maskdistill.masks.registry import PAPER, mask_rule

if TYPE_CHECKING:
    from maskdistill.features.store import ImageFeatures


@dataclass(frozen=True)
class DistilledMask:
    """One mask of an image.

    Attributes:
        mask: bool (R, C), the object's patches.
        source: (row, column) of the patch that the mask grew from: the highest CLS affinity there was.
        cls_affinity: float32 (R, C), mean over heads of q_cls . k.
        tied: share of P that equals a patch which was left out: the order of equal values put it there.
    """

    mask: Mask
    source: tuple[int, int]
    cls_affinity: Float
    tied: float


@mask_rule(PAPER, MasksConfig, head="topk", placed=("topk",))
def distilled_masks(image: "ImageFeatures", config: MasksConfig) -> list[PatchMask]:
    """The paper's rule [P §3.2]: the component of the patch of highest CLS affinity in the affinity graph."""
    found = distil_several(image.keys, image.cls_query, image.grid, config)
    masks = [PatchMask(one.mask, one.source) for one in found]
    if config.cls_mass is None:
        return masks
    positive = found[0].cls_affinity.sum() > 0
    warning = "" if positive else "cls_mass: the CLS affinities do not sum to a positive number"
    return [replace(mask, tied=found[0].tied, warning=warning) for mask in masks]


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
    """The affinity (N,) with all but its :func:`largest_share` set to 0."""
    return np.where(largest_share(affinity, mass), affinity, np.float32(0))


def highest(ranked: Float, count: int, as_torch: bool) -> npt.NDArray[np.int64]:
    """Places of the ``count`` highest entries, the highest first.

    Args:
        ranked: (N,).
        count: 1..N.
        as_torch: equal entries in the order of ``torch.topk`` on a CPU, which follows neither index nor
            chance; as in the released code, where most of P is entries at 0. False: the lower index first.
    """
    if not as_torch:
        return np.argsort(-ranked, kind="stable")[:count]
    import torch  # takes seconds to load, and nothing else here wants it

    return torch.topk(torch.from_numpy(ranked), count).indices.numpy()  # type: ignore[no-any-return]


def tied_share(ranked: Float, chosen: npt.NDArray[np.int64]) -> float:
    """Share of the chosen entries (at least one) of ``ranked`` (N,) that tie with one not chosen."""
    lowest = ranked[chosen].min()
    equal = int((ranked[chosen] == lowest).sum())
    return equal / len(chosen) if (ranked == lowest).sum() > equal else 0.0


def distil(keys: Float, cls_query: Float, grid: tuple[int, int], config: MasksConfig) -> DistilledMask:
    """The mask rule [P §3.2].

    1. P: the ``int(topk * N)`` (at least 1) patches of highest CLS affinity; source s: the highest. Of equal
       ones the lower index comes first; with ``cls_mass`` they come as the released code has them, see
       :func:`highest`.
    2. P' = {j in P: A_sj > 0}.  3. m_j = [sum over P' of A_ij > 0].  4. the component of s.

    Args:
        keys: float32 (N, D) with N = R*C; cls_query: (H, D/H).
        grid: (R, C).

    Returns:
        A mask that always contains the source.
    """
    return next(_search(keys, cls_query, grid, config))


def distil_several(
    keys: Float, cls_query: Float, grid: tuple[int, int], config: MasksConfig
) -> list[DistilledMask]:
    """Up to ``config.max_masks`` disjoint masks, the first of them :func:`distil`'s; arguments as there.

    The paper leaves this to future work. P is chosen once. After each mask its patches are covered and leave
    P; s is then the best of what is left of P, P' and m follow from s and that rest as in steps 2 and 3, W is
    the component of s in m, and the further mask is the component of s among the patches of W not covered
    yet. The search stops, and the mask it stops at is dropped, as soon as

    - ``max_masks`` masks are found, or P is empty;
    - the further mask covers less than ``further.min_area`` or more than ``further.max_area`` of the N
      patches; or
    - more than ``further.max_overlap`` of W is covered: the same object or its rim once more.

    With ``component: all`` both components are left out.

    Returns:
        At least one mask, in the order of discovery; sources have falling CLS affinity.
    """
    return list(islice(_search(keys, cls_query, grid, config), config.max_masks))


def _search(
    keys: Float, cls_query: Float, grid: tuple[int, int], config: MasksConfig
) -> Iterator[DistilledMask]:
    """The masks of :func:`distil_several` without the limit of their number."""
    affinity = cls_affinity(cls_query, keys, config.cls_heads)
    ranked = affinity if config.cls_mass is None else keep_mass(affinity, config.cls_mass)
    if config.affinity.center:
        keys = keys - keys.mean(axis=0)
    count = max(int(config.topk * len(keys)), 1)
    candidates = highest(ranked, count, config.cls_mass is not None)
    tied = tied_share(ranked, candidates)
    covered = np.zeros(grid, bool)
    while len(candidates):
        source = divmod(int(candidates[0]), grid[1])
        related = candidates[keys[candidates] @ keys[candidates[0]] > 0]
        whole = (keys @ keys[related].sum(axis=0, dtype=np.float32) > 0).reshape(grid)
        whole[source] = True
        if config.component == "source_4conn":
            whole = component(whole, source)
        mask = whole & ~covered
        if config.component == "source_4conn":
            mask = component(mask, source)
        if covered.any() and not _is_further(mask, whole, covered, config.further):
            return
        yield DistilledMask(mask, source, affinity.reshape(grid), tied)
        covered |= mask
        candidates = candidates[~covered.reshape(-1)[candidates]]


def _is_further(mask: Mask, whole: Mask, covered: Mask, limits: FurtherMasksConfig) -> bool:
    """Whether ``mask``, the part of ``whole`` that is not covered, is one more object."""
    overlap = (whole & covered).sum() / whole.sum()
    return bool(limits.min_area <= mask.mean() <= limits.max_area and overlap <= limits.max_overlap)
