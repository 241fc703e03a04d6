"""Training images, read from the annotations file on demand: memory is bytes per image."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np

from maskdistill.annotations.index import AnnotationIndex
from maskdistill.data.images import Photo
from maskdistill.data.stream import usable_rows
from maskdistill.detector.data import Example, example_of
from maskdistill.runtime.errors import MaskDistillError


class IndexedExamples(Sequence[Example]):
    """The annotated images of an index, in ascending order of their ids.

    Paths and digests are kept as blocks of bytes, which data loading processes share instead of each having a
    copy.

    Attributes:
        portrait: int8 (n,), 0 where an image is wider than high, else 1, squares too: detectron2 groups
            images so.

    Args:
        index: where the annotations lie.
        manifest: lists the pictures.

    Raises:
        MaskDistillError: an annotated image is not usable.
    """

    def __init__(self, index: AnnotationIndex, manifest: str | Path) -> None:
        self.annotations = index
        self._folder = Path(os.path.abspath(Path(manifest).parent))
        stored: list[bytes] = []
        lengths: list[np.ndarray[tuple[int], np.dtype[np.int64]]] = []
        found: list[np.ndarray[tuple[int], np.dtype[np.int64]]] = []
        digests: list[bytes] = []
        portrait: list[np.ndarray[tuple[int], np.dtype[np.int8]]] = []
        for rows in usable_rows(manifest, ("image_id", "path", "sha256", "width", "height")):
            rows = rows[np.isin(rows["image_id"].to_numpy(), index.image_id)]
            paths = [os.fsencode(path) for path in rows["path"].tolist()]
            stored.append(b"".join(paths))
            lengths.append(np.array([len(path) for path in paths], np.int64))
            digests += (
                bytes.fromhex(Photo("", sha256).sha256) or bytes(32) for sha256 in rows["sha256"].tolist()
            )
            found.append(rows["image_id"].to_numpy(np.int64))
            portrait.append((rows["height"] >= rows["width"]).to_numpy(np.bool_).astype(np.int8))
        listed = np.concatenate([np.zeros(0, np.int64), *found])
        lost = np.setdiff1d(index.image_id, listed)
        if len(lost):
            raise MaskDistillError(
                f"{index.path}: image {lost[0]} is annotated, but {manifest} has no usable image of that id;"
                " run annotations again"
            )
        self._paths = np.frombuffer(b"".join(stored), np.uint8)
        self._digests = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)
        self.portrait = np.concatenate([np.zeros(0, np.int8), *portrait])
        self._offsets = np.cumsum(np.concatenate([np.zeros(1, np.int64), *lengths]))

    def __len__(self) -> int:
        return len(self.annotations.image_id)

    @overload
    def __getitem__(self, place: int) -> Example: ...
    @overload
    def __getitem__(self, place: slice) -> list[Example]: ...
    def __getitem__(self, place: int | slice) -> Example | list[Example]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        place = range(len(self))[place]
        path = self._paths[self._offsets[place] : self._offsets[place + 1]].tobytes()
        photo = Photo(str(self._folder / os.fsdecode(path)), self._digests[place].tobytes().hex())
        return example_of(self.annotations.read(place), photo, self.annotations.num_clusters)
