"""Between pixels and the small grids that networks work on: resized images, masks inside boxes, and back."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align


def resized_shape(height: int, width: int, short_side: int, max_size: int) -> tuple[int, int]:
    """Height and width with the shorter side at ``short_side``, the longer at most ``max_size``.

    No side is less than one pixel.
    """
    scale = min(short_side / min(height, width), max_size / max(height, width))
    return max(1, math.floor(height * scale + 0.5)), max(1, math.floor(width * scale + 0.5))


def resize_image(image: Tensor, shape: tuple[int, int]) -> Tensor:
    """float (C, H, W) -> (C, *shape), bilinear and antialiased, as Pillow does."""
    out: Tensor = F.interpolate(image[None], shape, mode="bilinear", align_corners=False, antialias=True)[0]
    return out


def resize_masks(masks: Tensor, shape: tuple[int, int]) -> Tensor:
    """uint8 (n, H, W) -> (n, *shape): the value under the centre of each new pixel."""
    return F.interpolate(masks[:, None], shape, mode="nearest-exact")[:, 0]


def mask_targets(masks: Tensor, boxes: Tensor, index: Tensor, side: int) -> Tensor:
    """What the mask head is to predict inside boxes.

    Args:
        masks: uint8 (m, H, W), 0 or 1.
        boxes: float (n, 4), xyxy in pixels of the masks.
        index: int64 (n,): the mask that belongs to each box.
        side: of the head's output.

    Returns:
        float (n, side, side): 1 where at least half of a cell is covered, else 0.
    """
    regions = torch.cat([index[:, None].to(boxes), boxes], dim=1)
    covered: Tensor = roi_align(masks[:, None].to(boxes), regions, (side, side), 1.0, aligned=True)[:, 0]
    return (covered >= 0.5).to(boxes)


def paste_masks(probabilities: Tensor, boxes: Tensor, shape: tuple[int, int]) -> Tensor:
    """Masks of a whole image from the head's probabilities inside boxes.

    Args:
        probabilities: float (n, side, side).
        boxes: float (n, 4), xyxy in pixels of the image; no part lies outside it.
        shape: the image's (H, W).

    Returns:
        bool (n, H, W): true where the bilinear probability at a pixel's centre is at least 0.5; outside a
        box the probabilities fade to 0 within half a cell.
    """
    height, width = shape
    pasted = torch.zeros((len(boxes), height, width), dtype=torch.bool, device=boxes.device)
    for out, grid, box in zip(pasted, probabilities, boxes, strict=True):
        x1, y1, x2, y2 = box.tolist()
        if x2 <= x1 or y2 <= y1:
            continue
        rows = slice(max(math.floor(y1) - 1, 0), min(math.ceil(y2) + 1, height))
        columns = slice(max(math.floor(x1) - 1, 0), min(math.ceil(x2) + 1, width))
        y = torch.arange(rows.start, rows.stop, device=boxes.device, dtype=torch.float32) + 0.5
        x = torch.arange(columns.start, columns.stop, device=boxes.device, dtype=torch.float32) + 0.5
        y, x = (y - box[1]) / (box[3] - box[1]) * 2 - 1, (x - box[0]) / (box[2] - box[0]) * 2 - 1
        places = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
        out[rows, columns] = F.grid_sample(grid[None, None], places[None], align_corners=False)[0, 0] >= 0.5
    return pasted
