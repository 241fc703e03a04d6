"""HDF5 shards of features and embeddings: ragged images laid end to end (CSR), provenance inside.

No time stamps are stored and every dataset is one contiguous block, so equal features give equal bytes,
in whatever order they were put. Keys are not compressed: on photographs and the
shipped network gzip (level 4) saves 8 % of their size and lzf nothing.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import numpy.typing as npt

from maskdistill.data.manifest import ImageRow
from maskdistill.runtime.files import canonical_json
from maskdistill.runtime.hdf5 import open_hdf5, write_hdf5

Array = npt.NDArray[np.float32]
HW = tuple[int, int]


@dataclass(frozen=True)
class ImageFeatures:
    """Features of one image.

    Attributes:
        cls_query, cls_key: float32 (heads, D/heads).
        keys: float32 (R*C, D), heads concatenated, row-major patches, no CLS.
        grid: (R, C) patches, padding included.
        resized_hw: pixels before padding.
    """

    cls_query: Array
    cls_key: Array
    keys: Array
    grid: HW
    resized_hw: HW


class FeatureWriter:
    """Writes images of a shard in any order into their places."""

    def __init__(self, file: h5py.File, grids: Sequence[HW]) -> None:
        self.file = file
        self.offsets = np.concatenate([[0], np.cumsum([rows * columns for rows, columns in grids])]).astype(
            np.int64
        )

    def create(self, dim: int, heads: int, dtype: str) -> None:
        """Allocate the datasets once the network's sizes are known."""
        total, count = int(self.offsets[-1]), len(self.offsets) - 1
        self.file.create_dataset("keys", (total, dim), dtype)
        for name in ("cls_query", "cls_key"):
            self.file.create_dataset(name, (count, heads, dim // heads), "float32")
        self.file.create_dataset("resized_hw", (count, 2), "int32")

    def put(self, index: int, features: ImageFeatures) -> None:
        """Store image ``index`` of the shard."""
        if "keys" not in self.file:
            raise RuntimeError("create() comes first")
        self.file["keys"][self.offsets[index] : self.offsets[index + 1]] = features.keys
        self.file["cls_query"][index] = features.cls_query
        self.file["cls_key"][index] = features.cls_key
        self.file["resized_hw"][index] = features.resized_hw


@contextmanager
def write_features(
    path: str | Path,
    images: Sequence[ImageRow],
    grids: Sequence[HW],
    patch_size: int,
    provenance: dict[str, Any],
) -> Iterator[FeatureWriter]:
    """Open a feature shard for writing; it appears under ``path`` when the block ends well."""
    with write_hdf5(path) as file:
        writer = FeatureWriter(file, grids)
        file["offsets"] = writer.offsets
        file["grid"] = np.array(grids, np.int32).reshape(-1, 2)
        file["image_id"] = np.array([image.image_id for image in images], np.int64)
        file["image_hw"] = np.array([(image.height, image.width) for image in images], np.int32).reshape(
            -1, 2
        )
        file.create_dataset("image_key", data=[image.key for image in images], dtype=h5py.string_dtype())
        file.attrs["patch_size"] = patch_size
        file.attrs["provenance"] = canonical_json(provenance)
        yield writer


open_shard = open_hdf5


class StoredImage(NamedTuple):
    """One image of a feature shard.

    Attributes:
        image_hw: upright size in pixels, before resizing.
    """

    image_id: int
    key: str
    image_hw: HW
    features: ImageFeatures


def read_features(file: h5py.File) -> Iterator[StoredImage]:
    """Images of an open feature shard in order; one in memory at a time."""
    offsets, ids, keys = file["offsets"][:], file["image_id"][:].tolist(), file["image_key"].asstr()[:]
    grids, resized, sizes = (
        list(map(tuple, file[name][:].tolist())) for name in ("grid", "resized_hw", "image_hw")
    )
    for i, (image_id, key) in enumerate(zip(ids, keys, strict=True)):
        found = ImageFeatures(
            cls_query=file["cls_query"][i],
            cls_key=file["cls_key"][i],
            keys=file["keys"][offsets[i] : offsets[i + 1]].astype(np.float32, copy=False),
            grid=grids[i],
            resized_hw=resized[i],
        )
        yield StoredImage(image_id, str(key), sizes[i], found)


def write_embeddings(
    path: str | Path,
    embeddings: npt.NDArray[np.float32],
    image_ids: Sequence[int],
    mask_index: Sequence[int],
    provenance: dict[str, Any],
) -> None:
    """Write one embedding a mask: ``embeddings`` (m, D), ``image_id`` (m,), ``mask_index`` (m,)."""
    with write_hdf5(path) as file:
        file["embeddings"] = embeddings.astype(np.float32, copy=False)
        file["image_id"] = np.array(image_ids, np.int64)
        file["mask_index"] = np.array(mask_index, np.int64)
        file.attrs["provenance"] = canonical_json(provenance)
