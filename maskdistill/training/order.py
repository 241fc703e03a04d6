"""Data order that depends on the seed and the step alone: not on workers, processes or interruptions."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class StepSampler(Sampler[list[tuple[int, int]]]):
    """Batch sampler that can start at any step.

    Images are shuffled anew every epoch and the epochs are laid end to end, so every batch is full.
    Each element is ``(index, draw)``: ``draw`` is a non-negative integer unique to this visit, from
    which a dataset seeds its augmentation (``np.random.default_rng([seed, draw])``).

    Args:
        num_images: size of the dataset, at least 1.
        batch_size: images a step over all processes; divisible by ``world_size``.
        total_steps: step at which iteration ends.
        start_step: first step to yield (a resumed run).
        seed: seed of the shuffles.
        rank, world_size: this process takes every ``world_size``-th element of each batch.
    """

    def __init__(
        self,
        num_images: int,
        batch_size: int,
        total_steps: int,
        start_step: int = 0,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if num_images < 1:
            raise ValueError("a training needs at least one image")
        if batch_size % world_size:
            raise ValueError(f"batch_size {batch_size} is not divisible by {world_size} processes")
        self.num_images, self.batch_size = num_images, batch_size
        self.total_steps, self.start_step = total_steps, start_step
        self.seed, self.rank, self.world_size = seed, rank, world_size

    def __len__(self) -> int:
        return max(0, self.total_steps - self.start_step)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, order = -1, np.empty(0, dtype=np.int64)
        for step in range(self.start_step, self.total_steps):
            batch = []
            for draw in range(step * self.batch_size, (step + 1) * self.batch_size):
                if draw // self.num_images != epoch:
                    epoch = draw // self.num_images
                    order = np.random.default_rng([self.seed, epoch]).permutation(self.num_images)
                batch.append((int(order[draw % self.num_images]), draw))
            yield batch[self.rank :: self.world_size]
