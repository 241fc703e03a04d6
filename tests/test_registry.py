"""The table of backbones, and the strict loading of their original checkpoints into timm's networks.

No checkpoint is at hand here: manifests (names and shapes) and forward passes are those of the original
sources.
"""

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import original_layouts as original
import pytest
import timm
import torch
from original_layouts import OFFICIAL, State
from torch import Tensor

from maskdistill.backbones import registry, vit
from maskdistill.backbones.checkpoints import LAYOUTS, PERIODS, convert
from maskdistill.backbones.registry import find_checkpoint, how_to_get
from maskdistill.config import BackboneConfig, parse_section
from maskdistill.runtime.errors import MaskDistillError

ONE_OF_EACH = [
    "dino_vits16",
    "ibot_vits16",
    "mocov3_vits16",
    "dinov2_vits14",
    "dinov2_vits14_reg4",
    "dinov3_vits16",
]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        yield
    torch.set_num_threads(threads)


def shallow(monkeypatch: pytest.MonkeyPatch, arch: str, depth: int) -> None:
    """Fewer blocks, for speed; everything else is the entry's own."""
    monkeypatch.setitem(registry.BACKBONES, arch, replace(registry.BACKBONES[arch], depth=depth))


def saved(path: Path, content: object) -> str:
    torch.save(content, path)
    return str(path)


# ---------------------------------------------------------------- the table


def test_the_issues_backbones_are_there() -> None:
    assert set(OFFICIAL) == {
        "dino_vits16", "dino_vits8", "dino_vitb16", "dino_vitb8", "ibot_vits16", "mocov3_vits16",
        "dinov2_vits14", "dinov2_vitb14", "dinov2_vits14_reg4", "dinov2_vitb14_reg4", "dinov3_vits16",
        "dinov3_vitb16",
    }  # fmt: skip
    own = set(registry.BACKBONES) - set(OFFICIAL)
    assert own == {
        "vit_small_patch16",
        "vit_small_patch8",
        "vit_base_patch16",
        "vit_base_patch8",
        "vit_micro_patch8",
    }


def test_files_addresses_and_licences() -> None:
    officials = {arch: registry.find_official(arch) for arch in OFFICIAL}
    assert len({item.file for item in officials.values()}) == len(officials)
    for arch, item in officials.items():
        assert (item.url is None) == arch.startswith("dinov3")
        assert item.url is None or item.url.startswith("https://")
        assert item.sha256 is None or (len(item.sha256) in (8, 64) and int(item.sha256, 16) > 0)
        if arch.startswith(("dino_", "dinov2")):
            assert item.url and item.url.endswith(f"/{item.file}")
        if arch.startswith("dinov3"):  # the sum's beginning is in the name, as PyTorch Hub has it
            assert item.sha256 and item.file.endswith(f"-{item.sha256}.pth")
    licences = {arch: item.licence for arch, item in officials.items()}
    assert licences.pop("mocov3_vits16").startswith("CC-BY-NC-4.0")
    assert {licences.pop("dinov3_vits16"), licences.pop("dinov3_vitb16")} == {"DINOv3 License"}
    assert set(licences.values()) == {"Apache-2.0"}


def test_every_network_was_trained_on_imagenets_statistics() -> None:
    """As the projects' transforms say; DINOv3's satellite models, which have others, are not among them."""
    found = {(entry.mean, entry.std) for entry in registry.BACKBONES.values()}
    assert found == {((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))}


@pytest.mark.parametrize("arch", OFFICIAL)
def test_the_configuration_takes_every_name(arch: str) -> None:
    text = f'{{"arch": "{arch}", "weights": "official"}}'
    assert parse_section(BackboneConfig, text).arch == arch


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"arch": "vit_huge", "weights": "x.pth"}', "arch.*vit_huge.*dino_vits16"),
        (
            '{"arch": "vit_micro_patch8", "weights": "official"}',
            "vit_micro_patch8 has no official checkpoint",
        ),
        ('{"weights": "x.pth", "sha256": "12ab"}', "sha256"),
        (f'{{"weights": "random", "sha256": "{"0" * 64}"}}', "sha256 is for a file"),
    ],
)
def test_the_configuration_refuses(text: str, words: str) -> None:
    with pytest.raises(MaskDistillError, match=f"(?s){words}"):
        parse_section(BackboneConfig, text)


