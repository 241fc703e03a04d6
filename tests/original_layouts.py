"""The original projects' ViT checkpoints and forward passes, written from their sources, for comparison.

facebookresearch/dino vision_transformer.py; facebookresearch/dinov2 models/vision_transformer.py;
facebookresearch/dinov3 models/vision_transformer.py, layers/attention.py, layers/rope_position_encoding.py;
facebookresearch/moco-v3 vits.py, moco/builder.py; bytedance/ibot models/vision_transformer.py.
"""

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from maskdistill.backbones.registry import BACKBONES

State = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]
DEPTH, HEAD_DIM = 12, 64


def dim_of(arch: str) -> int:
    """S is 384 wide, B 768."""
    return 768 if "_vitb" in arch else 384


def patch_of(arch: str) -> int:
    """The number behind the size."""
    return int("".join(c for c in arch.split("_vit")[1].split("_")[0] if c.isdigit()))


def heads_of(arch: str) -> int:
    """Heads of 64; MoCo v3's ViT-S has 12 of 32 (vits.py)."""
    return 12 if arch == "mocov3_vits16" else dim_of(arch) // HEAD_DIM


def registers_of(arch: str) -> int:
    """Four in DINOv2's *_reg4 and in DINOv3."""
    return 4 if arch.endswith("reg4") or arch.startswith("dinov3") else 0


