"""Mask R-CNN with a C4 trunk or on a ViT, composed of torchvision's parts."""

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.rpn import RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes
from torchvision.ops import clip_boxes_to_image

from maskdistill.backbones.resnet import ResNet, freeze_stages
from maskdistill.backbones.vit import IMAGENET_MEAN, IMAGENET_STD, ViT
from maskdistill.backbones.vit_trunk import ViTTrunk
from maskdistill.config import DetectorConfig
from maskdistill.detector.grids import paste_masks, resize_image, resize_masks, resized_shape
from maskdistill.detector.heads import RegionHeads, Res5RoIHeads, TensorDict
from maskdistill.detector.losses import SIZE, random_stream
from maskdistill.detector.proposals import Anchors, ProposalNetwork
from maskdistill.detector.pyramid import (
    LevelledHead,
    PyramidRoIHeads,
    Res5PyramidRoIHeads,
    ResNetPyramid,
    SimplePyramid,
)
from maskdistill.detector.trunk import Trunk


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
        self,
        result: list[TensorDict],
        image_shapes: list[tuple[int, int]],
        original_image_sizes: list[tuple[int, int]],
    ) -> list[TensorDict]:
        """Boxes in pixels of the original images, and ``masks`` as bool (n, H, W)."""
        if self.training:
            return result
        placed = []
        for found, resized, original in zip(result, image_shapes, original_image_sizes, strict=True):
            boxes = clip_boxes_to_image(resize_boxes(found["boxes"], resized, original), original)
            placed.append(
                {**found, "boxes": boxes, "masks": paste_masks(found["masks"][:, 0], boxes, original)}
            )
        return placed


def build_detector(config: DetectorConfig, num_clusters: int, network: ResNet | ViT) -> nn.Module:
    """Mask R-CNN: R50-C4 in the arrangement of [P §A.1], or on a ViT (:mod:`maskdistill.detector.pyramid`).

    Detectron2's defaults where the papers are silent. Called in train mode with ``(images, targets)`` it
    returns a dict of losses; in eval mode, with images, a list of detections, whose boxes and masks are in
    pixels of the images as given.

    Args:
        config: the detector's section.
        num_clusters: K.
        network: from ``build_student(config.arch)``; its first parts, by ``config.freeze_at``, become fixed.
    """
    heads: RegionHeads
    head: nn.Module
    trunk: Trunk | ResNetPyramid | SimplePyramid
    if isinstance(network, ResNet):
        freeze_stages(network, config.freeze_at)
    if isinstance(network, ResNet) and not config.pyramid:
        trunk = Trunk(network, config.precision)
        anchors = Anchors(config.anchor_sizes, config.aspect_ratios)
        head = RPNHead(trunk.out_channels, anchors.num_anchors_per_location()[0])
        heads = Res5RoIHeads(config, network.layer4, network.channels[3], num_clusters)
    else:
        if isinstance(network, ResNet):
            trunk = ResNetPyramid(network, config.head_channels, config.precision)
            heads = Res5PyramidRoIHeads(config, trunk, network, num_clusters)
        else:
            vit = ViTTrunk(network, config.arch, config.freeze_at, config.precision)
            trunk = SimplePyramid(vit, config.head_channels)
            heads = PyramidRoIHeads(config, trunk.strides, num_clusters)
        sizes = sorted(config.anchor_sizes)
        anchors = Anchors(sizes, config.aspect_ratios, trunk.strides)
        head = LevelledHead(config.head_channels, sizes, trunk.strides, len(config.aspect_ratios))
    rpn = ProposalNetwork(
        anchors,
        head,
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=config.rpn_batch,
        positive_fraction=0.5,
        pre_nms_top_n=dict(zip(("training", "testing"), config.rpn_pre_nms, strict=True)),
        post_nms_top_n=dict(zip(("training", "testing"), config.rpn_post_nms, strict=True)),
        nms_thresh=0.7,
        drop_loss=config.drop_loss,
    )
    model: nn.Module = GeneralizedRCNN(trunk, rpn, heads, ResizeTransform(config))
    return model


def norm_parameter_groups(
    model: nn.Module, weight_decay: float, backbone_lr: float = 1.0
) -> list[dict[str, object]]:
    """Trainable parameters in groups for an optimiser: norm layers without weight decay, the rest with.

    Where ``backbone_lr`` is not 1, those of the pre-trained network, layer4 on the regions included, are
    apart, with this ``lr_scale``.
    """
    norms = _parameters(model, nn.modules.batchnorm._BatchNorm | nn.LayerNorm)
    trunk = _parameters(model, ViTTrunk | Trunk) if backbone_lr != 1 else set()
    if trunk:
        layer4 = (heads.box_head[0] for heads in model.modules() if isinstance(heads, Res5RoIHeads))
        trunk |= {id(parameter) for layer in layer4 for parameter in layer.parameters()}
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups: list[dict[str, object]] = []
    for part, scale in ((set(map(id, trainable)) - trunk, 1.0), (trunk, backbone_lr)):
        chosen = [parameter for parameter in trainable if id(parameter) in part]
        for decay, of_norms in ((weight_decay, False), (0.0, True)):
            of_kind = [parameter for parameter in chosen if (id(parameter) in norms) == of_norms]
            groups.append({"params": of_kind, "weight_decay": decay, "lr_scale": scale})
    return groups if trunk else groups[:2]


def _parameters(model: nn.Module, kinds: Any) -> set[int]:
    """Identities of the parameters in modules of some kinds."""
    return {id(p) for module in model.modules() if isinstance(module, kinds) for p in module.parameters()}


def detector_lr(config: DetectorConfig, step: int) -> float:
    """Rate of a step (from 0): linear warmup, then ``gamma`` at each ``config.steps`` [P §A.1]."""
    rate = config.lr * config.gamma ** sum(step >= drop for drop in config.steps)
    if step < config.warmup_iters:
        done = step / config.warmup_iters
        rate *= config.warmup_factor * (1 - done) + done
    return rate
