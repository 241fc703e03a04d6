"""Cross-entropy over the hardest pixels of a batch [P §3.3 Eq. 4]."""

import torch.nn.functional as F
from torch import Tensor

from maskdistill.training.distributed import gather_batch

IGNORE = 255


def hard_pixel_loss(logits: Tensor, labels: Tensor, fraction: float) -> Tensor:
    """Mean cross-entropy of the pixels with the largest loss in the whole batch.

    Their number is ``int(fraction * all pixels)``, but at least one and at most all valid pixels; pixels
    labelled 255 are not valid.
    As in the authors' code, not divided by the number of classes [method D2]. With several processes
    the batch is that of all of them.

    Args:
        logits: float (B, C, H, W).
        labels: int64 (B, H, W), 0..C-1 or 255.
        fraction: in (0, 1]; 1 gives the plain mean over valid pixels.

    Returns:
        A scalar; 0 when no pixel is valid.
    """
    losses = F.cross_entropy(logits.float(), labels, ignore_index=IGNORE, reduction="none")
    losses, valid = gather_batch(losses.flatten()), gather_batch(labels.flatten()) != IGNORE
    candidates = losses[valid]
    count = min(max(1, int(fraction * losses.numel())), candidates.numel())
    if count == 0:
        return losses.sum() * 0.0
    return candidates.topk(count, sorted=False).values.mean()
