"""Run a trained detector over one image."""

import json
import math

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torchvision.models.detection.transform import resize_boxes

from maskdistill.config import DetectorConfig, parse_section
from maskdistill.config.roles import (
    DETECTOR_FORM_FIELDS,
    DETECTOR_PAIRS,
    DETECTOR_SHARED_FIELDS,
    DETECTOR_TEST_FIELDS,
)
from maskdistill.detector.grids import resize_image
from maskdistill.detector.types import Found
from maskdistill.formats import rle
from maskdistill.runtime.errors import MaskDistillError

TEST_KEYS = DETECTOR_TEST_FIELDS | DETECTOR_SHARED_FIELDS | DETECTOR_PAIRS
"""What may differ between training and inference; the rest defines the trained model."""


def inference_config(trained: DetectorConfig, text: str) -> DetectorConfig:
    """The trained model's settings with the test-time ones of ``text``.

    Args:
        trained: stored with the model.
        text: JSON of the detector's section or of a part of it; :data:`TEST_KEYS` are taken over.

    Raises:
        MaskDistillError: an unknown key, a bad value, or another architecture than the model's.
    """
    saved = trained.model_dump(mode="json")
    try:
        given = json.loads(text)
    except json.JSONDecodeError as error:
        raise MaskDistillError(f"--params: not valid JSON ({error})") from None
    wanted = parse_section(DetectorConfig, json.dumps(saved | given)).model_dump(mode="json")
    for key in DETECTOR_FORM_FIELDS:
        if wanted[key] != saved[key]:
            raise MaskDistillError(
                f"detector.{key} is {wanted[key]!r}, but the model was trained with {saved[key]!r}; train it "
                "again"
            )
    return DetectorConfig.model_validate(saved | {key: wanted[key] for key in TEST_KEYS})


MOST_PIXELS = 40_000_000


def _enlarged(mask: npt.NDArray[np.bool_], height: int, width: int) -> npt.NDArray[np.bool_]:
    """A mask at the image's size, by the nearest pixel."""
    if mask.shape == (height, width):
        return mask
    return cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT) > 0


@torch.inference_mode()
def detect(model: nn.Module, image: Tensor, device: torch.device) -> list[Found]:
    """Candidates of one image, most confident first.

    Of images of more than :data:`MOST_PIXELS` masks are made at so many pixels and enlarged one by one: a
    hundred masks of 89 million pixels would take 9 GB.

    Args:
        model: of ``build_detector``, in eval mode, on ``device``.
        image: uint8 (3, H, W).

    Returns:
        Masks are the pixels whose probability is at least 0.5; a detection without such a pixel is left out.
    """
    height, width = image.shape[-2:]
    pixels = image.to(device).float() / 255
    shrunk = math.sqrt(max(1.0, height * width / MOST_PIXELS))
    if shrunk > 1:
        pixels = resize_image(pixels, (max(1, int(height / shrunk)), max(1, int(width / shrunk))))
    (found,) = model([pixels])
    found = {key: value.cpu() for key, value in found.items()}
    masks = found["masks"].numpy()
    found["boxes"] = resize_boxes(found["boxes"], list(pixels.shape[-2:]), [height, width])
    candidates: list[Found] = []
    for index in found["scores"].argsort(descending=True, stable=True).tolist():
        if not masks[index].any():
            continue
        x1, y1, x2, y2 = found["boxes"][index].tolist()
        candidates.append(
            {
                "category_id": int(found["labels"][index]),
                "score": round(float(found["scores"][index]), 6),
                "bbox": [round(value, 3) for value in (x1, y1, x2 - x1, y2 - y1)],
                "segmentation": rle.encode(_enlarged(masks[index], height, width)),
            }
        )
    return candidates
