"""The pictures of the report's failure gallery."""

import numpy as np

from maskdistill.cli.report_pictures import Gallery
from maskdistill.evaluation.types import MissedObject
from maskdistill.formats import rle
from maskdistill.formats.rle import RLE
from maskdistill.report import montage
from maskdistill.report.failures import score_note
from maskdistill.report.html import Context, Picture, picture

SIDE = 176
MERGED = (214, 69, 65)


def failure_pictures(gallery: Gallery) -> dict[str, list[Context]]:
    """Groups of the gallery: ``worst``, ``merged`` and ``missed``, each a list of ``{title, note,
    tiles}``.
    """
    failures, labels = gallery.run.failures, gallery.run.config.pseudo_labels
    return {
        "worst": [
            _item(gallery, row["image_id"], gallery.class_name(label), f"IoU {row['iou']:.1f}", "prediction")
            for label, rows in failures.worst.items()
            for row in rows
        ],
        "merged": [
            _item(
                gallery, row["image_id"], f"{len(row['objects'])} objects", f"score {row['score']:.2f}",
                gallery.run.candidates.by_image[row["image_id"]][row["candidate"]]["segmentation"],
            )
            for row in failures.merged
        ],
        "missed": [
            _item(
                gallery, row["image_id"], _class_of(gallery, row),
                score_note(row["score"], labels.tau, labels.compare),
                gallery.objects[row["image_id"]][row["object"]]["segmentation"],
            )
            for row in failures.missed
        ],
    }  # fmt: skip


def _class_of(gallery: Gallery, row: MissedObject) -> str:
    return gallery.class_name(int(gallery.objects[row["image_id"]][row["object"]]["category_id"]))


def _item(gallery: Gallery, image_id: int, title: str, note: str, shown: str | RLE) -> Context:
    """Photo, what is wrong and the truth: the prediction, or one mask laid over the photo."""
    photo = montage.fit(gallery.photo(image_id), SIDE)
    key = gallery.key(image_id)
    tiles: list[Picture] = [picture(photo, f"Photo {key}")]
    if isinstance(shown, str):
        tiles.append(gallery.label_tile(shown, "segmenter", image_id, photo))
    else:
        mask = montage.fit_mask(np.asarray(rle.decode(shown)), photo.shape[:2])
        tiles.append(picture(montage.mask_tile(photo, mask, MERGED), f"{title} of {key}"))
    if gallery.truth is not None:
        tiles.append(gallery.truth_tile(gallery.truth, image_id, photo))
    return {"title": title, "note": f"{note} · {key}", "tiles": tiles}
