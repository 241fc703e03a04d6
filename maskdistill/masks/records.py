"""From the features of an image to the records of its masks: rule, full size, outline, RLE."""

import logging
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from maskdistill.config import MasksConfig
from maskdistill.features.store import HW, ImageFeatures
from maskdistill.formats import rle
from maskdistill.masks import rule
from maskdistill.masks.baselines import MaskBaseline
from maskdistill.masks.refine import refine
from maskdistill.masks.rule import Mask


class PatchMasks(NamedTuple):
    """What the rule found in one image.

    Attributes:
        found: masks bool (R, C) in the order of discovery, each with its source's (row, column).
        resized_hw: pixels that the patches cover, without padding.
        ties: ``tied`` of :class:`maskdistill.masks.rule.PatchMask`, with ``cls_mass`` alone.
    """

    found: list[tuple[Mask, tuple[int, int]]]
    resized_hw: HW
    ties: dict[str, float]


class MaskRecorder:
    """Applies the mask rule, or a baseline's, to images.

    Args:
        config: the masks section.
        patch_size: in pixels.
        baseline: another rule; None: the method's own.
    """

    def __init__(self, config: MasksConfig, patch_size: int, baseline: MaskBaseline | None = None) -> None:
        self.config, self.patch_size, self.baseline = config, patch_size, baseline
        self.negative = 0
        self.tied: list[float] = []

    def search(self, image: ImageFeatures) -> PatchMasks:
        """The rule alone, on the grid of patches."""
        if self.baseline is not None:
            return PatchMasks([self.baseline.mask(image)], image.resized_hw, {})
        distilled = rule.distil_several(image.keys, image.cls_query, image.grid, self.config)
        self.negative += int(distilled[0].cls_affinity.sum() <= 0)
        self.tied.append(distilled[0].tied)
        ties = {} if self.config.cls_mass is None else {"tied": distilled[0].tied}
        return PatchMasks([(one.mask, one.source) for one in distilled], image.resized_hw, ties)

    def records(
        self, image_id: int, key: str, image_hw: HW, patches: PatchMasks, photo: npt.NDArray[np.uint8] | None = None
    ) -> list[dict[str, Any]]:
        """Masks of one image in the order of discovery, disjoint, each with score 1; none without a pixel.

        Changes nothing here, so several threads may call it at once.

        Args:
            photo: uint8 (H, W, 3) of ``image_hw``, on which outlines are refined; None: they are left as they are.

        Returns:
            ``image_id, key, segmentation`` (RLE at ``image_hw``), ``bbox`` (x, y, width, height), ``area``, ``score``,
            ``source_patch`` (row, column) and ``coverage``, the share of the patches; with ``cls_mass`` also ``tied``,
            as in :class:`maskdistill.masks.rule.PatchMask`.
        """
        patch = self.patch_size * image_hw[0] / patches.resized_hw[0]
        free = np.ones(image_hw, bool)
        records = []
        for mask, source in patches.found:
            how = self.config.resize_mask
            full = free & rule.upsample(mask, self.patch_size, patches.resized_hw, image_hw, how)
            if not full.any():
                continue
            if photo is not None:
                full = free & refine(photo, full, patch)
                if not full.any():
                    continue
            free &= ~full
            encoded = rle.encode(full)
            records.append(
                {
                    "image_id": image_id,
                    "key": key,
                    "segmentation": encoded,
                    "bbox": rle.bbox(encoded),
                    "area": rle.area(encoded),
                    "score": 1.0,
                    "source_patch": list(source),
                    "coverage": float(mask.mean()),
                    **patches.ties,
                }
            )
        return records

    def warn(self, log: logging.Logger) -> None:
        """Say what ``cls_mass`` made arbitrary [method §2b]: ties in P, and affinities that sum to 0 or less."""
        if self.config.cls_mass is None or not self.tied:
            return
        log.info(
            "cls_mass: the order of equal CLS affinities chose %.1f %% of the candidate patches, some of them in %d of"
            " %d images",
            100 * np.mean(self.tied), np.count_nonzero(self.tied), len(self.tied),
        )  # fmt: skip
        if self.negative:
            log.warning("cls_mass: the CLS affinities of %d images do not sum to a positive number", self.negative)
