"""A vision transformer as a student's trunk: map, freezing, and the detector's pyramid, anchors and
regions.
"""

from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import roi_align

from maskdistill.backbones.resnet import ResNet, build_resnet
from maskdistill.backbones.students import build_student
from maskdistill.backbones.vit import build_vit, pad_to_multiple
from maskdistill.backbones.vit_trunk import ViTTrunk
from maskdistill.config import DetectorConfig
from maskdistill.detector.model import build_detector, norm_parameter_groups
from maskdistill.detector.proposals import Anchors, anchor_levels
from maskdistill.detector.pyramid import LevelledHead, PyramidPool, ResNetPyramid, SimplePyramid
from maskdistill.runtime.errors import MaskDistillError

MICRO = "vit_micro_patch8"
DEPTH = 4


def trunk(freeze_at: int = 0, arch: str = MICRO) -> ViTTrunk:
    torch.manual_seed(0)
    return ViTTrunk(build_vit(arch), arch, freeze_at)


def test_the_map_is_timms_patch_tokens() -> None:
    model = trunk().eval()
    images = torch.randn(2, 3, 64, 64)
    wanted = model.vit.forward_features(images)[:, 1:]  # type: ignore[operator]
    torch.testing.assert_close(model(images).flatten(2).transpose(1, 2), wanted)


