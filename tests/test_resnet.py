"""ResNets: shapes, checkpoints of every layout, refusals, freezing."""

from pathlib import Path
from typing import Any, get_args

import pytest
import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn

from maskdistill.backbones.registry import ResNetName
from maskdistill.backbones.resnet import (
    ARCHITECTURES,
    FrozenBatchNorm2d,
    build_resnet,
    freeze_stages,
    initial_resnet,
    load_resnet_weights,
)
from maskdistill.runtime.errors import MaskDistillError


def tiny_state(seed: int = 3) -> dict[str, Tensor]:
    """A state of resnet_tiny in which every value, running statistics included, is distinctive."""
    torch.manual_seed(seed)
    return {
        key: torch.rand_like(value) + 0.1 if value.is_floating_point() else value + 7
        for key, value in build_resnet("resnet_tiny").state_dict().items()
    }


def renamed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


@pytest.mark.parametrize(("output_stride", "side"), [(32, 2), (16, 4), (8, 8)])
@pytest.mark.parametrize(("arch", "channels"), [("resnet_tiny", 256), ("resnet50", 2048)])
def test_output_stride(arch: str, channels: int, output_stride: int, side: int) -> None:
    with torch.device("meta"):
        model = build_resnet(arch, output_stride).eval()
        assert model(torch.zeros(1, 3, 64, 64)).shape == (1, channels, side, side)
    assert model.channels[3] == channels


@pytest.mark.slow
def test_resnet50_is_torchvisions() -> None:
    torch.manual_seed(0)
    reference = torchvision.models.resnet50().eval()
    model = build_resnet("resnet50").eval()
    own = {key: value for key, value in reference.state_dict().items() if not key.startswith("fc.")}
    model.load_state_dict(own)
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        pooled = model(images).mean(dim=(2, 3))
        torch.testing.assert_close(reference.fc(pooled), reference(images))


def test_resnet_tiny_weights_fit_in_five_megabytes_at_half_precision() -> None:
    assert sum(value.numel() for value in build_resnet("resnet_tiny").state_dict().values()) * 2 < 5e6


def test_the_configuration_knows_the_same_names() -> None:
    assert set(get_args(ResNetName)) == set(ARCHITECTURES)


def test_unknown_architecture_lists_the_known_ones() -> None:
    with pytest.raises(MaskDistillError, match=r"resnet_huge.*resnet50, resnet_tiny"):
        build_resnet("resnet_huge")


def moco_v1(state: dict[str, Tensor]) -> dict[str, Any]:
    queue = {"module.queue": torch.zeros(128, 16), "module.queue_ptr": torch.zeros(1, dtype=torch.long)}
    head = {"module.encoder_q.fc.weight": torch.zeros(128, 256), "module.encoder_q.fc.bias": torch.zeros(128)}
    momentum = renamed({key: value * 0 for key, value in state.items()}, "module.encoder_k.")
    return {
        "epoch": 200,
        "arch": "resnet50",
        "state_dict": renamed(state, "module.encoder_q.") | momentum | queue | head,
    }


def moco_v2(state: dict[str, Tensor]) -> dict[str, Any]:
    checkpoint = moco_v1(state)
    tensors = {k: v for k, v in checkpoint["state_dict"].items() if ".fc." not in k}
    for name in ("encoder_q", "encoder_k"):
        for layer in (0, 2):
            tensors[f"module.{name}.fc.{layer}.weight"] = torch.zeros(4, 4)
            tensors[f"module.{name}.fc.{layer}.bias"] = torch.zeros(4)
    return checkpoint | {"state_dict": tensors, "optimizer": {"state": {}, "param_groups": [{"lr": 0.03}]}}


def moco_v3(state: dict[str, Tensor]) -> dict[str, Any]:
    head = {
        "fc.0.weight": torch.zeros(4, 4),
        "fc.1.running_mean": torch.zeros(4),
        "fc.3.weight": torch.zeros(4, 4),
    }
    momentum = {key: value * 0 for key, value in state.items()}
    tensors = renamed(state | head, "module.base_encoder.") | renamed(
        momentum | head, "module.momentum_encoder."
    )
    return {"state_dict": tensors | {"module.predictor.0.weight": torch.zeros(4, 4)}}


def dino_teacher(state: dict[str, Tensor]) -> dict[str, Any]:
    head = {"head.mlp.0.weight": torch.zeros(4, 4), "head.last_layer.weight_g": torch.zeros(4, 1)}
    student = renamed({key: value * 0 for key, value in state.items()}, "module.backbone.")
    return {"student": student, "teacher": renamed(state, "backbone.") | head, "epoch": 100}


