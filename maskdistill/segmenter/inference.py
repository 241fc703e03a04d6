"""Run a trained segmenter over images."""

import numpy as np
import torch
from torch import nn

from maskdistill.backbones.resnet import mixed_precision
from maskdistill.backbones.vit import normalize
from maskdistill.segmenter.data import UInt8, resize_labels, squash


@torch.inference_mode()
def segment(model: nn.Module, images: list[UInt8], size: int, device: torch.device) -> list[UInt8]:
    """Label maps at the original sizes.

    Images are squashed to ``size`` x ``size``; the map of the most likely labels is enlarged by nearest
    neighbour, as the authors do (method 9.1).

    Args:
        model: :class:`DeepLab` in eval mode, on ``device``.
        images: uint8 (H, W, 3) each, of any sizes.
        size: ``SegmenterConfig.size``.

    Returns:
        uint8 (H, W) each, 0..K.
    """
    batch = torch.from_numpy(np.stack([squash(image, size) for image in images])).permute(0, 3, 1, 2)
    with mixed_precision(device):
        logits = model(normalize(batch.to(device)))
    labels = logits.argmax(1).to(torch.uint8).cpu().numpy()
    return [resize_labels(one, *image.shape[:2]) for one, image in zip(labels, images, strict=True)]