@pytest.mark.parametrize("arch", [MICRO, "dinov3_vits16"])
def test_a_picture_of_any_size_is_padded_to_whole_patches(arch: str) -> None:
    model = trunk(arch=arch).eval()
    images = torch.randn(1, 3, 37, 51)
    with torch.no_grad():
        found = model(images)
        assert found.shape == (1, model.out_channels, -(-37 // model.stride), -(-51 // model.stride))
        assert torch.equal(found, model(pad_to_multiple(images, model.stride)))


@pytest.mark.parametrize("freeze_at", [0, 1, 3, DEPTH + 1])
def test_frozen_parts_learn_nothing_and_stay_in_eval_mode(freeze_at: int) -> None:
    model = trunk(freeze_at).train()
    before = {name: value.clone() for name, value in model.vit.named_buffers()}
    out = model(torch.randn(2, 3, 40, 48))
    assert out.requires_grad == (freeze_at <= DEPTH)
    if out.requires_grad:
        out.square().sum().backward()
    for name, parameter in model.vit.named_parameters():
        block = (
            int(name.split(".")[1])
            if name.startswith("blocks.")
            else DEPTH
            if name.startswith("norm")
            else -1
        )
        frozen = block + 2 <= freeze_at if block < DEPTH else freeze_at == DEPTH + 1
        assert (parameter.grad is None) == frozen == (not parameter.requires_grad), name
    moved = any(not torch.equal(value, before[name]) for name, value in model.vit.named_buffers())
    assert moved == (freeze_at == 0)  # the stem's batch normalisation
    assert [block.training for block in model.vit.blocks] == [index + 2 > freeze_at for index in range(DEPTH)]


@pytest.mark.parametrize(
    ("arch", "strides"),
    [(MICRO, [4, 8, 16]), ("vit_small_patch16", [4, 8, 16, 32]), ("dinov2_vits14", [3.5, 7, 14, 28])],
)
def test_the_pyramids_levels_have_their_strides(arch: str, strides: list[float]) -> None:
    pyramid = SimplePyramid(trunk(arch=arch), 8)
    assert pyramid.strides == strides
    rows, columns = -(-50 // pyramid.trunk.stride), -(-70 // pyramid.trunk.stride)
    with torch.no_grad():
        shapes = [tuple(one.shape) for one in pyramid(torch.randn(1, 3, 50, 70)).values()]
    factors = [pyramid.trunk.stride / stride for stride in strides]
    assert shapes == [(1, 8, -int(-rows * f // 1), -int(-columns * f // 1)) for f in factors]


def test_a_resnets_pyramid_has_a_level_a_stage_and_layer3_itself() -> None:
    resnet = build_resnet("resnet_tiny").eval()
    pyramid, images = ResNetPyramid(resnet, 8, "float32"), torch.randn(2, 3, 50, 70)
    with torch.no_grad():
        maps = pyramid(images)
        layer3 = resnet.layer3(resnet.layer2(resnet.layer1(resnet.stem(images))))
    assert pyramid.strides == [4, 8, 16]
    last = maps.pop("layer3")
    torch.testing.assert_close(last, layer3)
    assert [one.shape for one in maps.values()] == [
        (2, 8, -(-50 // stride), -(-70 // stride)) for stride in (4, 8, 16)
    ]


def test_anchor_sizes_lie_where_an_eighth_of_them_is_a_cell() -> None:
    assert anchor_levels([32, 64, 128, 256, 512], [4, 8, 16, 32]) == [0, 1, 2, 3, 3]
    assert anchor_levels([24, 48, 96], [4, 8, 16]) == [0, 1, 2]
    assert anchor_levels([24, 48, 96], [16]) == [0, 0, 0]
    assert anchor_levels([60], [4, 8, 16]) == [1]


def test_a_levels_anchors_and_predictions_belong_together() -> None:
    """Sizes 30 and 40 lie on the finest of three levels, none on the second, 120 on the coarsest."""
    sizes, ratios, strides = [30, 40, 120], [1.0, 2.0], [4, 8, 16]
    torch.manual_seed(0)
    head = LevelledHead(6, sizes, strides, len(ratios))
    maps = [torch.randn(2, 6, side, side) for side in (8, 4, 2)]
    logits, deltas = head(maps)
    assert [one.shape for one in logits] == [(2, 4, 8, 8), (2, 2, 2, 2)]
    whole = head.cls_logits(torch.relu(head.conv(maps[2]))), head.bbox_pred(torch.relu(head.conv(maps[2])))
    torch.testing.assert_close(logits[1], whole[0][:, 4:])
    torch.testing.assert_close(deltas[1], whole[1][:, 16:])
    (anchors, _) = Anchors(sizes, ratios, strides)(ImageList(torch.zeros(2, 3, 32, 32), [(32, 32)] * 2), maps)
    assert len(anchors) == sum(one[0].numel() for one in logits)
    last = anchors[-2:]
    torch.testing.assert_close((last[:, 2:] - last[:, :2]).prod(1), torch.tensor([120.0**2] * 2))
    assert ((last[:, 2:] + last[:, :2]) / 2).tolist() == [[16, 16]] * 2
    assert ((anchors[4, 2:] + anchors[4, :2]) / 2).tolist() == [4, 0]


def test_regions_are_read_off_the_level_of_their_size_in_their_order() -> None:
    torch.manual_seed(0)
    maps = {str(level): torch.randn(2, 3, 64 // 2**level, 64 // 2**level) for level in range(3)}
    boxes = [
        torch.tensor([[0.0, 0, 250, 250], [8, 8, 40, 60]]),
        torch.tensor([[4.0, 4, 134, 180], [1, 1, 9, 9]]),
    ]
    found = PyramidPool(5, [4, 8, 16])(maps, boxes)
    for row, (image, box, level) in enumerate([(0, 0, 2), (0, 1, 0), (1, 0, 1), (1, 1, 0)]):
        region = torch.cat([torch.tensor([[float(image)]]), boxes[image][box : box + 1]], dim=1)
        wanted = roi_align(maps[str(level)], region, 5, 1 / (4 * 2**level), aligned=True)
        torch.testing.assert_close(found[row : row + 1], wanted)


def settings(**changes: Any) -> dict[str, Any]:
    return {"arch": MICRO, "weights": "random"} | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"freeze_at": 6}, "freeze_at is 6, and all of vit_micro_patch8 is frozen at 5"),
        ({"arch": "resnet50", "freeze_at": 6}, "all of resnet50 is frozen at 5"),
        ({"weights": "official"}, "vit_micro_patch8 has no official checkpoint"),
        ({"arch": "resnet50", "weights": "official"}, "'official' is for a transformer"),
        ({"engine": "detectron2"}, "engine detectron2 has resnet50 only"),
        ({"arch": "resnet50", "engine": "detectron2", "pyramid": True}, "detectron2 has C4 only"),
        (
            {"arch": "resnet50", "engine": "detectron2", "backbone_lr": 0.1},
            "detectron2 has one learning rate",
        ),
    ],
)
def test_settings_that_do_not_fit_the_network_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DetectorConfig(**settings(**changes))


def test_students_are_resnets_and_transformers_by_name() -> None:
    assert isinstance(build_student(MICRO), VisionTransformer) and isinstance(
        build_student("resnet_tiny"), ResNet
    )
    with pytest.raises(MaskDistillError, match="resnet_huge"):
        build_student("resnet_huge")


@pytest.mark.parametrize(
    "student", [{"arch": MICRO}, {"arch": "resnet_tiny"}, {"arch": "resnet_tiny", "pyramid": True}]
)
def test_the_rate_of_all_that_is_pre_trained_is_a_share(student: dict[str, Any]) -> None:
    """layer4, which C4 runs on every region, included."""
    chosen = DetectorConfig(**settings(freeze_at=0, **student))
    network = build_student(chosen.arch)
    pretrained = {id(parameter) for parameter in network.parameters()}
    groups = norm_parameter_groups(build_detector(chosen, 3, network), 0.1, 0.25)
    scaled = {id(p) for group in groups if group["lr_scale"] == 0.25 for p in group["params"]}
    assert scaled == pretrained


def test_one_region_is_enough_to_train_on() -> None:
    model: Any = build_detector(
        DetectorConfig(**settings(head_channels=8, freeze_at=0)), 3, build_student(MICRO)
    )
    vectors = model.roi_heads.train().box_vectors(torch.randn(1, 8, 7, 7))
    assert vectors.shape == (1, 32)