# ---------------------------------------------------------------- manifests


def described(state: State) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items()}


@pytest.mark.slow
@pytest.mark.parametrize("arch", [name for name, entry in registry.BACKBONES.items() if entry.timm_model])
def test_the_structure_is_that_of_timms_model(arch: str) -> None:
    """Names, shapes and what state dicts do not show: heads, LayerNorm eps."""
    entry = registry.BACKBONES[arch]
    with torch.device("meta"):
        own: Any = vit.build_vit(arch)
        theirs: Any = timm.create_model(str(entry.timm_model), num_classes=0)
    assert described(own.state_dict()) == described(theirs.state_dict())
    heads = 12 if arch == "mocov3_vits16" else theirs.blocks[0].attn.num_heads
    assert {block.attn.num_heads for block in own.blocks} == {heads} and vit.num_heads(own) == heads
    assert own.norm.eps == theirs.norm.eps == own.blocks[-1].norm2.eps
    assert own.num_prefix_tokens == theirs.num_prefix_tokens == entry.num_prefix_tokens


@pytest.mark.parametrize("arch", OFFICIAL)
def test_the_whole_manifest_maps_onto_the_model(arch: str) -> None:
    """All 12 blocks: every original key is used or known to be ignored, every parameter is filled, shapes
    agree.
    """
    with torch.device("meta"):
        model = vit.build_vit(arch)
        state = {name: torch.empty(shape) for name, shape in original.shapes(arch).items()}
        plain = {name: value for name, value in state.items() if not name.endswith("qkv.bias")}
    if arch.startswith("dinov3"):  # values decide there: the keys' bias must be 0
        state = plain | {name: torch.zeros(state[name].shape) for name in state if "qkv.bias" in name}
    found: Any = original.wrapped(arch, state)
    found = found.get("state_dict", found)
    converted = convert(found, registry.BACKBONES[arch].layout, "file")
    given = described(converted.state)
    assert given.pop(PERIODS, None) == ((16,) if arch.startswith("dinov3") else None)
    assert given == described(model.state_dict())
    known = LAYOUTS[registry.BACKBONES[arch].layout].ignored
    assert all(any(part.rstrip(".") in name for part in known) for name in converted.ignored)


# ---------------------------------------------------------------- loading and the forward pass


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arch", "grid"),
    [*((arch, (3, 5)) for arch in OFFICIAL), ("dino_vits16", (14, 14)), ("dinov2_vits14_reg4", (37, 37))],
)
def test_a_loaded_checkpoint_computes_what_the_original_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arch: str, grid: tuple[int, int]
) -> None:
    """From a file in the published layout to the last block's query and keys and the CLS feature."""
    depth = 2 if "_vits" in arch else 1
    shallow(monkeypatch, arch, depth)
    state = original.random_state(arch, depth)
    model = vit.load_vit(arch, saved(tmp_path / "file.pth", original.wrapped(arch, state)))
    (rows, columns), patch = grid, original.patch_of(arch)
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2 if rows == 3 else 1, 3, rows * patch, columns * patch, generator=generator)
    qkv, feature = original.forward(arch, state, images)
    heads, prefix = original.heads_of(arch), 1 + original.registers_of(arch)
    query, key, _ = qkv.float().chunk(3, dim=-1)
    found = vit.last_attention(model, images)
    assert found.keys.shape == (len(images), rows * columns, original.dim_of(arch))
    atol, shape = 2e-5 * float(key.abs().max()), (len(images), heads, -1)
    torch.testing.assert_close(found.cls_query, query[:, 0].reshape(shape), rtol=1e-4, atol=atol)
    torch.testing.assert_close(found.cls_key, key[:, 0].reshape(shape), rtol=1e-4, atol=atol)
    torch.testing.assert_close(found.keys, key[:, prefix:], rtol=1e-4, atol=atol)
    torch.testing.assert_close(vit.cls_feature(model, images), feature.float(), rtol=1e-4, atol=1e-4)
    assert vit.embed(model, images).shape == (len(images), prefix + rows * columns, original.dim_of(arch))
    assert found.keys.std() > 0.1 and feature.std() > 0.1


