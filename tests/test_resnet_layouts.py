"""Checkpoints of a ResNet-50 as each project publishes them: keys and shapes written out here, there and
back.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from maskdistill.backbones.resnet import initial_resnet
from maskdistill.backbones.resnet_layouts import LAYOUTS, convert_resnet, find_layout
from maskdistill.runtime.errors import MaskDistillError

Shapes = dict[str, tuple[int, ...]]
State = dict[str, Tensor]
BLOCKS = {1: 3, 2: 4, 3: 6, 4: 3}


def norm(name: str, channels: int) -> Shapes:
    values: Shapes = {
        f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")
    }
    return values | {f"{name}.num_batches_tracked": ()}


def torchvision_shapes() -> Shapes:
    """He et al. 2016, table 1: bottlenecks of 64, 128, 256, 512 channels, expanded fourfold."""
    shapes: Shapes = {"conv1.weight": (64, 3, 7, 7), **norm("bn1", 64)}
    channels = 64
    for stage, blocks in BLOCKS.items():
        narrow = 32 * 2**stage
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            shapes |= {f"{name}.conv1.weight": (narrow, channels, 1, 1), **norm(f"{name}.bn1", narrow)}
            shapes |= {f"{name}.conv2.weight": (narrow, narrow, 3, 3), **norm(f"{name}.bn2", narrow)}
            shapes |= {f"{name}.conv3.weight": (4 * narrow, narrow, 1, 1), **norm(f"{name}.bn3", 4 * narrow)}
            if block == 0:
                shapes[f"{name}.downsample.0.weight"] = (4 * narrow, channels, 1, 1)
                shapes |= norm(f"{name}.downsample.1", 4 * narrow)
            channels = 4 * narrow
    return shapes


def detectron2_shapes() -> Shapes:
    """Norms lie inside their convolutions, stages count from res2, the projection is called shortcut."""
    shapes: Shapes = {"stem.conv1.weight": (64, 3, 7, 7), **norm("stem.conv1.norm", 64)}
    channels = 64
    for stage, blocks in BLOCKS.items():
        narrow = 32 * 2**stage
        for block in range(blocks):
            name = f"res{stage + 1}.{block}"
            if block == 0:
                shapes[f"{name}.shortcut.weight"] = (4 * narrow, channels, 1, 1)
                shapes |= norm(f"{name}.shortcut.norm", 4 * narrow)
            sizes = ((narrow, channels, 1), (narrow, narrow, 3), (4 * narrow, narrow, 1))
            for number, (out, given, side) in enumerate(sizes, 1):
                shapes[f"{name}.conv{number}.weight"] = (out, given, side, side)
                shapes |= norm(f"{name}.conv{number}.norm", out)
            channels = 4 * narrow
    return shapes


def under(prefix: str, shapes: Shapes) -> Shapes:
    return {prefix + name: shape for name, shape in shapes.items()}


def linear(name: str, out: int, given: int) -> Shapes:
    return {f"{name}.weight": (out, given), f"{name}.bias": (out,)}


def moco(head: Shapes) -> Shapes:
    whole = torchvision_shapes() | head
    queue: Shapes = {"module.queue": (128, 65536), "module.queue_ptr": (1,)}
    return under("module.encoder_q.", whole) | under("module.encoder_k.", whole) | queue


def moco_v3() -> Shapes:
    """Projection of three layers without biases, prediction of two."""
    head: Shapes = {"fc.0.weight": (4096, 2048), **norm("fc.1", 4096), "fc.3.weight": (256, 4096)}
    head |= {"fc.4.running_mean": (256,), "fc.4.running_var": (256,), "fc.4.num_batches_tracked": ()}
    whole = torchvision_shapes() | head
    predictor: Shapes = {"module.predictor.0.weight": (4096, 256), **norm("module.predictor.1", 4096)}
    return (
        under("module.base_encoder.", whole)
        | under("module.momentum_encoder.", whole)
        | predictor
        | {"module.predictor.3.weight": (256, 4096)}
    )


def dino_student() -> Shapes:
    head = linear("mlp.0", 2048, 2048) | linear("mlp.2", 2048, 2048) | linear("mlp.4", 256, 2048)
    head |= {"last_layer.weight_g": (60000, 1), "last_layer.weight_v": (60000, 256)}
    return under("module.backbone.", torchvision_shapes()) | under("module.head.", head)


def dino_teacher() -> Shapes:
    return {name.removeprefix("module."): shape for name, shape in dino_student().items()}


MANIFESTS: dict[str, tuple[str, Callable[[], Shapes]]] = {
    "moco_v1_200ep": ("MoCo v1/v2", lambda: moco(linear("fc", 128, 2048))),
    "moco_v2_800ep": ("MoCo v1/v2", lambda: moco(linear("fc.0", 2048, 2048) | linear("fc.2", 128, 2048))),
    "moco_v3_r50": ("MoCo v3", moco_v3),
    "dino_resnet50_pretrain": ("torchvision", torchvision_shapes),
    "dino_full_student": ("DINO, wrapped", dino_student),
    "dino_full_teacher": ("DINO", dino_teacher),
    "torchvision": ("torchvision", lambda: torchvision_shapes() | linear("fc", 1000, 2048)),
    "torchvision, DataParallel": (
        "torchvision, wrapped",
        lambda: under("module.", torchvision_shapes() | linear("fc", 1000, 2048)),
    ),
    "detectron2": ("detectron2", detectron2_shapes),
}


def filled(shapes: Shapes) -> State:
    """Distinct values, as one number seen at every place of a tensor: 65,536 queue entries cost nothing."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.tensor(7) if not shape else torch.rand((), generator=generator).expand(shape)
        for name, shape in shapes.items()
    }


