"""Mask R-CNN's parts with a feature pyramid and light heads: on a plain vision transformer (ViTDet, Li et al.
2022) or on a ResNet.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor
from torchvision.ops import FeaturePyramidNetwork

from maskdistill.backbones.resnet import ResNet
from maskdistill.backbones.vit_trunk import ViTTrunk
from maskdistill.config import DetectorConfig
from maskdistill.detector.heads import BoxPredictor, RegionHeads, Res5RoIHeads
from maskdistill.detector.pooling import numbered, pooled
from maskdistill.detector.proposals import anchor_levels
from maskdistill.detector.trunk import Trunk
from maskdistill.runtime.devices import mixed

LAYER3 = "layer3"
FINEST = 4
"""Pixels of a cell of the finest map, or a little less where patches are no multiple."""
CELLS = 28
"""A region is read off the first map on which it is less than so many cells wide (Lin et al. 2017, §4.2)."""
BOX_WIDTH = 4
"""Width of the box head's hidden layer, in ``head_channels``."""
MASK_CONVOLUTIONS = 2


class SimplePyramid(nn.Module):
    """Maps of several strides, all made of the trunk's last one [Li et al. 2022, §3].

    The finest has a stride of about :data:`FINEST` pixels, the coarsest half the patches' resolution. Each is
    upsampled by transposed convolutions or halved by pooling, then a 1x1 and a 3x3 convolution, both with
    LayerNorm.

    Args:
        trunk: gives the map.
        channels: of each level.

    Attributes:
        strides: of the levels in pixels, finest first.
    """

    def __init__(self, trunk: ViTTrunk, channels: int) -> None:
        super().__init__()
        self.trunk = trunk
        factors = [4, 2, 1, 0.5] if trunk.stride >= 3 * FINEST else [2, 1, 0.5]
        self.strides = [trunk.stride / factor for factor in factors]
        self.levels = nn.ModuleList(_level(trunk.out_channels, channels, factor) for factor in factors)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) -> float32 (B, channels, H/stride, W/stride) by the level's number, rounded up."""
        tokens = self.trunk(images)
        with mixed(images.device, self.trunk.precision):
            maps = [level(tokens) for level in self.levels]
        return {str(number): one.float() for number, one in enumerate(maps)}


class ResNetPyramid(nn.Module):
    """A ResNet's layer1 to layer3 joined top down (FPN, Lin et al. 2017), with LayerNorm.

    Args:
        resnet: gives the maps; its layer4 is left to the regions.
        channels: of each level.
        precision: of the convolutions.

    Attributes:
        strides: of the levels in pixels, finest first.
    """

    def __init__(self, resnet: ResNet, channels: int, precision: str) -> None:
        super().__init__()
        self.trunk = Trunk(resnet, precision)
        self.precision = precision
        self.strides = [4.0, 8.0, 16.0]
        self.fpn = FeaturePyramidNetwork(list(resnet.channels[:3]), channels, norm_layer=LayerNorm2d)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) -> float32 maps (B, C, H/stride, W/stride), rounded up.

        The levels by their number, C ``channels``, and as the last, :data:`LAYER3`, the trunk's own.
        """
        with mixed(images.device, self.precision):
            maps = self.trunk.stages(images)
            levels: dict[str, Tensor] = self.fpn({str(number): one for number, one in enumerate(maps)})
        return {name: one.float() for name, one in levels.items()} | {LAYER3: maps[-1].float()}


def _level(wide: int, channels: int, factor: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    while factor > 1:
        layers += [nn.ConvTranspose2d(wide, wide // 2, 2, stride=2), LayerNorm2d(wide // 2), nn.GELU()]
        wide, factor = wide // 2, factor / 2
    if factor < 1:
        layers.append(nn.MaxPool2d(2, ceil_mode=True))
    layers += [nn.Conv2d(wide, channels, 1, bias=False), LayerNorm2d(channels)]
    return nn.Sequential(
        *layers, nn.Conv2d(channels, channels, 3, padding=1, bias=False), LayerNorm2d(channels)
    )


class LevelledHead(nn.Module):
    """The RPN's head: one convolution for all levels, predictors for each level's anchors.

    Args:
        channels: of each level.
        sizes: of the anchors, ascending.
        strides: of the levels.
        ratios: number of aspect ratios.
    """

    def __init__(self, channels: int, sizes: Sequence[int], strides: Sequence[float], ratios: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.cls_logits = nn.Conv2d(channels, len(sizes) * ratios, 1)
        self.bbox_pred = nn.Conv2d(channels, 4 * len(sizes) * ratios, 1)
        levels = anchor_levels(sizes, strides)
        self.used = sorted(set(levels))
        bounds = [levels.index(level) * ratios for level in self.used] + [len(sizes) * ratios]
        self.columns = list(pairwise(bounds))
        for layer in (self.conv, self.cls_logits, self.bbox_pred):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, maps: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Logits (B, A, H, W) and deltas (B, 4 A, H, W) of each level that has anchors, A of a cell."""
        logits, deltas = [], []
        for level, (first, end) in zip(self.used, self.columns, strict=True):
            hidden = F.relu(self.conv(maps[level]))
            logits.append(_columns(self.cls_logits, hidden, first, end))
            deltas.append(_columns(self.bbox_pred, hidden, 4 * first, 4 * end))
        return logits, deltas


