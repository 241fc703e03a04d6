"""The segmenter as ONNX, and whether onnxruntime computes the same with it."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from maskdistill.backbones.vit import normalize
from maskdistill.runtime.errors import MaskDistillError

LIBRARIES = ("onnx", "onnxscript", "onnxruntime")
OPSET = 18
TOLERANCE = 1e-4
"""Largest accepted difference of a logit, as a share of the largest absolute one."""


class PixelsToLogits(nn.Module):
    """The network with its normalisation in front, so that a user hands over pixel values.

    Args:
        model: :class:`maskdistill.segmenter.model.DeepLab` in eval mode.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        """RGB values 0..255, float32 (B, 3, S, S) -> logits (B, K+1, S, S)."""
        logits: Tensor = self.model(normalize(pixels))
        return logits


@dataclass(frozen=True)
class Agreement:
    """How close onnxruntime comes to torch on some pictures.

    Attributes:
        pictures: how many were compared.
        largest: largest absolute difference of a logit.
        scale: largest absolute logit.
        equal_labels: share of the pixels with the same most likely label.
    """

    pictures: int
    largest: float
    scale: float
    equal_labels: float

    @property
    def holds(self) -> bool:
        """Whether the logits are equal within :data:`TOLERANCE` of the largest."""
        return self.largest <= TOLERANCE * self.scale

    def sentence(self) -> str:
        """The figures in words."""
        return (
            f"onnxruntime against torch on {self.pictures} pictures: largest difference of a logit {self.largest:.1e},"
            f" of a largest logit {self.scale:.1f} (tolerance {TOLERANCE:g} of it: {TOLERANCE * self.scale:.1e});"
            f" equal labels in {100 * self.equal_labels:.3f} % of the pixels"
        )


def need_libraries() -> None:
    """Refuse before any work where a library is missing."""
    if absent := [name for name in LIBRARIES if find_spec(name) is None]:
        raise MaskDistillError(
            f"export needs {' and '.join(absent)}, which are not installed: pip install 'maskdistill[export]'"
            " (in a checkout: make export)"
        )


def write_onnx(model: nn.Module, size: int, path: Path, metadata: Mapping[str, str]) -> None:
    """Write the network: input ``pixels`` (B, 3, size, size), output ``logits`` (B, K+1, size, size); any B.

    Paths and stack traces of this machine, which torch puts beside the nodes, are left out.

    Args:
        model: in eval mode, on the CPU.
        size: ``SegmenterConfig.size``.
        path: file to write.
        metadata: strings that are stored in the file.
    """
    import onnx

    example = torch.zeros(2, 3, size, size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            PixelsToLogits(model).eval(),
            (example,),
            input_names=["pixels"],
            output_names=["logits"],
            dynamic_shapes={"pixels": {0: torch.export.Dim("batch")}},
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise MaskDistillError("torch.onnx.export returned nothing; this version of torch cannot export the segmenter")
    proto = program.model_proto
    for node in proto.graph.node:
        del node.metadata_props[:]
    for value in [*proto.graph.value_info, *proto.graph.input, *proto.graph.output, *proto.graph.initializer]:
        del value.metadata_props[:]
    del proto.graph.metadata_props[:]
    onnx.helper.set_model_props(proto, dict(sorted(metadata.items())))
    onnx.checker.check_model(proto)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def compare(model: nn.Module, path: Path, pictures: npt.NDArray[np.uint8]) -> Agreement:
    """Run torch and onnxruntime, both on the CPU, over squashed pictures, uint8 (N, S, S, 3) with N at least 1."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    largest = scale = equal = 0.0
    wrapped = PixelsToLogits(model).eval()
    for picture in pictures:
        pixels = np.ascontiguousarray(picture.transpose(2, 0, 1)[None], dtype=np.float32)
        with torch.inference_mode():
            expected = wrapped(torch.from_numpy(pixels)).numpy()
        (found,) = session.run(["logits"], {"pixels": pixels})
        largest = max(largest, float(np.abs(found - expected).max()))
        scale = max(scale, float(np.abs(expected).max()))
        equal += float((found.argmax(1) == expected.argmax(1)).mean())
    return Agreement(len(pictures), largest, scale, equal / len(pictures))
