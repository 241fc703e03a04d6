"""Attention by chunks of queries against softmax attention in float64, and where it is used."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from maskdistill.backbones import attention, registry, vit

CPU = torch.device("cpu")


def slow_attention(query: np.ndarray, key: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Float64 (B, h, N, d) each to (B, N, h, d), one query at a time."""
    out = np.zeros(np.transpose(query, (0, 2, 1, 3)).shape)
    for image, head, place in np.ndindex(*query.shape[:3]):
        scores = key[image, head] @ query[image, head, place] / np.sqrt(query.shape[-1])
        weights = np.exp(scores - scores.max())
        out[image, place, head] = weights @ value[image, head] / weights.sum()
    return out


@pytest.mark.parametrize("count", [1, 127, 128, 129, 260])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 3e-2)])
def test_equals_softmax_attention(count: int, dtype: torch.dtype, tolerance: float) -> None:
    generator = torch.Generator().manual_seed(count)
    parts = [torch.randn(2, 3, count, 8, generator=generator).to(dtype) for _ in range(3)]
    parts[1] = parts[1] + 4  # keys with a mean, as those of trained networks
    expected = slow_attention(*(part.double().numpy() for part in parts))
    found = attention.attend(*parts)
    assert found.dtype == dtype
    assert np.abs(found.double().numpy() - expected).max() < tolerance


def test_the_mean_key_costs_no_precision() -> None:
    """Scores of hundreds, all but equal: rounded as they are, bfloat16 could not tell them apart."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, 1, 50, 16, generator=generator) for _ in range(3))
    shifted = (query + 10).bfloat16(), (key + 10).bfloat16(), value.bfloat16()
    expected = slow_attention(*(part.double().numpy() for part in shifted))
    assert np.abs(attention.attend(*shifted).double().numpy() - expected).max() < 0.1


@pytest.fixture(autouse=True)
def two_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of two blocks: drawing the weights of twelve takes seconds."""
    for name, entry in registry.BACKBONES.items():
        monkeypatch.setitem(registry.BACKBONES, name, replace(entry, depth=2))


@pytest.fixture
def bfloat16_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)


@pytest.mark.parametrize("arch", ["dino_vits16", "dinov2_vits14_reg4", "mocov3_vits16"])
@pytest.mark.usefixtures("bfloat16_pays")
def test_networks_give_the_same_with_it(arch: str) -> None:
    plain, chunked = vit.load_vit(arch, "random"), vit.load_vit(arch, "random", CPU, "bfloat16")
    assert all(isinstance(block.attn, attention.ChunkedAttention) for block in chunked.blocks)
    side = 4 * plain.patch_embed.patch_size[0]
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, found = vit.last_attention(plain, images), vit.last_attention(chunked, images)
        assert torch.allclose(vit.cls_feature(plain, images), vit.cls_feature(chunked, images), atol=1e-4)
    for one, other in zip(expected, found, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


@pytest.mark.usefixtures("bfloat16_pays")
def test_it_is_for_bfloat16_on_cpus_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_exchanged(arch: str, device: torch.device, precision: str) -> bool:
        model = vit.build_vit(arch)
        attention.prepare(model, device, precision)
        return any(isinstance(module, attention.ChunkedAttention) for module in model.modules())

    assert is_exchanged("dino_vits16", CPU, "bfloat16")
    assert not is_exchanged("dino_vits16", CPU, "float32")
    assert not is_exchanged("dino_vits16", torch.device("cuda"), "bfloat16")
    assert not is_exchanged("dinov3_vits16", CPU, "bfloat16")  # rotates its queries and keys
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert not is_exchanged("dino_vits16", CPU, "bfloat16")
