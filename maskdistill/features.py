"""From pictures to CLS queries, patch keys and CLS embeddings [P §3.2, §4.1]."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from maskdistill.backbones.vit import cls_feature, last_attention, normalize, pad_to_multiple

T = TypeVar("T")
Array = npt.NDArray[np.float32]
HW = tuple[int, int]


@dataclass(frozen=True)
class ImageFeatures:
    """Features of one image.

    Attributes:
        cls_query, cls_key: float32 (heads, D/heads).
        keys: float32 (R*C, D), heads concatenated, row-major patches, no CLS.
        grid: (R, C) patches, padding included.
        resized_hw: pixels before padding.
    """

    cls_query: Array
    cls_key: Array
    keys: Array
    grid: HW
    resized_hw: HW


def resized_hw(image_hw: HW, short_side: int | None) -> HW:
    """Size with the shortest side at ``short_side``; the long side is truncated, as torchvision's Resize does.

    None keeps the native size.
    """
    if short_side is None:
        return image_hw
    height, width = image_hw
    if height <= width:
        return short_side, int(short_side * width / height)
    return int(short_side * height / width), short_side


def grid_of(hw: HW, patch_size: int) -> HW:
    """Patches (rows, columns) after padding to multiples of ``patch_size``."""
    return -(-hw[0] // patch_size), -(-hw[1] // patch_size)


def prepare(image: Image.Image, short_side: int | None) -> Tensor:
    """Resize (antialiased bilinear) and normalise: RGB picture to float32 (3, h, w)."""
    height, width = resized_hw((image.height, image.width), short_side)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return normalize(torch.from_numpy(np.array(image)).permute(2, 0, 1))


@torch.no_grad()
def extract(model: VisionTransformer, images: Sequence[Tensor], device: torch.device) -> list[ImageFeatures]:
    """Last-block CLS query and keys of a batch.

    Args:
        model: on ``device``, in eval mode.
        images: normalised float32 (3, h, w) whose padded sizes are equal.

    Returns:
        One entry an image, float32 on the CPU.
    """
    patch = model.patch_embed.patch_size[0]
    batch = torch.stack([pad_to_multiple(image, patch) for image in images])
    grid = (batch.shape[-2] // patch, batch.shape[-1] // patch)
    rows = [part.float().cpu().numpy() for part in last_attention(model, batch.to(device))]
    return [
        ImageFeatures(query, key, keys, grid, (image.shape[-2], image.shape[-1]))
        for query, key, keys, image in zip(*rows, images, strict=True)
    ]


def cluster_input(
    image: Tensor, mask: npt.NDArray[np.bool_], box: tuple[float, float, float, float], mode: str
) -> Tensor:
    """What the ViT sees of one mask: the outside is zeroed after normalisation, i.e. mean colour (method 3).

    Args:
        image: normalised float32 (3, H, W); mask: bool (H, W).
        box: x, y, width, height in pixels.
        mode: ``masked_image``, ``masked_crop`` or ``crop``.

    Returns:
        float32 (3, h, w), at least one pixel.
    """
    if mode != "crop":
        image = image * torch.from_numpy(mask)
    if mode != "masked_image":
        x, y, width, height = box
        top, left = min(round(y), image.shape[1] - 1), min(round(x), image.shape[2] - 1)
        image = image[:, top : max(round(y + height), top + 1), left : max(round(x + width), left + 1)]
    return image


@torch.no_grad()
def embed(model: VisionTransformer, images: Sequence[Tensor], device: torch.device) -> Array:
    """CLS token after the final LayerNorm, float32 (n, D), of images whose padded sizes are equal."""
    patch = model.patch_embed.patch_size[0]
    batch = torch.stack([pad_to_multiple(image, patch) for image in images])
    out: Array = cls_feature(model, batch.to(device)).float().cpu().numpy()
    return out


def bucketed(items: Iterator[T], size_of: Callable[[T], HW], batch_size: int) -> Iterator[list[T]]:
    """Collect items of equal size into batches, emitting each as soon as it is full; the rest at the end.

    At most ``batch_size - 1`` items of each size wait in memory.
    """
    waiting: dict[HW, list[T]] = {}
    for item in items:
        batch = waiting.setdefault(size_of(item), [])
        batch.append(item)
        if len(batch) == batch_size:
            yield waiting.pop(size_of(item))
    yield from waiting.values()
