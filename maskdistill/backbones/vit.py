"""Vision transformers: construction, weights, and the tensors of the last attention block.

The networks are timm's. Positions are interpolated as the networks' authors do it, because timm's own
resampling gives other numbers for the same weights. :mod:`maskdistill.backbones.registry` describes each
name.
"""

from collections.abc import Iterable
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias, cast

import torch
import torch.nn.functional as F
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from maskdistill.backbones.attention import prepare
from maskdistill.backbones.checkpoints import PERIODS, convert
from maskdistill.backbones.registry import BACKBONES, Backbone, Positions, find_backbone
from maskdistill.backbones.registry import IMAGENET_MEAN as IMAGENET_MEAN
from maskdistill.backbones.registry import IMAGENET_STD as IMAGENET_STD
from maskdistill.backbones.traced_positions import traced_positions
from maskdistill.backbones.weights import read_state_dict, strict_load
from maskdistill.runtime.errors import MaskDistillError

ViT: TypeAlias = VisionTransformer | Eva
ARCHITECTURES = BACKBONES


def build_vit(arch: str, drop_path: float = 0.0) -> ViT:
    """Untrained ViT without a head; qkv bias, MLP ratio 4.

    Raises:
        MaskDistillError: unknown name.
    """
    entry = find_backbone(arch)
    shared: dict[str, Any] = {
        "img_size": entry.image_size,
        "patch_size": entry.patch_size,
        "embed_dim": entry.embed_dim,
        "depth": entry.depth,
        "num_heads": entry.num_heads,
        "num_classes": 0,
        "drop_path_rate": drop_path,
        "dynamic_img_size": True,
        "norm_layer": partial(nn.LayerNorm, eps=entry.norm_eps),
        "init_values": 1e-5 if entry.layer_scale else None,
    }
    model: ViT
    if entry.positions == "rope":
        rope: dict[str, Any] = {"use_rot_pos_emb": True, "rope_type": "dinov3", "rope_temperature": 100.0}
        rope |= {"rope_rotate_half": True, "use_abs_pos_emb": False}
        model = Eva(**shared, **rope, num_reg_tokens=entry.registers, use_fc_norm=False)
    else:
        model = VisionTransformer(**shared, reg_tokens=entry.registers, no_embed_class=entry.registers > 0)
    if entry.conv_stem:
        model.patch_embed.proj = _conv_stem(entry)  # type: ignore[assignment]
    cast(Any, model).positions = entry.positions
    return model


