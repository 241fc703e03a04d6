"""Anchors and the loss of the region proposal network, as detectron2 has them by default [method §5]."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork

from maskdistill.detector.boxes import overlaps
from maskdistill.detector.drop_loss import drop_distant
from maskdistill.detector.losses import ANCHORS, balanced_sample, random_stream

STRIDE = 16


def anchor_levels(sizes: Sequence[int], strides: Sequence[float]) -> list[int]:
    """The level of each anchor size: the stride nearest to its eighth (Lin et al. 2017)."""
    return [
        min(range(len(strides)), key=lambda level: abs(math.log2(size / (8 * strides[level]))))
        for size in sizes
    ]


class Anchors(AnchorGenerator):  # type: ignore[misc]
    """Boxes of exactly ``size``² pixels, centred on the cells' top left corners; ratios vary fastest.

    Torchvision rounds the corners, has sizes vary fastest, and derives the stride from the padded image.

    Args:
        sizes: square roots of the boxes' areas, in pixels of the resized image.
        aspect_ratios: height / width.
        strides: of the feature maps, over which the sizes are spread.
    """

    def __init__(
        self, sizes: Sequence[int], aspect_ratios: Sequence[float], strides: Sequence[float] = (STRIDE,)
    ) -> None:
        levels = anchor_levels(sizes, strides)
        self.used = sorted(set(levels))
        self.strides = [strides[level] for level in self.used]
        spread = [tuple(s for s, on in zip(sizes, levels, strict=True) if on == level) for level in self.used]
        super().__init__(tuple(spread), (tuple(aspect_ratios),) * len(spread))

    def generate_anchors(
        self,
        scales: Sequence[int],
        aspect_ratios: Sequence[float],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """float (len(scales) * len(aspect_ratios), 4), xyxy about (0, 0)."""
        size = torch.tensor(scales, dtype=torch.float64, device=device)[:, None]
        root = torch.tensor(aspect_ratios, dtype=torch.float64, device=device).sqrt()
        x, y = (size / root).flatten() / 2, (size * root).flatten() / 2
        return torch.stack([-x, -y, x, y], dim=1).to(dtype)

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """For each image the anchors of all cells of all levels, float (cells * anchors a cell, 4) xyxy."""
        maps = [feature_maps[level] for level in self.used]
        self.set_cell_anchors(maps[0].dtype, maps[0].device)
        steps = [torch.tensor(stride, device=maps[0].device) for stride in self.strides]
        anchors = torch.cat(
            self.grid_anchors([one.shape[-2:] for one in maps], [[step, step] for step in steps])
        )
        return [anchors] * len(image_list.image_sizes)


class ProposalNetwork(RegionProposalNetwork):  # type: ignore[misc]
    """Torchvision's, with L1 for boxes and losses divided by the nominal batch size.

    All proposals with an area are kept; torchvision drops those thinner than 0.001 pixels. ``drop_loss`` as
    of :class:`maskdistill.config.DetectorConfig`.
    """

    def __init__(self, *parts: Any, drop_loss: float, **settings: Any) -> None:
        super().__init__(*parts, **settings)
        self.drop_loss, self.box_similarity = drop_loss, overlaps
        self.min_size = torch.finfo(torch.float32).tiny

    def compute_loss(
        self,
        objectness: Tensor,
        pred_bbox_deltas: Tensor,
        labels: list[Tensor],
        regression_targets: list[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Binary cross-entropy of the sampled anchors, and L1 over the positive ones among them.

        Args:
            objectness: logits (anchors of all images, 1).
            pred_bbox_deltas: (anchors of all images, 4).
            labels: by image 1 object, 0 background, -1 not in the sample.
            regression_targets: by image (anchors, 4).
        """
        every_label = torch.cat(labels)
        positive, sampled = every_label > 0, every_label >= 0
        nominal = self.fg_bg_sampler.batch_size_per_image * len(labels)
        box_loss = (pred_bbox_deltas[positive] - torch.cat(regression_targets)[positive]).abs().sum()
        objectness_loss = F.binary_cross_entropy_with_logits(
            objectness.flatten()[sampled], every_label[sampled], reduction="sum"
        )
        return objectness_loss / nominal, box_loss / nominal

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Each image's anchor labels (n,), -1 outside the sample, and matched boxes (n, 4)."""
        labels, boxes = super().assign_targets_to_anchors(anchors, targets)
        size, share = self.fg_bg_sampler.batch_size_per_image, self.fg_bg_sampler.positive_fraction
        sampled = []
        for all_labels, of_cells, target in zip(labels, anchors, targets, strict=True):
            of_image = drop_distant(all_labels, of_cells, target["boxes"], self.drop_loss)
            chosen = balanced_sample(of_image, size, share, random_stream(target, ANCHORS, of_image.device))
            sampled.append(torch.full_like(of_image, -1).index_copy(0, chosen, of_image[chosen]))
        return sampled, boxes
