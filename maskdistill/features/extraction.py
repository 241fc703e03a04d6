"""From pictures to CLS queries, patch keys and CLS embeddings [P §3.2, §4.1]."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from maskdistill.backbones.registry import Backbone
from maskdistill.backbones.vit import (
    LastAttention,
    ViT,
    cls_feature,
    last_attention,
    normalize,
    pad_to_multiple,
)
from maskdistill.data.picture_files import MAX_ASPECT
from maskdistill.features.store import HW, ImageFeatures
from maskdistill.runtime.devices import mixed

T = TypeVar("T")
SQUARE_REACH = 0.62
"""Half the side of the square around a mask, as a share of the longer side of its box."""
LARGEST_SQUARE = 2048
"""Side in pixels: the square around what runs along the whole of a panorama would not fit into memory."""
Array = npt.NDArray[np.float32]


def resized_hw(image_hw: HW, short_side: int | None) -> HW:
    """Size with the shorter side at ``short_side``; the other is truncated, as in torchvision.

    None keeps the native size.
    """
    if short_side is None:
        return image_hw
    height, width = image_hw
    if height <= width:
        return short_side, int(short_side * width / height)
    return int(short_side * height / width), short_side


def view_hw(cut_hw: HW, short_side: int) -> HW:
    """:func:`resized_hw` of what is cut out around a mask, which may be a line of pixels: as pictures of a
    manifest, no side becomes longer than :data:`MAX_ASPECT` times the other.
    """
    height, width = resized_hw(cut_hw, short_side)
    return min(height, MAX_ASPECT * short_side), min(width, MAX_ASPECT * short_side)


def grid_of(hw: HW, patch_size: int) -> HW:
    """Patches (rows, columns) after padding to multiples of ``patch_size``."""
    return -(-hw[0] // patch_size), -(-hw[1] // patch_size)


def resize(image: Image.Image, short_side: int | None) -> Tensor:
    """Resize (antialiased bilinear): RGB picture to uint8 (3, h, w)."""
    height, width = resized_hw((image.height, image.width), short_side)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def batch_of(images: Sequence[Tensor], backbone: Backbone, device: torch.device) -> Tensor:
    """uint8 (3, h, w), equal once padded, to float32 (B, 3, R*patch, C*patch) on ``device``."""
    moved = (image.to(device, non_blocking=True) for image in images)
    ready = [
        pad_to_multiple(normalize(image, backbone.mean, backbone.std), backbone.patch_size) for image in moved
    ]
    return torch.stack(ready)


class Pending:
    """Features of a batch on their way from the device; :meth:`get` waits for them.

    Args:
        found: on the device.
        sizes: of the images before padding.
        grid: patches (rows, columns) of all.
    """

    def __init__(self, found: LastAttention, sizes: Sequence[HW], grid: HW) -> None:
        self._sizes, self._grid = sizes, grid
        self._device = found.keys.device
        if self._device.type == "cuda":
            self._parts = [torch.empty(part.shape, dtype=part.dtype, pin_memory=True) for part in found]
            for part, copy in zip(found, self._parts, strict=True):
                copy.copy_(part, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()
        else:
            # Not in get(), which another thread calls: beside a second OpenMP team those of the network would
            # sleep between their products instead of waiting awake, which cost a tenth of the speed.
            self._parts = [part.float() for part in found]

    def get(self) -> list[ImageFeatures]:
        """One entry an image, float32 on the CPU."""
        if self._device.type == "cuda":
            self._event.synchronize()
        rows = [part.float().numpy() for part in self._parts]
        return [
            ImageFeatures(query, key, keys, self._grid, size)
            for query, key, keys, size in zip(*rows, self._sizes, strict=True)
        ]


@torch.no_grad()
def extract(
    model: ViT, backbone: Backbone, images: Sequence[Tensor], device: torch.device, precision: str = "float32"
) -> Pending:
    """Start computing a batch's CLS query and keys; a GPU is not waited for.

    Args:
        model: on ``device``, in eval mode; ``backbone``: its entry in the registry.
        images: uint8 (3, h, w) whose padded sizes are equal.
        precision: see :func:`maskdistill.runtime.devices.mixed`.
    """
    batch = batch_of(images, backbone, device)
    grid = (batch.shape[-2] // backbone.patch_size, batch.shape[-1] // backbone.patch_size)
    with mixed(device, precision):
        found = last_attention(model, batch)
    return Pending(found, [(image.shape[-2], image.shape[-1]) for image in images], grid)


def cluster_input(
    image: Tensor,
    mask: npt.NDArray[np.bool_],
    box: tuple[float, float, float, float],
    mode: str,
    reach: float = SQUARE_REACH,
) -> Tensor:
    """What the ViT sees of one mask: the outside is zeroed after normalisation, i.e. mean colour [method §3].

    Args:
        image: normalised float32 (3, H, W); mask: bool (H, W).
        box: x, y, width, height in pixels.
        mode: ``masked_image``, ``masked_crop``, ``masked_square`` or ``crop``.
        reach: of ``masked_square``, half its side as a share of the longer side of the box.

    Returns:
        float32 (3, h, w), at least one pixel.
    """
    if mode != "crop":
        image = image * torch.from_numpy(mask)
    if mode == "masked_square":
        return _square(image, box, reach)
    if mode != "masked_image":
        x, y, width, height = box
        top, left = min(round(y), image.shape[1] - 1), min(round(x), image.shape[2] - 1)
        image = image[:, top : max(round(y + height), top + 1), left : max(round(x + width), left + 1)]
    return image


def masked_view(
    pixels: Tensor,
    mask: npt.NDArray[np.bool_],
    box: tuple[float, float, float, float],
    backbone: Backbone,
    mode: str,
    short_side: int | None,
) -> Tensor:
    """What is embedded of one mask: :func:`cluster_input` of the normalised picture, resized.

    Args:
        pixels: uint8 (3, H, W).
        backbone: its entry in the registry.
        short_side: of the result, as of :func:`view_hw`; None: as it is cut out.

    Returns:
        float32 (3, h, w).
    """
    view = cluster_input(normalize(pixels, backbone.mean, backbone.std), mask, box, mode)
    if short_side is None:
        return view
    size = view_hw((view.shape[-2], view.shape[-1]), short_side)
    return torch.nn.functional.interpolate(view[None], size, mode="bilinear", antialias=True)[0]


def _square(image: Tensor, box: tuple[float, float, float, float], reach: float) -> Tensor:
    """The square around the box, at most :data:`LARGEST_SQUARE` wide; 0 outside the image."""
    x, y, width, height = box
    half = max(1, math.ceil(reach * max(width, height)))
    top, left = round(y + height / 2) - half, round(x + width / 2) - half
    inside = image[:, max(0, top) : max(0, top + 2 * half), max(0, left) : max(0, left + 2 * half)]
    above, before, side = max(0, -top), max(0, -left), 2 * half
    if side > LARGEST_SQUARE:
        scale = LARGEST_SQUARE / side
        size = (max(1, round(inside.shape[1] * scale)), max(1, round(inside.shape[2] * scale)))
        inside = torch.nn.functional.interpolate(inside[None], size, mode="bilinear", antialias=True)[0]
        side = LARGEST_SQUARE
        above, before = min(round(above * scale), side - size[0]), min(round(before * scale), side - size[1])
    after, below = side - before - inside.shape[2], side - above - inside.shape[1]
    return torch.nn.functional.pad(inside, (before, after, above, below))


@torch.no_grad()
def embed(
    model: ViT, patch_size: int, images: Sequence[Tensor], device: torch.device, precision: str = "float32"
) -> Array:
    """CLS tokens after the last LayerNorm, float32 (n, D), of images of equal padded size."""
    batch = torch.stack([pad_to_multiple(image, patch_size) for image in images])
    with mixed(device, precision):
        found = cls_feature(model, batch.to(device, non_blocking=True))
    out: Array = found.float().cpu().numpy()
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
