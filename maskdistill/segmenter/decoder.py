"""Segmenters whose coarse maps are enlarged by a light decoder that sees the picture itself again."""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskdistill.backbones.resnet import ResNet, freeze_stages
from maskdistill.backbones.vit import ViT, pad_to_multiple
from maskdistill.backbones.vit_trunk import ViTTrunk
from maskdistill.config import SegmenterConfig
from maskdistill.segmenter.model import Segmenter

OUTPUT_STRIDE = 16
"""Of a ResNet below the decoder, whose picture has the outlines."""


def _layer(wide_in: int, wide_out: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, batch normalisation, ReLU."""
    convolution = nn.Conv2d(wide_in, wide_out, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(wide_out), nn.ReLU(inplace=True))


class Decoder(nn.Module):
    """Coarse maps say what is where, finer ones where it ends; they meet from the coarsest up, at half of the
    picture's sides with convolutions on the picture itself.

    The arrangement is U-Net's (Ronneberger et al. 2015) with the backbone in place of its descending half.

    Args:
        channels: D of the coarse maps.
        width: channels of the joined maps; half as many at 1/2.
        skips: channels of the backbone's finer maps, coarsest first; none: of a backbone that has a single
            map another convolution on the picture takes their place, at 1/4.
    """

    def __init__(self, channels: int, width: int, skips: Sequence[int] = ()) -> None:
        super().__init__()
        self.out_channels = max(1, width // 2)
        self.at_half = _layer(3, self.out_channels, 2)
        self.at_quarter = None if skips else _layer(self.out_channels, width, 2)
        self.coarse = nn.Conv2d(channels, width, 1)
        self.joins = nn.ModuleList(_layer(width + skip, width) for skip in skips or (width,))
        self.narrow = nn.Conv2d(width, self.out_channels, 1)
        self.join_half = _layer(2 * self.out_channels, self.out_channels)

    def forward(self, images: Tensor, coarse: Tensor, skips: Sequence[Tensor] = ()) -> Tensor:
        """Images (B, 3, H, W), sides divisible by 4, and maps of them -> (B, out_channels, H/2, W/2).

        Args:
            coarse: (B, D, h, w).
            skips: (B, C, h, w) each, as many as ``skips`` of the constructor.
        """
        half = self.at_half(images)
        finer = [self.at_quarter(half)] if self.at_quarter is not None else skips
        joined: Tensor = self.coarse(coarse)
        for join, skip in zip(self.joins, finer, strict=True):
            joined = join(torch.cat([_enlarge(joined, skip), skip], dim=1))
        joined = self.join_half(torch.cat([_enlarge(self.narrow(joined), half), half], dim=1))
        return joined


def _enlarge(maps: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(maps, size=like.shape[-2:], mode="bilinear", align_corners=False)


class DecoderSegmenter(Segmenter):
    """A backbone with a :class:`Decoder`, or for head ``linear`` a 1x1 convolution.

    Of a ResNet the decoder joins layer4's, layer2's and layer1's.

    Args:
        config: the segmenter's section.
        num_clusters: K; class 0 is the background.
        backbone: gives maps of a picture.
        channels: of these maps.
        multiple: of which the backbone wants the sides to be.
    """

    def __init__(
        self,
        config: SegmenterConfig,
        num_clusters: int,
        backbone: nn.Module,
        channels: int,
        multiple: int = 1,
    ) -> None:
        skips = backbone.channels[1::-1] if isinstance(backbone, ResNet) else ()
        decoder = None if config.head == "linear" else Decoder(channels, config.head_channels, skips)
        channels = channels if decoder is None else decoder.out_channels
        super().__init__(
            backbone, nn.Sequential(decoder or nn.Identity(), nn.Conv2d(channels, num_clusters + 1, 1))
        )
        self.multiple = max(multiple, 1 if decoder is None else 4)

    def maps(self, images: Tensor) -> Tensor:
        """Input of the last convolution: float (B, C, H/2, W/2), for ``linear`` the backbone's maps."""
        decoder = self.classifier[0]
        if not isinstance(decoder, Decoder):
            return cast(Tensor, self.backbone(images))
        if isinstance(self.backbone, ResNet):
            finest, finer, _, coarse = self.backbone.pyramid(images)
            return cast(Tensor, decoder(images, coarse, (finer, finest)))
        return cast(Tensor, decoder(images, self.backbone(images)))

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) of any size -> logits float32 (B, K+1, H, W)."""
        height, width = images.shape[-2:]
        return super().forward(pad_to_multiple(images, self.multiple))[..., :height, :width]


def on_vit(config: SegmenterConfig, num_clusters: int, vit: ViT) -> DecoderSegmenter:
    """On patch tokens; ``config.freeze_at`` as of :class:`ViTTrunk`."""
    trunk = ViTTrunk(vit, config.arch, config.freeze_at, config.precision)
    return DecoderSegmenter(config, num_clusters, trunk, trunk.out_channels, trunk.stride)


def on_resnet(config: SegmenterConfig, num_clusters: int, resnet: ResNet) -> DecoderSegmenter:
    """On ``build_resnet(config.arch, OUTPUT_STRIDE)``, the first ``freeze_at`` stages fixed."""
    freeze_stages(resnet, config.freeze_at)
    return DecoderSegmenter(config, num_clusters, resnet, resnet.channels[3])
