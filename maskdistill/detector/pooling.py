"""RoIAlign (He et al. 2017, §3), whose gradient on a CPU is a few matrix products a region."""

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align


class RegionPool(nn.Module):
    """RoIAlign from maps of one stride.

    Args:
        side: of the output.
        stride: pixels of a cell.
    """

    def __init__(self, side: int, stride: float) -> None:
        super().__init__()
        self.side, self.stride = side, stride

    def forward(self, maps: Tensor, boxes: list[Tensor]) -> Tensor:
        """Maps (B, C, H, W), each image's boxes (n, 4) xyxy in pixels -> (all n, C, side, side), in order."""
        return pooled(maps, numbered(boxes), self.side, 1 / self.stride)


def numbered(boxes: list[Tensor]) -> Tensor:
    """Each image's boxes (n, 4) -> regions (all n, 5), the image's place first."""
    place = torch.cat([torch.full_like(one[:, :1], number) for number, one in enumerate(boxes)])
    return torch.cat([place, torch.cat(boxes)], dim=1)


def pooled(maps: Tensor, regions: Tensor, side: int, scale: float) -> Tensor:
    """Means over side x side parts of regions, each of one bilinear value a cell or more.

    The values are torchvision's. So is the gradient but for rounding, as its sums run in another order on a
    CPU: torchvision's own loop there takes ten times as long as all else that a region's pooling costs.

    Args:
        maps: float (B, C, H, W).
        regions: float (n, 5): place of the image in the batch, and xyxy in pixels.
        side: of the output.
        scale: cells a pixel.

    Returns:
        float (n, C, side, side).
    """
    if maps.device.type == "cpu" and maps.requires_grad and torch.is_grad_enabled() and len(regions):
        out: Tensor = _Pooled.apply(maps, regions, side, scale)  # type: ignore[no-untyped-call]
    else:
        out = roi_align(maps, regions, side, scale, aligned=True)
    return out


class _Pooled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, regions: Tensor, side: int, scale: float) -> Tensor:
        ctx.save_for_backward(regions)
        ctx.maps, ctx.scale = torch.empty_like(maps, device="meta"), scale
        out: Tensor = roi_align(maps, regions, side, scale, aligned=True)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        (regions,) = ctx.saved_tensors
        found = pooled_gradient(gradient, regions, ctx.scale, ctx.maps.shape)
        return torch.empty_like(ctx.maps, device=gradient.device).copy_(found), None, None, None


def pooled_gradient(gradient: Tensor, regions: Tensor, scale: float, shape: tuple[int, ...]) -> Tensor:
    """Gradient by the maps of :func:`pooled`, given that by its result.

    A region's means are ``rows @ maps @ columns.T`` (:func:`shares`) in each channel; within the cells that
    the region touches, its part is ``rows.T @ gradient @ columns``.

    Args:
        gradient: float (n, C, side, side).
        regions: float (n, 5).
        scale: cells a pixel.
        shape: B, C, H and W of the maps.

    Returns:
        float ``shape``, whose channels vary fastest in memory.
    """
    batch, channels, height, width = shape
    side = gradient.shape[-1]
    x1, y1, x2, y2 = (regions[:, 1:] * scale - 0.5).unbind(1)
    rows, columns = shares(y1, y2, height, side), shares(x1, x2, width, side)
    of_regions = gradient.permute(0, 2, 3, 1).contiguous().view(len(regions), side, side * channels)
    total = gradient.new_zeros(batch, height, width, channels)
    parts = zip(
        regions[:, 0].int().tolist(), rows.mT, _bounds(rows), columns.mT, _bounds(columns), of_regions,
        strict=True,
    )  # fmt: skip
    for image, down, (top, bottom), across, (left, right), given in parts:
        lines = (down[top:bottom] @ given).view(bottom - top, side, channels)
        total[image, top:bottom, left:right].baddbmm_(across[left:right].expand(bottom - top, -1, -1), lines)
    return total.permute(0, 3, 1, 2)


def shares(first: Tensor, last: Tensor, cells: int, side: int) -> Tensor:
    """How much of each cell along one axis is in each of the ``side`` means of a region.

    Args:
        first: float (n,), where regions begin; cell i lies at i.
        last: float (n,), where they end.
        cells: of the map.
        side: number of means, each over as many evenly spaced values as a ``side``-th of the region has
            cells, rounded up.

    Returns:
        float (n, side, cells), rows that sum to 1, or less where values lie more than a cell outside the
        map, which count as 0.
    """
    extent = (last - first)[:, None, None]
    step, values = extent / side, torch.ceil(extent / side)
    number = torch.arange(max(1, int(values.max())), device=first.device)
    mean = torch.arange(side, device=first.device)[:, None]
    place = first[:, None, None] + mean * step + (number + 0.5) * step / values
    counts = (number < values) & (place >= -1) & (place <= cells)
    place = torch.where(counts, place, 0).clamp_(min=0, max=cells - 1)
    lower = place.floor()
    beyond = place - lower
    share = counts / values.clamp(min=1)
    out = first.new_zeros(len(first), side, cells)
    out.scatter_add_(2, lower.long(), share * (1 - beyond))
    return out.scatter_add_(2, (lower.long() + 1).clamp_(max=cells - 1), share * beyond)


def _bounds(weights: Tensor) -> list[tuple[int, int]]:
    """First and one past the last cell with a share in any mean of each region; (0, 0) where none has."""
    used = (weights > 0).any(dim=1).int()
    ends = torch.where(used.any(dim=1), used.shape[1] - used.flip(1).argmax(dim=1), 0)
    return list(zip(used.argmax(dim=1).tolist(), ends.tolist(), strict=True))
