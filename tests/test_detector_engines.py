"""What makes the engines equal, against slow references: sizes, anchors, RPN loss, mask targets, pasting,
names.
"""

import importlib.util
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torchvision.models.detection.image_list import ImageList

from maskdistill.backbones.resnet import build_resnet
from maskdistill.config import DetectorConfig, parse_section
from maskdistill.detector.detectron2_names import from_detectron2, to_detectron2
from maskdistill.detector.engines import portable_state, with_engine
from maskdistill.detector.grids import mask_targets, paste_masks, resize_image, resize_masks, resized_shape
from maskdistill.detector.model import build_detector
from maskdistill.detector.proposals import Anchors
from maskdistill.runtime.errors import MaskDistillError

CRF = {"pip": ["pydensecrf2 >=1.1"]}  # which detector and candidates have no use for
ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("size", "short_side", "shape"),
    [((375, 500), 800, (800, 1067)), ((333, 500), 480, (480, 721)), ((500, 375), 800, (1067, 800)),
     ((200, 1000), 800, (267, 1333)), ((640, 480), 480, (640, 480))],
)  # fmt: skip
def test_sizes_are_rounded_to_the_nearest(
    size: tuple[int, int], short_side: int, shape: tuple[int, int]
) -> None:
    assert resized_shape(*size, short_side, 1333) == shape


@pytest.mark.parametrize("shape", [(31, 47), (91, 113), (20, 25)])
def test_images_and_masks_are_resized_as_by_pillow(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (60, 75, 3), dtype=np.uint8)
    wanted = np.asarray(
        Image.fromarray(pixels).resize(shape[::-1], Image.Resampling.BILINEAR), dtype=np.float32
    )
    found = resize_image(torch.from_numpy(pixels).permute(2, 0, 1).float(), shape).permute(1, 2, 0).numpy()
    assert np.abs(found - wanted).max() <= 1.01  # Pillow rounds after each axis
    mask = (rng.random((60, 75)) < 0.5).astype(np.uint8)
    nearest = np.asarray(Image.fromarray(mask).resize(shape[::-1], Image.Resampling.NEAREST))
    assert np.array_equal(resize_masks(torch.from_numpy(mask)[None], shape)[0].numpy(), nearest)


def test_anchors_have_exact_areas_and_stand_on_multiples_of_the_stride() -> None:
    sizes, ratios = (32, 100), (0.5, 1.0, 2.0)
    maps = torch.zeros(2, 8, 3, 4)
    first, second = Anchors(sizes, ratios)(ImageList(torch.zeros(2, 3, 45, 61), [(45, 61), (40, 50)]), [maps])
    wanted = []
    for row in range(3):
        for column in range(4):
            for size in sizes:
                for ratio in ratios:
                    w, h = size / math.sqrt(ratio), size * math.sqrt(ratio)
                    x, y = 16 * column, 16 * row
                    wanted.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    torch.testing.assert_close(first, torch.tensor(wanted))
    assert torch.equal(first, second)


def small(**changes: Any) -> DetectorConfig:
    values = {"arch": "resnet_tiny", "weights": "random", "rpn_batch": 8, "anchor_sizes": [32, 64]}
    return DetectorConfig(**(values | changes))


def test_rpn_losses_are_l1_and_cross_entropy_over_the_nominal_batch() -> None:
    torch.manual_seed(0)
    rpn: Any = build_detector(small(), 2, build_resnet("resnet_tiny")).get_submodule("rpn")
    logits, deltas, targets = torch.randn(12, 1), torch.randn(12, 4), torch.randn(12, 4)
    labels = [torch.tensor([1.0, 0, 0, -1, 0, -1]), torch.tensor([0.0, 1, 1, 0, -1, 0])]
    objectness, box = rpn.compute_loss(logits, deltas, labels, [targets[:6], targets[6:]])
    entropy = regression = 0.0
    for index, label in enumerate(torch.cat(labels).tolist()):
        probability = 1 / (1 + math.exp(-logits[index].item()))
        if label >= 0:  # fewer than 8 an image, so all are sampled
            entropy -= math.log(probability if label else 1 - probability)
        if label == 1:
            regression += (deltas[index] - targets[index]).abs().sum().item()
    assert objectness.item() == pytest.approx(entropy / 16, rel=1e-5)
    assert box.item() == pytest.approx(regression / 16, rel=1e-5)