def _conv_stem(shape: Backbone) -> nn.Sequential:
    """3x3 stride-2 convolutions down to one position per patch, then a 1x1 convolution to ``embed_dim``."""
    halvings = shape.patch_size.bit_length() - 1
    widths = [3, *(shape.embed_dim // 2**i for i in range(halvings - 1, -1, -1))]
    layers: list[nn.Module] = []
    for wide_in, wide_out in pairwise(widths):
        layers += [nn.Conv2d(wide_in, wide_out, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(wide_out)]
        layers += [nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Conv2d(shape.embed_dim, shape.embed_dim, 1))


def load_vit(arch: str, weights: str, device: torch.device | None = None, precision: str = "float32") -> ViT:
    """ViT in eval mode with float32 weights.

    Args:
        arch: key of :data:`ARCHITECTURES`.
        weights: a checkpoint in its project's layout or one of this project's own, or ``"random"``: seeded
            noise, for comparison only.
        device: to move the network to; None: leave it on the CPU.
        precision: precision of its later use, which determines how attention is computed.

    Raises:
        MaskDistillError: the file is missing, damaged, or not of this architecture.
    """
    torch.manual_seed(0)
    model = build_vit(arch)
    if weights != "random":
        state = convert(read_state_dict(weights), find_backbone(arch).layout, weights).state
        if isinstance(model, Eva):
            _set_periods(model, state.pop(PERIODS, None), weights)
        strict_load(model, state, weights)
    model = model.eval().requires_grad_(False)
    if device is None:
        return model
    prepare(model, device, precision)
    return model.to(device)


def _set_periods(model: Eva, periods: Tensor | None, source: str) -> None:
    """Take the rotation periods from a checkpoint: DINOv3's are rounded to bfloat16, and its authors use the
    rounded ones.
    """
    expected = cast(Tensor, cast(Any, model.rope).periods)
    if periods is None or periods.shape != expected.shape:
        found = "missing" if periods is None else f"{tuple(periods.shape)}, wanted {tuple(expected.shape)}"
        raise MaskDistillError(
            f"weights file {source} does not fit {type(model).__name__}: rope periods are {found}"
        )
    if not torch.allclose(periods.float(), expected, rtol=2**-8, atol=0):
        raise MaskDistillError(
            f"weights file {source} does not fit {type(model).__name__}: rope periods are not 100^(2 i / "
            "(D/2)), the formula of DINOv3; give an official checkpoint"
        )
    expected.copy_(periods)


def interpolate_positions(
    pos_embed: Tensor, grid: tuple[int, int], prefix: int = 1, positions: Positions = "table"
) -> Tensor:
    """Positional table for a grid of ``(rows, columns)`` patches, resampled as the network's authors do it.

    ``table``: bicubic without antialiasing, by ``scale_factor = (R + 0.1) / R0``: this factor, not the output
    size, determines the sampling coordinates [method §1.5] (DINO, iBOT, DINOv2 without registers; used for
    MoCo v3 too). ``table_antialiased``: bicubic with antialiasing, by output size (DINOv2 with registers).

    Args:
        pos_embed: float (1, prefix + R0*R0, D), prefix tokens first.
        prefix: 1 if the table has a row for CLS, else 0.

    Returns:
        float (1, prefix + R*C, D); unchanged if the grid is the table's own.
    """
    prefix_pos, patch_pos = pos_embed[:, :prefix], pos_embed[:, prefix:]
    if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        rows, columns = (torch.as_tensor(length) for length in grid)
        found = traced_positions(patch_pos, rows, columns, positions == "table_antialiased")
        return torch.cat([prefix_pos, found], dim=1)
    side = round(patch_pos.shape[1] ** 0.5)
    if grid == (side, side):
        return pos_embed
    table = patch_pos.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    if positions == "table_antialiased":
        table = F.interpolate(table, size=grid, mode="bicubic", align_corners=False, antialias=True)
    else:
        factor = ((grid[0] + 0.1) / side, (grid[1] + 0.1) / side)
        table = F.interpolate(table, scale_factor=factor, mode="bicubic", align_corners=False)
    if table.shape[-2:] != torch.Size(grid):
        raise ValueError(f"interpolated to {tuple(table.shape[-2:])}, wanted {grid}")
    return torch.cat([prefix_pos, table.flatten(2).transpose(1, 2)], dim=1)


def embed(model: ViT, images: Tensor) -> Tensor:
    """Tokens before the first block: float (B, prefix + R*C, D) for images (B, 3, R*patch, C*patch).

    The prefix is CLS and then the registers, if any.
    """
    return _embed(model, images)[0]


def _embed(model: ViT, images: Tensor) -> tuple[Tensor, Tensor | None]:
    """Tokens before the first block, and the sines and cosines (R*C, 2*D/heads) of rotary positions, if
    any.
    """
    net = cast(Any, model)
    if net.positions == "timm":
        found = net._pos_embed(net.patch_embed(images))
        tokens, rope = found if isinstance(model, Eva) else (found, None)
        return net.norm_pre(tokens), rope
    patches = net.patch_embed.proj(images)
    grid = (patches.shape[-2], patches.shape[-1])
    tokens = patches.flatten(2).transpose(1, 2)
    prefix = [net.cls_token.expand(tokens.shape[0], -1, -1)]
    if net.reg_token is not None:
        prefix.append(net.reg_token.expand(tokens.shape[0], -1, -1))
    if isinstance(model, Eva):
        return torch.cat([*prefix, tokens], dim=1), net.rope.get_embed(list(grid))
    if net.no_embed_class:
        tokens = tokens + interpolate_positions(net.pos_embed, grid, 0, net.positions)
        return torch.cat([*prefix, tokens], dim=1), None
    return torch.cat([*prefix, tokens], dim=1) + interpolate_positions(
        net.pos_embed, grid, 1, net.positions
    ), None


def _run(blocks: Iterable[nn.Module], tokens: Tensor, rope: Tensor | None) -> Tensor:
    for block in blocks:
        tokens = block(tokens) if rope is None else block(tokens, rope=rope)
    return tokens


class LastAttention(NamedTuple):
    """What masks are made from, for a batch: rows of the last block's qkv projection, unscaled [method §1.6].

    Attributes:
        cls_query, cls_key: float (B, heads, D/heads).
        keys: float (B, R*C, D), heads concatenated, patches only.
    """

    cls_query: Tensor
    cls_key: Tensor
    keys: Tensor


def last_attention(model: ViT, images: Tensor) -> LastAttention:
    """Query and keys of the last block's attention; stops at its qkv projection.

    Registers are dropped along with CLS, as they are not places in the image. DINOv3 rotates queries and keys
    by their positions (RoPE) after this projection, and leaves CLS unrotated; what is returned is before the
    rotation, as for every other network [method §1.6]. The affinity k_i . k_j then compares only contents,
    whereas that of rotated keys would depend on the offset between i and j; the CLS query was never rotated.

    Args:
        images: float (B, 3, R*patch, C*patch), normalised.
    """
    query, key, _ = _last_projection(model, images)
    shape = (len(images), num_heads(model), -1)
    return LastAttention(
        query[:, 0].reshape(shape), key[:, 0].reshape(shape), key[:, model.num_prefix_tokens :]
    )


def patch_content(model: ViT, images: Tensor) -> Tensor:
    """Keys and values of the last block's attention, from which CLS reads the image: float (B, R*C, 2*D),
    patches only.
    """
    _, key, value = _last_projection(model, images)
    return torch.cat([key, value], dim=-1)[:, model.num_prefix_tokens :]


def _last_projection(model: ViT, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value of all tokens in the last block, float (B, tokens, D) each."""
    tokens, rope = _embed(model, images)
    tokens = _run(model.blocks[:-1], tokens, rope)
    last = cast(Any, model.blocks[-1])
    query, key, value = _project(last.attn, last.norm1(tokens)).chunk(3, dim=-1)
    return query, key, value


def _project(attention: Any, tokens: Tensor) -> Tensor:
    """The qkv projection with its bias: float (B, tokens, 3*D).

    Eva stores the bias in parts; the keys' bias is 0.
    """
    if getattr(attention, "q_bias", None) is None:
        qkv: Tensor = attention.qkv(tokens)
        return qkv
    bias = torch.cat([attention.q_bias, attention.k_bias, attention.v_bias])
    return F.linear(tokens, attention.qkv.weight, bias)


def cls_feature(model: ViT, images: Tensor, keep: float = 1.0) -> Tensor:
    """CLS token after the final LayerNorm: float (B, D) for images (B, 3, R*patch, C*patch).

    With ``keep`` below 1 only that share of the patches is forwarded, chosen at random for each image.
    """
    tokens, rope = _embed(model, images)
    if keep < 1:
        prefix = model.num_prefix_tokens
        count, patches = len(tokens), tokens.shape[1] - prefix
        chosen = torch.rand(count, patches, device=tokens.device).argsort(dim=1)[
            :, : max(1, int(keep * patches))
        ]
        rope = None if rope is None else rope[chosen][:, None]
        chosen = torch.cat(
            [torch.arange(prefix, device=tokens.device).expand(count, -1), chosen + prefix], dim=1
        )
        tokens = tokens.gather(1, chosen[..., None].expand(-1, -1, tokens.shape[-1]))
    out: Tensor = model.norm(_run(model.blocks, tokens, rope))[:, 0]
    return out


def patch_tokens(model: ViT, images: Tensor, freeze_at: int = 0) -> Tensor:
    """Patch tokens after the final LayerNorm: float (B, R*C, D) for images (B, 3, R*patch, C*patch).

    ``freeze_at`` is that of :class:`maskdistill.backbones.vit_trunk.ViTTrunk`: frozen parts run without
    gradients.
    """
    learning, depth = torch.is_grad_enabled(), len(model.blocks)
    frozen = max(0, min(freeze_at - 1, depth))
    with torch.set_grad_enabled(learning and freeze_at == 0):
        tokens, rope = _embed(model, images)
    with torch.no_grad():
        tokens = _run(model.blocks[:frozen], tokens, rope)
    tokens = _run(model.blocks[frozen:], tokens, rope)
    with torch.set_grad_enabled(learning and freeze_at <= depth):
        out: Tensor = model.norm(tokens)[:, model.num_prefix_tokens :]
    return out


def num_heads(model: ViT) -> int:
    """Number of heads in the last block's attention."""
    return int(cast(Any, model.blocks[-1]).attn.num_heads)


def normalize(
    images: Tensor,
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
) -> Tensor:
    """uint8 (..., 3, H, W) to float32 with mean and standard deviation of RGB in [0, 1]; ImageNet's by
    default.
    """
    center = torch.tensor(mean, device=images.device).view(3, 1, 1)
    scale = torch.tensor(std, device=images.device).view(3, 1, 1)
    return (images.float() / 255 - center) / scale


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Zero-pad (..., H, W) at the bottom and right to multiples of ``multiple`` (0 = mean colour)."""
    height, width = images.shape[-2:]
    return F.pad(images, (0, -width % multiple, 0, -height % multiple))
