"""From the features of an image to the records of its masks: rule, full size, outline, RLE."""

import logging
from collections import Counter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from maskdistill.config import MasksConfig
from maskdistill.features.store import HW, ImageFeatures
from maskdistill.formats import rle
from maskdistill.masks.patches import PatchMask
from maskdistill.masks.refine import refine
from maskdistill.masks.registry import Chosen, read, rules
from maskdistill.masks.types import MaskRecord
from maskdistill.masks.upsample import upsample


class PatchMasks(NamedTuple):
    """What the rule found in one image.

    Attributes:
        found: masks in the order of discovery.
        resized_hw: pixels that the patches cover, without padding.
    """

    found: list[PatchMask]
    resized_hw: HW


def chosen(config: MasksConfig) -> Chosen:
    """The section's rule with its settings: the paper's are the section itself, others' are in their name."""
    return Chosen(rules()[config.rule], config) if config.by_paper else read(config.rule)


def shaping(config: MasksConfig) -> dict[str, Any]:
    """Of the section all that shapes masks, as provenance names it."""
    if config.by_paper:
        return config.model_dump(mode="json", exclude={"rule"})
    outlines = {} if config.refine == "none" else {"refine": config.refine}
    package = read(config.rule).rule.package
    return (
        {"baseline": config.rule, "resize_mask": config.resize_mask}
        | outlines
        | ({"from": package} if package else {})
    )


class MaskRecorder:
    """Applies the mask rule to images.

    Args:
        config: the masks section.
        patch_size: in pixels.
    """

    def __init__(self, config: MasksConfig, patch_size: int) -> None:
        self.config, self.patch_size, self.chosen = config, patch_size, chosen(config)
        self.warnings: Counter[str] = Counter()
        self.tied: list[float] = []

    def search(self, image: ImageFeatures) -> PatchMasks:
        """The rule alone, on the grid of patches."""
        found = self.chosen.masks(image)
        self.warnings.update({one.warning for one in found if one.warning})
        self.tied += [one.tied for one in found[:1] if one.tied is not None]
        return PatchMasks(found, image.resized_hw)

    def records(
        self,
        image_id: int,
        key: str,
        image_hw: HW,
        patches: PatchMasks,
        photo: npt.NDArray[np.uint8] | None = None,
    ) -> list[MaskRecord]:
        """Masks of one image in the order of discovery, disjoint, each with score 1; none without a pixel.

        Changes nothing here, so several threads may call it at once.

        Args:
            photo: uint8 (H, W, 3) of ``image_hw``, on which outlines are refined; None: they are left as they
                are.
        """
        patch = self.patch_size * image_hw[0] / patches.resized_hw[0]
        free = np.ones(image_hw, bool)
        records: list[MaskRecord] = []
        for one in patches.found:
            how = self.config.resize_mask
            full = free & upsample(one.mask, self.patch_size, patches.resized_hw, image_hw, how)
            if not full.any():
                continue
            if photo is not None:
                full = free & refine(photo, full, patch)
                if not full.any():
                    continue
            free &= ~full
            encoded = rle.encode(full)
            record: MaskRecord = {
                "image_id": image_id,
                "key": key,
                "segmentation": encoded,
                "bbox": rle.bbox(encoded),
                "area": rle.area(encoded),
                "score": 1.0,
                "source_patch": list(one.source),
                "coverage": float(one.mask.mean()),
            }
            if one.tied is not None:
                record["tied"] = one.tied
            records.append(record)
        return records

    def warn(self, log: logging.Logger) -> None:
        """Say what ``cls_mass`` made arbitrary [method §2b], and of how many images a rule found what odd."""
        if self.tied:
            log.info(
                "cls_mass: the order of equal CLS affinities chose %.1f %% of the candidate patches, some of "
                "them in %d of %d images",
                100 * np.mean(self.tied), np.count_nonzero(self.tied), len(self.tied),
            )  # fmt: skip
        for said, images in sorted(self.warnings.items()):
            log.warning("%s, in %d images", said, images)
