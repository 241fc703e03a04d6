"""A finished run whose models are random, for what reads runs and applies their models."""

from pathlib import Path
from typing import Any

import torch
from miniature import detector_config, segmenter_config

from maskdistill.backbones.resnet import build_resnet
from maskdistill.config import load_config
from maskdistill.detector.model import build_detector
from maskdistill.runtime.files import write_json
from maskdistill.segmenter.model import OUTPUT_STRIDE, DeepLab
from maskdistill.training.checkpoint import describe_model, save_model

K = 3
PLACE = "topk-0.4/k-3/seed-7"
SEGMENTER = f"{PLACE}/tau-0.25-bbox/hard-0.2/crf-1/segmenter/model.safetensors"
CONFIG: dict[str, Any] = {
    "run": "small", "seeds": [7], "data": {"kind": "scenes"}, "backbone": {"weights": "random"},
    "clusters": {"num_clusters": K}, "pseudo_labels": {"tau": 0.25, "type": "bbox"}, "crf": {"rounds": 1},
    "detector": detector_config(score_thresh=0.01).model_dump(mode="json"),
    "segmenter": segmenter_config(hard_pixels=0.2).model_dump(mode="json"),
}  # fmt: skip
VERDICT = {"verdict": "look first", "reasons": ["edges are faint (1.30)"], "signals": {"edges": 1.3}}


def write_summary(folder: Path, **changes: Any) -> None:
    config = load_config(CONFIG | changes).model_dump(mode="json")
    counts = {"train": 5, "eval": 0, "quarantined": 1}
    scores = {"stages": {}, "rounds": [], "baselines": {}}
    content = {"provenance": {"config": config}, "images": counts, "trust": VERDICT} | scores
    write_json(folder / "summary.json", content)


def write_run(folder: Path) -> Path:
    """Write summary, detector and segmenter."""
    write_summary(folder)
    torch.manual_seed(0)
    config = load_config(CONFIG)
    provenance = {
        "inputs": {"manifest": "m"},
        "params": {"seed": 7},
        "version": "0",
        "libraries": {"torch": "t"},
    }
    detector = build_detector(config.detector, K, build_resnet(config.detector.arch))
    described = describe_model(config.detector, K, provenance | {"stage": "detector"})
    save_model(folder / f"{PLACE}/detector/model.safetensors", detector.state_dict(), described)
    segmenter = DeepLab(config.segmenter, K, build_resnet(config.segmenter.arch, OUTPUT_STRIDE))
    described = describe_model(config.segmenter, K, provenance | {"stage": "segmenter"})
    save_model(folder / SEGMENTER, segmenter.state_dict(), described)
    return folder
