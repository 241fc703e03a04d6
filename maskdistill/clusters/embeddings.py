"""The embeddings of all shards as one long table, read a block at a time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import faiss
import numpy as np
import numpy.typing as npt

from maskdistill.clusters.kmeans import ColumnMoments, Floats, normalise
from maskdistill.clusters.sampling import SmallestKeys, draw, ordinals
from maskdistill.config import ClustersConfig
from maskdistill.data.stream import Roles
from maskdistill.runtime.background import in_order
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.hdf5 import open_hdf5
from maskdistill.runtime.provenance import initial_weights

T = TypeVar("T")
R = TypeVar("R")
BLOCK = 2048
"""Rows at once: 3 MiB of ViT-S embeddings, which arithmetic finds in the cache."""


class Block(NamedTuple):
    """Consecutive rows of one shard.

    Attributes:
        shard: the shard's number.
        features: float32 (M, D).
        image_id, mask_index: int64 (M,).
        ordinal: int64 (M,), place among the masks of the image.
        fitted: bool (M,), whether K-means may be fitted on them.
    """

    shard: int
    features: Floats
    image_id: npt.NDArray[np.int64]
    mask_index: npt.NDArray[np.int64]
    ordinal: npt.NDArray[np.int64]
    fitted: npt.NDArray[np.bool_]


class EmbeddingShards:
    """Embedding files of all shards, in the order of the shards whatever the order of the files.

    Args:
        paths: the files.
        roles: the manifest's images.

    Attributes:
        weights: hash of the weights that embedded the masks, see :func:`initial_weights`.

    Raises:
        MaskDistillError: a file is broken, does not fit the others or the manifest, or has no shard of its
            own.
    """

    def __init__(self, paths: Sequence[str], roles: Roles) -> None:
        self.roles = roles
        self.dim, self.rows = 0, 0
        self.weights: dict[str, str] = {}
        found: dict[int, str] = {}
        for path in paths:
            with open_hdf5(path) as file:
                rows, dim = file["embeddings"].shape
                image_id, index = file["image_id"][:], file["mask_index"][:]
                self.weights |= initial_weights(file.attrs.get("provenance", "{}"))
            if self.dim not in (0, dim):
                raise MaskDistillError(f"{path}: shards have embeddings of different sizes; make them again")
            self.dim = dim
            if rows == 0:
                continue
            shard = np.unique(roles.shard[roles.find(image_id, path)])
            if len(shard) > 1 or int(shard[0]) in found or (np.diff(index) <= 0).any():
                raise MaskDistillError(
                    f"{path}: does not hold the masks of one shard in order; make it again"
                )
            found[int(shard[0])] = path
            self.rows += rows
        self.files = sorted(found.items())

    def blocks(self, rows: int = BLOCK) -> Iterator[Block]:
        """All rows, at most ``rows`` at once, ordered by shard and mask."""
        for shard, path in self.files:
            with open_hdf5(path) as file:
                image_id, index = file["image_id"][:], file["mask_index"][:]
                ordinal, fitted = ordinals(image_id), self.roles.fitted[self.roles.find(image_id, path)]
                for start in range(0, len(image_id), rows):
                    part = slice(start, start + rows)
                    features = file["embeddings"][part]
                    yield Block(shard, features, image_id[part], index[part], ordinal[part], fitted[part])


@dataclass(frozen=True)
class Sample:
    """What K-means is fitted on.

    Attributes:
        points: float32 (N, D), normalised, in the order of the shards.
        scale: float32 (D,), by which columns were divided.
        available: rows that might have been chosen.
    """

    points: Floats
    scale: Floats
    available: int


def on_blocks(work: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """:func:`in_order` with FAISS held to one thread in each of its threads."""
    return in_order(work, items, threads, lambda: faiss.omp_set_num_threads(1))


def read_sample(
    shards: EmbeddingShards, config: ClustersConfig, seed: int, size: int, threads: int = 1
) -> Sample:
    """Whiten by all rows that may be fitted and keep at most ``size`` of them, chosen uniformly.

    Reads the shards twice: for the scale and the choice, then for the chosen rows. The number of threads does
    not change the result.

    Raises:
        MaskDistillError: there is no row to fit, or a value is not finite.
    """

    def measure(block: Block) -> tuple[ColumnMoments, npt.NDArray[np.uint64]]:
        if not np.isfinite(block.features).all():
            raise MaskDistillError(
                f"{dict(shards.files)[block.shard]}: the embeddings hold values that are not finite;"
                " check the backbone's weights"
            )
        fitted = block.features if block.fitted.all() else block.features[block.fitted]
        moments = ColumnMoments.of(fitted) if config.whiten == "std" else ColumnMoments(shards.dim)
        return moments, draw(seed, block.image_id[block.fitted], block.ordinal[block.fitted])

    moments, keys = ColumnMoments(shards.dim), SmallestKeys(size)
    for found, drawn in on_blocks(measure, shards.blocks(), threads):
        moments.add(found)
        keys.add(drawn)
    if keys.count == 0:
        raise MaskDistillError("no training image has a mask; nothing to cluster: check the masks stage")
    scale = moments.scale() if config.whiten == "std" else np.ones(shards.dim, np.float32)
    points, threshold = np.empty((keys.chosen, shards.dim), np.float32), keys.threshold()

    def chosen() -> Iterator[tuple[Block, npt.NDArray[np.bool_], Floats]]:
        place = 0
        for block in shards.blocks():
            taken = block.fitted & (draw(seed, block.image_id, block.ordinal) <= threshold)
            count = int(taken.sum())
            yield block, taken, points[place : place + count]
            place += count

    def fill(job: tuple[Block, npt.NDArray[np.bool_], Floats]) -> None:
        block, taken, out = job
        normalise(block.features if taken.all() else block.features[taken], scale, config.l2, out)

    for _ in on_blocks(fill, chosen(), threads):
        pass
    return Sample(points, scale, keys.count)
