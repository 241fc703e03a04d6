"""Run a trained detector over one image."""

import json
from typing import Any

import torch
from torch import Tensor, nn

from maskdistill import rle
from maskdistill.config import DetectorConfig, parse_section
from maskdistill.config_roles import DETECTOR_PAIRS, DETECTOR_SHARED_FIELDS, DETECTOR_TEST_FIELDS
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
    for key in ("arch", "freeze_at", "anchor_sizes", "aspect_ratios", "roi_pool"):
        if wanted[key] != saved[key]:
            raise MaskDistillError(
                f"detector.{key} is {wanted[key]!r}, but the model was trained with {saved[key]!r}; train it again"
            )
    return DetectorConfig.model_validate(saved | {key: wanted[key] for key in TEST_KEYS})


@torch.inference_mode()
def detect(model: nn.Module, image: Tensor, device: torch.device) -> list[dict[str, Any]]:
    """Candidates of one image, most confident first.

    Args:
        model: of ``build_detector``, in eval mode, on ``device``.
        image: uint8 (3, H, W).

    Returns:
        ``category_id`` (1..K), ``score`` (6 decimals), ``bbox`` (xywh in pixels, 3 decimals) and
        ``segmentation``, the RLE at (H, W) of the pixels whose mask probability is at least 0.5; a detection
        without such a pixel is left out.
    """
    (found,) = model([image.to(device).float() / 255])
    found = {key: value.cpu() for key, value in found.items()}
    masks = found["masks"].numpy()
    candidates = []
    for index in found["scores"].argsort(descending=True, stable=True).tolist():
        if not masks[index].any():
            continue
        x1, y1, x2, y2 = found["boxes"][index].tolist()
        candidates.append(
            {
                "category_id": int(found["labels"][index]),
                "score": round(float(found["scores"][index]), 6),
                "bbox": [round(value, 3) for value in (x1, y1, x2 - x1, y2 - y1)],
                "segmentation": rle.encode(masks[index]),
            }
        )
    return candidates
