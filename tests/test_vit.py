"""Transformers: DINO's positions against cubic convolution by hand, tensors against hooks and timm's
forward.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import original_layouts as original
import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from maskdistill.backbones import registry, vit
from maskdistill.backbones.traced_positions import traced_positions
from maskdistill.backbones.weights import save_weights
from maskdistill.runtime.errors import MaskDistillError

Array = np.ndarray[Any, np.dtype[np.float64]]
MICRO = "vit_micro_patch8"


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        yield
    torch.set_num_threads(threads)


def noisy(arch: str = MICRO) -> Any:
    """A network whose every parameter and statistic is noise: a forgotten bias or position shows."""
    model = vit.load_vit(arch, "random")
    generator = torch.Generator().manual_seed(3)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.add_(torch.rand(value.shape, generator=generator) * 0.1)
    return model


def images(count: int, height: int, width: int) -> Tensor:
    return torch.randn(
        count, 3, height, width, generator=torch.Generator().manual_seed(count + height + width)
    )


# ---------------------------------------------------------------- positions


def cubic_kernel(distance: float, a: float = -0.75) -> float:
    """Keys' cubic convolution."""
    x = abs(distance)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    if x < 2:
        return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return 0.0


def sampling_matrix(out: int, side: int) -> Array:
    """(out, side): weights of one axis for scale (out + 0.1) / side, borders repeated."""
    weights = np.zeros((out, side))
    for o in range(out):
        position = (o + 0.5) * side / (out + 0.1) - 0.5
        base = int(np.floor(position))
        for tap in range(base - 1, base + 3):
            weights[o, min(max(tap, 0), side - 1)] += cubic_kernel(position - tap)
    return weights


@pytest.mark.parametrize(
    ("side", "grid"),
    [
        (14, (40, 54)), (14, (54, 40)), (14, (7, 9)), (14, (14, 15)), (14, (13, 14)),
        (8, (10, 8)), (8, (3, 40)), (28, (30, 28)), (4, (1, 1)),
    ],
)  # fmt: skip
def test_positions_are_sampled_by_dinos_scale_factor(side: int, grid: tuple[int, int]) -> None:
    table = torch.randn(1, 1 + side * side, 6, generator=torch.Generator().manual_seed(side)) * 0.3
    found = vit.interpolate_positions(table, grid).double().numpy()
    assert found.shape == (1, 1 + grid[0] * grid[1], 6)
    source = table[0, 1:].double().numpy().reshape(side, side, 6)
    rows, columns = sampling_matrix(grid[0], side), sampling_matrix(grid[1], side)
    expected = np.einsum("ri,cj,ijd->rcd", rows, columns, source).reshape(-1, 6)
    np.testing.assert_allclose(found[0, 1:], expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(found[0, 0], table[0, 0].double().numpy())


def antialiased_matrix(out: int, side: int) -> Array:
    """(out, side): weights of one axis by size; the kernel (a = -0.5) widens when shrinking, cut off at the
    borders.
    """
    scale = side / out
    width = max(scale, 1.0)
    weights = np.zeros((out, side))
    for o in range(out):
        center = (o + 0.5) * scale
        for tap in range(side):
            weights[o, tap] = cubic_kernel((tap + 0.5 - center) / width, a=-0.5)
    out_weights: Array = weights / weights.sum(axis=1, keepdims=True)
    return out_weights


@pytest.mark.parametrize("grid", [(40, 54), (7, 9), (37, 38), (36, 37), (1, 1), (80, 20)])
def test_positions_beside_registers_are_antialiased_and_by_size(grid: tuple[int, int]) -> None:
    side = 37
    table = torch.randn(1, side * side, 4, generator=torch.Generator().manual_seed(2)) * 0.3
    found = vit.interpolate_positions(table, grid, 0, "table_antialiased").double().numpy()
    source = table[0].double().numpy().reshape(side, side, 4)
    rows, columns = antialiased_matrix(grid[0], side), antialiased_matrix(grid[1], side)
    expected = np.einsum("ri,cj,ijd->rcd", rows, columns, source).reshape(-1, 4)
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("arch", "side"), [
    ("dino_vits16", 14), ("dino_vits8", 28), ("ibot_vits16", 14), ("mocov3_vits16", 14),
    ("dinov2_vits14", 37), ("dinov2_vits14_reg4", 37),
])  # fmt: skip
def test_positions_are_those_of_the_original_formula(arch: str, side: int) -> None:
    """20 grids and the base one; the network's own table, with or without the row for CLS."""
    entry, generator = registry.BACKBONES[arch], torch.Generator().manual_seed(side)
    assert entry.image_size // entry.patch_size == side
    table = torch.randn(1, 1 + side * side, 8, generator=generator)
    prefix = 0 if entry.registers else 1
    grids = torch.randint(1, 70, (20, 2), generator=generator).tolist()
    for rows, columns in [*grids, (side, side)]:
        expected = original.positions(arch, table, rows, columns)[:, 1 - prefix :]
        found = vit.interpolate_positions(table[:, 1 - prefix :], (rows, columns), prefix, entry.positions)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("positions", ["table", "table_antialiased"])
