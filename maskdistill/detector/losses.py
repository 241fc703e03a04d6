"""What the detector learns from: samples of anchors and regions, and their losses [P §3.3 Eq. 3].

The formulas are detectron2's, on which the paper builds: plain L1 for boxes, binary mask targets. Sums are divided by
counts over all processes, and every sample is drawn from its image's seed, so the number of processes changes nothing.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

from maskdistill.training.distributed import mean_over_processes

# Independent streams of random numbers for the same image.
SIZE, ANCHORS, REGIONS = range(3)


def random_stream(seed: Tensor, purpose: int, device: torch.device) -> torch.Generator:
    """The random numbers that one visit of an image uses for one purpose.

    Args:
        seed: int64 scalar, the target's ``seed``.
        purpose: :data:`SIZE`, :data:`ANCHORS` or :data:`REGIONS`.
        device: where the numbers are drawn.
    """
    return torch.Generator(device).manual_seed(int(seed) * 3 + purpose)


def balanced_sample(labels: Tensor, size: int, positive_fraction: float, generator: torch.Generator) -> Tensor:
    """Indices of a random sample: positives up to their share, filled up with negatives.

    Args:
        labels: (n,), above 0 positive, 0 negative, below 0 never taken.
        size: of the sample; it is smaller when there are too few negatives.
        positive_fraction: largest share of positives.
        generator: on the device of ``labels``.

    Returns:
        int64 (<= size,), positives first.
    """
    positive, negative = torch.nonzero(labels > 0).flatten(), torch.nonzero(labels == 0).flatten()
    num_positive = min(len(positive), int(size * positive_fraction))
    numbers = ((positive, num_positive), (negative, min(len(negative), size - num_positive)))
    drawn = [
        among[torch.randperm(len(among), generator=generator, device=labels.device)[:count]] for among, count in numbers
    ]
    return torch.cat(drawn)


def proposal_losses(
    objectness: Tensor, deltas: Tensor, labels: Tensor, regression_targets: Tensor, sample_size: int
) -> tuple[Tensor, Tensor]:
    """Losses of the RPN: binary cross-entropy over the sample, L1 over its positives; both summed and divided by
    ``sample_size``.

    Args:
        objectness: logits (n,) of all anchors of the batch.
        deltas: (n, 4), predicted; ``regression_targets`` (n, 4) are what they should be.
        labels: (n,), 1 positive, 0 negative, -1 not in the sample.
        sample_size: nominal number of anchors in the sample, 256 an image.
    """
    positive, valid = labels > 0, labels >= 0
    classes = F.binary_cross_entropy_with_logits(objectness[valid], labels[valid].to(objectness), reduction="sum")
    boxes = F.l1_loss(deltas[positive], regression_targets[positive], reduction="sum")
    return classes / sample_size, boxes / sample_size


def region_losses(
    class_logits: Tensor,
    deltas: Tensor,
    mask_logits: Tensor,
    labels: Tensor,
    regression_targets: Tensor,
    mask_targets: Tensor,
) -> dict[str, Tensor]:
    """Losses of the RoI heads for the sampled regions.

    Cross-entropy, mean over all regions; L1 of the true class's box for the positive regions, summed and divided by
    the number of all regions; binary cross-entropy of the true class's mask, mean over positive regions and pixels.

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


def crop_masks(masks: Tensor, boxes: Tensor, matched: Tensor, side: int) -> Tensor:
    """The part of each region's mask that lies in its box, as detectron2's ``BitMasks.crop_and_resize``.

    Args:
        masks: uint8 (g, H, W) of one image.
        boxes: (p, 4) xyxy in pixels of the masks.
        matched: int64 (p,), which mask.
        side: M.

    Returns:
        float (p, M, M): 1 where the bilinear mean (RoIAlign, aligned) is at least 0.5.
    """
    regions = torch.cat([matched[:, None].to(boxes), boxes], dim=1)
    cropped: Tensor = roi_align(masks[:, None].to(boxes), regions, (side, side), 1.0, 0, True)[:, 0]
    return (cropped >= 0.5).to(boxes)
