"""The file of annotations and its index, written as the annotations come."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from maskdistill.annotations.coco import categories
from maskdistill.annotations.index import IndexBuilder
from maskdistill.annotations.types import Annotation
from maskdistill.data.stream import usable_rows
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.json_stream import write_json_object
from maskdistill.runtime.provenance import make_provenance


def write_annotations(
    output: str | Path,
    index: str | Path,
    annotations: Iterable[tuple[Annotation, bool]],
    manifest: str | Path,
    num_clusters: int,
    stage: str,
    params: Mapping[str, int | float],
    inputs: Mapping[str, str | Path],
) -> tuple[int, int, int]:
    """Write a COCO dataset of a manifest's training images; one annotation is in memory at a time.

    Args:
        output: the dataset (JSON).
        index: where in it each image's annotations lie (HDF5).
        annotations: in ascending order of their images; each with whether a detector found it.
        manifest: lists the images.
        num_clusters: K.
        stage, params, inputs: of the provenance, see :func:`maskdistill.runtime.provenance.make_provenance`.

    Returns:
        Numbers of images, of annotations, and of those that a detector found.

    Raises:
        MaskDistillError: there is no annotation.
    """
    images, last, of_detector = 0, 0, 0
    places = IndexBuilder()
    with write_json_object(output) as content:
        with content.array("annotations") as append:
            for record, found in annotations:
                places.add(record["image_id"], *append(record), found)
                last = record["id"]
                of_detector += found
        if last == 0:
            raise MaskDistillError(
                "no training image has a mask; a detector cannot be trained: check the masks stage"
            )
        content.value("categories", categories(num_clusters))
        with content.array("images") as append:
            for rows in usable_rows(manifest, ("image_id", "key", "width", "height", "train")):
                for row in rows[rows["train"]].itertuples(index=False):
                    append(
                        {"id": row.image_id, "file_name": row.key, "width": row.width, "height": row.height}
                    )
                    images += 1
        content.value("provenance", make_provenance(stage, params, inputs))
    places.write(index, num_clusters)
    return images, last, of_detector