def plain(state: dict[str, Tensor]) -> dict[str, Any]:
    return state | {"fc.weight": torch.zeros(10, 256), "fc.bias": torch.zeros(10)}


def without_counters(state: dict[str, Tensor]) -> dict[str, Any]:
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}


@pytest.mark.parametrize("layout", [moco_v1, moco_v2, moco_v3, dino_teacher, plain, without_counters])
def test_every_layout_fills_the_backbone(layout: Any, tmp_path: Path) -> None:
    state = tiny_state()
    torch.save(layout(state), tmp_path / "weights.pth")
    model = build_resnet("resnet_tiny")
    report = load_resnet_weights(model, tmp_path / "weights.pth")
    for key, value in model.state_dict().items():
        if layout is not without_counters or not key.endswith("num_batches_tracked"):
            assert torch.equal(value, state[key]), key
    counters = sum(key.endswith("num_batches_tracked") for key in state)
    assert report["loaded"] == len(state) - (counters if layout is without_counters else 0)
    assert not any(
        "layer1" in key and "momentum" not in key and "encoder_k" not in key for key in report["ignored"]
    )


def test_half_precision_safetensors_are_widened(tmp_path: Path) -> None:
    state = {key: value.half() if value.is_floating_point() else value for key, value in tiny_state().items()}
    safetensors.torch.save_file(state, tmp_path / "weights.safetensors")
    model = initial_resnet("resnet_tiny", str(tmp_path / "weights.safetensors"))
    first = model.state_dict()["conv1.weight"]
    assert first.dtype == torch.float32
    assert torch.equal(first, state["conv1.weight"].float())


def dropped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key != "layer2.0.conv1.weight"}


def with_stranger(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return state | {"layer5.0.conv1.weight": torch.zeros(1)}


def reshaped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return state | {"layer1.0.conv1.weight": torch.zeros(1, 2, 3, 3)}


def poisoned(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return state | {"bn1.running_var": torch.full((64,), torch.nan)}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (dropped, r"missing: layer2\.0\.conv1\.weight"),
        (with_stranger, r"unexpected: module\.encoder_q\.layer5\.0\.conv1\.weight"),
        (reshaped, r"wrong shape: layer1\.0\.conv1\.weight \(1, 2, 3, 3\) for \(32, 64, 3, 3\)"),
        (poisoned, r"not finite: bn1\.running_var"),
    ],
)
def test_unfit_weights_are_refused_with_file_and_key(spoil: Any, message: str, tmp_path: Path) -> None:
    torch.save(moco_v2(spoil(tiny_state())), tmp_path / "spoilt.pth")
    model = build_resnet("resnet_tiny")
    before = model.state_dict()["conv1.weight"].clone()
    with pytest.raises(MaskDistillError, match=message) as caught:
        load_resnet_weights(model, tmp_path / "spoilt.pth")
    assert "spoilt.pth" in str(caught.value)
    assert torch.equal(before, model.state_dict()["conv1.weight"])


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    torch.save(tiny_state(), tmp_path / "tiny.pth")
    with pytest.raises(MaskDistillError, match=r"tiny\.pth.*\n.*missing: .*and \d+ more"):
        initial_resnet("resnet50", str(tmp_path / "tiny.pth"))


@pytest.mark.parametrize("content", [None, b"no checkpoint", b""])
def test_absent_or_unreadable_weights_name_the_file(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "broken.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MaskDistillError, match=r"broken\.pth"):
        initial_resnet("resnet_tiny", str(path))


def test_frozen_norm_equals_batch_norm_in_eval_mode() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(8)
    for value in norm.state_dict().values():
        value.copy_(torch.rand(value.shape) + 0.5)
    maps = torch.randn(2, 8, 5, 5)
    assert torch.equal(FrozenBatchNorm2d(norm)(maps), norm.eval()(maps))


@pytest.mark.parametrize(
    ("freeze_at", "free"), [(0, "conv1"), (1, "layer1"), (2, "layer2"), (3, "layer3"), (4, "layer4")]
)
def test_frozen_stages_stay_bit_identical_in_training(freeze_at: int, free: str) -> None:
    torch.manual_seed(0)
    model = build_resnet("resnet_tiny")
    freeze_stages(model, freeze_at)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    model(torch.randn(2, 3, 32, 32)).square().mean().backward()
    optimizer.step()
    changed = {
        key.split(".")[0] for key, value in model.state_dict().items() if not torch.equal(value, before[key])
    }
    stages = ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"]
    assert changed == set(stages[stages.index(free) :])


def test_everything_frozen_has_nothing_to_train() -> None:
    model = build_resnet("resnet_tiny")
    freeze_stages(model, 5)
    assert not any(p.requires_grad for p in model.parameters())