def _columns(layer: nn.Conv2d, maps: Tensor, first: int, end: int) -> Tensor:
    """Some output channels of a 1x1 convolution."""
    assert layer.bias is not None
    return F.conv2d(maps, layer.weight[first:end], layer.bias[first:end])


class PyramidPool(nn.Module):
    """RoIAlign on that level of a pyramid which suits a region's size.

    Args:
        side: of the output.
        strides: of the levels, each twice the one before.
    """

    def __init__(self, side: int, strides: Sequence[float]) -> None:
        super().__init__()
        self.side, self.strides = side, list(strides)

    def forward(self, maps: dict[str, Tensor], boxes: list[Tensor]) -> Tensor:
        """Maps by level, each image's boxes (n, 4) xyxy -> (all n, C, side, side), in order."""
        regions = numbered(boxes)
        widths = ((regions[:, 3] - regions[:, 1]) * (regions[:, 4] - regions[:, 2])).clamp(min=1).sqrt()
        levels = (torch.log2(widths / (CELLS * self.strides[0])).floor() + 1).clamp(0, len(self.strides) - 1)
        found, places = [], []
        for level, stride in enumerate(self.strides):
            place = torch.nonzero(levels == level).flatten()
            found.append(pooled(maps[str(level)], regions[place], self.side, 1 / stride))
            places.append(place)
        return torch.cat(found)[torch.cat(places).argsort()]


def _mask_head(channels: int, num_clusters: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(MASK_CONVOLUTIONS):
        layers += [nn.Conv2d(channels, channels, 3, padding=1, bias=False), LayerNorm2d(channels), nn.ReLU()]
    return nn.Sequential(*layers, MaskRCNNPredictor(channels, channels, num_clusters))


class PyramidRoIHeads(RegionHeads):
    """RoIAlign from a pyramid -> two linear layers for classes and boxes, a few convolutions for masks.

    Boxes are read off half as many cells as masks, 7 x 7 of 14 x 14. Batch normalisation in their head, as in
    C4's, makes the classes learn several times faster than none.

    Args:
        config: the detector's section.
        strides: of the pyramid's levels.
        num_clusters: K.
    """

    def __init__(self, config: DetectorConfig, strides: Sequence[float], num_clusters: int) -> None:
        channels, side = config.head_channels, (config.roi_pool + 1) // 2
        wide = BOX_WIDTH * channels
        vectors: list[nn.Module] = [nn.Flatten()]
        for inputs in (side * side * channels, wide):
            vectors += [nn.Linear(inputs, wide, bias=False), nn.LayerNorm(wide), nn.ReLU()]
        pool, head, predictor = (
            PyramidPool(side, strides),
            nn.Sequential(*vectors),
            BoxPredictor(wide, num_clusters),
        )
        super().__init__(config, pool, head, predictor, _mask_head(channels, num_clusters))
        self.mask_pool = PyramidPool(config.roi_pool, strides)

    def box_features(self, maps: dict[str, Tensor], boxes: list[Tensor]) -> Tensor:
        """The pooled maps themselves."""
        regions: Tensor = self.box_roi_pool(maps, boxes)
        return regions

    def box_vectors(self, regions: Tensor) -> Tensor:
        """(n, C, side, side) -> (n, :data:`BOX_WIDTH` C)."""
        with mixed(regions.device, self.precision):
            vectors: Tensor = self.box_head(regions)
        return vectors.float()

    def mask_features(self, maps: dict[str, Tensor], boxes: list[Tensor]) -> Tensor:
        """The pooled maps, (all n, C, roi_pool, roi_pool)."""
        regions: Tensor = self.mask_pool(maps, boxes)
        return regions


class Res5PyramidRoIHeads(Res5RoIHeads):
    """Classes and boxes as C4 has them, from layer4 on each region; masks from the finer maps of a pyramid.

    So classes start from the last stage's pretrained features, and outlines are as sharp as layer1 sees them.
    Boxes are read off half as many cells as masks.

    Args:
        config: the detector's section.
        pyramid: whose maps these are.
        resnet: gives layer4.
        num_clusters: K.
    """

    def __init__(
        self, config: DetectorConfig, pyramid: ResNetPyramid, resnet: ResNet, num_clusters: int
    ) -> None:
        masks = _mask_head(config.head_channels, num_clusters)
        super().__init__(
            config,
            resnet.layer4,
            resnet.channels[3],
            num_clusters,
            side=(config.roi_pool + 1) // 2,
            masks=masks,
        )
        self.mask_pool = PyramidPool(config.roi_pool, pyramid.strides)

    def box_features(self, maps: dict[str, Tensor], boxes: list[Tensor]) -> Tensor:
        """Of the trunk's own map: layer4's output."""
        return super().box_features({LAYER3: maps[LAYER3]}, boxes)

    def mask_features(self, maps: dict[str, Tensor], boxes: list[Tensor]) -> Tensor:
        """The pooled levels, (all n, C, roi_pool, roi_pool)."""
        regions: Tensor = self.mask_pool(maps, boxes)
        return regions

    def _positive_features(
        self, maps: dict[str, Tensor], boxes: list[Tensor], labels: list[Tensor], regions: Tensor
    ) -> Tensor:
        return RegionHeads._positive_features(self, maps, boxes, labels, regions)
