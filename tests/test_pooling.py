"""Regions pooled off maps, and the boxes' overlaps: values and gradients are torchvision's."""

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou, roi_align

from maskdistill.detector.boxes import overlaps
from maskdistill.detector.pooling import RegionPool, numbered, pooled, pooled_gradient

SCALE = 1 / 8
EDGES = [[-30, -30, -20, -9], [-20, -20, 300, 300], [40, 40, 40, 60], [10, 70, 11, 71], [90, 50, 200, 90]]
"""Outside of the maps, over all of them, without area, within a cell, and beyond the lower right corner."""


def regions(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(count, 2, generator=generator) * 80
    drawn = torch.cat([corners, corners + torch.rand(count, 2, generator=generator) * 90], dim=1)
    boxes = torch.cat([torch.tensor(EDGES), drawn])
    return torch.cat([torch.arange(len(boxes))[:, None] % 2, boxes], dim=1)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_values_and_gradients_are_torchvisions(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    maps = torch.randn(2, 3, 11, 14).contiguous(memory_format=layout).requires_grad_()
    out, wanted = pooled(maps, regions(40), 5, SCALE), roi_align(maps, regions(40), 5, SCALE, aligned=True)
    assert torch.equal(out, wanted)
    given = torch.randn_like(out)
    (found,) = torch.autograd.grad(out, maps, given)
    assert found.stride() == maps.stride()
    torch.testing.assert_close(found, torch.autograd.grad(wanted, maps, given)[0], rtol=1e-5, atol=1e-5)


def test_the_gradient_is_the_adjoint_of_the_pooling() -> None:
    torch.manual_seed(0)
    maps, places = torch.randn(2, 3, 11, 14, dtype=torch.float64), regions(20).double()
    given = torch.randn(len(places), 3, 4, 4, dtype=torch.float64)
    found = pooled_gradient(given, places, SCALE, maps.shape)
    wanted = (given * roi_align(maps, places, 4, SCALE, aligned=True)).sum()
    assert (found * maps).sum().item() == pytest.approx(wanted.item(), rel=1e-12)


def test_an_image_without_regions_has_no_gradient() -> None:
    maps = torch.randn(2, 3, 4, 4, requires_grad=True)
    pool, box = RegionPool(2, 8), torch.tensor([[0.0, 0, 16, 16]])
    assert torch.equal(numbered([box[:0], box]), torch.tensor([[1.0, 0, 0, 16, 16]]))
    pool(maps, [box[:0], box]).sum().backward()
    assert maps.grad is not None and not maps.grad[0].any() and maps.grad[1].sum() == pytest.approx(12)
    assert pool(maps, [box[:0], box[:0]]).shape == (0, 3, 2, 2)


def test_overlaps_are_torchvisions_bit_for_bit() -> None:
    boxes = regions(60)[:, 1:]
    found = overlaps(boxes[:20], boxes)
    assert torch.equal(found.nan_to_num(-1), box_iou(boxes[:20], boxes).nan_to_num(-1))
    assert found.isnan().sum() == 1, "a box without area, with itself"
