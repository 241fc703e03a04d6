"""Self-attention in bfloat16 on CPUs, some queries at a time.

PyTorch's fused attention multiplies at float32's speed on a CPU with AVX512-BF16 but without AMX. Products of
a few queries with all keys fit into the cache and run at bfloat16's speed, in about half the time.
"""

from typing import Any

import torch
from timm.layers.attention import Attention
from torch import Tensor, nn

QUERIES = 128
"""Queries processed at a time; their scores against 2,000 keys in 6 heads take 3 MB."""


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention ``softmax(q k^T / sqrt(d)) v``.

    The mean key is subtracted first: it does not affect the softmax, and the scores lose less by rounding.

    Args:
        query, key, value: floats (B, heads, N, d), multiplied in their own type; the softmax is computed in
        float32.

    Returns:
        (B, N, heads, d) in the type of ``query``.
    """
    batch, heads, count, dim = query.shape
    query = query * dim**-0.5
    key = (key - key.mean(dim=2, keepdim=True)).transpose(2, 3).contiguous()
    value = value.contiguous()
    out = query.new_empty(batch, count, heads, dim)
    for image in range(batch):
        for first in range(0, count, QUERIES):
            rows = slice(first, first + QUERIES)
            weights = torch.bmm(query[image, :, rows], key[image]).softmax(dim=-1)
            out[image, rows] = torch.bmm(weights, value[image]).transpose(0, 1)
    return out


class ChunkedAttention(nn.Module):
    """The layers of a timm ``Attention`` without masks, dropout or norms inside, for inference."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.qkv, self.proj, self.num_heads = attention.qkv, attention.proj, attention.num_heads

    def forward(self, tokens: Tensor, attn_mask: None = None, is_causal: bool = False) -> Tensor:
        """Float (B, N, D) to (B, N, D)."""
        batch, count, _ = tokens.shape
        parts = self.qkv(tokens).reshape(batch, count, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        mixed: Tensor = self.proj(attend(*parts.unbind(0)).flatten(2))
        return mixed


def prepare(model: nn.Module, device: torch.device, precision: str) -> None:
    """Replace the attention in a timm ``VisionTransformer``'s blocks by :class:`ChunkedAttention` where that
    is faster.
    """
    slow = device.type == "cpu" and precision == "bfloat16" and not torch.cpu._is_amx_tile_supported()
    if not slow or not torch.cpu._is_avx512_bf16_supported():
        return
    for block in model.modules():
        inner: Any = getattr(block, "attn", None)
        if type(inner) is Attention and isinstance(inner.q_norm, nn.Identity) and inner.gate is None:
            block.attn = ChunkedAttention(inner)