def test_mask_targets_are_cells_at_least_half_covered() -> None:
    mask = torch.zeros(2, 20, 30, dtype=torch.uint8)
    mask[0, 4:12, 6:16] = 1
    mask[1] = 1
    boxes = torch.tensor([[4.0, 2, 20, 18], [6, 4, 14, 12], [2, 2, 10, 10]])
    found = mask_targets(mask, boxes, torch.tensor([0, 0, 1]), 4)
    wanted = torch.zeros(3, 4, 4)
    # The first box has cells of 4 x 4 pixels, read at the pixels' centres.
    for row in range(4):
        for column in range(4):
            y, x = 2 + 4 * row, 4 + 4 * column
            wanted[0, row, column] = float(mask[0, y : y + 4, x : x + 4].float().mean() >= 0.5)
    wanted[1:] = 1
    assert torch.equal(found, wanted)


def test_pasting_is_bilinear_at_pixel_centres() -> None:
    torch.manual_seed(0)
    side, (height, width) = 5, (24, 31)
    grids = torch.rand(3, side, side)
    boxes = torch.tensor([[3.3, 2.1, 20.7, 22.9], [0, 0, 31, 24], [8, 8, 8, 12]])
    wanted = np.zeros((3, height, width), dtype=bool)
    margin = np.ones((3, height, width))
    for number in range(2):
        x1, y1, x2, y2 = boxes[number].tolist()
        padded = np.pad(grids[number].numpy().astype(float), 1)
        for row in range(height):
            for column in range(width):
                v = (row + 0.5 - y1) / (y2 - y1) * side - 0.5 + 1
                u = (column + 0.5 - x1) / (x2 - x1) * side - 0.5 + 1
                if not (0 <= u < side + 1 and 0 <= v < side + 1):
                    continue
                i, j = int(v), int(u)
                a, b = v - i, u - j
                value = (padded[i, j] * (1 - b) + padded[i, j + 1] * b) * (1 - a)
                value += (padded[i + 1, j] * (1 - b) + padded[i + 1, j + 1] * b) * a
                wanted[number, row, column] = value >= 0.5
                margin[number, row, column] = abs(value - 0.5)
    found = paste_masks(grids, boxes, (height, width)).numpy()
    assert wanted[:2].any(axis=(1, 2)).all()
    assert np.array_equal(found[margin > 1e-5], wanted[margin > 1e-5])


def test_names_of_both_engines_are_one_to_one() -> None:
    config = DetectorConfig(weights="random")
    with torch.device("meta"):
        names = list(build_detector(config, 3, build_resnet("resnet50")).state_dict())
    state = {name: torch.arange(8.0).reshape(4, 2) for name in names}
    theirs = to_detectron2(state)
    assert len(theirs) == len(state)
    assert theirs["roi_heads.box_predictor.cls_score.weight"][:, 0].tolist() == [2.0, 4.0, 6.0, 0.0]
    assert {"backbone.stem.conv1.norm.weight", "backbone.res4.5.conv3.norm.bias",
    "roi_heads.res5.0.shortcut.weight",
            "roi_heads.res5.norm.running_mean", "proposal_generator.rpn_head.anchor_deltas.bias",
            "roi_heads.mask_head.predictor.weight"} <= theirs.keys()  # fmt: skip
    back = from_detectron2(theirs)
    assert list(back) == names and all(torch.equal(back[name], state[name]) for name in names)
    with pytest.raises(MaskDistillError, match=r"fc\.weight: no tensor of this detector"):
        to_detectron2({"fc.weight": torch.zeros(1)})


def test_torchvisions_engine_is_the_model_itself() -> None:
    model = build_detector(small(), 2, build_resnet("resnet_tiny"))
    assert with_engine(model, small(), 2) is model
    assert portable_state(model).keys() == model.state_dict().keys()


@pytest.mark.skipif(importlib.util.find_spec("detectron2") is not None, reason="detectron2 is installed")
def test_without_detectron2_the_remedy_is_named() -> None:
    config = DetectorConfig(weights="random", engine="detectron2")
    with pytest.raises(
        MaskDistillError, match=r"detectron2 cannot be imported .*envs/detectron2\.yaml.*pip install"
    ):
        with_engine(torch.nn.Identity(), config, 2)


def test_detectron2_has_no_small_resnet() -> None:
    with pytest.raises(
        MaskDistillError, match="engine detectron2 has resnet50 only, and arch is 'resnet_tiny'"
    ):
        parse_section(DetectorConfig, '{"weights": "random", "engine": "detectron2", "arch": "resnet_tiny"}')


def test_detectron2s_environment_holds_everything_of_the_others() -> None:
    listed = [
        {
            part
            for part in yaml.safe_load((ROOT / f"envs/{name}.yaml").read_text())["dependencies"]
            if part != CRF
        }
        for name in ("maskdistill", "detectron2")
    ]
    assert listed[0] < listed[1]