def variants(arch: str, state: State) -> dict[str, Any]:
    """The wrappings in which the projects' training programs save the same network."""
    head = {"head.mlp.0.weight": torch.ones(3, 4), "head.last_layer.weight_g": torch.ones(3, 1)}
    student = {f"module.backbone.{name}": value + 1 for name, value in state.items()}
    student |= {f"module.{name}": value for name, value in head.items()}
    teacher = {f"backbone.{name}": value for name, value in state.items()}
    extra = {"epoch": 99, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}}
    args = argparse.Namespace(arch="vit_small", lr=5e-4, data_path="/data", use_fp16=True)
    if arch in ("dino_vits16", "ibot_vits16"):
        masked = {"module.backbone.masked_embed": torch.ones(1, 384)} if arch == "ibot_vits16" else {}
        only_student = {f"module.backbone.{name}": value for name, value in state.items()} | masked
        only_student |= {f"module.{name}": value for name, value in head.items()}
        return {
            "full checkpoint": {"student": student, "teacher": teacher | head, "args": args, **extra},
            "student": {"student": only_student, "args": args},
            "wrapped teacher": {
                "teacher": {f"module.{name}": value for name, value in (teacher | head).items()}
            },
            "plain": state,
        }
    if arch.startswith("dinov2"):
        chunked = {}
        for name, value in teacher.items():
            chunked[re.sub(r"blocks\.(\d+)\.", r"blocks.\1.\1.", name)] = value  # a chunk for each block
        heads = {"dino_head.mlp.0.weight": torch.ones(2, 2), "ibot_head.mlp.0.weight": torch.ones(2, 2)}
        return {"teacher in chunks": {"teacher": chunked | heads}, "teacher": {"teacher": teacher | heads}}
    if arch.startswith("dinov3"):
        return {"teacher": {"teacher": teacher | {"dino_head.last_layer.weight": torch.ones(2, 2)}}}
    return {"parallel": {"state_dict": original.wrapped(arch, state)["state_dict"]}}


@pytest.mark.parametrize("arch", ONE_OF_EACH)
def test_every_wrapping_gives_the_same_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arch: str
) -> None:
    shallow(monkeypatch, arch, 2)
    state = original.random_state(arch, 2)
    expected = vit.load_vit(
        arch, saved(tmp_path / "published.pth", original.wrapped(arch, state))
    ).state_dict()
    for name, content in variants(arch, state).items():
        found = vit.load_vit(arch, saved(tmp_path / "variant.pth", content)).state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(value, expected[key]) for key, value in found.items()), name


