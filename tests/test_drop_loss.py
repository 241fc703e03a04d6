"""Regions far from every annotated object: which they are, and that neither network's sample holds them."""

from typing import Any

import numpy as np
import pytest
import torch
from miniature import detector_config
from torch import Tensor

from maskdistill.backbones.resnet import build_resnet
from maskdistill.config import DetectorConfig
from maskdistill.detector.drop_loss import drop_distant
from maskdistill.detector.model import build_detector


def slow_iou(first: list[float], second: list[float]) -> float:
    """Of two xyxy boxes with whole corners, by counting pixels."""
    a, b = np.zeros((64, 64), bool), np.zeros((64, 64), bool)
    for canvas, (x1, y1, x2, y2) in ((a, first), (b, second)):
        canvas[int(y1) : int(y2), int(x1) : int(x2)] = True
    return float((a & b).sum() / (a | b).sum())


def random_boxes(rng: np.random.Generator, count: int) -> Tensor:
    corners = rng.integers(0, 44, (count, 2))
    return torch.from_numpy(np.hstack([corners, corners + rng.integers(1, 20, (count, 2))])).float()


def test_negatives_that_overlap_no_object_are_never_taken() -> None:
    rng = np.random.default_rng(0)
    regions, objects = random_boxes(rng, 200), random_boxes(rng, 3)
    labels = torch.from_numpy(rng.integers(-1, 3, 200))
    for threshold in (0.01, 0.2):
        wanted = [
            -1 if label == 0 and max(slow_iou(box, one) for one in objects.tolist()) <= threshold else label
            for label, box in zip(labels.tolist(), regions.tolist(), strict=True)
        ]
        assert drop_distant(labels, regions, objects, threshold).tolist() == wanted
        assert 10 < sum(one != other for one, other in zip(wanted, labels.tolist(), strict=True)) < 70
    assert drop_distant(labels, regions, objects, 0.0) is labels
    alone = drop_distant(labels, regions, objects[:0], 0.01)
    assert not (alone == 0).any() and torch.equal(alone[labels != 0], labels[labels != 0])


@pytest.mark.parametrize("threshold", [0.0, 0.01])
def test_both_samples_are_drawn_without_them(threshold: float) -> None:
    torch.manual_seed(0)
    model: Any = build_detector(detector_config(drop_loss=threshold), 2, build_resnet("resnet_tiny"))
    rng = np.random.default_rng(1)
    anchors, box = random_boxes(rng, 400), torch.tensor([[4.0, 4.0, 20.0, 24.0]])
    target = {"boxes": box, "labels": torch.tensor([1]), "seed": torch.tensor(5)}
    far = torch.tensor([slow_iou(one, box[0].tolist()) <= 0.01 for one in anchors.tolist()])
    (labels,), _ = model.rpn.assign_targets_to_anchors([anchors], [target])
    assert bool((labels[far] == 0).any()) == (threshold == 0) and (labels[~far] == 0).any()
    (sampled,), _, (classes,), _ = model.roi_heads.select_training_samples([anchors], [target])
    overlaps = [slow_iou(one, box[0].tolist()) for one in sampled.tolist()]
    assert any(overlap <= 0.01 for overlap in overlaps) == (threshold == 0)
    assert (classes > 0).any() and (classes == 0).any()


@pytest.mark.hostile(
    "config: detector.drop_loss with engine detectron2", outcome="refused; the message names both settings"
)
def test_detectron2_has_no_drop_loss() -> None:
    with pytest.raises(ValueError, match=r"engine detectron2 has no drop_loss; set it to 0"):
        DetectorConfig(weights="random", engine="detectron2", drop_loss=0.01)
