"""Hugging Face: a folder of pictures with ``metadata.jsonl`` and ``id2label.json``."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from maskdistill.formats.export.label_maps import label_maps
from maskdistill.formats.export.records import Context, Picture
from maskdistill.formats.export.registry import Append, ExportFormat, NoOptions
from maskdistill.runtime.files import canonical_json


@contextmanager
def write(folder: Path, context: Context, options: NoOptions) -> Iterator[Append]:
    """Write ``images/``, ``annotations/``, ``metadata.jsonl`` (one line per picture) and ``id2label.json``.

    An annotation is an RGB PNG: category in red, number of the object in green, as transformers expects for
    instance segmentation. ``objects`` has the same as lists, with run lengths, which also keep pixels hidden
    by other objects.
    """
    id2label = {str(category): name for category, name in sorted({0: "background", **context.names}.items())}
    (folder / "id2label.json").write_text(canonical_json(id2label) + "\n", encoding="utf-8")
    with open(folder / "metadata.jsonl", "w", encoding="utf-8") as listed:

        def append(picture: Picture) -> None:
            name, drawn = f"images/{picture.key}{picture.ending}", f"annotations/{picture.key}.png"
            context.place(picture, folder / name)
            (folder / drawn).parent.mkdir(parents=True, exist_ok=True)
            (folder / drawn).write_bytes(_png(picture))
            row = {"file_name": name, "annotation_file_name": drawn, "objects": _columns(picture)}
            listed.write(
                json.dumps(row) + "\n"
            )  # file_name first: datasets gives it to the first picture of a row

        yield append


def _png(picture: Picture) -> bytes:
    categories, objects = label_maps(picture)
    stream = io.BytesIO()
    Image.fromarray(np.stack([categories, objects, np.zeros_like(objects)], axis=2)).save(
        stream, format="PNG"
    )
    return stream.getvalue()


def _columns(picture: Picture) -> dict[str, list[object]]:
    items = picture.objects
    return {
        "bbox": [item.box for item in items],
        "category": [item.category_id for item in items],
        "score": [item.score for item in items],
        "area": [item.area for item in items],
        "segmentation": [item.mask for item in items],
    }


FORMAT = ExportFormat("huggingface", "datasets: `load_dataset('imagefolder', data_dir='...')`", write)
