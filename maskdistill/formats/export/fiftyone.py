"""FiftyOne: a folder of pictures with a COCO JSON, its ``COCODetectionDataset``."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from maskdistill.formats.export.coco import Form, coco_file
from maskdistill.formats.export.records import Context, Picture
from maskdistill.formats.export.registry import Append, ExportFormat, NoOptions


@contextmanager
def write(folder: Path, context: Context, options: NoOptions) -> Iterator[Append]:
    """Write ``data/`` and ``labels.json``, with run lengths; FiftyOne takes the score as confidence."""

    def name_of(picture: Picture) -> str:
        return f"{picture.key}{picture.ending}"

    with coco_file(folder / "labels.json", Form(context.names, name_of=name_of)) as append:

        def add(picture: Picture) -> None:
            context.place(picture, folder / "data" / name_of(picture))
            append(picture)

        yield add


FORMAT = ExportFormat(
    "fiftyone", "FiftyOne: `Dataset.from_dir(..., dataset_type=COCODetectionDataset)`", write
)
