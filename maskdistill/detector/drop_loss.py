"""Regions far from every annotated object teach nothing: they may show an object that has no annotation.

CutLER's DropLoss (Wang et al. 2023, §3.2): the loss of a predicted region counts where its largest overlap
with an annotated object is above a threshold. Here the others are left out before the sample is drawn, so
that it is filled up with regions that do count.
"""

from torch import Tensor

from maskdistill.detector.boxes import overlaps


def drop_distant(labels: Tensor, regions: Tensor, objects: Tensor, threshold: float) -> Tensor:
    """Labels in which negatives that overlap no object are never taken.

    Args:
        labels: (n,), above 0 positive, 0 negative, below 0 never taken.
        regions: (n, 4), xyxy: anchors or proposals.
        objects: (m, 4), xyxy: the annotated ones of the image.
        threshold: a negative counts where its largest IoU with an object is above; 0: all do.

    Returns:
        (n,), of the type of ``labels``: -1 in place of the 0 of the others.
    """
    if threshold == 0:
        return labels
    near = (overlaps(objects, regions) > threshold).any(dim=0)
    return labels.masked_fill((labels == 0) & ~near, -1)
