"""Samples of anchors and regions, and the losses of the regions [P §3.3 Eq. 3].

A sample is drawn from its image's seed and sums are divided by counts over all processes, so that neither the
number of processes nor the images beside it change what an image teaches.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from maskdistill.training.distributed import mean_over_processes

# Independent streams of random numbers for the same image.
SIZE, ANCHORS, REGIONS = range(3)


def random_stream(target: Mapping[str, Tensor], purpose: int, device: torch.device) -> torch.Generator | None:
    """The random numbers that one visit of an image uses for one purpose.

    Args:
        target: of the image; ``seed`` is an int64 scalar. Without it torch's global generator is used (None).
        purpose: :data:`SIZE`, :data:`ANCHORS` or :data:`REGIONS`.
        device: where the numbers are drawn.
    """
    if "seed" not in target:
        return None
    return torch.Generator(device).manual_seed(int(target["seed"]) * 3 + purpose)


def balanced_sample(
    labels: Tensor, size: int, positive_fraction: float, generator: torch.Generator | None
) -> Tensor:
    """Indices of a random sample: positives up to their share, filled up with negatives.

    Args:
        labels: (n,), above 0 positive, 0 negative, below 0 never taken.
        size: of the sample; it is smaller when there are too few negatives.
        positive_fraction: largest share of positives.
        generator: on the device of ``labels``; None is torch's global one.

    Returns:
        int64 (<= size,), positives first.
    """
    positive, negative = torch.nonzero(labels > 0).flatten(), torch.nonzero(labels == 0).flatten()
    num_positive = min(len(positive), int(size * positive_fraction))
    numbers = ((positive, num_positive), (negative, min(len(negative), size - num_positive)))
    drawn = [
        among[torch.randperm(len(among), generator=generator, device=labels.device)[:count]]
        for among, count in numbers
    ]
    return torch.cat(drawn)


def region_losses(
    class_logits: Tensor,
    deltas: Tensor,
    mask_logits: Tensor,
    labels: Tensor,
    regression_targets: Tensor,
    mask_targets: Tensor,
) -> dict[str, Tensor]:
    """Losses of the RoI heads for the sampled regions.

    Cross-entropy, mean over all regions; L1 of the true class's box for the positive regions, summed and
    divided by the number of all regions; binary cross-entropy of the true class's mask, mean over positive
    regions and pixels.

    Args:
        class_logits: (n, K+1).
        deltas: (n, 4 (K+1)).
        mask_logits: (p, K, M, M) of the positive regions.
        labels: (n,), 0 background, 1..K.
        regression_targets: (n, 4).
        mask_targets: float (p, M, M), 0 or 1.
    """
    positive = torch.nonzero(labels > 0).flatten()
    true_class = labels[positive]
    counts = torch.tensor([len(labels), len(positive)], dtype=class_logits.dtype, device=class_logits.device)
    regions, positives = mean_over_processes(counts).clamp(min=1)
    chosen = deltas.view(len(deltas), -1, 4)[positive, true_class]
    masks = mask_logits[torch.arange(len(positive), device=labels.device), true_class - 1]
    mask_sum = F.binary_cross_entropy_with_logits(masks, mask_targets, reduction="sum")
    return {
        "loss_classifier": F.cross_entropy(class_logits, labels, reduction="sum") / regions,
        "loss_box_reg": F.l1_loss(chosen, regression_targets[positive], reduction="sum") / regions,
        "loss_mask": mask_sum / (positives * mask_logits.shape[-2] * mask_logits.shape[-1]),
    }
