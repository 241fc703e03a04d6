"""Mask R-CNN with a C4 trunk, composed of torchvision's parts."""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from maskdistill.backbones.resnet import ResNet, freeze_stages, mixed_precision
from maskdistill.backbones.vit import IMAGENET_MEAN, IMAGENET_STD
from maskdistill.config import DetectorConfig
from maskdistill.detector.heads import STRIDE, Res5RoIHeads
from maskdistill.detector.losses import (
    ANCHORS,
    SIZE,
    balanced_sample,
    proposal_losses,
    random_stream,
)

CPU = torch.device("cpu")
POSITIVE_FRACTION = 0.5


class ResizeTransform(GeneralizedRCNNTransform):  # type: ignore[misc]
    """Normalise, resize, batch: in training to one of ``min_size_train``, else to ``min_size_test``.

    The choice is drawn from ``seed`` of the target.
    """

    def __init__(self, config: DetectorConfig) -> None:
        mean, std = list(IMAGENET_MEAN), list(IMAGENET_STD)
        super().__init__(config.min_size_test, config.max_size, mean, std, size_divisible=STRIDE)
        self.train_sizes, self.test_size = config.min_size_train, self.min_size

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        """A normalised image (3, H, W) and its target at the size of training or of test."""
        if self.training and target is not None:
            drawn = torch.randint(len(self.train_sizes), (1,), generator=random_stream(target["seed"], SIZE, CPU))
            self.min_size = (self.train_sizes[int(drawn)],)
        else:
            self.min_size = self.test_size
        resized: tuple[Tensor, dict[str, Tensor] | None] = super().resize(image, target)
        return resized


class ProposalNetwork(RegionProposalNetwork):  # type: ignore[misc]
    """torchvision's RPN with the samples and losses of :mod:`maskdistill.detector.losses`."""

    def __init__(self, config: DetectorConfig, in_channels: int) -> None:
        anchors = AnchorGenerator((tuple(config.anchor_sizes),), (tuple(config.aspect_ratios),))
        super().__init__(
            anchors,
            RPNHead(in_channels, anchors.num_anchors_per_location()[0]),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=config.rpn_batch,
            positive_fraction=POSITIVE_FRACTION,
            pre_nms_top_n=dict(zip(("training", "testing"), config.rpn_pre_nms, strict=True)),
            post_nms_top_n=dict(zip(("training", "testing"), config.rpn_post_nms, strict=True)),
            nms_thresh=0.7,
        )
        self.sample_size = config.rpn_batch

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """For each image the labels (n,) of its anchors, -1 outside the sample, and the matched boxes (n, 4)."""
        labels, boxes = super().assign_targets_to_anchors(anchors, targets)
        sampled = []
        for of_image, target in zip(labels, targets, strict=True):
            generator = random_stream(target["seed"], ANCHORS, of_image.device)
            chosen = balanced_sample(of_image, self.sample_size, POSITIVE_FRACTION, generator)
            sampled.append(torch.full_like(of_image, -1).index_copy(0, chosen, of_image[chosen]))
        return sampled, boxes

    def compute_loss(
        self, objectness: Tensor, pred_bbox_deltas: Tensor, labels: list[Tensor], regression_targets: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """See :func:`maskdistill.detector.losses.proposal_losses`."""
        size = self.sample_size * len(labels)
        flat = objectness.flatten()
        return proposal_losses(flat, pred_bbox_deltas, torch.cat(labels), torch.cat(regression_targets), size)


class Trunk(nn.Sequential):
    """Stem to layer3 of a ResNet, stride 16."""

    def __init__(self, resnet: ResNet) -> None:
        names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3")
        super().__init__(OrderedDict((name, getattr(resnet, name)) for name in names))
        self.out_channels = resnet.channels[2]

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> float32 (B, out_channels, H/16, W/16)."""
        with mixed_precision(images.device):
            maps: Tensor = super().forward(images)  # type: ignore[no-untyped-call]
        return maps.float()


def build_detector(config: DetectorConfig, num_clusters: int, resnet: ResNet) -> nn.Module:
    """Mask R-CNN R50-C4 in the arrangement of [P §A.1]; detectron2's defaults where the paper is silent.

    Called in train mode with ``(images, targets)`` it returns a dict of losses; in eval mode, with
    images, a list of detections whose masks are pasted at the size of the images as given.

    Args:
        config: the detector's section.
        num_clusters: K.
        resnet: from ``build_resnet(config.arch)``; its first ``config.freeze_at`` stages become fixed.
    """
    freeze_stages(resnet, config.freeze_at)
    trunk = Trunk(resnet)
    rpn = ProposalNetwork(config, trunk.out_channels)
    heads = Res5RoIHeads(config, resnet.layer4, resnet.channels[3], num_clusters)
    model: nn.Module = GeneralizedRCNN(trunk, rpn, heads, ResizeTransform(config))
    return model


def norm_parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Trainable parameters in two groups for an optimiser: norm layers without weight decay, the rest with."""
    norms = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        for parameter in module.parameters()
    }
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trainable if id(p) not in norms], "weight_decay": weight_decay},
        {"params": [p for p in trainable if id(p) in norms], "weight_decay": 0.0},
    ]


def detector_lr(config: DetectorConfig, step: int) -> float:
    """Learning rate of a step (from 0): linear warmup, then ``gamma`` at each of ``config.steps`` [P §A.1]."""
    rate = config.lr * config.gamma ** sum(step >= drop for drop in config.steps)
    if step < config.warmup_iters:
        done = step / config.warmup_iters
        rate *= config.warmup_factor * (1 - done) + done
    return rate