def test_the_rotation_takes_the_checkpoints_periods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The published ones are rounded to bfloat16; the difference is seen in the features."""
    shallow(monkeypatch, "dinov3_vits16", 2)
    state = original.random_state("dinov3_vits16", 2)
    rounded: Any = vit.load_vit("dinov3_vits16", saved(tmp_path / "rounded.pth", state))
    assert torch.equal(rounded.rope.periods, state["rope_embed.periods"])
    exact = state | {"rope_embed.periods": 100 ** (torch.arange(16) / 16)}
    other = vit.load_vit("dinov3_vits16", saved(tmp_path / "exact.pth", exact))
    images = torch.randn(1, 3, 96, 160, generator=torch.Generator().manual_seed(0))
    difference = vit.cls_feature(rounded, images) - vit.cls_feature(other, images)
    assert 1e-5 < float(difference.abs().max()) < 0.5


# ---------------------------------------------------------------- refusals


def refusal(path: Path, arch: str) -> str:
    with pytest.raises(MaskDistillError) as error:
        vit.load_vit(arch, str(path))
    assert str(path) in str(error.value)
    return str(error.value)


def spoilt(change: str, state: State) -> State:
    """One thing wrong with an original network."""
    state = dict(state)
    if change == "surplus":
        state["blocks.0.attn.qkv.scale"] = torch.ones(1)
    elif change == "one block more":
        state |= {
            name.replace("blocks.0.", "blocks.1."): value for name, value in state.items() if ".0." in name
        }
    elif change == "nan":
        state["norm.weight"] = state["norm.weight"] * float("nan")
    elif change == "narrower":
        state["blocks.0.mlp.fc1.weight"] = state["blocks.0.mlp.fc1.weight"][:-1]
    else:
        del state[change]
    return state


@pytest.mark.parametrize("arch", ONE_OF_EACH)
@pytest.mark.parametrize(("change", "words"), [
    ("surplus", "unknown keys"), ("one block more", "unknown keys"), ("nan", "norm.weight holds NaN"),
    ("narrower", r"mlp.fc1.weight is \(1535, 384\), wanted \(1536, 384\)"), ("cls_token",
    "no key .*cls_token"),
    ("norm.bias", r"missing keys such as \['norm.bias'\]"), ("blocks.0.attn.qkv.bias", "missing keys"),
])  # fmt: skip
def test_a_checkpoint_that_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arch: str, change: str, words: str
) -> None:
    shallow(monkeypatch, arch, 1)
    state = spoilt(change, original.random_state(arch, 1))
    saved(tmp_path / "bad.pth", original.wrapped(arch, state))
    message = refusal(tmp_path / "bad.pth", arch)
    assert re.search(words, message), message


@pytest.mark.hostile("weights: checkpoint of another project", outcome="refused")
@pytest.mark.parametrize("given", ONE_OF_EACH)
def test_another_projects_checkpoint_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    """DINO's and iBOT's are the same structure; nothing in the file tells them apart."""
    saved(tmp_path / "other.pth", original.wrapped(given, original.random_state(given, 1)))
    for arch in ONE_OF_EACH:
        if arch != given and {arch, given} != {"dino_vits16", "ibot_vits16"}:
            shallow(monkeypatch, arch, 1)
            refusal(tmp_path / "other.pth", arch)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused(tmp_path: Path, share: float) -> None:
    saved(tmp_path / "cut.pth", original.random_state("dino_vits16", 1))
    content = (tmp_path / "cut.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(content[: int(share * len(content))])
    assert "fetch it again" in refusal(tmp_path / "cut.pth", "dino_vits16")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("rope_embed.periods", None, "rope periods are missing"),
        ("rope_embed.periods", torch.ones(8), r"rope periods are \(8,\), wanted \(16,\)"),
        ("rope_embed.periods", 10000 ** (torch.arange(16) / 16), "rope periods are not"),
        ("blocks.0.attn.qkv.bias_mask", None, "bias_mask is missing"),
        ("blocks.0.attn.qkv.bias_mask", torch.ones(1152), "keys have a bias"),
        ("blocks.0.attn.qkv.bias_mask", torch.ones(384), r"bias_mask is \(384,\)"),
        ("blocks.0.attn.qkv.bias_mask", torch.full((1152,), float("nan")), "keys have a bias|NaN"),
    ],
)
def test_dinov3s_fixed_tensors_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: Tensor | None, words: str
) -> None:
    shallow(monkeypatch, "dinov3_vits16", 1)
    state = {key: old for key, old in original.random_state("dinov3_vits16", 1).items() if key != name}
    saved(tmp_path / "bad.pth", state if value is None else state | {name: value})
    with pytest.raises(MaskDistillError, match=words):
        vit.load_vit("dinov3_vits16", str(tmp_path / "bad.pth"))


def test_keys_beside_the_network_must_be_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that would take the place of a key of the network once the prefix is removed."""
    shallow(monkeypatch, "dino_vits16", 1)
    state = {f"backbone.{name}": value for name, value in original.random_state("dino_vits16", 1).items()}
    saved(tmp_path / "bad.pth", {"teacher": state | {"norm.weight": torch.ones(384)}})
    assert "unknown keys such as ['norm.weight']" in refusal(tmp_path / "bad.pth", "dino_vits16")


