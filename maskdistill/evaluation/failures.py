"""Failures: the images and objects that the gallery of failures shows."""

from collections.abc import Iterable, Sequence

import numpy as np

from maskdistill.evaluation.instances import ImageInstances, Integers
from maskdistill.evaluation.matching import UNMATCHED
from maskdistill.evaluation.semantic import FLOOR, Confusions
from maskdistill.evaluation.thresholds import HALF, held_objects
from maskdistill.evaluation.types import MergedObjects, MissedObject, WorstImage

BLOCK = 256
VISIBLE = 0.005


def merged_objects(images: Iterable[ImageInstances], most: int) -> list[MergedObjects]:
    """The most confident candidates that cover at least half of two or more objects each, one per image.

    Args:
        images: candidates and objects with masks.
        most: how many are listed.

    Returns:
        ``[{image_id, score, candidate, objects}]``, best score first, ties by image: index of the candidate
        among the image's by descending score, equal ones in the order of the file, and indices of the
        objects.
    """
    found: list[MergedObjects] = []
    for image in images:
        held = held_objects(image)
        several = np.flatnonzero(held.sum(axis=1) > 1)
        if several.size:
            best = int(several[image.scores[several].argmax()])
            order = np.argsort(-image.scores, kind="stable")
            found.append(
                {"image_id": image.image_id, "score": float(image.scores[best]),
                 "candidate": int(np.flatnonzero(order == best)[0]),
                 "objects": np.flatnonzero(held[best]).tolist()}
            )  # fmt: skip
    return sorted(found, key=lambda item: (-item["score"], item["image_id"]))[:most]


def missed_objects(images: Iterable[ImageInstances], most: int) -> list[MissedObject]:
    """Objects that no candidate finds, largest first, then those found with the lowest scores.

    A candidate finds an object if their IoU is at least 0.5. Crowd regions do not count as objects.

    Returns:
        ``[{image_id, object, score, area}]``: index of the object, the score with which it is found or None,
        its number of pixels.
    """
    found: list[MissedObject] = []
    for image in images:
        best = np.where(image.overlaps >= HALF, image.scores[:, None], -1.0).max(axis=0, initial=-1.0)
        own: list[MissedObject] = [
            {"image_id": image.image_id, "object": place,
            "score": float(best[place]) if best[place] >= 0 else None,
             "area": float(image.true_areas[place])}
            for place in np.flatnonzero(~image.crowd).tolist()
        ]  # fmt: skip
        found += sorted(own, key=_missed_first)[:1]
    return sorted(found, key=_missed_first)[:most]


def _missed_first(item: MissedObject) -> tuple[float, ...]:
    score = -1.0 if item["score"] is None else item["score"]
    return (score, -item["area"], item["image_id"], item["object"])


def worst_images(
    confusions: Confusions, image_ids: Sequence[int], matching: Integers, most: int
) -> dict[int, list[WorstImage]]:
    """For each class, the images that show it with the lowest IoU.

    Args:
        confusions: of all images.
        image_ids: of each image, in the order in which they were added.
        matching: int64 (P,) class of each label, -1 without one.
        most: how many images per class.

    Returns:
        Class 1..C -> ``[{image_id, iou}]``, IoU in percent, worst first, ties by most pixels of the class. An
        image shows a class if that fills at least half a percent of its scored pixels.
    """
    classes = confusions.shape[1]
    merge = np.zeros((classes, confusions.shape[0]), np.int64)
    used = np.flatnonzero(matching != UNMATCHED)
    merge[matching[used], used] = 1
    found: dict[int, list[tuple[float, int, int]]] = {label: [] for label in range(1, classes)}
    per_image = confusions.per_image()
    for start in range(0, len(image_ids), BLOCK):
        counts = per_image[start : start + BLOCK].toarray().reshape(-1, *confusions.shape)
        merged = np.einsum("cp,npg->ncg", merge, counts)
        hit = np.einsum("ncc->nc", merged)
        true = counts.sum(axis=1)
        iou = hit / np.maximum(merged.sum(axis=2) + true - hit, FLOOR)
        shown = true >= np.maximum(1, VISIBLE * true.sum(axis=1, keepdims=True))
        ids = image_ids[start : start + BLOCK]
        for label, rows in found.items():
            places = np.flatnonzero(shown[:, label]).tolist()
            rows += [
                (100 * float(iou[place, label]), -int(true[place, label]), ids[place]) for place in places
            ]
            found[label] = sorted(rows)[:most]
    return {
        label: [{"image_id": number, "iou": iou} for iou, _, number in rows]
        for label, rows in found.items()
        if rows
    }
