"""What segmenters have in common, DeepLab-v3 on a ResNet with output stride 8, and the learning rate."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import ASPP

from maskdistill.backbones.resnet import ResNet, freeze_stages
from maskdistill.config import ProbeConfig, SegmenterConfig
from maskdistill.training.distributed import rank_and_world

OUTPUT_STRIDE = 8
LAYERS_BEFORE = 4
"""Layers of the head before its last convolution."""


class BatchDropout(nn.Dropout):
    """Dropout whose mask is drawn for the batch of all processes: how the batch is split changes nothing."""

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        if not self.training:
            return maps
        rank, world = rank_and_world()
        shape = (len(maps) * world, *maps.shape[1:])
        kept = torch.rand(shape, device=maps.device) >= self.p
        return maps * (kept[rank::world] / (1 - self.p)).to(maps)


class Segmenter(nn.Module):
    """A network whose last layer is a 1x1 convolution, on which bilinear enlargement follows.

    Args:
        backbone: gives maps of a picture.
        classifier: what follows, a ``Conv2d`` with one output a label last.
    """

    def __init__(self, backbone: nn.Module, classifier: nn.Sequential) -> None:
        super().__init__()
        self.backbone, self.classifier = backbone, classifier

    def maps(self, images: Tensor) -> Tensor:
        """What the last convolution is given: float (B, C, h, w) of normalised images (B, 3, H, W)."""
        maps: Tensor = self.classifier[:-1](self.backbone(images))
        return maps

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) -> logits float32 (B, K+1, H, W), enlarged bilinearly.

        The last convolution and the enlargement are in float32 under autocast too: in bfloat16 the largest
        logits of a pixel are often equal.
        """
        maps = self.maps(images)
        with torch.autocast(maps.device.type, enabled=False):
            logits = self.classifier[-1](maps.float())
            return F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)


class DeepLab(Segmenter):
    """DeepLab-v3 (Chen et al. 2017): ASPP with image pooling, one 3x3 convolution, one classifier.

    With ``resnet50`` and 256 head channels this is torchvision's ``deeplabv3_resnet50(aux_loss=None)``
    layer for layer, under the same state-dict keys; its dropout is :class:`BatchDropout`. With head
    ``linear`` the last 1x1 convolution, under the same key, lies on the ResNet's maps.

    Args:
        config: the segmenter's section.
        num_clusters: K; class 0 is the background.
        resnet: of ``build_resnet(config.arch, OUTPUT_STRIDE)``; its first ``config.freeze_at`` stages become
            fixed.
    """

    def __init__(self, config: SegmenterConfig, num_clusters: int, resnet: ResNet) -> None:
        freeze_stages(resnet, config.freeze_at)
        width = config.head_channels
        if config.head == "linear":
            layers = [nn.Identity() for _ in range(LAYERS_BEFORE)]
            super().__init__(
                resnet, nn.Sequential(*layers, nn.Conv2d(resnet.channels[3], num_clusters + 1, 1))
            )
            return
        pyramid = ASPP(resnet.channels[3], config.atrous_rates, width)
        pyramid.project[3] = BatchDropout(pyramid.project[3].p)
        classifier = nn.Sequential(
            pyramid,
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, num_clusters + 1, 1),
        )
        super().__init__(resnet, classifier)


def steps_per_epoch(num_images: int, batch_size: int) -> int:
    """Full batches an epoch, at least 1."""
    return max(1, num_images // batch_size)


def segmenter_lr(config: SegmenterConfig | ProbeConfig, step: int, epoch_steps: int) -> float:
    """Learning rate of a step (from 0): ``lr``, times ``gamma`` once ``drop_after`` epochs are over [P §4.1,
    §A.2].
    """
    return config.lr * (config.gamma if step >= config.drop_after * epoch_steps else 1.0)
