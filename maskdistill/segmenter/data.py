"""Images with label maps for the segmenter: mirrored, turned, zoomed and squashed to a square."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from maskdistill.config import SegmenterConfig
from maskdistill.data.images import load_rgb
from maskdistill.formats.label_png import read_label_png
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.loading import load_batches
from maskdistill.segmenter.loss import IGNORE
from maskdistill.training.distributed import rank_and_world
from maskdistill.training.order import StepSampler

UInt8 = npt.NDArray[np.uint8]


def squash(image: UInt8, size: int) -> UInt8:
    """Resize (H, W, 3) to (size, size, 3), bicubic, aspect not kept."""
    return np.asarray(cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC), np.uint8)


def resize_labels(labels: UInt8, height: int, width: int, how: str) -> UInt8:
    """Resize a label map (H, W) by nearest neighbour, as ``SegmenterConfig.resize_labels``.

    ``nearest_exact``: a pixel takes the label where its centre falls, ``floor((x + 0.5) * W / width)``;
    ``nearest``: where its upper left corner falls, ``floor(x * W / width)``, which shifts labels a little
    against the picture.
    """
    flag = {"nearest_exact": cv2.INTER_NEAREST_EXACT, "nearest": cv2.INTER_NEAREST}[how]
    return np.asarray(cv2.resize(labels, (width, height), interpolation=flag), np.uint8)


def augment(
    image: UInt8, labels: UInt8, config: SegmenterConfig, rng: np.random.Generator
) -> tuple[UInt8, UInt8]:
    """Mirror, turn and zoom about (W/2, H/2) on the original canvas, then squash [method §7].

    What comes in from outside is black and labelled ``config.border_label``.

    Args:
        image: uint8 (H, W, 3).
        labels: uint8 (H, W).
        config: ``flip``, ``rotation`` (degrees), ``scale``, ``border_label``, ``size``, ``resize_labels``.
        rng: decides.

    Returns:
        uint8 (size, size, 3) and (size, size).
    """
    mirrored, angle, zoom = rng.random() < config.flip, *rng.uniform((-1, 0), 1)
    if mirrored:
        image, labels = image[:, ::-1], labels[:, ::-1]
    height, width = labels.shape
    low, high = config.scale
    matrix = cv2.getRotationMatrix2D(
        (width / 2, height / 2), angle * config.rotation, low + zoom * (high - low)
    )
    image = np.asarray(
        cv2.warpAffine(np.ascontiguousarray(image), matrix, (width, height), flags=cv2.INTER_CUBIC), np.uint8
    )
    labels = np.asarray(
        cv2.warpAffine(
            np.ascontiguousarray(labels), matrix, (width, height), flags=cv2.INTER_NEAREST,
            borderValue=config.border_label,
        ),
        np.uint8,
    )  # fmt: skip
    return squash(image, config.size), resize_labels(labels, config.size, config.size, config.resize_labels)


def find_label_files(keys: Sequence[str], folders: Sequence[str | Path]) -> list[Path]:
    """The label map ``<key>.png`` of every image, in any of the folders.

    Raises:
        MaskDistillError: naming the images that have none.
    """
    found, missing = [], []
    for key in keys:
        here = next((path for folder in folders if (path := Path(folder) / f"{key}.png").is_file()), None)
        if here is None:
            missing.append(key)
        else:
            found.append(here)
    if missing:
        raise MaskDistillError(
            f"{len(missing)} of {len(keys)} training images have no label map, such as {missing[0]}.png in "
            f"{', '.join(map(str, folders))}; run the pseudo_labels stage for all shards and give all its "
            "folders"
        )
    return found


class LabelledImages(Dataset[tuple[Tensor, Tensor]]):
    """Items addressed by ``(index, draw)``: the draw alone decides the augmentation.

    Args:
        files: pairs (picture, label map).
        num_clusters: K; labels are 0..K or 255.
        config: the segmenter's section.
        seed: with the draw, seed of the augmentation.
    """

    def __init__(
        self,
        files: Sequence[tuple[str | Path, str | Path]],
        num_clusters: int,
        config: SegmenterConfig,
        seed: int,
    ) -> None:
        self.files, self.num_clusters, self.config, self.seed = files, num_clusters, config, seed

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, visit: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """``(image, labels)``: uint8 (3, size, size) and uint8 (size, size)."""
        index, draw = visit
        file, label_file = self.files[index]
        image, labels = np.asarray(load_rgb(file)), read_label_png(label_file)
        if image.shape[:2] != labels.shape:
            sizes = (
                f"{labels.shape[1]}x{labels.shape[0]} pixels, but the picture has "
                f"{image.shape[1]}x{image.shape[0]}"
            )
            raise MaskDistillError(f"{label_file}: {sizes}; run the pseudo_labels stage again")
        largest = int(labels[labels != IGNORE].max(initial=0))
        if largest > self.num_clusters:
            raise MaskDistillError(
                f"{label_file}: holds label {largest}, but there are {self.num_clusters} clusters"
            )
        image, labels = augment(image, labels, self.config, np.random.default_rng([self.seed, draw]))
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))), torch.from_numpy(labels)


def segmenter_batches(
    dataset: LabelledImages, total_steps: int, start: int, pin_memory: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """This process's batches from step ``start`` on: uint8 (B, 3, S, S) and (B, S, S)."""
    rank, world = rank_and_world()
    config = dataset.config
    sampler = StepSampler(len(dataset), config.batch_size, total_steps, start, dataset.seed, rank, world)
    return load_batches(dataset, sampler, config.workers, pin_memory)
