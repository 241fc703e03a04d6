"""Statistics of normalisation layers from many batches, under the final weights (PreciseBN)."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from maskdistill.training.distributed import sum_over_processes

B = TypeVar("B")


class Population:
    """Mean and variance, in float64, of all values that a layer has normalised.

    They are combined batch by batch from the batches' means and variances (Chan et al. 1979), which keeps
    small variances exact.

    Args:
        layer: in train mode. Its momentum is 1 meanwhile, so that it holds the last batch's statistics.
    """

    def __init__(self, layer: _BatchNorm) -> None:
        self.layer = layer
        self.count = 0.0
        self.mean = torch.zeros_like(self._running("mean"))
        self.squares = torch.zeros_like(self.mean)

    def _running(self, name: str) -> Tensor:
        value: Tensor = getattr(self.layer, f"running_{name}")
        return value.double()

    def add(self, _: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Add the batch (B, C, ...) that the layer has just normalised; a forward hook."""
        values = output.numel() // output.shape[1]
        if isinstance(self.layer, nn.SyncBatchNorm):
            values = int(sum_over_processes(torch.tensor([values], device=output.device)))
        squares = self._running("var") * (values - 1)  # torch stores the unbiased variance
        apart = self._running("mean") - self.mean
        total = self.count + values
        self.squares += squares + apart.square() * (self.count * values / total)
        self.mean += apart * (values / total)
        self.count = total

    def store(self) -> None:
        """Give the layer these statistics; a layer that no batch reached keeps its own."""
        if self.count:
            for name, value in {"mean": self.mean, "var": self.squares / self.count}.items():
                getattr(self.layer, f"running_{name}").copy_(value)


@torch.no_grad()
def precise_statistics(model: nn.Module, batches: Iterable[B], forward: Callable[[B], object]) -> None:
    """Replace the running means and variances of ``model``, in place, by those of all values of all batches.

    Running averages are taken while the weights change; these statistics belong to the final weights, as in
    detectron2 for trunks whose normalisation is trained [Wu & Johnson 2021, §3.1]. The variance is that of
    all values together: the mean of the batches' variances, each around its own mean, would be too small.
    Layers in eval mode or with fixed statistics, and those that no batch reached, stay as they are.

    Args:
        model: in train mode; it runs uncompiled here.
        batches: batches: inputs of ``forward``.
        forward: runs the model on a batch as in training.
    """
    layers = [
        layer
        for layer in model.modules()
        if isinstance(layer, _BatchNorm) and layer.training and layer.running_mean is not None
    ]
    populations = [Population(layer) for layer in layers]
    with ExitStack() as stack:
        stack.enter_context(
            torch.compiler.set_stance("force_eager")
        )  # the hooks must not cause a recompilation
        for layer, population in zip(layers, populations, strict=True):
            stack.callback(setattr, layer, "momentum", layer.momentum)
            stack.callback(layer.register_forward_hook(population.add).remove)
            layer.momentum = 1.0
        for batch in batches:
            forward(batch)
    for population in populations:
        population.store()