def test_positions_of_a_trace_are_those_of_predict(positions: registry.Positions) -> None:
    """Once for all grids, the base one among them, which is unchanged to the last bit."""
    table = torch.randn(1, 14 * 14, 6, generator=torch.Generator().manual_seed(3))
    for rows, columns in ((14, 14), (14, 20), (9, 31), (40, 3), (7, 14), (1, 1)):
        expected = vit.interpolate_positions(table, (rows, columns), 0, positions)
        sides, antialiased = (torch.tensor(rows), torch.tensor(columns)), positions == "table_antialiased"
        found = traced_positions(table, *sides, antialiased)
        torch.testing.assert_close(found, expected, rtol=0, atol=0 if (rows, columns) == (14, 14) else 2e-5)


def test_positions_differ_from_resampling_by_size() -> None:
    table = torch.randn(1, 1 + 14 * 14, 6, generator=torch.Generator().manual_seed(1))
    square = table[:, 1:].reshape(1, 14, 14, 6).permute(0, 3, 1, 2)
    by_size = torch.nn.functional.interpolate(square, (40, 54), mode="bicubic", align_corners=False)
    found = vit.interpolate_positions(table, (40, 54))[:, 1:].reshape(1, 40, 54, 6).permute(0, 3, 1, 2)
    assert float((found - by_size).abs().max()) > 0.1


def test_positions_of_the_base_grid_are_unchanged() -> None:
    table = torch.randn(1, 1 + 14 * 14, 6)
    assert torch.equal(vit.interpolate_positions(table, (14, 14)), table)


@pytest.mark.parametrize("side", [8, 14, 28])
def test_every_grid_comes_out_with_its_own_size(side: int) -> None:
    """``floor(side * ((R + 0.1) / side))`` is R for every number of rows, whatever the rounding."""
    table = torch.zeros(1, 1 + side * side, 1)
    for rows in range(1, 260):
        assert vit.interpolate_positions(table, (rows, 2)).shape[1] == 1 + 2 * rows


# ---------------------------------------------------------------- forward


@pytest.mark.parametrize(("height", "width"), [(64, 64), (40, 72), (72, 40), (8, 8)])
def test_last_query_and_keys_are_those_of_the_full_forward(height: int, width: int) -> None:
    model = noisy()
    batch = images(2, height, width)
    seen: list[Tensor] = []
    hook = model.blocks[-1].attn.qkv.register_forward_hook(lambda module, args, out: seen.append(out))
    vit.cls_feature(model, batch)
    hook.remove()
    tokens, heads = 1 + height * width // 64, vit.ARCHITECTURES[MICRO].num_heads
    split = seen[0].reshape(2, tokens, 3, heads, -1)  # the layout that timm's and DINO's attention read
    query, cls_key, keys = vit.last_attention(model, batch)
    assert query.shape == (2, heads, 32) and keys.shape == (2, tokens - 1, 128)
    torch.testing.assert_close(query, split[:, 0, 0])
    torch.testing.assert_close(cls_key, split[:, 0, 1])
    torch.testing.assert_close(keys.reshape(2, tokens - 1, heads, -1), split[:, 1:, 1])
    by_head = sum(split[:, 1:, 1, h] @ split[:, 1:, 1, h].mT for h in range(heads))
    torch.testing.assert_close(keys @ keys.mT, by_head, rtol=1e-4, atol=1e-4)


