"""Run a trained segmenter over images."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskdistill.backbones.vit import normalize
from maskdistill.config import SegmenterConfig
from maskdistill.runtime.devices import mixed
from maskdistill.segmenter.data import UInt8, squash


@torch.inference_mode()
def logits_of(
    model: nn.Module, images: Sequence[UInt8], config: SegmenterConfig, device: torch.device
) -> Tensor:
    """Logits (B, K+1, size, size) of images squashed to ``config.size``, on ``device``.

    Args:
        model: :class:`DeepLab` in eval mode, on ``device``.
        images: uint8 (H, W, 3) each, of any sizes.
        config: the model's; its ``size``, ``precision`` and ``resize_labels``.
    """
    batch = torch.from_numpy(np.stack([squash(image, config.size) for image in images])).permute(0, 3, 1, 2)
    with mixed(device, config.precision):
        logits: Tensor = model(normalize(batch.to(device)))
    return logits


def segment(
    model: nn.Module, images: Sequence[UInt8], config: SegmenterConfig, device: torch.device
) -> list[UInt8]:
    """Label maps uint8 (H, W) at the original sizes, 0..K; arguments as of :func:`logits_of`.

    The map of the most likely labels is enlarged by nearest neighbour [method §9.1].
    """
    labels = logits_of(model, images, config, device).argmax(1).to(torch.uint8).cpu().numpy()
    sizes = [image.shape for image in images]
    return [
        enlarge(one, size[0], size[1], config.resize_labels) for one, size in zip(labels, sizes, strict=True)
    ]


def enlarge(labels: UInt8, height: int, width: int, how: str) -> UInt8:
    """A label map (h, w) at (height, width), by the rule of :func:`maskdistill.segmenter.data.resize_labels`.

    In whole numbers: where a pixel's centre falls between two labels OpenCV takes either, as its rounding has
    it, and other programs could not give the same maps.
    """
    shift = {"nearest_exact": 1, "nearest": 0}[how]
    rows, columns = (
        (2 * np.arange(after) + shift) * before // (2 * after)
        for before, after in zip(labels.shape, (height, width), strict=True)
    )
    return np.asarray(labels[rows][:, columns])


def class_probabilities(
    model: nn.Module, images: Sequence[UInt8], config: SegmenterConfig, device: torch.device
) -> Iterator[npt.NDArray[np.float32]]:
    """Softmax float32 (K+1, H, W) of each image at its original size; arguments as of :func:`logits_of`.

    The logits are enlarged bilinearly first [method §8]. One image at a time: they are large.
    """
    for logits, image in zip(logits_of(model, images, config, device), images, strict=True):
        enlarged = F.interpolate(logits[None].float(), image.shape[:2], mode="bilinear", align_corners=False)
        yield enlarged[0].softmax(0).cpu().numpy()