def test_the_manifests_are_resnet_50s() -> None:
    shapes = torchvision_shapes()
    assert len(shapes) == 318  # 53 convolutions, 53 norms of 5 tensors
    learnt = [shape for name, shape in shapes.items() if name.endswith(("weight", "bias"))]
    assert (
        sum(torch.Size(shape).numel() for shape in learnt) == 25_557_032 - 2_049_000
    )  # published, without fc


@pytest.mark.parametrize("name", MANIFESTS)
def test_every_layout_is_recognised_and_converted_there_and_back(name: str) -> None:
    layout, shapes = MANIFESTS[name]
    state = filled(shapes())
    assert find_layout(state).name == layout
    own = convert_resnet(state, layout, "torchvision")
    assert {key: tuple(value.shape) for key, value in own.items()} == torchvision_shapes()
    for target in LAYOUTS:
        there = convert_resnet(own, "torchvision", target.name)
        assert find_layout(there) == target
        back = convert_resnet(there, target.name, "torchvision")
        assert back.keys() == own.keys() and all(back[key] is own[key] for key in own)
    again = convert_resnet(own, "torchvision", layout)
    assert again.keys() <= state.keys() and all(again[key] is state[key] for key in again)


def test_detectron2s_names_are_those_of_its_own_manifest() -> None:
    own = filled(torchvision_shapes())
    written = convert_resnet(own, "torchvision", "detectron2")
    assert {key: tuple(value.shape) for key, value in written.items()} == detectron2_shapes()
    pairs = {
        "bn1.bias": "stem.conv1.norm.bias",
        "layer1.0.downsample.0.weight": "res2.0.shortcut.weight",
        "layer3.5.bn3.running_var": "res4.5.conv3.norm.running_var",
        "layer4.0.downsample.1.weight": "res5.0.shortcut.norm.weight",
    }
    assert all(written[theirs] is own[ours] for ours, theirs in pairs.items())


@pytest.mark.parametrize(("name", "wrong"), [("moco_v2_800ep", "MoCo v3"), ("detectron2", "torchvision"),
                                             ("torchvision", "detectron2"), ("moco_v3_r50",
                                             "DINO")])  # fmt: skip
def test_another_layout_than_stated_is_refused_with_the_actual_one(name: str, wrong: str) -> None:
    actual, shapes = MANIFESTS[name]
    with pytest.raises(MaskDistillError, match=rf"not a ResNet in the layout '{wrong}'.*those of '{actual}'"):
        convert_resnet(filled(shapes()), wrong, "torchvision")


def test_what_is_no_resnet_or_holds_more_is_refused() -> None:
    with pytest.raises(
        MaskDistillError, match=r"layout 'torchvision' \(key conv1.weight\): keys such as \['cls_to"
    ):
        convert_resnet({"cls_token": torch.zeros(1)}, "torchvision", "detectron2")
    with pytest.raises(MaskDistillError, match=r"1 unknown keys such as \['layer5.0.conv1.weight'\]"):
        convert_resnet(
            filled(torchvision_shapes() | {"layer5.0.conv1.weight": (1,)}), "torchvision", "detectron2"
        )
    with pytest.raises(MaskDistillError, match=r"1 unknown keys such as \['module.encoder_x.conv1.weight'\]"):
        convert_resnet(filled(moco({}) | {"module.encoder_x.conv1.weight": (1,)}), "MoCo v1/v2", "detectron2")
    with pytest.raises(MaskDistillError, match="unknown ResNet layout 'caffe'; choose one of MoCo v1/v2, "):
        convert_resnet({}, "caffe", "torchvision")


@pytest.mark.slow
def test_a_backbone_in_detectron2s_names_fills_the_resnet(tmp_path: Path) -> None:
    state = {name: value.clone() for name, value in filled(detectron2_shapes()).items()}
    torch.save({"model": state}, tmp_path / "R-50.pth")
    model = initial_resnet("resnet50", str(tmp_path / "R-50.pth")).state_dict()
    assert torch.equal(model["layer2.0.downsample.1.weight"], state["res3.0.shortcut.norm.weight"])
    assert torch.equal(model["bn1.running_mean"], state["stem.conv1.norm.running_mean"])
