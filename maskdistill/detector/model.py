"""Mask R-CNN with a C4 trunk, composed of torchvision's parts."""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.rpn import RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes
from torchvision.ops import clip_boxes_to_image

from maskdistill.backbones.resnet import ResNet, freeze_stages
from maskdistill.backbones.vit import IMAGENET_MEAN, IMAGENET_STD
from maskdistill.config import DetectorConfig
from maskdistill.detector.grids import paste_masks, resize_image, resize_masks, resized_shape
from maskdistill.detector.heads import Res5RoIHeads, TensorDict
from maskdistill.detector.losses import SIZE, random_stream
from maskdistill.detector.proposals import Anchors, ProposalNetwork
from maskdistill.runtime.devices import mixed


class ResizeTransform(GeneralizedRCNNTransform):  # type: ignore[misc]
    """Normalise, resize, batch: in training to one of ``min_size_train``, else to ``min_size_test``.

    The choice is drawn from ``seed`` of the target, without one from torch's global generator. Sizes and
    interpolation are Pillow's and detectron2's; images of a batch are padded to the largest, no further.
    """

    def __init__(self, config: DetectorConfig) -> None:
        sizes = [*config.min_size_train, config.min_size_test]
        super().__init__(sizes, config.max_size, list(IMAGENET_MEAN), list(IMAGENET_STD), size_divisible=1)

    def resize(self, image: Tensor, target: TensorDict | None = None) -> tuple[Tensor, TensorDict | None]:
        """Resize an image, float (3, H, W), with its ``boxes`` and ``masks``."""
        before = (image.shape[-2], image.shape[-1])
        side = self.min_size[-1]
        if self.training:
            generator = random_stream(target or {}, SIZE, torch.device("cpu"))
            side = self.min_size[int(torch.randint(len(self.min_size) - 1, (1,), generator=generator))]
        shape = resized_shape(before[0], before[1], side, self.max_size)
        if target is not None:
            boxes, masks = resize_boxes(target["boxes"], before, shape), resize_masks(target["masks"], shape)
            target = {**target, "boxes": boxes, "masks": masks}
        return resize_image(image, shape), target

    def postprocess(
        self, result: list[TensorDict], image_shapes: list[tuple[int, int]], original_image_sizes: list[tuple[int, int]]
    ) -> list[TensorDict]:
        """Boxes in pixels of the original images, and ``masks`` as bool (n, H, W)."""
        if self.training:
            return result
        placed = []
        for found, resized, original in zip(result, image_shapes, original_image_sizes, strict=True):
            boxes = clip_boxes_to_image(resize_boxes(found["boxes"], resized, original), original)
            placed.append({**found, "boxes": boxes, "masks": paste_masks(found["masks"][:, 0], boxes, original)})
        return placed


class Trunk(nn.Sequential):
    """Stem to layer3 of a ResNet, stride 16.

    Args:
        resnet: whose parts are taken over.
        precision: of the convolutions.
    """

    def __init__(self, resnet: ResNet, precision: str) -> None:
        names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3")
        super().__init__(OrderedDict((name, getattr(resnet, name)) for name in names))
        self.out_channels = resnet.channels[2]
        self.precision = precision

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> float32 (B, out_channels, H/16, W/16)."""
        with mixed(images.device, self.precision):
            maps: Tensor = super().forward(images)  # type: ignore[no-untyped-call]
        return maps.float()


def build_detector(config: DetectorConfig, num_clusters: int, resnet: ResNet) -> nn.Module:
    """Mask R-CNN R50-C4 in the arrangement of [P §A.1]; detectron2's defaults where the paper is silent.

    Called in train mode with ``(images, targets)`` it returns a dict of losses; in eval mode, with
    images, a list of detections, whose boxes and masks are in pixels of the images as given.

    Args:
        config: the detector's section.
        num_clusters: K.
        resnet: from ``build_resnet(config.arch)``; its first ``config.freeze_at`` stages become fixed.
    """
    freeze_stages(resnet, config.freeze_at)
    trunk = Trunk(resnet, config.precision)
    anchors = Anchors(config.anchor_sizes, config.aspect_ratios)
    rpn = ProposalNetwork(
        anchors,
        RPNHead(trunk.out_channels, anchors.num_anchors_per_location()[0]),
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=config.rpn_batch,
        positive_fraction=0.5,
        pre_nms_top_n=dict(zip(("training", "testing"), config.rpn_pre_nms, strict=True)),
        post_nms_top_n=dict(zip(("training", "testing"), config.rpn_post_nms, strict=True)),
        nms_thresh=0.7,
        drop_loss=config.drop_loss,
    )
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
