"""Vision transformers: construction, weights, and the tensors of the last attention block.

The network is timm's; positions are interpolated as DINO does (Caron et al. 2021), because timm's own
resampling gives other numbers for the same weights.
"""

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from maskdistill.backbones.weights import read_state_dict, strict_load
from maskdistill.runtime.errors import MaskDistillError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ViTArch:
    """Shape of a vision transformer.

    Attributes:
        image_size: the one its positional table was made for.
        conv_stem: patches are embedded by stride-2 3x3 convolutions instead of one linear map
            (Xiao et al. 2021, "Early convolutions help transformers see better").
    """

    patch_size: int
    embed_dim: int
    depth: int
    num_heads: int
    image_size: int = 224
    conv_stem: bool = False


ARCHITECTURES: dict[str, ViTArch] = {
    "vit_small_patch16": ViTArch(16, 384, 12, 6),
    "vit_small_patch8": ViTArch(8, 384, 12, 6),
    "vit_base_patch16": ViTArch(16, 768, 12, 12),
    "vit_base_patch8": ViTArch(8, 768, 12, 12),
    "vit_micro_patch8": ViTArch(8, 128, 4, 4, image_size=64, conv_stem=True),
}


def build_vit(arch: str, drop_path: float = 0.0) -> VisionTransformer:
    """Untrained ViT without a head; LayerNorm eps 1e-6, qkv bias, MLP ratio 4 (DINO's layout)."""
    if arch not in ARCHITECTURES:
        raise MaskDistillError(f"backbone.arch {arch!r} is unknown; take one of {', '.join(ARCHITECTURES)}")
    shape = ARCHITECTURES[arch]
    model = VisionTransformer(
        img_size=shape.image_size,
        patch_size=shape.patch_size,
        embed_dim=shape.embed_dim,
        depth=shape.depth,
        num_heads=shape.num_heads,
        num_classes=0,
        drop_path_rate=drop_path,
        dynamic_img_size=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
    )
    if shape.conv_stem:
        model.patch_embed.proj = _conv_stem(shape)  # type: ignore[assignment]
    return model


def _conv_stem(shape: ViTArch) -> nn.Sequential:
    """3x3 stride-2 convolutions down to one position a patch, then a 1x1 to ``embed_dim``."""
    halvings = shape.patch_size.bit_length() - 1
    widths = [3, *(shape.embed_dim // 2**i for i in range(halvings - 1, -1, -1))]
    layers: list[nn.Module] = []
    for wide_in, wide_out in pairwise(widths):
        layers += [nn.Conv2d(wide_in, wide_out, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(wide_out)]
        layers += [nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Conv2d(shape.embed_dim, shape.embed_dim, 1))


def load_vit(arch: str, weights: str) -> VisionTransformer:
    """ViT in eval mode with float32 weights.

    Args:
        arch: key of :data:`ARCHITECTURES`.
        weights: a checkpoint with DINO's (= timm's) names, or ``"random"``: seeded noise, for comparison only.

    Raises:
        MaskDistillError: the file is missing, damaged, or not of this architecture.
    """
    torch.manual_seed(0)
    model = build_vit(arch)
    if weights != "random":
        state = {name.removeprefix("backbone."): value for name, value in read_state_dict(weights).items()}
        strict_load(model, state, weights, ignore=("head.",))
    return model.eval().requires_grad_(False)


def interpolate_positions(pos_embed: Tensor, grid: tuple[int, int]) -> Tensor:
    """Positional table for a grid of ``(rows, columns)`` patches, DINO's way.

    Bicubic without antialiasing, by ``scale_factor = (R + 0.1) / R0``: the given factor, not the output
    size, sets the sampling coordinates (method 1.5).

    Args:
        pos_embed: float (1, 1 + R0*R0, D), CLS first.

    Returns:
        float (1, 1 + R*C, D).
    """
    cls_pos, patch_pos = pos_embed[:, :1], pos_embed[:, 1:]
    side = round(patch_pos.shape[1] ** 0.5)
    if grid == (side, side):
        return pos_embed
    table = patch_pos.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    factor = ((grid[0] + 0.1) / side, (grid[1] + 0.1) / side)
    table = F.interpolate(table, scale_factor=factor, mode="bicubic", align_corners=False)
    if table.shape[-2:] != torch.Size(grid):
        raise ValueError(f"interpolated to {tuple(table.shape[-2:])}, wanted {grid}")
    return torch.cat([cls_pos, table.flatten(2).transpose(1, 2)], dim=1)


def embed(model: VisionTransformer, images: Tensor) -> Tensor:
    """Tokens before the first block: float (B, 1 + R*C, D) of images (B, 3, R*patch, C*patch)."""
    patches = model.patch_embed.proj(images)
    grid = (patches.shape[-2], patches.shape[-1])
    tokens = patches.flatten(2).transpose(1, 2)
    cls_token, pos_embed = cast(Tensor, model.cls_token), cast(Tensor, model.pos_embed)
    tokens = torch.cat([cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
    out: Tensor = tokens + interpolate_positions(pos_embed, grid)
    return out


class LastAttention(NamedTuple):
    """What masks are made of, of a batch: rows of the last block's qkv projection, unscaled (method 1.6).

    Attributes:
        cls_query, cls_key: float (B, heads, D/heads).
        keys: float (B, R*C, D), heads concatenated, patches only.
    """

    cls_query: Tensor
    cls_key: Tensor
    keys: Tensor


def last_attention(model: VisionTransformer, images: Tensor) -> LastAttention:
    """Query and keys of the last block's attention; stops at its qkv projection.

    Args:
        images: float (B, 3, R*patch, C*patch), normalised.
    """
    tokens = embed(model, images)
    for block in model.blocks[:-1]:
        tokens = block(tokens)
    last = cast(Any, model.blocks[-1])
    qkv = last.attn.qkv(last.norm1(tokens))
    query, key, _ = qkv.chunk(3, dim=-1)
    heads = (last.attn.num_heads, -1)
    return LastAttention(query[:, 0].unflatten(-1, heads), key[:, 0].unflatten(-1, heads), key[:, 1:])


def cls_feature(model: VisionTransformer, images: Tensor, keep: float = 1.0) -> Tensor:
    """CLS token after the final LayerNorm: float (B, D) of images (B, 3, R*patch, C*patch).

    ``keep`` below 1 forwards that share of the patches only, a random choice for each image.
    """
    tokens = embed(model, images)
    if keep < 1:
        count, patches = len(tokens), tokens.shape[1] - 1
        chosen = torch.rand(count, patches, device=tokens.device).argsort(dim=1)[:, : max(1, int(keep * patches))] + 1
        chosen = torch.cat([chosen.new_zeros(count, 1), chosen], dim=1)
        tokens = tokens.gather(1, chosen[..., None].expand(-1, -1, tokens.shape[-1]))
    for block in model.blocks:
        tokens = block(tokens)
    out: Tensor = model.norm(tokens)[:, 0]
    return out


def num_heads(model: VisionTransformer) -> int:
    """Heads of the last block's attention."""
    return int(cast(Any, model.blocks[-1]).attn.num_heads)


def normalize(images: Tensor) -> Tensor:
    """uint8 (..., 3, H, W) to float32 with ImageNet's mean and standard deviation."""
    mean = torch.tensor(IMAGENET_MEAN, device=images.device).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=images.device).view(3, 1, 1)
    return (images.float() / 255 - mean) / std


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Zero-pad (..., H, W) at the bottom and right to multiples of ``multiple`` (0 = mean colour)."""
    height, width = images.shape[-2:]
    return F.pad(images, (0, -width % multiple, 0, -height % multiple))
