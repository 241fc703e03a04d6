"""A trained segmenter, from its file."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from maskdistill.config import SegmenterConfig, parse_section
from maskdistill.segmenter.build import build_segmenter
from maskdistill.training.checkpoint import load_model, model_metadata


class TrainedSegmenter(NamedTuple):
    """A segmenter to be used.

    Attributes:
        model: in eval mode, on its device, for :mod:`maskdistill.segmenter.inference`.
        config: the settings that it was trained with.
        num_clusters: K, or the number of classes of a probe.
        provenance: JSON, of the model.
    """

    model: nn.Module
    config: SegmenterConfig
    num_clusters: int
    provenance: str


def load_segmenter(path: str | Path, device: torch.device) -> TrainedSegmenter:
    """The segmenter of a file of the stages segmenter or probe.

    Args:
        path: model file (.safetensors).
        device: to move it to.

    Raises:
        MaskDistillError: no such file, damaged, or not a segmenter.
    """
    metadata = model_metadata(path, "segmenter", "probe")
    config = parse_section(SegmenterConfig, metadata["params"])
    num_clusters = int(metadata["num_clusters"])
    model = load_model(path, build_segmenter(config, num_clusters)).to(device)
    return TrainedSegmenter(model, config, num_clusters, metadata["provenance"])
