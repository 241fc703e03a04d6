"""The ground truth of the evaluation images, checked and indexed by image."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from maskdistill.evaluation.types import TrueAnnotation
from maskdistill.runtime.errors import MaskDistillError

USED = ("bbox", "area", "iscrowd")


@dataclass(frozen=True)
class TruthImage:
    """One evaluation image.

    Attributes:
        id: number in the manifest.
        key: stable name, also used for its label maps.
        height: in pixels.
        width: in pixels.
        has_masks: whether its objects carry masks, so that it counts for instance AP.
        has_semantic: whether it has a semantic map.
        evaluated: whether it counts for semantic scores, CorLoc and clusters; if not, it counts only for
            instance AP.
        annotations: its objects, including crowd regions.
    """

    id: int
    key: str
    height: int
    width: int
    has_masks: bool
    has_semantic: bool
    evaluated: bool
    annotations: tuple[TrueAnnotation, ...]

    def boxes(self, crowd: bool = False) -> npt.NDArray[np.float64]:
        """Boxes float64 (M, 4) xywh in pixels, of single objects only or also of crowd regions."""
        rows = [a["bbox"] for a in self.annotations if crowd or not a["iscrowd"]]
        return np.asarray(rows, dtype=np.float64).reshape(-1, 4)

    def classes(self) -> npt.NDArray[np.int64]:
        """Class ids int64 (M,) in 1..C, in the order of ``boxes(crowd=True)``."""
        return np.array([a["category_id"] for a in self.annotations], dtype=np.int64)


@dataclass(frozen=True)
class GroundTruth:
    """Evaluation images in the order of their ids, and the names of classes 0..C, background first."""

    images: tuple[TruthImage, ...]
    class_names: tuple[str, ...]


def parse_ground_truth(values: Mapping[str, Any], source: str, image_ids: Collection[int]) -> GroundTruth:
    """Index a COCO dictionary as the stage ``ground_truth`` writes it.

    Args:
        values: as read, unchecked: ``images`` with ``has_masks``, ``has_semantic`` and ``evaluated``,
            ``annotations`` and ``categories``.
        source: file to name in an error message.
        image_ids: images that may be scored; other images are left out.

    Raises:
        MaskDistillError: a key is missing, class ids are not 1..C, an annotation's class or image does not
            exist, an object without a mask lies in an image that should have masks, or no image is left.
    """
    try:
        names = {int(category["id"]): str(category["name"]) for category in values["categories"]}
        if sorted(names) != list(range(1, len(names) + 1)) or not names:
            raise MaskDistillError(f"{source}: category ids must be 1..C without gaps, found {sorted(names)}")
        rows: dict[int, list[TrueAnnotation]] = {int(image["id"]): [] for image in values["images"]}
        for annotation in values["annotations"]:
            if annotation["image_id"] not in rows or annotation["category_id"] not in names:
                raise MaskDistillError(
                    f"{source}: annotation {annotation['id']} names an unknown image or category"
                )
            if missing := [key for key in USED if key not in annotation]:
                raise MaskDistillError(f"{source}: annotation {annotation['id']} lacks {', '.join(missing)}")
            rows[annotation["image_id"]].append(annotation)
        images = tuple(
            _image(image, rows[int(image["id"])], source)
            for image in sorted(values["images"], key=lambda entry: int(entry["id"]))
            if image["id"] in image_ids
        )
    except KeyError as error:
        raise MaskDistillError(
            f"{source}: key {error} is missing; run the stage ground_truth again"
        ) from None
    if not images:
        raise MaskDistillError(f"{source}: none of its images is an evaluation image of the manifest")
    return GroundTruth(images, ("background", *(names[index] for index in sorted(names))))


def _image(image: Mapping[str, Any], annotations: list[TrueAnnotation], source: str) -> TruthImage:
    if image["has_masks"]:
        for annotation in annotations:
            if "segmentation" not in annotation:
                raise MaskDistillError(
                    f"{source}: annotation {annotation['id']} has no mask though its image has some"
                )
    return TruthImage(
        id=int(image["id"]),
        key=str(image["file_name"]),
        height=int(image["height"]),
        width=int(image["width"]),
        has_masks=bool(image["has_masks"]),
        has_semantic=bool(image["has_semantic"]),
        evaluated=bool(image["evaluated"]),
        annotations=tuple(annotations),
    )
