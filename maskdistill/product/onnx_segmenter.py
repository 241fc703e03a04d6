"""The segmenter from a picture of any size to its label map, as one module that ONNX and torch.export
take.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskdistill.backbones.registry import BACKBONES
from maskdistill.backbones.vit import normalize
from maskdistill.config import SegmenterConfig

OPSET = 18
NAMES = {"picture": {0: "batch", 1: "height", 2: "width"}, "labels": {0: "batch", 1: "height", 2: "width"},
         "logits": {0: "batch"}}  # fmt: skip
"""Inputs and outputs with their sizes that are free."""


class PictureToLabels(nn.Module):
    """The network with all that ``predict`` does before and after it.

    Args:
        model: of ``build_segmenter``, in eval mode, on the CPU, in float32.
        config: ``size`` and ``resize_labels``.
    """

    def __init__(self, model: nn.Module, config: SegmenterConfig) -> None:
        super().__init__()
        self.model, self.size, self.centred = model, config.size, config.resize_labels == "nearest_exact"

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """RGB uint8 (B, H, W, 3) -> labels uint8 (B, H, W), 0..K, and logits float (B, K + 1, size, size).

        Squashed as OpenCV does: bicubic with a = -0.75 and without antialiasing, rounded to 8 bits.
        """
        height, width = picture.shape[1:3]
        # no transposition, which onnxruntime would move past Resize where a quantised network follows
        planes = torch.stack(picture.unbind(3), dim=1).float()
        squashed = F.interpolate(planes, (self.size, self.size), mode="bicubic", align_corners=False)
        logits: Tensor = self.model(normalize(squashed.round().clamp(0, 255)))
        labels = logits.argmax(1).to(torch.uint8)
        return labels[:, self._places(height)][:, :, self._places(width)], logits

    def _places(self, length: int) -> Tensor:
        """Of each of ``length`` pixels the row or column of the network's map, as ``resize_labels``."""
        shift = int(self.centred)
        return torch.div((2 * torch.arange(length) + shift) * self.size, 2 * length, rounding_mode="floor")


def example(config: SegmenterConfig) -> Tensor:
    """A batch of two pictures to trace with, of a shape that no other size in the network is likely to
    have.
    """
    return torch.zeros(2, config.size + 8, config.size + 24, 3, dtype=torch.uint8)


def write_segmenter_onnx(
    model: nn.Module, config: SegmenterConfig, path: Path, metadata: Mapping[str, str]
) -> None:
    """Write :class:`PictureToLabels`; batch and size of the pictures are free.

    By torch's exporter of traces, which is ten times as fast as the one of graphs; a transformer's code,
    which rounds sizes, is no trace.

    Args:
        model, config: as of :class:`PictureToLabels`.
        path: file to write.
        metadata: strings that are stored in the file.
    """
    import onnx

    graphs = config.arch in BACKBONES
    free = {0: torch.export.Dim("batch"), 1: torch.export.Dim("height"), 2: torch.export.Dim("width")}
    sizes = {"dynamic_shapes": {"picture": free}} if graphs else {"dynamic_axes": NAMES}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            PictureToLabels(model, config).eval(), (example(config),), path, input_names=["picture"],
            output_names=["labels", "logits"], opset_version=OPSET, dynamo=graphs, verbose=False,
            external_data=False,
            **sizes,
        )  # fmt: skip
    save(onnx.load(path), path, metadata)


def save(proto: "onnx.ModelProto", path: Path, metadata: Mapping[str, str]) -> None:  # type: ignore[name-defined] # noqa: F821
    """Check and write a model with strings of ours, without this machine's paths, which torch puts beside
    nodes.
    """
    import onnx

    graph = proto.graph
    for part in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer, graph):
        del part.metadata_props[:]
    onnx.helper.set_model_props(proto, dict(sorted(metadata.items())))
    onnx.checker.check_model(proto)
    path.write_bytes(proto.SerializeToString(deterministic=True))