def shapes(arch: str, depth: int = DEPTH) -> Shapes:
    """Names and shapes of the network in the file that the project publishes, without wrapping prefixes."""
    dim, patch, registers = dim_of(arch), patch_of(arch), registers_of(arch)
    side = 518 // 14 if patch == 14 else 224 // patch
    out: Shapes = {"cls_token": (1, 1, dim)}
    if not arch.startswith("dinov3"):
        out["pos_embed"] = (1, 1 + side * side, dim)
    if arch.startswith("dinov2") and registers:
        out["register_tokens"] = (1, registers, dim)
    if arch.startswith("dinov3"):
        out |= {"storage_tokens": (1, registers, dim), "rope_embed.periods": (HEAD_DIM // 4,)}
    if arch.startswith(("dinov2", "dinov3")):
        out["mask_token"] = (1, dim)
    out |= {"patch_embed.proj.weight": (dim, 3, patch, patch), "patch_embed.proj.bias": (dim,)}
    for block in range(depth):
        at = f"blocks.{block}."
        out |= {at + "norm1.weight": (dim,), at + "norm1.bias": (dim,)}
        out |= {at + "attn.qkv.weight": (3 * dim, dim), at + "attn.qkv.bias": (3 * dim,)}
        if arch.startswith("dinov3"):
            out[at + "attn.qkv.bias_mask"] = (3 * dim,)
        out |= {at + "attn.proj.weight": (dim, dim), at + "attn.proj.bias": (dim,)}
        if arch.startswith(("dinov2", "dinov3")):
            out |= {at + "ls1.gamma": (dim,), at + "ls2.gamma": (dim,)}
        out |= {at + "norm2.weight": (dim,), at + "norm2.bias": (dim,)}
        out |= {at + "mlp.fc1.weight": (4 * dim, dim), at + "mlp.fc1.bias": (4 * dim,)}
        out |= {at + "mlp.fc2.weight": (dim, 4 * dim), at + "mlp.fc2.bias": (dim,)}
    return out | {"norm.weight": (dim,), "norm.bias": (dim,)}


@cache
def random_state(arch: str, depth: int) -> State:
    """Values of the published layout: noise everywhere but in DINOv3's two fixed kinds of tensor.

    Do not edit it.
    """
    generator = torch.Generator().manual_seed(sum(map(ord, arch)))
    state = {}
    for name, shape in shapes(arch, depth).items():
        noise = torch.randn(shape, generator=generator)
        if name.endswith("qkv.bias_mask"):
            dim = shape[0] // 3
            state[name] = torch.cat([torch.ones(dim), torch.zeros(dim), torch.ones(dim)])
        elif name == "rope_embed.periods":
            quarter = shape[0]
            state[name] = 100 ** (torch.arange(quarter) / quarter)
            state[name] = state[name].bfloat16().float()  # as the published files have them
        elif name.endswith((".gamma", "norm.weight", "norm1.weight", "norm2.weight")):
            state[name] = 1 + 0.3 * noise
        else:
            state[name] = noise * (0.3 if len(shape) in (1, 3) else shape[-1] ** -0.5)
    return state


def wrapped(arch: str, state: State) -> dict[str, object]:
    """The published file: what torch.load returns."""
    if arch == "mocov3_vits16":
        parts = {f"module.base_encoder.{name}": value for name, value in state.items()}
        parts |= {f"module.momentum_encoder.{name}": value + 1 for name, value in state.items()}
        dim = dim_of(arch)
        for owner in ("base_encoder.head", "momentum_encoder.head", "predictor"):
            parts |= {
                f"module.{owner}.0.weight": torch.ones(8, dim),
                f"module.{owner}.1.running_mean": torch.ones(8),
            }
        return {"epoch": 300, "arch": "vit_small", "state_dict": parts, "optimizer": {"state": {}}}
    return {"state_dict": state} if arch == "ibot_vits16" else dict(state)


def forward(arch: str, state: State, images: Tensor) -> tuple[Tensor, Tensor]:
    """The original forward pass in double precision, from unwrapped original names.

    Returns:
        The last block's qkv projection (B, tokens, 3*D), and the CLS token after the final norm (B, D).
    """
    weights = {name: value.double() for name, value in state.items()}
    dim, patch, heads = dim_of(arch), patch_of(arch), heads_of(arch)
    eps = 1e-5 if arch.startswith("dinov3") else 1e-6
    depth = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))

    def linear(name: str, x: Tensor) -> Tensor:
        bias = weights[name + ".bias"]
        mask = weights.get(name + ".bias_mask")
        return x @ weights[name + ".weight"].T + (bias if mask is None else bias * mask)

    def norm(name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return (
            centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() * weights[name + ".weight"]
            + weights[name + ".bias"]
        )

    x = F.conv2d(
        images.double(), weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], stride=patch
    )
    rows, columns = x.shape[-2:]
    x = torch.cat([weights["cls_token"].expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], dim=1)
    if "pos_embed" in weights:
        x = x + positions(arch, weights["pos_embed"], rows, columns)
    extra = weights.get("register_tokens", weights.get("storage_tokens"))
    if extra is not None:
        x = torch.cat([x[:, :1], extra.expand(len(x), -1, -1), x[:, 1:]], dim=1)
    rope = rotation(weights["rope_embed.periods"], rows, columns) if arch.startswith("dinov3") else None
    qkv = x
    for block in range(depth):
        at = f"blocks.{block}."
        qkv = linear(at + "attn.qkv", norm(at + "norm1", x))
        q, k, v = qkv.reshape(*qkv.shape[:2], 3, heads, dim // heads).permute(2, 0, 3, 1, 4)
        if rope is not None:
            q, k = rotated(q, *rope), rotated(k, *rope)
        mixed = ((q @ k.mT) * (dim // heads) ** -0.5).softmax(-1) @ v
        x = x + linear(at + "attn.proj", mixed.transpose(1, 2).flatten(2)) * weights.get(
            at + "ls1.gamma", 1.0
        )
        hidden = linear(at + "mlp.fc1", norm(at + "norm2", x))
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        x = x + linear(at + "mlp.fc2", hidden) * weights.get(at + "ls2.gamma", 1.0)
    return qkv, norm("norm", x)[:, 0]


def positions(arch: str, pos_embed: Tensor, rows: int, columns: int) -> Tensor:
    """Their interpolate_pos_encoding: by scale factor with 0.1 added, with registers by size and
    antialiased.
    """
    side = math.isqrt(pos_embed.shape[1] - 1)
    if (rows, columns) == (side, side):
        return pos_embed
    table = pos_embed[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    if registers_of(arch):
        table = F.interpolate(table, size=(rows, columns), mode="bicubic", antialias=True)
    else:
        table = F.interpolate(
            table, scale_factor=((rows + 0.1) / side, (columns + 0.1) / side), mode="bicubic"
        )
    return torch.cat([pos_embed[:, :1], table.permute(0, 2, 3, 1).reshape(1, rows * columns, -1)], dim=1)


def rotation(periods: Tensor, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """DINOv3's sines and cosines: float (rows*columns, 4*len(periods)); centres in [-1, 1] for each axis
    apart.
    """
    y = (torch.arange(rows, dtype=torch.float64) + 0.5) / rows * 2 - 1
    x = (torch.arange(columns, dtype=torch.float64) + 0.5) / columns * 2 - 1
    centres = torch.stack([y[:, None].expand(rows, columns), x[None].expand(rows, columns)], dim=-1).reshape(
        -1, 2
    )
    angles = (2 * math.pi * centres[:, :, None] / periods).flatten(1)
    angles = torch.cat([angles, angles], dim=1)
    return angles.sin(), angles.cos()


def rotated(x: Tensor, sin: Tensor, cos: Tensor) -> Tensor:
    """Rotate the last len(sin) tokens of (B, heads, tokens, d); halves of d are paired."""
    prefix, patches = x[..., : -len(sin), :], x[..., -len(sin) :, :]
    first, second = patches.chunk(2, dim=-1)
    return torch.cat([prefix, patches * cos + torch.cat([-second, first], dim=-1) * sin], dim=-2)


OFFICIAL = [name for name, entry in BACKBONES.items() if entry.official]
