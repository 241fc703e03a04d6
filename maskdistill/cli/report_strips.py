"""An image as every stage labels it, side by side."""

from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from maskdistill.cli.report_material import Material
from maskdistill.evaluation.stages import STAGES
from maskdistill.formats import rle
from maskdistill.formats.label_png import read_label_png
from maskdistill.pseudo_labels.confidence import relation
from maskdistill.report import collect, montage
from maskdistill.report.html import Context, Picture, css, missing, picture
from maskdistill.report.montage import Color, Rgb

Labels: TypeAlias = NDArray[np.uint8]
TILE, SHOWN = 288, 8
TIMES, PERCENT = "\N{MULTIPLICATION SIGN}", "\N{NO-BREAK SPACE}%"


class Strips:
    """Draws images as every stage labels them, and remembers which colours it used."""

    def __init__(self, material: Material) -> None:
        self.material = material
        self.used: set[Color] = set()

    def strip(self, image_id: int) -> Context:
        """What every stage made of one image."""
        original = self.material.photo(image_id)
        photo = montage.fit(original, TILE)
        key = self.material.key(image_id)
        tiles = [
            picture(photo, f"Photo {key}", "photo", f"{original.width} {TIMES} {original.height}"),
            self.mask_tile(image_id, photo),
            self.candidate_tile(image_id, photo, photo.shape[1] / original.width),
            self.label_tile("pseudo-label", "detector", image_id, photo),
            self.label_tile("prediction", "segmenter", image_id, photo),
        ]
        return {"key": key, "tiles": tiles + self.truth_tiles(image_id, photo)}

    def sharpened_strip(self, image_id: int) -> Context:
        """One image's prediction before and after the dense CRF, in the colours of the one before."""
        photo = montage.fit(self.material.photo(image_id), TILE)
        tiles = [picture(photo, f"Photo {self.material.key(image_id)}", "photo")]
        tiles += [
            self.label_tile(title, "segmenter", image_id, photo)
            for title in ("prediction", "prediction + CRF")
        ]
        return {"key": self.material.key(image_id), "tiles": tiles + self.truth_tiles(image_id, photo)}

    def paint(self, photo: Rgb, labels: Labels, colors: dict[int, Color]) -> Rgb:
        """Label map, uint8 (H, W), over the photo, uint8 (h, w, 3); remembers the colours for the legend."""
        labels = montage.fit_labels(labels, photo.shape[:2])
        self.used.update(colors[value] for value in np.unique(labels).tolist() if value in colors)
        return montage.label_tile(photo, labels, colors)

    def mask_tile(self, image_id: int, photo: Rgb) -> Picture:
        """The initial masks of an image over ``photo``, uint8 (h, w, 3) as the page shows it."""
        places = self.material.run.masks.of_image(image_id)
        title = "initial masks" if len(places) > 1 else "initial mask"
        if not places:
            return missing(photo, title, "no mask")
        records = [self.material.run.masks.records[where] for where in places]
        labels = np.zeros(records[0]["segmentation"]["size"], dtype=np.uint8)
        colors, names = {}, []
        for number, (where, record) in enumerate(zip(places, records, strict=True), start=1):
            label = self.material.run.masks.labels.get(where, 0)
            labels[rle.decode(record["segmentation"])] = number
            colors[number] = self.material.colors["masks"].get(label, montage.NEUTRAL)
            names.append(self.material.run.cluster_name(label - 1) if label else "no cluster")
        note = f"{', '.join(names)}, {100 * sum(record['coverage'] for record in records):.0f}{PERCENT}"
        return picture(
            self.paint(photo, labels, colors), f"Mask of {self.material.key(image_id)}, {note}", title, note
        )

    def candidate_tile(self, image_id: int, photo: Rgb, scale: float) -> Picture:
        """The best candidates of an image over ``photo``, uint8 (h, w, 3) of ``scale`` times its size."""
        found = self.material.run.candidates.by_image.get(image_id, [])
        if not found:
            return missing(photo, "candidates", "no candidate")
        settings = self.material.run.config.pseudo_labels
        shown = found[:SHOWN]
        known = self.material.colors["detector"]
        colors = [known.get(int(item["category_id"]), montage.NEUTRAL) for item in shown]
        self.used.update(colors)
        tile = montage.candidate_tile(
            photo,
            [[scale * side for side in item["bbox"]] for item in shown],
            [montage.fit_mask(rle.decode(item["segmentation"]), photo.shape[:2]) for item in shown],
            [item["score"] for item in shown],
            colors,
            [collect.is_confident(item["score"], settings) for item in shown],
        )
        above = sum(collect.is_confident(item["score"], settings) for item in found)
        note = f"{above} of {len(found)} {relation(True, settings.compare)} τ" + (
            f", best {SHOWN} drawn" if len(found) > SHOWN else ""
        )
        return picture(tile, f"Candidates of {self.material.key(image_id)}: {note}", "candidates", note)

    def label_tile(self, title: str, stage: str, image_id: int, photo: Rgb) -> Picture:
        """A label map of an image over ``photo``, uint8 (h, w, 3).

        Args:
            title: which label maps, a key of ``folders``.
            stage: whose matching of clusters with classes gives the colours.
        """
        name = f"{self.material.key(image_id)}.png"
        places = (Path(folder) / name for folder in self.material.folders[title])
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            return missing(photo, title, f"no {title}")
        labels = read_label_png(path)
        present = set(np.unique(labels).tolist()) - {0, montage.IGNORE}
        note = "" if present else "background only"
        alt = f"{title[0].upper()}{title[1:]} of {self.material.key(image_id)}, {len(present)} clusters"
        return picture(self.paint(photo, labels, self.material.colors[stage]), alt, title, note)

    def truth_tiles(self, image_id: int, photo: Rgb) -> list[Picture]:
        """The ground truth of an image over ``photo``, uint8 (h, w, 3); none where the run has none."""
        truth = self.material.truth
        return [] if truth is None else [self._truth_tile(truth, image_id, photo)]

    def _truth_tile(self, truth: Path, image_id: int, photo: Rgb) -> Picture:
        """Semantic map if there is one, else the objects' masks, and boxes of those without a mask."""
        title, key, size = "ground truth", self.material.key(image_id), self.material.images[image_id]
        classes = self.material.classes
        objects = self.material.objects.get(image_id, [])
        objects = [item for item in objects if int(item["category_id"]) in classes]
        labels = np.zeros((size.height, size.width), dtype=np.uint8)
        boxes = []
        if (path := truth / "semantic" / f"{key}.png").is_file():
            labels = read_label_png(path)
        else:
            for item in sorted(objects, key=lambda item: -float(item["area"])):
                if "segmentation" in item:
                    labels[rle.decode(item["segmentation"])] = item["category_id"]
                else:
                    boxes.append(item)
        if not labels.any() and not boxes:
            return missing(photo, title, "no ground truth")
        scale = photo.shape[1] / size.width
        colors = [classes[int(item["category_id"])] for item in boxes]
        self.used.update(colors)
        canvas = self.paint(photo, labels, classes) if labels.any() else photo
        canvas = montage.box_tile(canvas, [[scale * side for side in item["bbox"]] for item in boxes], colors)
        present = set(np.unique(labels).tolist()) | {int(item["category_id"]) for item in boxes}
        names = ", ".join(name for category, name in self.material.names.items() if category in present)
        return picture(canvas, f"Ground truth of {key}: {names}", title, names)

    def legend(self) -> list[tuple[str, str]]:
        """Colours that the strips used, with the class or cluster they stand for."""
        run, material = self.material.run, self.material
        named = [(color, material.names[category]) for category, color in material.classes.items()]
        if any(run.matching(stage) for stage in STAGES):
            named.append((montage.NEUTRAL, "matched with background or with no class"))
        else:
            clusters = material.colors["masks"].items()
            named = [(color, run.cluster_name(label - 1)) for label, color in clusters] + named
        return [(css(color), name) for color, name in named if color in self.used]
