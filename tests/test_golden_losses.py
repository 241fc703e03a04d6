"""The first losses of detector and segmenter, recomputed by loops from the networks' raw outputs and the
targets.

Nothing of the losses, matching, rules of sampling or box coding is taken from the package or from
torchvision; only which anchors and regions were drawn at random is taken over, and checked against the rules.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from miniature import (
    NUM_CLUSTERS,
    detector_config,
    examples,
    label_files,
    scenes,
    segmenter_config,
    write_run,
)
from test_segmenter import slow_loss
from torch import Tensor

from maskdistill.backbones.resnet import build_resnet
from maskdistill.detector import heads, proposals
from maskdistill.detector.data import AnnotatedImages
from maskdistill.detector.losses import balanced_sample
from maskdistill.detector.model import build_detector
from maskdistill.detector.train import train_detector
from maskdistill.segmenter.data import LabelledImages, segmenter_batches
from maskdistill.segmenter.model import OUTPUT_STRIDE, DeepLab
from maskdistill.segmenter.train import train_segmenter
from maskdistill.training.loop import LoopSettings, MetricRow

CPU = torch.device("cpu")
Box = list[float]
# float32 sums of a few hundred terms against float64: 1e-5 relative is ten times what was seen.
RELATIVE = 1e-5


def area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def overlap(a: Box, b: Box) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return width * height / (area(a) + area(b) - width * height)


def code(box: Box, reference: Box, weights: tuple[float, ...]) -> list[float]:
    """Box regression target (Girshick et al. 2014, appendix C), times the weights."""
    width, height = reference[2] - reference[0], reference[3] - reference[1]
    target = [
        ((box[0] + box[2]) / 2 - (reference[0] + reference[2]) / 2) / width,
        ((box[1] + box[3]) / 2 - (reference[1] + reference[3]) / 2) / height,
        math.log((box[2] - box[0]) / width),
        math.log((box[3] - box[1]) / height),
    ]
    return [weight * value for weight, value in zip(weights, target, strict=True)]


def binary_cross_entropy(logit: float, truth: float) -> float:
    probability = 1 / (1 + math.exp(-logit))
    return -(truth * math.log(probability) + (1 - truth) * math.log(1 - probability))


def l1(found: list[float], wanted: list[float]) -> float:
    return sum(abs(a - b) for a, b in zip(found, wanted, strict=True))


def anchor_labels(anchors: list[Box], objects: list[Box]) -> tuple[list[int], list[int]]:
    """1 where IoU >= 0.7 or the best of an object, 0 below 0.3, else -1; and the object each anchor overlaps
    most.
    """
    table = [[overlap(box, anchor) for anchor in anchors] for box in objects]
    labels, matched = [], []
    for place in range(len(anchors)):
        column = [row[place] for row in table]
        best = max(column)
        is_best = any(row[place] == max(row) for row in table)
        labels.append(1 if best >= 0.7 or is_best else 0 if best < 0.3 else -1)
        matched.append(column.index(best))
    return labels, matched


def grid_anchors(side: int, sizes: list[int], ratios: list[float]) -> list[Box]:
    """Row by row, place by place: size by size and ratio by ratio, centred on multiples of 16."""
    found = []
    for y in range(0, side, 16):
        for x in range(0, side, 16):
            for size in sizes:
                for ratio in ratios:
                    w, h = size / math.sqrt(ratio) / 2, size * math.sqrt(ratio) / 2
                    found.append([x - w, y - h, x + w, y + h])
    return found


def mask_in_box(mask: npt.NDArray[np.bool_], box: Box, side: int) -> list[list[float]]:
    """RoIAlign of a mask (He et al. 2017 §3; pixel centres at half integers), 1 where the mean is at least
    0.5.
    """
    rows, columns = mask.shape

    def at(y: float, x: float) -> float:
        y, x = min(max(y, 0.0), rows - 1.0), min(max(x, 0.0), columns - 1.0)
        top, left = int(y), int(x)
        bottom, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
        v, u = y - top, x - left
        upper = mask[top, left] * (1 - u) + mask[top, right] * u
        return float(upper * (1 - v) + (mask[bottom, left] * (1 - u) + mask[bottom, right] * u) * v)

    bin_width, bin_height = (box[2] - box[0]) / side, (box[3] - box[1]) / side
    across, down = math.ceil(bin_width), math.ceil(bin_height)
    out = []
    for row in range(side):
        line = []
        for column in range(side):
            samples = [
                at(
                    box[1] - 0.5 + (row + (i + 0.5) / down) * bin_height,
                    box[0] - 0.5 + (column + (j + 0.5) / across) * bin_width,
                )
                for i in range(down)
                for j in range(across)
            ]
            line.append(float(sum(samples) / len(samples) >= 0.5))
        out.append(line)
    return out


def check_sample(labels: list[int], chosen: list[int], size: int, fraction: float) -> None:
    assert len(set(chosen)) == len(chosen)
    positive = [index for index in chosen if labels[index] > 0]
    negative = [index for index in chosen if labels[index] == 0]
    assert len(positive) == min(sum(label > 0 for label in labels), int(size * fraction))
    assert len(negative) == min(labels.count(0), size - len(positive))
    assert len(positive) + len(negative) == len(chosen)


SIDE = 64


def first_step(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[MetricRow, dict[str, Any]]:
    """The metric row of one step on two scenes, and what the networks gave in it."""
    drawn = scenes(2, SIDE, square=True)
    write_run(folder, drawn)
    settings = detector_config(iters=1, min_size_train=[SIDE], flip=0.0, roi_batch=16)
    raw: dict[str, Any] = {"chosen": [], "config": settings}

    def recorded(labels: Tensor, size: int, fraction: float, generator: torch.Generator | None) -> Tensor:
        chosen = balanced_sample(labels, size, fraction, generator)
        raw["chosen"].append(chosen.tolist())
        return chosen

    monkeypatch.setattr(proposals, "balanced_sample", recorded)
    monkeypatch.setattr(heads, "balanced_sample", recorded)
    torch.manual_seed(3)
    model: Any = build_detector(settings, NUM_CLUSTERS, build_resnet(settings.arch))
    modules = {
        "rpn_head": model.rpn.head, "rpn": model.rpn, "boxes": model.roi_heads.box_predictor,
        "masks": model.roi_heads.mask_predictor,
    }  # fmt: skip
    for name, module in modules.items():
        module.register_forward_hook(lambda _, __, output, name=name: raw.__setitem__(name, output))
    data = AnnotatedImages(examples(folder, drawn), 0.0, 7)
    loop = LoopSettings(1, folder / "state", "f", log_every=1)
    _, (row,) = train_detector(model, data, settings, loop, CPU)
    order = np.random.default_rng([7, 0]).permutation(2)
    raw["scenes"] = [drawn[index] for index in order]
    raw["objects"] = [
        [[*corner(mask, np.min), *(value + 1 for value in corner(mask, np.max))] for mask in scene.masks]
        for scene in raw["scenes"]
    ]
    return row, raw


def corner(mask: npt.NDArray[np.bool_], extreme: Any) -> list[float]:
    """Smallest or largest x and y of a mask."""
    y, x = np.nonzero(mask)
    return [float(extreme(x)), float(extreme(y))]


def test_first_losses_of_the_detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row, raw = first_step(tmp_path, monkeypatch)
    settings = raw["config"]
    objectness, box_loss = 0.0, 0.0
    (logit_map,), (delta_map,) = raw["rpn_head"]
    logit_map, delta_map = logit_map.detach(), delta_map.detach()
    per_place = len(settings.anchor_sizes) * len(settings.aspect_ratios)
    anchors = grid_anchors(SIDE, settings.anchor_sizes, settings.aspect_ratios)
    num_positive = 0
    for image, objects in enumerate(raw["objects"]):
        labels, matched = anchor_labels(anchors, objects)
        check_sample(labels, raw["chosen"][image], settings.rpn_batch, 0.5)
        for index in raw["chosen"][image]:
            place, kind = divmod(index, per_place)
            y, x = divmod(place, SIDE // 16)
            objectness += binary_cross_entropy(float(logit_map[image, kind, y, x]), float(labels[index]))
            if labels[index] == 1:
                num_positive += 1
                found = delta_map[image, 4 * kind : 4 * kind + 4, y, x].tolist()
                box_loss += l1(found, code(objects[matched[index]], anchors[index], (1.0, 1.0, 1.0, 1.0)))
    assert num_positive >= 2
    assert row["loss_objectness"] == pytest.approx(objectness / (2 * settings.rpn_batch), rel=RELATIVE)
    assert row["loss_rpn_box_reg"] == pytest.approx(box_loss / (2 * settings.rpn_batch), rel=RELATIVE)

    logits, deltas = (output.detach().double() for output in raw["boxes"])
    masks = raw["masks"].detach().double()
    side = masks.shape[-1]
    class_loss, region_loss, mask_loss, region, positive = 0.0, 0.0, 0.0, 0, 0
    for image, (scene, objects) in enumerate(zip(raw["scenes"], raw["objects"], strict=True)):
        candidates = raw["rpn"][0][image].tolist() + objects
        overlaps = [[overlap(box, candidate) for box in objects] for candidate in candidates]
        best = [row.index(max(row)) for row in overlaps]
        labels = [
            int(scene.labels[which]) if row[which] >= 0.5 else 0
            for which, row in zip(best, overlaps, strict=True)
        ]
        check_sample(labels, raw["chosen"][2 + image], settings.roi_batch, settings.roi_positive)
        for index in raw["chosen"][2 + image]:
            label = labels[index]
            scores = logits[region].tolist()
            class_loss += math.log(sum(math.exp(score) for score in scores)) - scores[label]
            if label:
                target = code(objects[best[index]], candidates[index], (10.0, 10.0, 5.0, 5.0))
                region_loss += l1(deltas[region, 4 * label : 4 * label + 4].tolist(), target)
                truth = mask_in_box(scene.masks[best[index]], candidates[index], side)
                found = masks[positive, label - 1].tolist()
                mask_loss += sum(
                    binary_cross_entropy(found[i][j], truth[i][j]) for i in range(side) for j in range(side)
                )
                positive += 1
            region += 1
    assert positive >= 4 and (region, positive) == (len(logits), len(masks))
    assert row["loss_classifier"] == pytest.approx(class_loss / region, rel=RELATIVE)
    assert row["loss_box_reg"] == pytest.approx(region_loss / region, rel=RELATIVE)
    assert row["loss_mask"] == pytest.approx(mask_loss / (positive * side * side), rel=RELATIVE)
    parts = ("loss_classifier", "loss_box_reg", "loss_mask", "loss_objectness", "loss_rpn_box_reg")
    assert row["loss"] == pytest.approx(sum(row[name] for name in parts), rel=1e-6)


@pytest.mark.parametrize("hard_pixels", [0.2, 1.0])
def test_first_loss_of_the_segmenter(tmp_path: Path, hard_pixels: float) -> None:
    write_run(tmp_path, scenes(4))
    settings = segmenter_config(hard_pixels=hard_pixels, border_label=255)
    data = LabelledImages(label_files(tmp_path, 4), NUM_CLUSTERS, settings, 7)
    torch.manual_seed(3)
    model = DeepLab(settings, NUM_CLUSTERS, build_resnet(settings.arch, OUTPUT_STRIDE))
    outputs: list[Tensor] = []
    model.register_forward_hook(lambda _, __, output: outputs.append(output.detach()))
    _, (row,) = train_segmenter(
        model, data, settings, LoopSettings(1, tmp_path / "state", "f", log_every=1), CPU
    )
    _, labels = next(segmenter_batches(data, 1, 0))
    assert (labels == 255).any() and (labels == 0).any() and len(set(labels.flatten().tolist()) - {255}) > 2
    assert row["loss"] == pytest.approx(slow_loss(outputs[0], labels, hard_pixels), rel=RELATIVE)
