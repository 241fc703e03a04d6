"""What the ground truth of a source is."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from maskdistill.data.manifest import ImageRow
from maskdistill.data.sources.base import ImageSource
from maskdistill.data.truth_types import ImageTruth, Losses, TrueObject
from maskdistill.formats import rle

Source = TypeVar("Source", bound=ImageSource)


class SourceTruth(ABC, Generic[Source]):
    """Ground truth of one kind of source, in the form that evaluation works on.

    Boxes are ``[x, y, width, height]`` in pixels, 0-based, in the frame of the upright picture.

    Attributes:
        FILES: it lies in files, which may be wrong and are checked before anything is trained.
        TRAIN: of pictures to train on, too, which a linear probe needs; each of them has to have some.
        measured: pictures whose headers are read for their size where files are checked; None: all of them.

    Args:
        data: the source's section; it has ground truth.
    """

    FILES: ClassVar[bool] = True
    TRAIN: ClassVar[bool] = False
    measured: ClassVar[int | None] = None

    def __init__(self, data: Source) -> None:
        self.data = data

    @abstractmethod
    def count_classes(self, built: bool) -> int:
        """Number of classes, background not among them.

        Args:
            built: the workflow makes the files, and may not have done so yet.
        """

    @abstractmethod
    def read(self, images: Sequence[ImageRow], losses: Losses) -> tuple[list[str], Iterator[ImageTruth]]:
        """As :func:`maskdistill.data.ground_truth.read_ground_truth`."""

    def check(self, images: Sequence[ImageRow], losses: Losses) -> int:
        """Find all that :meth:`read` finds to be wrong; the number of objects."""
        return sum(len(truth.objects) for truth in self.read(images, losses)[1])


def object_of(category_id: int, mask: npt.NDArray[np.bool_]) -> TrueObject:
    """An object of a mask, bool (H, W)."""
    segmentation = rle.encode(mask)
    return TrueObject(category_id, rle.bbox(segmentation), float(rle.area(segmentation)), 0, segmentation)
