"""Check the ground truth before anything is trained: all that scoring will need of it."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from maskdistill.config import CocoData, Config, DataConfig, VocData
from maskdistill.data.coco_file import read_class_names
from maskdistill.data.coco_truth import CocoTruth
from maskdistill.data.ground_truth import VOC_CLASSES, read_ground_truth
from maskdistill.data.images import orientation
from maskdistill.data.manifest import MIN_SIDE, ImageRow
from maskdistill.data.picture_files import FORMATS, refuse_size
from maskdistill.data.scenes import CATEGORIES
from maskdistill.data.sources import ListedImage, instance_keys, iter_images, scored_keys
from maskdistill.data.truth_types import Losses

COCO_CLASSES = 80
MEASURED = 20_000
"""Pictures whose headers are read for their size, at even steps; of the others a COCO file's own sizes count."""


def count_classes(config: Config) -> int:
    """Number of classes of a source with ground truth, background not among them.

    Of COCO's annotations that the workflow has yet to build it is the official files' number.

    Raises:
        MaskDistillError: its annotations are missing or wrong.
    """
    data = config.data
    if isinstance(data, CocoData) and data.annotations is not None:
        built = config.datasets.build is not None and not Path(data.annotations).expanduser().is_file()
        return COCO_CLASSES if built else len(read_class_names(data.annotations))
    return len(VOC_CLASSES) if isinstance(data, VocData) else len(CATEGORIES)


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
    if not isinstance(data, VocData) and not (isinstance(data, CocoData) and data.annotations is not None):
        return ""
    listed = list(iter_images(data))
    scored = scored_keys(data)
    wanted = {image.key for image in listed if image.eval} if scored is None else scored
    wanted |= instance_keys(data) or set()
    losses = Losses(max_dropped, logged=0)
    measured = MEASURED if isinstance(data, CocoData) else len(listed)
    rows = _rows([image for image in listed if image.key in wanted], measured)
    objects = _count(data, rows, losses)
    losses.refuse_many()
    if probe and isinstance(data, VocData):
        learnt = [image for image in listed if (image.train if image.segmenter is None else image.segmenter)]
        _count(data, _rows(learnt, measured), Losses(1, logged=0))
    dropped = f", dropped: {losses.text()}" if losses.dropped else ""
    return f"{objects} objects in {len(rows)} pictures{dropped}"


def _count(data: DataConfig, rows: Sequence[ImageRow], losses: Losses) -> int:
    """Number of objects, all of them checked."""
    if isinstance(data, CocoData):
        return CocoTruth(data, rows, losses).check()
    return sum(len(truth.objects) for truth in read_ground_truth(data, rows, losses)[1])


def _rows(images: Sequence[ListedImage], measured: int) -> list[ImageRow]:
    """Rows as the manifest will have them, without pictures that will be quarantined; size 0 where it is not read."""
    step = -(-len(images) // max(measured, 1))
    sizes = (upright_size(image.path) if number % step == 0 else (0, 0) for number, image in enumerate(images))
    return [
        ImageRow(number, image.key, str(image.path), *size, 0)
        for number, (image, size) in enumerate(zip(images, sizes, strict=True), start=1)
        if size is not None
    ]


def upright_size(path: Path) -> tuple[int, int] | None:
    """Width and height of a picture after EXIF rotation, out of its header; None where it cannot be used."""
    try:
        if not path.is_file():
            return None
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            refuse_size(width, height)
            turned = orientation(image) in (5, 6, 7, 8)
    except Exception:  # Pillow's decoders raise a dozen unrelated types on damaged data
        return None
    if min(width, height) < MIN_SIDE:
        return None
    return (height, width) if turned else (width, height)
