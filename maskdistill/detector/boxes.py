"""How much boxes overlap, computed column by column."""

from torch import Tensor


def overlaps(first: Tensor, second: Tensor) -> Tensor:
    """IoU of every box of ``first`` with every one of ``second``; equal to torchvision's ``box_iou`` bit for
    bit.

    On a CPU it takes a fraction of the time: torchvision's loops run over the two coordinates of a corner,
    these over the boxes of ``second``.

    Args:
        first: float (n, 4), xyxy.
        second: float (m, 4), xyxy; the more numerous ones.

    Returns:
        float (n, m); NaN where both boxes are without area.
    """
    left, top, right, bottom = first[:, :, None].unbind(1)
    columns = second.t().contiguous()
    width = (right.minimum(columns[2]) - left.maximum(columns[0])).clamp_(min=0)
    height = (bottom.minimum(columns[3]) - top.maximum(columns[1])).clamp_(min=0)
    common = width.mul_(height)
    areas = (columns[2] - columns[0]) * (columns[3] - columns[1])
    return common / ((right - left) * (bottom - top) + areas - common)
