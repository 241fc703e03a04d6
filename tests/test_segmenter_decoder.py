"""A decoder on a transformer or a ResNet: what is computed, what is trained, stages from labels to a probe,
ONNX.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from miniature import label_files, scenes, segmenter_config, write_run
from torch import Tensor, nn

from maskdistill.backbones.resnet import ResNet
from maskdistill.backbones.vit import ViT, patch_tokens
from maskdistill.cli import main
from maskdistill.cli.export import LIBRARIES
from maskdistill.config import SegmenterConfig
from maskdistill.evaluation.probe import make_probe
from maskdistill.formats.label_png import read_label_png
from maskdistill.product.onnx_segmenter import write_segmenter_onnx
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.segmenter.build import build_segmenter, initial_segmenter
from maskdistill.segmenter.data import LabelledImages
from maskdistill.segmenter.decoder import Decoder, DecoderSegmenter
from maskdistill.segmenter.inference import logits_of, segment
from maskdistill.segmenter.train import train_segmenter
from maskdistill.training.checkpoint import load_model
from maskdistill.training.loop import LoopSettings, MetricRow

CPU = torch.device("cpu")
WEIGHTS = str(Path(__file__).parents[1] / "config/weights/vit_micro_patch8.safetensors")


pytestmark = pytest.mark.usefixtures("one_thread")


def config(**changes: Any) -> SegmenterConfig:
    values: dict[str, Any] = {"arch": "vit_micro_patch8", "freeze_at": 0, "optimizer": "adamw", "lr": 2e-3}
    return segmenter_config(**(values | changes))


def fresh(settings: SegmenterConfig, num_clusters: int = 2) -> DecoderSegmenter:
    torch.manual_seed(0)
    model = build_segmenter(settings, num_clusters)
    assert isinstance(model, DecoderSegmenter)
    return model


def padded_tokens(model: DecoderSegmenter, images: Tensor) -> Tensor:
    """Tokens as a map (B, D, 6, 7) of images (B, 3, 44, 52)."""
    vit = model.backbone.vit
    assert isinstance(vit, ViT)
    tokens = patch_tokens(vit, F.pad(images, (0, 4, 0, 4)))
    return tokens.transpose(1, 2).reshape(len(images), -1, 6, 7)


@torch.inference_mode()
def test_a_linear_head_is_a_product_with_tokens_and_any_size_fits() -> None:
    model = fresh(config(head="linear")).eval()
    images = torch.randn(2, 3, 44, 52)
    last = model.classifier[-1]
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    logits = torch.einsum("bdrc,kd->bkrc", padded_tokens(model, images), last.weight[:, :, 0, 0])
    wanted = F.interpolate(logits + last.bias[:, None, None], (48, 56), mode="bilinear")[..., :44, :52]
    torch.testing.assert_close(model(images), wanted)


@torch.inference_mode()
def test_the_decoder_joins_tokens_and_the_picture_at_a_quarter_and_a_half() -> None:
    model = fresh(config(head_channels=6)).eval()
    decoder: Any = model.classifier[0]
    images = torch.randn(1, 3, 44, 52)
    padded = F.pad(images, (0, 4, 0, 4))

    def layer(part: Any, maps: Tensor, stride: int = 1) -> Tensor:
        return torch.relu(part[1](F.conv2d(maps, part[0].weight, stride=stride, padding=1)))

    half = layer(decoder.at_half, padded, 2)
    quarter = layer(decoder.at_quarter, half, 2)
    tokens = F.interpolate(decoder.coarse(padded_tokens(model, images)), scale_factor=2, mode="bilinear")
    joined = layer(decoder.joins[0], torch.cat([tokens, quarter], 1))
    narrow = F.interpolate(decoder.narrow(joined), scale_factor=2, mode="bilinear")
    joined = layer(decoder.join_half, torch.cat([narrow, half], 1))
    assert joined.shape == (1, 3, 24, 28)
    wanted = F.interpolate(model.classifier[-1](joined), (48, 56), mode="bilinear")[..., :44, :52]
    torch.testing.assert_close(model(images), wanted)


def test_the_head_follows_the_arch() -> None:
    assert config().head == SegmenterConfig(arch="dino_vits16", weights="random").head == "decoder"
    assert SegmenterConfig(weights="random").head == "aspp"
    assert config(head="linear").head == "linear"


@pytest.mark.hostile(
    "config: segmenter.head aspp with a transformer", outcome="refused; the message names the head that fits"
)
def test_aspp_on_a_transformer_is_refused() -> None:
    with pytest.raises(ValueError, match="head aspp is for a ResNet, and arch is dino_vits16; take decoder"):
        SegmenterConfig.model_validate({"arch": "dino_vits16", "head": "aspp", "weights": "random"})


@torch.inference_mode()
def test_a_resnets_decoder_joins_its_maps_from_the_coarsest_up() -> None:
    model = fresh(config(arch="resnet_tiny", head="decoder", head_channels=6)).eval()
    resnet, decoder = model.backbone, model.classifier[0]
    assert isinstance(resnet, ResNet) and isinstance(decoder, Decoder)
    images = torch.randn(1, 3, 44, 52)
    at_4 = resnet.layer1(resnet.stem(images))
    at_8 = resnet.layer2(at_4)
    at_16 = resnet.layer4(resnet.layer3(at_8))
    assert [tuple(maps.shape[1:]) for maps in (at_4, at_8, at_16)] == [(32, 11, 13), (64, 6, 7), (256, 3, 4)]
    joined = decoder.coarse(at_16)
    for join, maps in zip(decoder.joins, (at_8, at_4), strict=True):
        joined = join(torch.cat([F.interpolate(joined, maps.shape[-2:], mode="bilinear"), maps], 1))
    half = decoder.at_half(images)
    narrow = F.interpolate(decoder.narrow(joined), half.shape[-2:], mode="bilinear")
    joined = decoder.join_half(torch.cat([narrow, half], 1))
    assert joined.shape == (1, 3, 22, 26)
    wanted = F.interpolate(model.classifier[-1](joined), (44, 52), mode="bilinear")
    torch.testing.assert_close(model(images), wanted)
    assert model(torch.randn(1, 3, 45, 51)).shape == (1, 3, 45, 51)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scenes")
    write_run(path, scenes(4, 48))
    return path


def fit(
    folder: Path, state: Path, settings: SegmenterConfig, steps: int
) -> tuple[nn.Module, list[MetricRow]]:
    dataset = LabelledImages(label_files(folder, 4), 6, settings, 7)
    torch.manual_seed(0)
    loop = LoopSettings(steps, state, "f", checkpoint_every=2, log_every=1)
    return train_segmenter(initial_segmenter(settings, 6), dataset, settings, loop, CPU)


def test_frozen_parts_stay_and_a_killed_training_resumes_bit_for_bit(folder: Path, tmp_path: Path) -> None:
    settings = config(weights=WEIGHTS, freeze_at=4, backbone_lr=0.5)
    before = initial_segmenter(settings, 6).state_dict()
    whole, rows = fit(folder, tmp_path / "whole", settings, 4)
    changed = {name for name, value in whole.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.split(".")[3] for name in changed if ".blocks." in name} == {"3"}
    assert not any(
        name.startswith(("backbone.vit.patch_embed", "backbone.vit.pos_embed")) for name in changed
    )
    assert "backbone.vit.norm.weight" in changed
    fit(folder, tmp_path / "cut", settings, 2)
    resumed, resumed_rows = fit(folder, tmp_path / "cut", settings, 4)
    assert resumed_rows[:1] != rows[:1] or resumed_rows == rows
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


@pytest.mark.slow
def test_it_learns_outlines_finer_than_its_patches(folder: Path, tmp_path: Path) -> None:
    settings = config(weights=WEIGHTS, batch_size=4, drop_after=110, size=64, head_channels=32,
                      rotation=0.0, scale=(1.0, 1.0), flip=0.0)  # fmt: skip
    model, _ = fit(folder, tmp_path, settings, 120)
    drawn = scenes(4, 48)
    equal = [
        labels == scene.semantic
        for labels, scene in zip(segment(model, [s.image for s in drawn], settings, CPU), drawn, strict=True)
    ]
    assert np.mean([part.mean() for part in equal]) > 0.97  # the best map of 8 px squares: 0.89


@pytest.mark.slow
def test_stages_from_labels_to_a_probe(folder: Path, tmp_path: Path) -> None:
    """The entry points: a segmenter, its label maps, the same bytes again, and what a probe trains of it."""
    common = ["--manifest", str(folder / "manifest.csv"), "--device", "cpu", "--threads", "1"]
    params = config(epochs=1, weights=WEIGHTS).model_dump_json()
    for name in ("a", "b"):
        out = tmp_path / name
        files = [
            "--output",
            str(out / "model.safetensors"),
            "--metrics",
            str(out / "m.csv"),
            "--state",
            str(out / "s"),
        ]
        labels = ["--labels", str(folder / "labels"), "--num-clusters", "6"]
        assert main(["segmenter", *common, *labels, *files, "--params", params]) == 0
    model_file = tmp_path / "a/model.safetensors"
    assert model_file.read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()
    predict = [
        "--shard",
        "0",
        "--images",
        "all",
        "--model",
        str(model_file),
        "--output",
        str(tmp_path / "maps"),
    ]
    assert main(["predictions", *common, *predict]) == 0
    for number, scene in enumerate(scenes(4, 48), 1):
        assert read_label_png(tmp_path / f"maps/{number}.png").shape == scene.semantic.shape
    model = load_model(model_file, fresh(config(), 6))
    assert isinstance(model, DecoderSegmenter)
    probe = make_probe(model, 3, 0.01)
    trained = {name: tuple(value.shape) for name, value in probe.named_parameters() if value.requires_grad}
    assert trained == {"classifier.1.weight": (4, 8, 1, 1), "classifier.1.bias": (4,)}


@pytest.mark.slow
def test_onnxruntime_agrees_with_torch(tmp_path: Path) -> None:
    """A transformer goes through torch's other exporter."""
    for name in LIBRARIES:
        pytest.importorskip(name, reason="needs the extra [export]: make export")
    import onnxruntime

    settings = config(size=44)
    model = fresh(settings, 3).eval()
    write_segmenter_onnx(model, settings, tmp_path / "s.onnx", {"classes": json.dumps(["a"])})
    session = onnxruntime.InferenceSession(str(tmp_path / "s.onnx"), providers=["CPUExecutionProvider"])
    for count, height, width in ((1, 30, 90), (3, 64, 48)):
        pictures = np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
        expected = logits_of(model, list(pictures), settings, CPU).numpy()
        labels, logits = session.run(["labels", "logits"], {"picture": pictures})
        np.testing.assert_allclose(logits, expected, atol=1e-3 * np.abs(expected).max())
        assert (labels == segment(model, list(pictures), settings, CPU)).mean() > 0.99


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MaskDistillError, match=r"vit_micro_patch8\.safetensors does not fit"):
        initial_segmenter(config(arch="vit_small_patch16", weights=WEIGHTS), 2)
