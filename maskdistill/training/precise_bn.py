"""Statistics of normalisation layers from many batches, under the final weights (PreciseBN)."""

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

B = TypeVar("B")


@torch.no_grad()
def precise_statistics(model: nn.Module, batches: Iterable[B], forward: Callable[[B], object]) -> None:
    """Replace the running means and variances of ``model``, in place, by the means over all batches.

    Running averages belong to weights that changed while they were taken; these belong to the last ones, as
    detectron2 has it for trunks whose normalisation is trained [Wu & Johnson 2021, §3.1]. Layers in eval mode or of
    fixed statistics stay as they are; without a batch everything does.

    Args:
        model: in train mode.
        batches: what ``forward`` takes, one after the other.
        forward: runs the model on a batch as in training.
    """
    layers = [
        layer
        for layer in model.modules()
        if isinstance(layer, _BatchNorm) and layer.training and layer.running_mean is not None
    ]
    momenta = [layer.momentum for layer in layers]
    first = True
    try:
        for batch in batches:
            if first:
                for layer in layers:
                    layer.reset_running_stats()
                    layer.momentum = None  # a cumulative average
                first = False
            forward(batch)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
