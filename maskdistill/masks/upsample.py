"""From masks of patches to masks of pixels."""

import numpy as np
from PIL import Image

from maskdistill.masks.patches import Mask


def upsample(
    mask: Mask,
    patch_size: int,
    resized_hw: tuple[int, int],
    image_hw: tuple[int, int],
    resize: str = "nearest",
) -> Mask:
    """Patch mask (R, C) to a full-size mask, bool ``image_hw`` [method §2.5].

    Each patch becomes a square, the padding is cropped to ``resized_hw``, and the rest is resized to
    the image: ``nearest`` (paper), or ``bicubic_nonzero`` (the released code; grows by about a pixel).
    """
    full = np.kron(mask, np.ones((patch_size, patch_size), bool))[: resized_hw[0], : resized_hw[1]]
    picture = Image.fromarray(full.astype(np.uint8) * 255)
    how = Image.Resampling.NEAREST if resize == "nearest" else Image.Resampling.BICUBIC
    return np.asarray(picture.resize((image_hw[1], image_hw[0]), how)) > 0
