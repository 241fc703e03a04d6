"""The cluster of every mask: one HDF5 table for all shards, written and read in slices.

Columns ``image_id``, ``mask_index``, ``shard``, ``cluster`` (0..K-1) and ``distance`` (Euclidean, to the
centroid), ordered by shard and mask; 24 bytes a mask. ``shards`` and ``offsets`` say where each shard lies.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import numpy.typing as npt

from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import canonical_json
from maskdistill.runtime.hdf5 import open_hdf5, write_hdf5

COLUMNS = {
    "image_id": "int64",
    "mask_index": "int32",
    "shard": "int32",
    "cluster": "int32",
    "distance": "float32",
}
BLOCK = 65_536


class Rows(NamedTuple):
    """Consecutive rows of the table, each column (n,)."""

    image_id: npt.NDArray[np.int64]
    mask_index: npt.NDArray[np.int32]
    shard: npt.NDArray[np.int32]
    cluster: npt.NDArray[np.int32]
    distance: npt.NDArray[np.float32]

    def take(self, where: npt.NDArray[Any]) -> "Rows":
        """The rows at some places, int (m,), or where a mask, bool (n,), is True."""
        return Rows(
            self.image_id[where],
            self.mask_index[where],
            self.shard[where],
            self.cluster[where],
            self.distance[where],
        )

    def followed_by(self, other: "Rows") -> "Rows":
        """These rows and the others behind them."""
        return Rows(
            np.concatenate([self.image_id, other.image_id]),
            np.concatenate([self.mask_index, other.mask_index]),
            np.concatenate([self.shard, other.shard]),
            np.concatenate([self.cluster, other.cluster]),
            np.concatenate([self.distance, other.distance]),
        )


class AssignmentWriter:
    """Appends rows, ordered by shard."""

    def __init__(self, file: h5py.File, total: int) -> None:
        self.file, self.place = file, 0
        self.counts: dict[int, int] = {}
        for name, kind in COLUMNS.items():
            file.create_dataset(name, (total,), kind)

    def append(
        self, shard: int, image_id: npt.ArrayLike, mask_index: npt.ArrayLike, cluster: npt.ArrayLike,
        distance: npt.ArrayLike,
    ) -> None:  # fmt: skip
        """Add rows of one shard, each column (n,); shards come in ascending order."""
        if self.counts and shard < next(reversed(self.counts)):
            raise ValueError(f"shard {shard} after shard {next(reversed(self.counts))}")
        count = len(np.asarray(image_id))
        part = slice(self.place, self.place + count)
        columns = zip(COLUMNS, (image_id, mask_index, np.full(count, shard), cluster, distance), strict=True)
        for name, values in columns:
            self.file[name][part] = values
        self.place += count
        self.counts[shard] = self.counts.get(shard, 0) + count


@contextmanager
def write_assignments(
    path: str | Path, total: int, num_clusters: int, provenance: dict[str, Any]
) -> Iterator[AssignmentWriter]:
    """Open a table of ``total`` rows for writing; it appears under ``path`` when the block ends well."""
    with write_hdf5(path) as file:
        writer = AssignmentWriter(file, total)
        yield writer
        if writer.place != total:
            raise ValueError(f"{writer.place} of {total} rows were written")
        file["shards"] = np.array(list(writer.counts), np.int32)
        file["offsets"] = np.cumsum([0, *writer.counts.values()]).astype(np.int64)
        file.attrs["num_clusters"] = num_clusters
        file.attrs["provenance"] = canonical_json(provenance)


class Assignments:
    """An open table."""

    def __init__(self, file: h5py.File, path: str | Path) -> None:
        self.file, self.path = file, path
        self.num_clusters = int(file.attrs["num_clusters"])
        offsets = file["offsets"][:].tolist()
        self.places = dict(zip(file["shards"][:].tolist(), pairwise(offsets), strict=True))

    def __len__(self) -> int:
        return len(self.file["image_id"])

    def rows(self, start: int, stop: int) -> Rows:
        """Rows ``start .. stop - 1``."""
        return Rows(*(self.file[name][start:stop] for name in COLUMNS))

    def blocks(self, size: int = BLOCK) -> Iterator[Rows]:
        """All rows in order, at most ``size`` at once."""
        for start in range(0, len(self), size):
            yield self.rows(start, start + size)

    def of_shard(self, shard: int) -> Rows:
        """All rows of one shard; none if it has no mask."""
        return self.rows(*self.places.get(shard, (0, 0)))

    def of_masks(self, shard: int, image_ids: Sequence[int], source: str | Path) -> Rows:
        """The row of each of a shard's masks, in the order of its file.

        Args:
            shard: its number.
            image_ids: the image of each mask, in the order of the masks.
            source: the file of the masks, for the message.

        Raises:
            MaskDistillError: a mask is not in the table, or not with that image.
        """
        rows = self.of_shard(shard)
        places = np.full(len(image_ids), -1, np.int64)
        known = np.flatnonzero(rows.mask_index < len(image_ids))
        same = known[np.asarray(image_ids, np.int64)[rows.mask_index[known]] == rows.image_id[known]]
        places[rows.mask_index[same]] = same
        for index in np.flatnonzero(places < 0).tolist():
            raise MaskDistillError(
                f"{self.path}: no cluster for mask {index} of {source} (image {image_ids[index]});"
                " run the stages embeddings and clusters on all shards again"
            )
        return rows.take(places)


def shard_number(path: str | Path) -> int:
    """7 for ``.../shard-0007.json`` or ``.../shard-0007/``."""
    match = re.search(r"shard-(\d+)", Path(path).name)
    if match is None:
        raise MaskDistillError(f"{path}: its name has no shard number; expected shard-0000, shard-0001, ...")
    return int(match[1])


@contextmanager
def open_assignments(path: str | Path, num_clusters: int | None = None) -> Iterator[Assignments]:
    """Open a table for reading.

    Raises:
        MaskDistillError: the file is missing, broken, or has not ``num_clusters`` clusters.
    """
    with open_hdf5(path) as file:
        if "num_clusters" not in file.attrs or "offsets" not in file:
            raise MaskDistillError(f"{path}: not a table of assignments; run the clusters stage again")
        table = Assignments(file, path)
        if num_clusters not in (None, table.num_clusters):
            raise MaskDistillError(
                f"{path}: has {table.num_clusters} clusters, --num-clusters says {num_clusters};"
                " run the clusters stage with this number"
            )
        yield table
