"""What the report's pictures are composed of: photographs, names, colours, ground truth."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from maskdistill.data.images import load_rgb
from maskdistill.evaluation.stages import STAGES
from maskdistill.evaluation.types import TrueAnnotation
from maskdistill.report import collect, montage
from maskdistill.report.images import find_images
from maskdistill.runtime.files import read_json


class Material:
    """What the report's pictures are composed of.

    Args:
        run: everything but pictures.
        manifest: the run's images.
        ground_truth: folder with ``instances.json`` and ``semantic/``, or None.
        pseudo_labels, predictions, sharpened: folders of label PNGs, one a shard.

    Attributes:
        images: those that are pictured, by id.
        folders: of label maps, by what they are called on the page.
        names: of the classes, by id.
        objects: of the ground truth, by image.
        classes: colours of the classes.
        colors: of the labels 1..K as each stage is matched with classes.
    """

    def __init__(
        self,
        run: collect.Run,
        manifest: str,
        ground_truth: str | None,
        pseudo_labels: Sequence[str],
        predictions: Sequence[str],
        sharpened: Sequence[str] = (),
    ) -> None:
        self.run = run
        pictured = {int(record["image_id"]) for record in run.masks.records.values()}
        pictured |= {item["image_id"] for item in run.trust["pictures"]} if run.trust else set()
        pictured |= {item.image_id for item in [*run.candidates.surest, *run.candidates.least]}
        pictured |= {number for learnt in run.rounds for number in learnt.examples}
        self.images = find_images(manifest, pictured | set(run.images.examples) | run.failures.images)
        self.folders = {
            "pseudo-label": pseudo_labels,
            "prediction": predictions,
            "prediction + CRF": sharpened,
        }
        self.truth = Path(ground_truth) if ground_truth else None
        record = read_json(self.truth / "instances.json") if self.truth else {}
        self.names = {int(item["id"]): str(item["name"]) for item in record.get("categories", [])}
        self.objects: dict[int, list[TrueAnnotation]] = {}
        for item in record.get("annotations", []):
            self.objects.setdefault(int(item["image_id"]), []).append(item)
        self.count = int(run.clusters["num_clusters"])
        self.classes = dict(zip(self.names, montage.category_colors(len(self.names)), strict=True))
        self.colors = {
            stage: montage.matched_colors(self.count, run.matching(stage), self.classes) for stage in STAGES
        }

    def photo(self, image_id: int) -> Image.Image:
        """An image at its original size, RGB."""
        return load_rgb(self.images[image_id].file)

    def key(self, image_id: int) -> str:
        """The key of an image in the manifest."""
        return self.images[image_id].key

    def class_name(self, category: int) -> str:
        """The name of a class of the ground truth, 0 being the background."""
        return "background" if category == 0 else self.names.get(category, "no class")
