"""The pictures of the report's failure gallery."""

import numpy as np

from maskdistill.cli.report_strips import Strips
from maskdistill.evaluation.types import MissedObject
from maskdistill.formats import rle
from maskdistill.formats.rle import RLE
from maskdistill.report import montage
from maskdistill.report.failures import score_note
from maskdistill.report.html import Context, Picture, picture

SIDE = 176
MERGED = (214, 69, 65)


def failure_pictures(strips: Strips) -> dict[str, list[Context]]:
    """Groups of the gallery, ``worst``, ``merged``, ``missed``: lists of ``{title, note, tiles}``."""
    material = strips.material
    failures, labels = material.run.failures, material.run.config.pseudo_labels
    return {
        "worst": [
            _item(strips, row["image_id"], material.class_name(label), f"IoU {row['iou']:.1f}", "prediction")
            for label, rows in failures.worst.items()
            for row in rows
        ],
        "merged": [
            _item(
                strips, row["image_id"], f"{len(row['objects'])} objects", f"score {row['score']:.2f}",
                material.run.candidates.by_image[row["image_id"]][row["candidate"]]["segmentation"],
            )
            for row in failures.merged
        ],
        "missed": [
            _item(
                strips, row["image_id"], _class_of(strips, row),
                score_note(row["score"], labels.tau, labels.compare),
                material.objects[row["image_id"]][row["object"]]["segmentation"],
            )
            for row in failures.missed
        ],
    }  # fmt: skip


def _class_of(strips: Strips, row: MissedObject) -> str:
    material = strips.material
    return material.class_name(int(material.objects[row["image_id"]][row["object"]]["category_id"]))


def _item(strips: Strips, image_id: int, title: str, note: str, shown: str | RLE) -> Context:
    """Photo, what is wrong and the truth: the prediction, or one mask laid over the photo."""
    material = strips.material
    photo = montage.fit(material.photo(image_id), SIDE)
    key = material.key(image_id)
    tiles: list[Picture] = [picture(photo, f"Photo {key}")]
    if isinstance(shown, str):
        tiles.append(strips.label_tile(shown, "segmenter", image_id, photo))
    else:
        mask = montage.fit_mask(np.asarray(rle.decode(shown)), photo.shape[:2])
        tiles.append(picture(montage.mask_tile(photo, mask, MERGED), f"{title} of {key}"))
    tiles += strips.truth_tiles(image_id, photo)
    return {"title": title, "note": f"{note} · {key}", "tiles": tiles}
