"""Where in an annotations file each image's annotations lie: HDF5, 28 bytes an image.

The annotations of an image stand side by side, so its bytes from ``start`` to ``stop`` are JSON objects with
commas between them. ``image_id`` is ascending. In a round of self-training the first ``found`` of them were
found by the detector of the round before.
"""

import json
from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from maskdistill.annotations.types import Annotation
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import check_seal, damaged
from maskdistill.runtime.hdf5 import open_hdf5, write_hdf5

Integers = npt.NDArray[np.int64]


class IndexBuilder:
    """Collects the places of annotations as they are written."""

    def __init__(self) -> None:
        self._image_id, self._start, self._stop = array("q"), array("q"), array("q")
        self._found = array("i")

    def add(self, image_id: int, start: int, stop: int, found: bool = False) -> None:
        """Note one annotation, and whether a detector found it; images come in ascending order."""
        if self._image_id and image_id == self._image_id[-1]:
            self._stop[-1] = stop
            self._found[-1] += found
            return
        if self._image_id and image_id < self._image_id[-1]:
            raise ValueError(f"image {image_id} after image {self._image_id[-1]}")
        self._image_id.append(image_id)
        self._start.append(start)
        self._stop.append(stop)
        self._found.append(int(found))

    def write(self, path: str | Path, num_clusters: int) -> None:
        """Write the index; ``num_clusters`` is the number of the dataset's categories."""
        with write_hdf5(path) as file:
            for name, values in (("image_id", self._image_id), ("start", self._start), ("stop", self._stop)):
                file[name] = np.frombuffer(values, np.int64) if values else np.zeros(0, np.int64)
            file["found"] = np.frombuffer(self._found, np.int32) if self._found else np.zeros(0, np.int32)
            file.attrs["num_clusters"] = num_clusters


@dataclass(frozen=True)
class AnnotationIndex:
    """An annotations file and its index.

    Attributes:
        path: the annotations file.
        image_id, start, stop: int64 (n,).
        found: int32 (n,), how many of the image's annotations a detector found: the first ones.
        num_clusters: number of categories.
    """

    path: Path
    image_id: Integers
    start: Integers
    stop: Integers
    found: npt.NDArray[np.int32]
    num_clusters: int

    def read(self, place: int) -> list[Annotation]:
        """Annotations of the image ``image_id[place]``; opens the file, so processes can share this.

        Raises:
            MaskDistillError: the file is not the one that was indexed.
        """
        start, stop = int(self.start[place]), int(self.stop[place])
        try:
            with open(self.path, "rb") as stream:
                stream.seek(start)
                items: list[Annotation] = json.loads(b"[" + stream.read(stop - start) + b"]")
            if not items or any(item["image_id"] != self.image_id[place] for item in items):
                raise ValueError("other annotations stand there")
        except (ValueError, TypeError, KeyError, OSError) as error:
            raise damaged(self.path, f"does not fit its index at byte {start} ({error})") from None
        return items


def read_index(annotations: str | Path, path: str | Path) -> AnnotationIndex:
    """Read the index of an annotations file.

    Raises:
        MaskDistillError: it or the file is missing or damaged, or it is empty.
    """
    check_seal(annotations)
    with open_hdf5(path) as file:
        if not {"image_id", "start", "stop", "found"} <= set(file) or "num_clusters" not in file.attrs:
            raise MaskDistillError(f"{path}: not an index of annotations; run the annotations stage again")
        image_id, start, stop = (file[name][:] for name in ("image_id", "start", "stop"))
        found, num_clusters = file["found"][:], int(file.attrs["num_clusters"])
        index = AnnotationIndex(Path(annotations), image_id, start, stop, found, num_clusters)
    if len(index.image_id) == 0:
        raise MaskDistillError(
            f"{path}: no image has an annotation, so the detector has nothing to learn; check the masks"
        )
    return index
