"""Ground truth of every kind of source in one form. Only the evaluation side may import this module."""

from collections.abc import Iterator, Sequence

from maskdistill.config import DataConfig
from maskdistill.data.manifest import ImageRow
from maskdistill.data.truth.registry import truth_of
from maskdistill.data.truth_types import IGNORE as IGNORE
from maskdistill.data.truth_types import ImageTruth as ImageTruth
from maskdistill.data.truth_types import Losses
from maskdistill.data.truth_types import TrueObject as TrueObject


def read_ground_truth(
    data: DataConfig, images: Sequence[ImageRow], losses: Losses
) -> tuple[list[str], Iterator[ImageTruth]]:
    """Ground truth of the images to score: objects and, where it is known, the semantic map.

    An image without any ground truth is left out.

    Args:
        data: the ``data`` section.
        images: usable images of the manifest: those to score, or for a linear probe those to train on.
        losses: gets what is dropped.

    Returns:
        The names of the categories with ids 1..C, and an iterator over the images in the manifest's
        order. Problems with single images surface while it is walked through.

    Raises:
        MaskDistillError: naming the file and what is wrong: a size that differs from the picture's,
            an unknown category, unreadable XML or PNG, or no ground truth for any image.
    """
    return truth_of(data).read(images, losses)