def test_what_is_to_be_fetched_by_hand_is_told_in_full() -> None:
    """Address, place, about the size, and the checksum as far as anybody states it."""
    told = how_to_get("dino_vits16", "here/x.pth")
    assert (
        "fetch https://dl.fbaipublicfiles.com/dino/dino_deitsmall16_pretrain/dino_deitsmall16_pretrain.pth"
        in told
    )
    assert told.endswith("put it at here/x.pth (about 87 MB; no checksum of it is published)")
    assert "SHA-256 bf34ad0f424b9029b593e8dc3ed553bf26e88bcba0d32bf3e62a6209cb64c85e)" in how_to_get(
        "dino_vitb16", "x"
    )
    assert "about 94 MB; its MD5 begins with a04e12f8)" in how_to_get("moco_v2_800ep", "x")
    told = how_to_get("dinov3_vits16", "x")
    assert (
        told.startswith("accept the DINOv3 License at https://ai.meta.com/")
        and "SHA-256 begins with 08c60483" in told
    )
    assert "dino_resnet50_pretrain.pth" in how_to_get("dino_resnet50", "x")
    assert find_checkpoint("dino_resnet50").licence == "Apache-2.0"


@pytest.mark.hostile(
    "config: an installed package's backbone that cannot be imported, is none, or has a name that is taken",
    outcome="refused when it is asked for, with the reason; other backbones stay",
)
def test_an_installed_package_adds_a_backbone(tmp_path: Path) -> None:
    """The recipe's code, in a process of its own: entry points are read when the registry is imported."""
    page = (Path(__file__).parents[1] / "docs/how-to/add-a-backbone.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (name,) = re.findall(r'^(\w+) = "my_package:PATHOLOGY"', page, re.MULTILINE)
    (tmp_path / "my_package.py").write_text(code)
    info = tmp_path / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    entries = {
        name: "my_package:PATHOLOGY",
        "number": "my_package:code",
        "gone": "no_such_module",
        "dino_vits8": "my_package:PATHOLOGY",
    }
    lines = [f"{key} = {value}" for key, value in entries.items()]
    (info / "entry_points.txt").write_text("\n".join(["[maskdistill.backbones]", *lines, ""]))
    script = f"""
from maskdistill.backbones.registry import BROKEN, find_backbone, find_official
from maskdistill.config import DetectorConfig
from maskdistill.runtime.errors import MaskDistillError
assert find_backbone({name!r}).depth == 12 and find_official({name!r}).url is None
assert DetectorConfig(arch={name!r}, weights="official").arch == {name!r}
for name in ("number", "gone", "dino_vits8"):
    try:
        find_backbone(name)
    except MaskDistillError as error:
        print(error)
assert find_backbone("dino_vits16").official
"""
    shown = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[1]}"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    number, gone, taken = shown.stdout.splitlines()
    assert "backbone 'number': my_package:code cannot be imported (AttributeError" in number
    assert "'gone': no_such_module cannot be imported (ModuleNotFoundError" in gone
    assert (
        "'dino_vits8': my_package:PATHOLOGY has a name that is taken; rename it; repair or uninstall" in taken
    )
