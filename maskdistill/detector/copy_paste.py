"""Objects of another picture pasted into a training image (Ghiasi et al. 2021, "Simple Copy-Paste").

As in CutLER (Wang et al. 2023, §A) they come smaller than they were, by a random factor, so that the detector
learns small objects too; the masks that they cover are cut, and dropped where too little is left.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

SMALLEST, LARGEST = 0.3, 1.0
"""Bounds of the factor, drawn evenly; CutLER's."""
LEAST_LEFT = 0.1
"""An object stays if at least this share of its pixels is still seen. Ghiasi et al. drop what is not seen at
all; a sliver tells no more what it is of.
"""


@dataclass(frozen=True)
class Annotated:
    """A picture and its objects.

    Attributes:
        image: uint8 (3, H, W).
        boxes: float32 (n, 4), xyxy.
        labels: int64 (n,).
        masks: uint8 (n, H, W), 0 or 1.
    """

    image: Tensor
    boxes: Tensor
    labels: Tensor
    masks: Tensor

    def flipped(self) -> "Annotated":
        """Its mirror image."""
        x1, y1, x2, y2 = self.boxes.unbind(1)
        width = self.image.shape[-1]
        boxes = torch.stack([width - x2, y1, width - x1, y2], dim=1)
        return Annotated(self.image.flip(-1), boxes, self.labels, self.masks.flip(-1))


@dataclass(frozen=True)
class Piece:
    """An object cut out, and where it goes.

    Attributes:
        image: uint8 (3, h, w).
        mask: bool (h, w), with at least one pixel.
        label: its category.
        top, left: where its first row and column go.
    """

    image: Tensor
    mask: Tensor
    label: Tensor
    top: int
    left: int


def draw_pieces(rng: np.random.Generator, source: Annotated, shape: tuple[int, int]) -> list[Piece]:
    """Some of a picture's objects, at least one, each with a size and a place of its own within an image.

    Args:
        rng: decides which, how large and where.
        source: the picture that they are cut out of.
        shape: height and width of the image that they go into; where an object does not fit it is made to.
    """
    count = len(source.labels)
    chosen = np.sort(rng.permutation(count)[: rng.integers(1, count + 1)])
    pieces = []
    for place in chosen.tolist():
        scale = float(rng.uniform(SMALLEST, LARGEST))
        spot = rng.random(2)
        image, mask = _cut(source.image, source.masks[place])
        fitting = min(scale, shape[0] / mask.shape[0], shape[1] / mask.shape[1])
        image, mask = _resized(image, mask, fitting)
        if mask.any():
            room = (shape[0] - mask.shape[0] + 1, shape[1] - mask.shape[1] + 1)
            top, left = (int(share * free) for share, free in zip(spot, room, strict=True))
            pieces.append(Piece(image, mask, source.labels[place], top, left))
    return pieces


def paste(scene: Annotated, pieces: Sequence[Piece]) -> Annotated:
    """The picture with the pieces laid over it, each over those before.

    Objects that are covered in part keep what is seen of them, in a box that fits it; of the others nothing
    changes. New ones come last.
    """
    image, masks = scene.image.clone(), [mask.clone() for mask in scene.masks]
    sizes = [int(mask.sum()) for mask in masks]
    for piece in pieces:
        rows = slice(piece.top, piece.top + piece.mask.shape[0])
        columns = slice(piece.left, piece.left + piece.mask.shape[1])
        image[:, rows, columns] = torch.where(piece.mask, piece.image, image[:, rows, columns])
        for mask in masks:
            mask[rows, columns][piece.mask] = 0
        new = torch.zeros_like(scene.masks[0])
        new[rows, columns] = piece.mask.to(new.dtype)
        masks.append(new)
        sizes.append(int(new.sum()))
    labels = torch.cat(
        [scene.labels, torch.tensor([int(piece.label) for piece in pieces], dtype=torch.int64)]
    )
    seen = [int(mask.sum()) for mask in masks]
    stays = [
        place for place, (left, size) in enumerate(zip(seen, sizes, strict=True)) if left >= LEAST_LEFT * size
    ]
    untouched = len(scene.labels)
    boxes = [
        scene.boxes[place] if place < untouched and seen[place] == sizes[place] else _box(masks[place])
        for place in stays
    ]
    return Annotated(image, torch.stack(boxes), labels[stays], torch.stack([masks[place] for place in stays]))


def _cut(image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The part of picture and mask within the mask's own box."""
    left, top, right, bottom = _box(mask).int().tolist()
    return image[:, top:bottom, left:right], mask[top:bottom, left:right].bool()


def _resized(image: Tensor, mask: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Both made smaller, antialiased; pixels that the object covers by half are its own."""
    size = [max(1, round(scale * side)) for side in mask.shape]
    if size == list(mask.shape):
        return image, mask
    both = torch.cat([image.float(), 255 * mask[None].float()])[None]
    small = interpolate(both, size=size, mode="bilinear", antialias=True)[0]
    return small[:3].round().clamp(0, 255).to(torch.uint8), small[3] >= 127.5


def _box(mask: Tensor) -> Tensor:
    """Tight xyxy box, float32 (4,), of a mask with at least one pixel."""
    rows, columns = (mask.any(dim).nonzero().flatten() for dim in (1, 0))
    return torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).float()
