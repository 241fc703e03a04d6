"""Check the ground truth before anything is trained: all that scoring will need of it."""

from collections.abc import Sequence
from pathlib import Path

from maskdistill.config import Config, DataConfig
from maskdistill.data.images import orientation
from maskdistill.data.listed import ListedImage
from maskdistill.data.listing import iter_images
from maskdistill.data.manifest import MIN_SIDE, ImageRow
from maskdistill.data.picture_files import open_picture, read_header, refuse_size
from maskdistill.data.truth.registry import truth_of
from maskdistill.data.truth_types import Losses


def count_classes(config: Config) -> int:
    """Number of classes of a source with ground truth, background not among them.

    Of COCO's annotations that the workflow has yet to build it is the official files' number.

    Raises:
        MaskDistillError: its annotations are missing or wrong.
    """
    return truth_of(config.data).count_classes(config.datasets.build is not None)


def check_truth(data: DataConfig, max_dropped: float, probe: bool = False) -> str:
    """Check the ground truth of photographs that are there.

    Args:
        data: the ``data`` section.
        max_dropped: see :class:`maskdistill.data.truth_types.Losses`.
        probe: also of the images that a linear probe, or a stage of the oracle, learns from.

    Returns:
        What there is, in words; empty where the source has no files of ground truth.

    Raises:
        MaskDistillError: as the stage ``ground_truth`` would.
    """
    if not data.has_truth or not (truth := truth_of(data)).FILES:
        return ""
    listed = list(iter_images(data))
    scored = data.scored_keys()
    wanted = {image.key for image in listed if image.eval} if scored is None else scored
    wanted |= data.instance_keys() or set()
    losses = Losses(max_dropped, logged=0)
    measured = len(listed) if truth.measured is None else truth.measured
    rows = _rows([image for image in listed if image.key in wanted], measured)
    objects = truth.check(rows, losses)
    losses.refuse_many()
    if probe and truth.TRAIN:
        learnt = [image for image in listed if (image.train if image.segmenter is None else image.segmenter)]
        truth.check(_rows(learnt, measured), Losses(1, logged=0))
    dropped = f", dropped: {losses.text()}" if losses.dropped else ""
    return f"{objects} objects in {len(rows)} pictures{dropped}"


def _rows(images: Sequence[ListedImage], measured: int) -> list[ImageRow]:
    """Rows as the manifest will have them, without quarantined ones; size 0 if not read."""
    step = -(-len(images) // max(measured, 1))
    sizes = (
        upright_size(image.path) if number % step == 0 else (0, 0) for number, image in enumerate(images)
    )
    return [
        ImageRow(number, image.key, str(image.path), *size, 0)
        for number, (image, size) in enumerate(zip(images, sizes, strict=True), start=1)
        if size is not None
    ]


def upright_size(path: Path) -> tuple[int, int] | None:
    """Width and height of a picture after EXIF rotation, out of its header; None where it cannot be used."""
    try:
        with open_picture(path) as stream, read_header(stream) as image:
            width, height = image.size
            refuse_size(width, height)
            turned = orientation(image) in (5, 6, 7, 8)
    except Exception:  # Pillow's decoders raise a dozen unrelated types on damaged data
        return None
    if min(width, height) < MIN_SIDE:
        return None
    return (height, width) if turned else (width, height)
