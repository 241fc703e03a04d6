"""Sizes that are computed from those of pictures: at least one pixel, whatever the picture, at every
stage.
"""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from maskdistill.backbones.resnet import build_resnet
from maskdistill.config import DetectorConfig, SegmenterConfig
from maskdistill.data.picture_files import MAX_ASPECT, PictureError, refuse_size
from maskdistill.detector import inference
from maskdistill.detector.grids import resize_image, resize_masks, resized_shape
from maskdistill.detector.inference import detect
from maskdistill.detector.model import build_detector
from maskdistill.evaluation.metrics.boundaries import boundary_width
from maskdistill.features import extraction
from maskdistill.formats import rle
from maskdistill.formats.export.records import ObjectRecord
from maskdistill.masks.upsample import upsample
from maskdistill.product.overlay import overlay
from maskdistill.report import montage
from maskdistill.report.montage import fit, fit_labels, fit_mask, object_tile
from maskdistill.segmenter.data import augment, resize_labels, squash

SIDES = [*range(1, 40), 63, 64, 65, 255, 1000, 1333, 4096, 9459, 20_000, 32_000, 32_738, 40_000]
PAIRS = [(height, width) for height in SIDES for width in SIDES]


def test_no_size_is_nothing() -> None:
    """All pairs of sides up to 40,000, also those that no manifest lets through."""
    for hw in PAIRS:
        for short_side, max_size in ((800, 1333), (480, 640), (32, 48), (1, 1)):
            height, width = resized_shape(*hw, short_side, max_size)
            assert 1 <= min(height, width) <= short_side and max(height, width) <= max(
                max_size, short_side
            ), hw
        for side in (16, 224, 480):
            resized, view = extraction.resized_hw(hw, side), extraction.view_hw(hw, side)
            assert min(resized) == min(view) == side and max(view) <= MAX_ASPECT * side, hw
            assert min(extraction.grid_of(resized, 16)) >= 1
            if max(hw) <= MAX_ASPECT * min(hw):
                assert view == resized, hw
        assert boundary_width(hw) >= 1


def test_a_side_is_left_of_every_picture_of_a_manifest() -> None:
    """At the detector's sizes the short side of the longest picture is still longer than a stride of the
    network.
    """
    accepted = 0
    for height, width in PAIRS:
        try:
            refuse_size(width, height)
        except PictureError:
            continue
        if min(height, width) >= 16:
            accepted += 1
            assert min(resized_shape(height, width, 800, 1333)) >= 1333 // MAX_ASPECT
            assert max(extraction.resized_hw((height, width), 480)) <= 480 * MAX_ASPECT
    assert accepted > 500


EXTREMES = [(1, 1500), (1500, 1), (16, 800), (800, 16), (1, 1), (3, 1000)]


@pytest.mark.hostile(
    "photo: of any size that the manifest lets through", outcome="every stage leaves it a pixel"
)
@pytest.mark.parametrize("hw", EXTREMES)
def test_pictures_of_any_shape_pass(hw: tuple[int, int]) -> None:
    height, width = hw
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8))
    pixels, mask = np.asarray(photo), np.ones(hw, bool)
    small = fit(photo, 64)
    assert max(small.shape[:2]) == 64 and min(small.shape[:2]) >= 1
    assert fit_labels(mask.astype(np.uint8), small.shape[:2]).shape == fit_mask(mask, small.shape[:2]).shape
    assert object_tile(pixels, mask, (255, 0, 0), 48).shape == (48, 48, 3)
    whole = ObjectRecord(1, "cluster-00", 0.5, rle.encode(mask))
    shown = overlay(photo, mask.astype(np.uint8), [whole], 64, 3)
    assert shown.shape[1] == 2 * small.shape[1] + 4
    assert squash(pixels, 32).shape == (32, 32, 3)
    assert resize_labels(np.zeros((32, 32), np.uint8), *hw, "nearest_exact").shape == hw
    resized = extraction.view_hw(hw, 16)
    grid = extraction.grid_of(resized, 8)
    assert upsample(np.ones(grid, bool), 8, resized, hw).shape == hw
    image = torch.zeros(3, *hw)
    shape = resized_shape(*hw, 64, 96)
    assert resize_image(image, shape).shape == (3, *shape)
    assert resize_masks(torch.ones(2, *hw, dtype=torch.uint8), shape).shape == (2, *shape)
    cut = extraction.cluster_input(image, mask, (0.0, 0.0, float(width), float(height)), "masked_crop")
    assert min(cut.shape) >= 1
    square = extraction.cluster_input(image, mask, (0.0, 0.0, float(width), float(height)), "masked_square")
    assert 2 <= square.shape[1] == square.shape[2] <= extraction.LARGEST_SQUARE