def test_last_query_and_keys_at_the_base_size_are_those_of_timm() -> None:
    model = noisy()
    seen: list[Tensor] = []
    hook = model.blocks[-1].attn.qkv.register_forward_hook(lambda module, args, out: seen.append(out))
    model.forward_features(images(1, 64, 64))
    hook.remove()
    query, _, keys = vit.last_attention(model, images(1, 64, 64))
    torch.testing.assert_close(query.flatten(), seen[0][0, 0, :128], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(keys[0], seen[0][0, 1:, 128:256], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arch",
    ["dino_vits16", "ibot_vits16", "mocov3_vits16", "dinov2_vits14", "dinov2_vits14_reg4", "dinov3_vits16"],
)
def test_every_kind_of_network_gives_the_rows_that_timms_forward_computes(
    monkeypatch: pytest.MonkeyPatch, arch: str
) -> None:
    """At the base size, where timm resamples nothing.

    Eva multiplies without calling its qkv layer: from its input.
    """
    monkeypatch.setitem(registry.BACKBONES, arch, replace(registry.BACKBONES[arch], depth=2))
    model, entry = noisy(arch), registry.BACKBONES[arch]
    seen: list[Tensor] = []
    last = model.blocks[-1]
    hook = last.norm1.register_forward_hook(lambda module, args, out: seen.append(out))
    batch = images(1, entry.image_size, entry.image_size)
    features = model.forward_features(batch)
    hook.remove()
    bias = last.attn.qkv.bias
    if bias is None:
        bias = torch.cat([last.attn.q_bias, torch.zeros(entry.embed_dim), last.attn.v_bias])
    query, key, _ = (seen[0] @ last.attn.qkv.weight.T + bias).chunk(3, dim=-1)
    found, heads = vit.last_attention(model, batch), (entry.num_heads, -1)
    torch.testing.assert_close(found.cls_query, query[:, 0].unflatten(-1, heads), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.cls_key, key[:, 0].unflatten(-1, heads), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.keys, key[:, 1 + entry.registers :], rtol=1e-4, atol=1e-4)
    assert found.keys.shape[1] == (entry.image_size // entry.patch_size) ** 2
    torch.testing.assert_close(vit.cls_feature(model, batch), features[:, 0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("arch", ["dinov2_vits14_reg4", "dinov3_vits16"])
def test_dropped_patches_are_as_if_attention_did_not_see_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arch: str
) -> None:
    """And those that stay keep their own positions, rotary ones too; prefix tokens always stay."""
    monkeypatch.setitem(registry.BACKBONES, arch, replace(registry.BACKBONES[arch], depth=2))
    torch.save(original.random_state(arch, 2), tmp_path / "file.pth")
    model: Any = vit.load_vit(arch, str(tmp_path / "file.pth"))
    patch = registry.BACKBONES[arch].patch_size
    batch, rows, columns, prefix = images(2, 3 * patch, 5 * patch), 3, 5, 5
    torch.manual_seed(7)
    found = vit.cls_feature(model, batch, keep=0.4)
    torch.manual_seed(7)
    kept = torch.rand(2, rows * columns).argsort(dim=1)[:, :6]
    visible = torch.zeros(2, prefix + rows * columns, dtype=torch.bool)
    visible[:, :prefix] = True
    visible.scatter_(1, kept + prefix, True)
    mask = visible[:, None, None].expand(-1, 1, visible.shape[1], -1)
    tokens = vit.embed(model, batch)
    rope = {"rope": model.rope.get_embed([rows, columns])} if arch.startswith("dinov3") else {}
    for block in model.blocks:
        tokens = block(tokens, attn_mask=mask, **rope)
    torch.testing.assert_close(found, model.norm(tokens)[:, 0], rtol=1e-4, atol=1e-4)
    assert float((found - vit.cls_feature(model, batch)).abs().max()) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("arch", [MICRO, "vit_small_patch16"])
def test_cls_feature_at_the_base_size_is_that_of_timm(arch: str) -> None:
    model, side = noisy(arch), vit.ARCHITECTURES[arch].image_size
    batch = images(1, side, side)
    expected = model.forward_features(batch)[:, 0]
    torch.testing.assert_close(vit.cls_feature(model, batch), expected, rtol=1e-4, atol=1e-5)
    assert expected.std() > 0.1


def test_the_layout_is_dinos() -> None:
    """ViT-S/16: 384 wide, 12 blocks, 6 heads of 64, MLP ratio 4, qkv bias, LayerNorm eps 1e-6, 14 x 14
    positions.
    """
    model: Any = vit.build_vit("vit_small_patch16")
    state = model.state_dict()
    assert state["pos_embed"].shape == (1, 197, 384) and state["patch_embed.proj.weight"].shape == (
        384,
        3,
        16,
        16,
    )
    assert state["blocks.11.attn.qkv.bias"].shape == (1152,) and "blocks.12.norm1.weight" not in state
    assert state["blocks.0.mlp.fc1.weight"].shape == (1536, 384)
    assert model.norm.eps == model.blocks[0].norm1.eps == 1e-6 and model.blocks[0].attn.num_heads == 6
    assert not any(name.startswith("head") for name in state)
    assert sum(value.numel() for value in state.values()) == 21_665_664  # DINO's published 21 M


# ---------------------------------------------------------------- construction


def test_random_weights_are_equal_every_time_and_frozen() -> None:
    first, second = vit.load_vit(MICRO, "random"), vit.load_vit(MICRO, "random")
    assert all(torch.equal(first.state_dict()[n], value) for n, value in second.state_dict().items())
    assert not first.training and not any(p.requires_grad for p in first.parameters())


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_a_checkpoint_is_loaded_whole(tmp_path: Path, prefix: str) -> None:
    model = noisy()
    state = {prefix + name: value for name, value in model.state_dict().items()}
    state["head.mlp.0.weight"] = torch.zeros(2, 2)
    torch.save({"teacher": state, "epoch": 3}, tmp_path / "dino.pth")
    loaded = vit.load_vit(MICRO, str(tmp_path / "dino.pth"))
    batch = images(1, 24, 40)
    torch.testing.assert_close(vit.cls_feature(loaded, batch), vit.cls_feature(model, batch))


def test_half_precision_weights_become_float32(tmp_path: Path) -> None:
    model = noisy()
    save_weights(model.state_dict(), tmp_path / "vit.safetensors", {"arch": MICRO})
    loaded = vit.load_vit(MICRO, str(tmp_path / "vit.safetensors"))
    for name, value in loaded.state_dict().items():
        expected = model.state_dict()[name]
        assert value.dtype == expected.dtype
        assert torch.equal(value, expected.half().float() if expected.is_floating_point() else expected)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    save_weights(vit.build_vit(MICRO).state_dict(), tmp_path / "micro.safetensors", {})
    with pytest.raises(MaskDistillError, match=r"micro\.safetensors.*blocks"):
        vit.load_vit("vit_small_patch8", str(tmp_path / "micro.safetensors"))


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(MaskDistillError, match=r"vit_huge.*vit_small_patch16"):
        vit.load_vit("vit_huge", "random")


# ---------------------------------------------------------------- pixels


def test_normalisation_with_other_statistics() -> None:
    pixels = torch.randint(0, 256, (3, 5, 7), dtype=torch.uint8)
    mean, std = (0.430, 0.411, 0.296), (0.213, 0.156, 0.143)
    expected = v2.functional.normalize(pixels.float() / 255, list(mean), list(std))
    torch.testing.assert_close(vit.normalize(pixels, mean, std), expected)


def test_normalisation_is_imagenets() -> None:
    pixels = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8)
    expected = v2.functional.normalize(pixels.float() / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    torch.testing.assert_close(vit.normalize(pixels), expected)


@pytest.mark.parametrize(
    ("size", "padded"), [((16, 16), (16, 16)), ((17, 30), (32, 32)), ((1, 33), (16, 48))]
)
def test_padding_is_zero_at_the_bottom_and_right(size: tuple[int, int], padded: tuple[int, int]) -> None:
    image = torch.ones(3, *size)
    found = vit.pad_to_multiple(image, 16)
    assert found.shape == (3, *padded)
    assert torch.equal(found[:, : size[0], : size[1]], image)
    assert found.sum() == image.sum()
