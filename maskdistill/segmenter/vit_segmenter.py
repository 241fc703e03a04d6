"""A vision transformer as a segmenter: patch tokens, enlarged by a light decoder that sees the picture itself again."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskdistill.backbones.vit import ViT, pad_to_multiple
from maskdistill.backbones.vit_trunk import ViTTrunk
from maskdistill.config import SegmenterConfig
from maskdistill.segmenter.model import Segmenter


def _layer(wide_in: int, wide_out: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, batch normalisation, ReLU."""
    convolution = nn.Conv2d(wide_in, wide_out, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(wide_out), nn.ReLU(inplace=True))


class Decoder(nn.Module):
    """Tokens say what is where, convolutions on the picture where it ends; they meet at 1/4 and 1/2 of its sides.

    The arrangement is U-Net's (Ronneberger et al. 2015) with a transformer in place of its lower levels.

    Args:
        channels: D of the tokens.
        width: channels at 1/4; half as many at 1/2.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.out_channels = max(1, width // 2)
        self.at_half, self.at_quarter = _layer(3, self.out_channels, 2), _layer(self.out_channels, width, 2)
        self.tokens = nn.Conv2d(channels, width, 1)
        self.join_quarter = _layer(2 * width, width)
        self.join_half = _layer(width + self.out_channels, self.out_channels)

    def forward(self, images: Tensor, tokens: Tensor) -> Tensor:
        """Images (B, 3, H, W), sides divisible by 4, and tokens (B, D, H/p, W/p) -> (B, out_channels, H/2, W/2)."""
        half = self.at_half(images)
        quarter = self.at_quarter(half)
        joined: Tensor = self.join_quarter(torch.cat([_enlarge(self.tokens(tokens), quarter), quarter], dim=1))
        joined = self.join_half(torch.cat([_enlarge(joined, half), half], dim=1))
        return joined


def _enlarge(maps: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(maps, size=like.shape[-2:], mode="bilinear", align_corners=False)


class ViTSegmenter(Segmenter):
    """A :class:`ViTTrunk` with a :class:`Decoder`, or with head ``linear`` the 1x1 convolution on the tokens alone.

    Args:
        config: the segmenter's section.
        num_clusters: K; class 0 is the background.
        vit: of ``build_student(config.arch)``; ``config.freeze_at`` as of :class:`ViTTrunk`.
    """

    def __init__(self, config: SegmenterConfig, num_clusters: int, vit: ViT) -> None:
        trunk = ViTTrunk(vit, config.arch, config.freeze_at, config.precision)
        linear = config.head == "linear"
        decoder = None if linear else Decoder(trunk.out_channels, config.head_channels)
        channels = trunk.out_channels if decoder is None else decoder.out_channels
        super().__init__(trunk, nn.Sequential(decoder or nn.Identity(), nn.Conv2d(channels, num_clusters + 1, 1)))
        self.multiple = max(trunk.stride, 1 if linear else 4)

    def maps(self, images: Tensor) -> Tensor:
        """What the last convolution is given: float (B, C, H/2, W/2), or one place a patch with head ``linear``."""
        tokens = self.backbone(images)
        decoder = self.classifier[0]
        maps: Tensor = decoder(images, tokens) if isinstance(decoder, Decoder) else tokens
        return maps

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) of any size -> logits float32 (B, K+1, H, W)."""
        height, width = images.shape[-2:]
        return super().forward(pad_to_multiple(images, self.multiple))[..., :height, :width]
