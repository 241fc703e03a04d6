"""From the features of an image to the records of its masks: rule, full size, RLE."""

import logging
from typing import Any

import numpy as np

from maskdistill import masks, rle
from maskdistill.config import MasksConfig
from maskdistill.mask_baselines import MaskBaseline
from maskdistill.store import HW, ImageFeatures


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

    def records(self, image_id: int, key: str, image: ImageFeatures, image_hw: HW) -> list[dict[str, Any]]:
        """Masks of one image in the order of discovery, disjoint, each with score 1; none without a pixel.

        Returns:
            ``image_id, key, segmentation`` (RLE at ``image_hw``), ``bbox`` (x, y, width, height), ``area``, ``score``,
            ``source_patch`` (row, column) and ``coverage``, the share of the patches; with ``cls_mass`` also ``tied``,
            as in :class:`maskdistill.masks.PatchMask`.
        """
        ties: dict[str, float] = {}
        if self.baseline is not None:
            patches = [self.baseline.mask(image)]
        else:
            distilled = masks.distil_several(image.keys, image.cls_query, image.grid, self.config)
            self.negative += int(distilled[0].cls_affinity.sum() <= 0)
            self.tied.append(distilled[0].tied)
            if self.config.cls_mass is not None:
                ties = {"tied": distilled[0].tied}
            patches = [(one.mask, one.source) for one in distilled]
        free = np.ones(image_hw, bool)
        found = []
        for mask, source in patches:
            how = self.config.resize_mask
            full = free & masks.upsample(mask, self.patch_size, image.resized_hw, image_hw, how)
            if not full.any():
                continue
            free &= ~full
            encoded = rle.encode(full)
            found.append(
                {
                    "image_id": image_id,
                    "key": key,
                    "segmentation": encoded,
                    "bbox": rle.bbox(encoded),
                    "area": rle.area(encoded),
                    "score": 1.0,
                    "source_patch": list(source),
                    "coverage": float(mask.mean()),
                    **ties,
                }
            )
        return found

    def warn(self, log: logging.Logger) -> None:
        """Say what ``cls_mass`` made arbitrary (method 2b): ties in P, and affinities that sum to 0 or less."""
        if self.config.cls_mass is None or not self.tied:
            return
        log.info(
            "cls_mass: the order of equal CLS affinities chose %.1f %% of the candidate patches, some of them in %d of"
            " %d images",
            100 * np.mean(self.tied), np.count_nonzero(self.tied), len(self.tied),
        )  # fmt: skip
        if self.negative:
            log.warning("cls_mass: the CLS affinities of %d images do not sum to a positive number", self.negative)
