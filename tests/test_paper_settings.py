"""The full configurations, as loaded, hold every documented parameter of the paper [method §15], values by
hand.
"""

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from maskdistill.backbones.registry import find_backbone
from maskdistill.cli.config import check_file
from maskdistill.config import Config
from maskdistill.detector.model import norm_parameter_groups
from maskdistill.evaluation.semantic import IGNORE
from maskdistill.segmenter.model import OUTPUT_STRIDE

CONFIGS = Path(__file__).parents[1] / "config"

SHEET: dict[str, Any] = {
    # distil
    "backbone.arch": "dino_vits16", "backbone.weights": "official", "features.short_side": 640,
    "masks.topk": 0.4,
    "features.precision": "float32", "masks.cls_heads": None, "masks.cls_mass": None, "masks.max_masks": 1,
    "masks.component": "source_4conn", "masks.resize_mask": "nearest", "masks.affinity.center": False,
    "masks.refine": "none",
    # cluster
    "clusters.backbone": None, "clusters.input": "masked_image", "clusters.short_side": None,
    "clusters.whiten": "std",
    "clusters.l2": True, "clusters.algorithm": "faiss", "clusters.niter": 20, "clusters.nredo": 5,
    "clusters.overcluster": 1, "seeds": [1234, 1235, 1236, 1237, 1238],
    # detector
    "detector.arch": "resnet50", "detector.weights": "moco_v2_800ep", "detector.freeze_at": 2,
    "detector.roi_pool": 14, "detector.iters": 24_000, "detector.lr": 0.02, "detector.steps": [20_000,
    22_000],
    "detector.gamma": 0.1, "detector.warmup_iters": 100, "detector.warmup_factor": 0.001,
    "detector.batch_size": 16,
    "detector.reference_batch": 16, "detector.momentum": 0.9, "detector.weight_decay": 1e-4,
    "detector.min_size_train": [480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800],
    "detector.min_size_test": 800,
    "detector.max_size": 1333, "detector.flip": 0.5, "detector.score_thresh": 0.05, "detector.nms": 0.5,
    "detector.max_dets": 100, "detector.precision": "float32",
    # pseudo
    "pseudo_labels.tau": 0.9, "pseudo_labels.compare": "gt", "pseudo_labels.overlap": "drop",
    "pseudo_labels.type": "mask",
    # deeplab
    "segmenter.arch": "resnet50", "segmenter.weights": "moco_v2_800ep", "segmenter.atrous_rates": (12, 24,
    36),
    "segmenter.freeze_at": 3, "segmenter.epochs": 45, "segmenter.batch_size": 16,
    "segmenter.reference_batch": 16,
    "segmenter.lr": 2e-3, "segmenter.drop_after": 40, "segmenter.gamma": 0.1, "segmenter.momentum": 0.9,
    "segmenter.weight_decay": 1e-4, "segmenter.hard_pixels": 0.2, "segmenter.size": 512,
    "segmenter.rotation": 5.0,
    "segmenter.scale": (0.75, 1.25), "segmenter.flip": 0.5, "segmenter.border_label": 0,
    "segmenter.precision": "float32", "segmenter.resize_labels": "nearest_exact",
    # crf
    "crf.iters": 10, "crf.gaussian.sxy": 1.0, "crf.gaussian.compat": 3.0, "crf.bilateral.sxy": 67.0,
    "crf.bilateral.srgb": 3.0, "crf.bilateral.compat": 4.0, "crf.channels": "rgb",
    # probe
    "probe.epochs": 45, "probe.batch_size": 24, "probe.lr": 0.1, "probe.drop_after": 25, "probe.gamma": 0.1,
    "probe.momentum": 0.9, "probe.weight_decay": 1e-4, "probe.init_std": 0.01,
    # eval
    "evaluation.matching": "iou",
}  # fmt: skip
OWN: dict[str, dict[str, Any]] = {
    "voc": {
        "clusters.num_clusters": 20, "crf.rounds": 1, "support": None,
        "data.train_list": "Main/trainval", "data.segmenter_list": "Segmentation/train_aug",
        "data.eval_list": "Segmentation/val", "data.instance_list": "Segmentation/trainval",
        "datasets.build": "voc",
    },
    "coco20k": {
        "clusters.num_clusters": 80, "support.root": "resources/data/coco20k/support",
        "datasets.build": "coco20k",
        "data.images": "resources/data/coco20k/images",
    },
}  # fmt: skip
"""On VOC both years are trained on, so that VOC2007 is no support set beside: it is part of the fit."""


def value(config: Config, key: str) -> Any:
    found: Any = config
    for part in key.split("."):
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("name", OWN)
def test_every_documented_parameter_has_its_value(name: str) -> None:
    config = check_file(CONFIGS / f"{name}.yaml")
    wanted = SHEET | OWN[name]
    found = {key: value(config, key) for key in wanted}
    assert {key: (found[key], wanted[key]) for key in wanted if found[key] != wanted[key]} == {}
    assert config.datasets.check_lists and config.datasets.num_images is None
    assert {"lost-400", "attention-0.75"} <= set(config.baselines.masks)
    assert set(config.evaluation.protocols) >= {"agnostic_multi", "semantic_multi", "semantic_single"}


def test_what_is_fixed_in_the_code() -> None:
    """Values of [method §15] that are no setting: patch 16, output stride 8, 255 ignored, norm layers without
    decay.
    """
    assert find_backbone("dino_vits16").patch_size == 16
    assert (OUTPUT_STRIDE, IGNORE) == (8, 255)
    groups = norm_parameter_groups(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)), 1e-4)
    assert [group["weight_decay"] for group in groups] == [1e-4, 0.0]
