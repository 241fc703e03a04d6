"""HDF5 shards of features and embeddings: ragged images laid end to end (CSR), provenance inside.

No time stamps are stored and every dataset is one contiguous block, so equal features give equal bytes,
in whatever order they were put. Keys are not compressed: on photographs and the
shipped network gzip (level 4) saves 8 % of their size and lzf nothing.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from maskdistill.features import HW, ImageFeatures
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import atomic_path, canonical_json


class FeatureWriter:
    """Writes images of a shard in any order into their places."""

    def __init__(self, file: h5py.File, grids: Sequence[HW]) -> None:
        self.file = file
        self.offsets = np.concatenate([[0], np.cumsum([rows * columns for rows, columns in grids])]).astype(np.int64)

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
    image_ids: Sequence[int],
    image_keys: Sequence[str],
    grids: Sequence[HW],
    patch_size: int,
    provenance: dict[str, Any],
) -> Iterator[FeatureWriter]:
    """Open a feature shard for writing; it appears under ``path`` when the block ends well."""
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        writer = FeatureWriter(file, grids)
        file["offsets"] = writer.offsets
        file["grid"] = np.array(grids, np.int32).reshape(-1, 2)
        file["image_id"] = np.array(image_ids, np.int64)
        file.create_dataset("image_key", data=list(image_keys), dtype=h5py.string_dtype())
        file.attrs["patch_size"] = patch_size
        file.attrs["provenance"] = canonical_json(provenance)
        yield writer


@contextmanager
def open_shard(path: str | Path) -> Iterator[h5py.File]:
    """Open a shard for reading.

    Raises:
        MaskDistillError: the file is missing, truncated or not HDF5.
    """
    try:
        file = h5py.File(path, "r")
    except FileNotFoundError:
        raise MaskDistillError(f"{path}: no such file; run the stage that makes it first") from None
    except OSError as error:
        raise MaskDistillError(f"{path}: not a readable HDF5 file ({error}); delete it and run again") from None
    with file:
        yield file


def read_features(file: h5py.File) -> Iterator[tuple[int, str, ImageFeatures]]:
    """Images of an open feature shard in order: ``(image_id, key, features)``; one in memory at a time."""
    offsets, grids = file["offsets"][:], file["grid"][:]
    for i, (image_id, key) in enumerate(zip(file["image_id"][:], file["image_key"].asstr()[:], strict=True)):
        yield (
            int(image_id),
            str(key),
            ImageFeatures(
                cls_query=file["cls_query"][i],
                cls_key=file["cls_key"][i],
                keys=file["keys"][offsets[i] : offsets[i + 1]].astype(np.float32, copy=False),
                grid=(int(grids[i][0]), int(grids[i][1])),
                resized_hw=(int(file["resized_hw"][i][0]), int(file["resized_hw"][i][1])),
            ),
        )


def write_embeddings(
    path: str | Path,
    embeddings: npt.NDArray[np.float32],
    image_ids: Sequence[int],
    mask_index: Sequence[int],
    provenance: dict[str, Any],
) -> None:
    """Write one embedding a mask: ``embeddings`` (m, D), ``image_id`` (m,), ``mask_index`` (m,)."""
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        file["embeddings"] = embeddings.astype(np.float32, copy=False)
        file["image_id"] = np.array(image_ids, np.int64)
        file["mask_index"] = np.array(mask_index, np.int64)
        file.attrs["provenance"] = canonical_json(provenance)
