"""The detector as ONNX, from a resized picture to boxes and small masks, and whether onnxruntime finds the same."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from maskdistill.backbones.vit import normalize
from maskdistill.runtime.errors import MaskDistillError

OPSET = 18
OUTPUTS = ("boxes", "labels", "scores", "masks")
TOLERANCES = {"boxes": 0.1, "labels": 0.0, "scores": 1e-3, "masks": 1e-2}
"""Largest accepted difference of two equal objects: pixels of a corner, and probabilities."""
LEAST_EQUAL = 0.99


class PixelsToObjects(nn.Module):
    """The network without what happens at the picture's full size: resizing before, pasting the masks after.

    Args:
        model: of :func:`maskdistill.detector.model.build_detector`, in eval mode, on the CPU.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor, least_score: Tensor) -> tuple[Tensor, ...]:
        """RGB values 0..255, float32 (1, 3, H, W) resized, and a score -> :data:`OUTPUTS` of n objects, best first.

        Returns:
            float (n, 4) xyxy in pixels of ``pixels``, int64 (n,) of 1..K, float (n,), float (n, S, S) inside the boxes.
        """
        images = ImageList(normalize(pixels), [(pixels.shape[-2], pixels.shape[-1])])
        model: Any = self.model
        found = model.backbone(images.tensors)
        maps = {"0": found} if isinstance(found, Tensor) else found
        proposals, _ = model.rpn(images, maps)
        usual, model.roi_heads.score_thresh = model.roi_heads.score_thresh, least_score
        ((found,), _) = model.roi_heads(maps, proposals, images.image_sizes)
        model.roi_heads.score_thresh = usual
        return found["boxes"], found["labels"], found["scores"], found["masks"][:, 0]


@dataclass(frozen=True)
class DetectionAgreement:
    """How many objects torch and onnxruntime both find.

    Attributes:
        pictures: how many were compared.
        objects: found by torch or by onnxruntime, the larger number of each picture.
        equal: of them found by both within :data:`TOLERANCES`.
    """

    pictures: int
    objects: int
    equal: int

    @property
    def holds(self) -> bool:
        """Whether enough objects are equal: the share :data:`LEAST_EQUAL`."""
        return self.equal >= LEAST_EQUAL * self.objects

    def sentence(self) -> str:
        """The figures in words."""
        return (
            f"onnxruntime against torch on {self.pictures} pictures: {self.equal} of {self.objects} objects equal"
            f" (boxes within {TOLERANCES['boxes']:g} pixels, scores within {TOLERANCES['scores']:g})"
        )


def write_detector_onnx(model: nn.Module, path: Path, metadata: Mapping[str, str]) -> None:
    """Write the network: ``pixels`` (1, 3, H, W) of any size and ``least_score`` (), outputs as :data:`OUTPUTS`.

    By torch's exporter of traces, which torchvision's detection supports; the one that the segmenter goes through
    does not take sizes that follow from the data.

    Args:
        model: of ``build_detector``, in eval mode, on the CPU.
        path: file to write.
        metadata: strings that are stored in the file.
    """
    import onnx

    side = int(getattr(model, "transform").min_size[-1])  # noqa: B009 (a module's attribute, whose type is not known)
    example = (torch.linspace(0, 255, 3 * side * (side + 16)).reshape(1, 3, side, side + 16), torch.tensor(0.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            PixelsToObjects(model).eval(),
            example,
            path,
            input_names=["pixels", "least_score"],
            output_names=list(OUTPUTS),
            dynamic_axes={"pixels": {2: "height", 3: "width"}} | {name: {0: "objects"} for name in OUTPUTS},
            opset_version=OPSET,
            dynamo=False,
        )
    proto = onnx.load(path)
    onnx.helper.set_model_props(proto, dict(sorted(metadata.items())))
    onnx.checker.check_model(proto)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def compare_detections(
    model: nn.Module, path: Path, pictures: Sequence[npt.NDArray[np.uint8]], least_score: float
) -> DetectionAgreement:
    """Run torch and onnxruntime, both on the CPU, over pictures, uint8 (H, W, 3) each.

    Raises:
        MaskDistillError: onnxruntime cannot run the file.
    """
    objects = equal = 0
    for expected, found in _both(PixelsToObjects(model).eval(), path, pictures, least_score):
        objects += max(len(expected["scores"]), len(found["scores"]))
        equal += _num_equal(expected, found)
    return DetectionAgreement(len(pictures), objects, equal)


Detections = dict[str, npt.NDArray[Any]]


def _both(
    network: nn.Module, path: Path, pictures: Sequence[npt.NDArray[np.uint8]], least_score: float
) -> Iterator[tuple[Detections, Detections]]:
    """What torch and onnxruntime find in each picture, resized as for :func:`maskdistill.detector.inference.detect`."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for picture in pictures:
        image = torch.tensor(picture).permute(2, 0, 1).float()
        pixels = network.model.transform.resize(image)[0][None]  # type: ignore[operator, union-attr]
        least = torch.tensor(least_score)
        with torch.inference_mode():
            expected = [one.numpy() for one in network(pixels, least)]
        try:
            found = session.run(list(OUTPUTS), {"pixels": pixels.numpy(), "least_score": least.numpy()})
        except Exception as error:  # onnxruntime has no common base of its errors
            raise MaskDistillError(f"onnxruntime cannot run the exported detector: {error}") from None
        yield dict(zip(OUTPUTS, expected, strict=True)), dict(zip(OUTPUTS, found, strict=True))


def _num_equal(expected: Detections, found: Detections) -> int:
    """Objects of ``expected`` that ``found`` has too; near-equal scores may stand in another order."""
    rows, columns = len(expected["scores"]), len(found["scores"])
    if not rows or not columns:
        return 0
    close = np.ones((rows, columns), dtype=bool)
    for name, tolerance in TOLERANCES.items():
        first = expected[name].reshape(rows, 1, -1).astype(np.float64)
        second = found[name].reshape(1, columns, -1).astype(np.float64)
        close &= np.abs(first - second).max(axis=2) <= tolerance
    return int(close.any(axis=1).sum())