@pytest.mark.parametrize("hw", [(20, 3000), (3000, 20)])
def test_the_square_around_a_panorama_is_scaled_down(hw: tuple[int, int]) -> None:
    box = (0.0, 0.0, float(hw[1]), float(hw[0]))
    square = extraction.cluster_input(torch.ones(3, *hw), np.ones(hw, bool), box, "masked_square")
    side = extraction.LARGEST_SQUARE
    assert square.shape == (3, side, side)
    rows, columns = (np.flatnonzero(square[0].amax(dim=1 - axis).numpy()) for axis in (0, 1))
    for places, length in zip(
        (rows, columns), hw, strict=True
    ):  # in the middle, as long as in the picture's scale
        assert len(places) == pytest.approx(length * side / 3720, abs=1)
        assert places.mean() == pytest.approx((side - 1) / 2, abs=1.5)


def test_the_segmenter_turns_the_longest_pictures() -> None:
    image, labels = np.zeros((640, 32_000, 3), np.uint8), np.ones((640, 32_000), np.uint8)
    config = SegmenterConfig(weights="random", size=32, rotation=10.0, scale=(0.5, 2.0))
    turned, turned_labels = augment(image, labels, config, np.random.default_rng(0))
    assert turned.shape == (32, 32, 3) and turned_labels.shape == (32, 32)


@pytest.mark.parametrize("hw", [(23, 32_738), (32_738, 23)])
def test_the_detector_takes_a_line(hw: tuple[int, int]) -> None:
    """The picture that ended ``predict``: it is quarantined now, and would pass if it were not."""
    values: dict[str, Any] = {
        "arch": "resnet_tiny", "weights": "random", "min_size_test": 64, "max_size": 96, "anchor_sizes": [32],
        "rpn_pre_nms": (50, 20), "rpn_post_nms": (20, 10), "max_dets": 3,
    }  # fmt: skip
    config = DetectorConfig(**values)
    torch.manual_seed(0)
    model = build_detector(config, 2, build_resnet(config.arch)).eval()
    for found in detect(model, torch.zeros(3, *hw, dtype=torch.uint8), torch.device("cpu")):
        assert found["segmentation"]["size"] == list(hw)


class OneObject(nn.Module):
    """Finds the middle of each image, whatever its size."""

    def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        self.shapes = [tuple(image.shape[-2:]) for image in images]
        height, width = self.shapes[0]
        mask = torch.zeros(1, height, width, dtype=torch.bool)
        mask[:, height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = True
        box = torch.tensor([[width / 4, height / 4, 3 * width / 4, 3 * height / 4]])
        return [{"masks": mask, "boxes": box, "scores": torch.tensor([0.9]), "labels": torch.tensor([1])}]


@pytest.mark.parametrize(("most", "seen"), [(10**6, (80, 120)), (80 * 120, (80, 120)), (40 * 60, (40, 60))])
def test_masks_of_a_giant_are_made_smaller(
    most: int, seen: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "MOST_PIXELS", most)
    model = OneObject()
    (found,) = detect(model, torch.zeros(3, 80, 120, dtype=torch.uint8), torch.device("cpu"))
    expected = np.zeros((80, 120), bool)
    expected[20:60, 30:90] = True
    assert model.shapes == [seen] and found["bbox"] == [30.0, 20.0, 60.0, 40.0]
    np.testing.assert_array_equal(rle.decode(found["segmentation"]), expected)


def test_an_object_of_a_panorama_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A square around an object as long as a picture of 32,000 pixels would have 40,000 x 40,000."""
    photo = np.random.default_rng(0).integers(0, 256, (16, 800, 3)).astype(np.uint8)
    mask = np.ones((16, 800), bool)
    whole = object_tile(photo, mask, (255, 0, 0), 48)
    sparse = object_tile(photo[::4, ::4], mask[::4, ::4], (255, 0, 0), 48)
    monkeypatch.setattr(montage, "LARGE", 200)
    np.testing.assert_array_equal(object_tile(photo, mask, (255, 0, 0), 48), sparse)
    assert whole.shape == sparse.shape
