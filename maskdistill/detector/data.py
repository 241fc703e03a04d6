"""Images with boxes, classes and masks for the detector; mirror images and pasted objects now and then."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.functional import pil_to_tensor

from maskdistill.annotations.types import Annotation
from maskdistill.data.images import load_rgb
from maskdistill.detector.copy_paste import Annotated, draw_pieces, paste
from maskdistill.formats import rle
from maskdistill.formats.rle import RLE
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.loading import load_batches
from maskdistill.training.distributed import rank_and_world
from maskdistill.training.order import StepSampler

Target: TypeAlias = dict[str, Tensor]
Batch: TypeAlias = tuple[list[Tensor], list[Target]]


@dataclass(frozen=True)
class Example:
    """One training image.

    Attributes:
        file: the picture.
        boxes: xywh in pixels of the original image, one an annotation.
        labels: 1..K.
        masks: RLEs at the original size.
    """

    file: str | Path
    boxes: tuple[tuple[float, ...], ...]
    labels: tuple[int, ...]
    masks: tuple[RLE, ...]


def example_of(items: Sequence[Annotation], file: str | Path, num_clusters: int) -> Example:
    """One training image from its annotations.

    Args:
        items: at least one.
        file: the picture.
        num_clusters: K; category ids are 1..K.

    Raises:
        MaskDistillError: a category lies outside 1..K, or a box has no area.
    """
    for item in items:
        where = f"annotation {item['id']} of image {item['image_id']}"
        if not 1 <= item["category_id"] <= num_clusters:
            raise MaskDistillError(f"{where}: category {item['category_id']} is not in 1..{num_clusters}")
        if min(item["bbox"][2:]) <= 0:
            raise MaskDistillError(f"{where}: the box {item['bbox']} has no area; run annotations again")
    return Example(
        file,
        tuple(tuple(item["bbox"]) for item in items),
        tuple(item["category_id"] for item in items),
        tuple(item["segmentation"] for item in items),
    )


class AnnotatedImages(Dataset[tuple[Tensor, Target]]):
    """Items addressed by ``(index, draw)``: the draw alone decides everything random about the visit.

    Args:
        examples: what to read.
        flip: probability of a horizontal flip.
        seed: with the draw, seed of the flip and of what the model draws for the image.
        groups: int (n,), images of one group share a batch; None: all may.
        copy_paste: probability that objects of another image, any but this one, are pasted into it.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        flip: float,
        seed: int,
        groups: npt.NDArray[np.integer] | None = None,
        copy_paste: float = 0.0,
    ) -> None:
        self.examples, self.flip, self.seed, self.groups = examples, flip, seed, groups
        self.copy_paste = copy_paste

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, visit: tuple[int, int]) -> tuple[Tensor, Target]:
        """``(image, target)``: uint8 (3, H, W); ``boxes`` float xyxy, ``labels``, ``masks`` uint8 (n, H, W),
        ``seed``.

        ``seed`` is an int64 scalar from which the model draws the training size and the samples of its
        losses.
        """
        index, draw = visit
        scene = self._read(index)
        rng = np.random.default_rng([self.seed, draw])
        if rng.random() < self.flip:
            scene = scene.flipped()
        seed = torch.tensor(rng.integers(2**40))
        if len(self) > 1 and rng.random() < self.copy_paste:
            other = self._read((index + int(rng.integers(1, len(self)))) % len(self))
            other = other.flipped() if rng.random() < self.flip else other
            height, width = scene.image.shape[-2:]
            scene = paste(scene, draw_pieces(rng, other, (height, width)))
        target = {"boxes": scene.boxes, "labels": scene.labels, "masks": scene.masks, "seed": seed}
        return scene.image, target

    def _read(self, index: int) -> Annotated:
        """A picture and its objects as they are stored."""
        example = self.examples[index]
        image: Tensor = pil_to_tensor(load_rgb(example.file))
        height, width = image.shape[-2:]
        for mask in example.masks:
            if list(mask["size"]) != [height, width]:
                raise MaskDistillError(
                    f"{example.file}: {width}x{height} pixels, but its mask has "
                    f"{mask['size'][1]}x{mask['size'][0]};"
                    " the picture changed: run the manifest stage again"
                )
        masks = torch.from_numpy(np.stack([rle.decode(mask) for mask in example.masks]).astype(np.uint8))
        x, y, w, h = torch.tensor(example.boxes, dtype=torch.float32).unbind(1)
        boxes = torch.stack([x, y, x + w, y + h], dim=1)
        return Annotated(image, boxes, torch.tensor(example.labels), masks)


def _collate(items: list[tuple[Tensor, Target]]) -> Batch:
    images, targets = zip(*items, strict=True)
    return list(images), list(targets)


def detector_batches(
    dataset: AnnotatedImages,
    batch_size: int,
    total_steps: int,
    start: int,
    workers: int,
    pin_memory: bool = False,
) -> Iterator[Batch]:
    """Batches of the steps ``start .. total_steps - 1`` for this process: lists of images and targets."""
    rank, world = rank_and_world()
    sampler = StepSampler(
        len(dataset), batch_size, total_steps, start, dataset.seed, rank, world, dataset.groups
    )
    return load_batches(dataset, sampler, workers, pin_memory, _collate)
