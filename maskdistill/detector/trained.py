"""A trained detector, from its file."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from maskdistill.backbones.students import build_student
from maskdistill.config import DetectorConfig, parse_section
from maskdistill.detector.engines import with_engine
from maskdistill.detector.inference import inference_config
from maskdistill.detector.model import build_detector
from maskdistill.training.checkpoint import load_model, model_metadata


class TrainedDetector(NamedTuple):
    """A detector to be used.

    Attributes:
        model: in eval mode, on its device, for :func:`maskdistill.detector.inference.detect`.
        config: the settings that it was trained with, and those at test time.
        num_clusters: K.
        provenance: JSON, of the model.
    """

    model: nn.Module
    config: DetectorConfig
    num_clusters: int
    provenance: str


def load_detector(path: str | Path, test_settings: str, device: torch.device) -> TrainedDetector:
    """The detector of a file of the detector stage.

    Args:
        path: model file (.safetensors).
        test_settings: JSON of the detector's section or of the part of it that inference uses.
        device: to move it to.

    Raises:
        MaskDistillError: no such file, damaged, not a detector, or settings that do not fit it.
    """
    metadata = model_metadata(path, "detector")
    config = inference_config(parse_section(DetectorConfig, metadata["params"]), test_settings)
    num_clusters = int(metadata["num_clusters"])
    detector = load_model(path, build_detector(config, num_clusters, build_student(config.arch)))
    model = with_engine(detector, config, num_clusters).eval().to(device)
    return TrainedDetector(model, config, num_clusters, metadata["provenance"])
