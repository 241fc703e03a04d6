"""Data order that depends only on the seed and the step, not on workers, processes or interruptions."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler


class StepSampler(Sampler[list[tuple[int, int]]]):
    """Batch sampler that can start at any step.

    Images are reshuffled every epoch and the epochs are concatenated, so every batch is full. If images have
    groups, each batch comes from one group, as soon as it is full: pictures of one orientation need little
    padding. Each element is ``(index, draw)``: ``draw`` is a non-negative integer unique to this visit, from
    which a dataset seeds its augmentation (``np.random.default_rng([seed, draw])``).

    Args:
        num_images: size of the dataset, at least 1.
        batch_size: images per step over all processes; divisible by ``world_size``.
        total_steps: step at which iteration ends.
        start_step: first step to yield (a resumed run).
        seed: seed for shuffling.
        groups: int (num_images,), the group of each image; None: one for all.
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
        groups: npt.NDArray[np.integer] | None = None,
    ) -> None:
        if num_images < 1:
            raise ValueError("a training needs at least one image")
        if batch_size % world_size:
            raise ValueError(f"batch_size {batch_size} is not divisible by {world_size} processes")
        self.num_images, self.batch_size = num_images, batch_size
        self.total_steps, self.start_step = total_steps, start_step
        self.seed, self.rank, self.world_size, self.groups = seed, rank, world_size, groups

    def __len__(self) -> int:
        return max(0, self.total_steps - self.start_step)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        step = (
            self.start_step if self.groups is None else 0
        )  # the images waiting in a group depend on all earlier steps
        visits = self._visits(step * self.batch_size)
        waiting: dict[int, list[tuple[int, int]]] = {}
        while step < self.total_steps:
            index, draw = next(visits)
            group = 0 if self.groups is None else int(self.groups[index])
            batch = waiting.setdefault(group, [])
            batch.append((index, draw))
            if len(batch) == self.batch_size:
                if step >= self.start_step:
                    yield batch[self.rank :: self.world_size]
                waiting[group] = []
                step += 1

    def _visits(self, draw: int) -> Iterator[tuple[int, int]]:
        epoch, order = -1, np.empty(0, dtype=np.int64)
        while True:
            if draw // self.num_images != epoch:
                epoch = draw // self.num_images
                order = np.random.default_rng([self.seed, epoch]).permutation(self.num_images)
            yield int(order[draw % self.num_images]), draw
            draw += 1
