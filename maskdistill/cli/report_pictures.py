"""The pictures of the report, composed from photos, masks and label maps."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskdistill.data.images import load_rgb
from maskdistill.evaluation.stages import STAGES
from maskdistill.evaluation.types import TrueAnnotation
from maskdistill.formats import rle
from maskdistill.formats.label_png import read_label_png
from maskdistill.pseudo_labels.confidence import relation
from maskdistill.report import collect, masks, montage, page, tau_explorer, verdict
from maskdistill.report.html import Context, Picture, css, missing, picture
from maskdistill.report.images import find_images
from maskdistill.report.montage import Color, Rgb
from maskdistill.report.rated import Rated
from maskdistill.report.rounds import Learnt
from maskdistill.runtime.files import read_json

Labels: TypeAlias = NDArray[np.uint8]
TILE, PAIR, THUMB, LARGE, SHOWN, SHARPENED = 288, 224, 120, 480, 8, 6
ACCENT: Color = (58, 110, 165)
TIMES, PERCENT = "\N{MULTIPLICATION SIGN}", "\N{NO-BREAK SPACE}%"


class Gallery:
    """Composes the page's pictures from photos, masks and label maps.

    Args:
        run: everything but pictures.
        manifest: the run's images.
        ground_truth: folder with ``instances.json`` and ``semantic/``, or None.
        pseudo_labels, predictions, sharpened: folders of label PNGs, one a shard.
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
        self.used: set[Color] = set()

    def pictures(self) -> page.Pictures:
        """All pictures of the page."""
        strips = [self.strip(number) for number in self.run.images.examples]
        colors = [self.colors["masks"][label] for label in range(1, self.count + 1)]
        shown = SHARPENED if self.folders["prediction + CRF"] else 0
        sharpened = [self.sharpened_strip(number) for number in self.run.images.examples[:shown]]
        drawn = [self.sample(number) for number in self.run.images.examples]
        parts = (self.pairs(), self.clusters(), colors, strips, sharpened, self.legend(), drawn)
        found = self.run.candidates
        rated = ([self.overlay(item) for item in items] for items in (found.surest, found.least))
        surest, least = rated
        return page.Pictures(*parts, self.trust_strips(), surest, least, self.round_strips())

    def overlay(self, item: Rated) -> Context:
        """A photograph with its objects in the colours of their categories."""
        photo = montage.fit(self.photo(item.image_id), LARGE)
        colors = [
            self.colors["detector"].get(found["category_id"], montage.NEUTRAL) for found in item.objects
        ]
        shapes = [
            montage.fit_mask(rle.decode(found["segmentation"]), photo.shape[:2]) for found in item.objects
        ]
        named = {
            found["category_id"] - 1: css(color) for found, color in zip(item.objects, colors, strict=True)
        }
        categories = [
            (cluster, self.run.cluster_name(cluster), color) for cluster, color in sorted(named.items())
        ]
        names = ", ".join(name for _, name, _ in categories)
        alt = f"Objects of {self.key(item.image_id)}: {names}"
        return {
            "picture": picture(montage.overlay_tile(photo, shapes, colors), alt, quality=78),
            "score": f"{item.score:.2f}",
            "sure": item.sure,
            "count": len(item.objects),
            "key": self.key(item.image_id),
            "categories": categories,
        }

    def trust_strips(self) -> list[Context]:
        """The masks of the pictures that the verdict shows, each found in another way."""
        strips = []
        for item in self.run.trust["pictures"] if self.run.trust else []:
            photo = montage.fit(self.photo(item["image_id"]), PAIR)
            tiles = [picture(photo, f"Photo {item['key']}", "photo")]
            for name, title in verdict.LOOKS.items():
                if name not in item["frames"]:
                    continue
                mask = montage.fit_mask(rle.decode(item["frames"][name]), photo.shape[:2])
                if mask.any():
                    tile = montage.mask_tile(photo, mask, ACCENT)
                    tiles.append(picture(tile, f"{item['key']}, {title}", title))
                else:
                    tiles.append(missing(photo, title, "none"))
            strips.append({"key": f"{item['key']}: agreement {item['agreement']:.2f}", "tiles": tiles})
        return strips

    def round_strips(self) -> list[Context]:
        """What the detector of each round learnt of some training images."""
        shown = dict.fromkeys(number for learnt in self.run.rounds for number in learnt.examples)
        strips = []
        for number in sorted(shown):
            photo, key = montage.fit(self.photo(number), PAIR), self.key(number)
            tiles = [picture(photo, f"Photo {key}", "photo")]
            tiles += [self.learnt_tile(learnt, number, photo) for learnt in self.run.rounds]
            strips.append({"key": key, "tiles": tiles})
        return strips

    def learnt_tile(self, learnt: Learnt, image_id: int, photo: Rgb) -> Picture:
        """The masks of an image that a detector learnt: new ones tinted, those of the round before
        outlined.
        """
        masks, found = learnt.examples.get(image_id, ([], 0))
        if not masks:
            return missing(photo, learnt.name, "no mask")
        fresh = found if learnt.number else len(masks)
        shapes = [montage.fit_mask(rle.decode(one["segmentation"]), photo.shape[:2]) for one in masks]
        colors = [self.colors["detector"].get(one["category_id"], montage.NEUTRAL) for one in masks]
        tile = montage.overlay_tile(photo, shapes[fresh:], colors[fresh:], alpha=0)
        tile = montage.overlay_tile(tile, shapes[:fresh], colors[:fresh], alpha=0.5)
        note = f"{found} found, {len(masks) - found} left" if learnt.number else f"{len(masks)} learnt"
        return picture(tile, f"Masks of {self.key(image_id)}, {learnt.name}: {note}", learnt.name, note)

    def photo(self, image_id: int) -> Image.Image:
        """An image at its original size, RGB."""
        return load_rgb(self.images[image_id].file)

    def key(self, image_id: int) -> str:
        """The key of an image in the manifest."""
        return self.images[image_id].key

    def pairs(self) -> list[tuple[Picture, Picture]]:
        """Photo and mask of images at even steps through all masks sorted by coverage."""
        pairs = []
        for where in self.run.masks.spread:
            record = self.run.masks.records[where]
            photo = montage.fit(self.photo(record["image_id"]), PAIR)
            mask = montage.fit_mask(rle.decode(record["segmentation"]), photo.shape[:2])
            color = self.colors["masks"].get(self.run.masks.labels.get(where, 0), montage.NEUTRAL)
            key, share = self.key(record["image_id"]), f"{100 * record['coverage']:.1f}{PERCENT}"
            left = picture(photo, f"Photo {key}", note=key)
            right = picture(
                montage.mask_tile(photo, mask, color), f"Mask of {key}, {share} of the image", note=share
            )
            pairs.append((left, right))
        return pairs

    def clusters(self) -> list[Context]:
        """For each cluster its name, size, colour, matched class and the objects nearest and farthest."""
        matching = self.run.matching("masks")
        strips = []
        for cluster, members in enumerate(self.run.members):
            color = self.colors["masks"][1 + cluster]
            strips.append(
                {
                    "cluster": cluster,
                    "name": self.run.cluster_name(cluster),
                    "given": self.run.names.get(cluster, ""),
                    "size": f"{self.run.clusters['sizes'][cluster]} masks",
                    "color": css(color),
                    "matched": self.class_name(matching.get(1 + cluster, -1)) if matching else "",
                    "nearest": [self.thumb(item, color) for item in members.nearest],
                    "farthest": [self.thumb(item, color) for item in members.farthest],
                }
            )
        return strips

    def thumb(self, item: masks.Member, color: Color) -> Picture:
        """The masked object of one member of a cluster."""
        record = self.run.masks.records[item.shard, item.mask_index]
        photo = np.asarray(self.photo(record["image_id"]))
        tile = montage.object_tile(photo, rle.decode(record["segmentation"]), color, THUMB)
        return picture(tile, f"Object of {self.key(record['image_id'])}, distance {item.distance:.3g}")

    def class_name(self, category: int) -> str:
        """The name of a class of the ground truth, 0 being the background."""
        return "background" if category == 0 else self.names.get(category, "no class")

    def strip(self, image_id: int) -> Context:
        """What every stage made of one image."""
        original = self.photo(image_id)
        photo = montage.fit(original, TILE)
        key = self.key(image_id)
        tiles = [
            picture(photo, f"Photo {key}", "photo", f"{original.width} {TIMES} {original.height}"),
            self.mask_tile(image_id, photo),
            self.candidate_tile(image_id, photo, photo.shape[1] / original.width),
            self.label_tile("pseudo-label", "detector", image_id, photo),
            self.label_tile("prediction", "segmenter", image_id, photo),
        ]
        if self.truth is not None:
            tiles.append(self.truth_tile(self.truth, image_id, photo))
        return {"key": key, "tiles": tiles}

    def sample(self, image_id: int) -> tuple[Picture, tau_explorer.Sample]:
        """One image of the threshold explorer: the photo in grey, and its candidates to be drawn on it."""
        size, key = self.images[image_id], self.key(image_id)
        photo = montage.subdue(montage.fit(self.photo(image_id), TILE)).round().astype(np.uint8)
        drawn = tau_explorer.sample(
            self.run.candidates.by_image.get(image_id, []),
            (size.height, size.width),
            photo.shape[:2],
            self.run.config.pseudo_labels.overlap,
            self.colors["detector"],
            montage.NEUTRAL,
        )
        return picture(photo, f"Pseudo-label of {key} at the chosen threshold", note=key, quality=70), drawn

    def sharpened_strip(self, image_id: int) -> Context:
        """One image's prediction before and after the dense CRF, in the colours of the one before."""
        photo = montage.fit(self.photo(image_id), TILE)
        tiles = [picture(photo, f"Photo {self.key(image_id)}", "photo")]
        tiles += [
            self.label_tile(title, "segmenter", image_id, photo)
            for title in ("prediction", "prediction + CRF")
        ]
        if self.truth is not None:
            tiles.append(self.truth_tile(self.truth, image_id, photo))
        return {"key": self.key(image_id), "tiles": tiles}

    def paint(self, photo: Rgb, labels: Labels, colors: dict[int, Color]) -> Rgb:
        """Label map, uint8 (H, W), over the photo, uint8 (h, w, 3); remembers the colours for the legend."""
        labels = montage.fit_labels(labels, photo.shape[:2])
        self.used.update(colors[value] for value in np.unique(labels).tolist() if value in colors)
        return montage.label_tile(photo, labels, colors)

    def mask_tile(self, image_id: int, photo: Rgb) -> Picture:
        """The initial masks of an image over ``photo``, uint8 (h, w, 3) as the page shows it."""
        places = self.run.masks.of_image(image_id)
        title = "initial masks" if len(places) > 1 else "initial mask"
        if not places:
            return missing(photo, title, "no mask")
        records = [self.run.masks.records[where] for where in places]
        labels = np.zeros(records[0]["segmentation"]["size"], dtype=np.uint8)
        colors, names = {}, []
        for number, (where, record) in enumerate(zip(places, records, strict=True), start=1):
            label = self.run.masks.labels.get(where, 0)
            labels[rle.decode(record["segmentation"])] = number
            colors[number] = self.colors["masks"].get(label, montage.NEUTRAL)
            names.append(self.run.cluster_name(label - 1) if label else "no cluster")
        note = f"{', '.join(names)}, {100 * sum(record['coverage'] for record in records):.0f}{PERCENT}"
        return picture(
            self.paint(photo, labels, colors), f"Mask of {self.key(image_id)}, {note}", title, note
        )

    def candidate_tile(self, image_id: int, photo: Rgb, scale: float) -> Picture:
        """The best candidates of an image over ``photo``, uint8 (h, w, 3), ``scale`` times the original's
        size.
        """
        found = self.run.candidates.by_image.get(image_id, [])
        if not found:
            return missing(photo, "candidates", "no candidate")
        settings = self.run.config.pseudo_labels
        shown = found[:SHOWN]
        colors = [self.colors["detector"].get(int(item["category_id"]), montage.NEUTRAL) for item in shown]
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
        return picture(tile, f"Candidates of {self.key(image_id)}: {note}", "candidates", note)

    def label_tile(self, title: str, stage: str, image_id: int, photo: Rgb) -> Picture:
        """A label map of an image over ``photo``, uint8 (h, w, 3).

        Args:
            title: which label maps, a key of ``folders``.
            stage: whose matching of clusters with classes gives the colours.
        """
        name = f"{self.key(image_id)}.png"
        path = next(
            (place for folder in self.folders[title] if (place := Path(folder) / name).is_file()), None
        )
        if path is None:
            return missing(photo, title, f"no {title}")
        labels = read_label_png(path)
        present = set(np.unique(labels).tolist()) - {0, montage.IGNORE}
        note = "" if present else "background only"
        alt = f"{title[0].upper()}{title[1:]} of {self.key(image_id)}, {len(present)} clusters"
        return picture(self.paint(photo, labels, self.colors[stage]), alt, title, note)

    def truth_tile(self, truth: Path, image_id: int, photo: Rgb) -> Picture:
        """Semantic map if there is one, else the objects' masks, boxes of others; over ``photo``, uint8 (h,
        w, 3).
        """
        title, key, size = "ground truth", self.key(image_id), self.images[image_id]
        objects = [
            item for item in self.objects.get(image_id, []) if int(item["category_id"]) in self.classes
        ]
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
        colors = [self.classes[int(item["category_id"])] for item in boxes]
        self.used.update(colors)
        canvas = self.paint(photo, labels, self.classes) if labels.any() else photo
        canvas = montage.box_tile(canvas, [[scale * side for side in item["bbox"]] for item in boxes], colors)
        present = set(np.unique(labels).tolist()) | {int(item["category_id"]) for item in boxes}
        names = ", ".join(name for category, name in self.names.items() if category in present)
        return picture(canvas, f"Ground truth of {key}: {names}", title, names)

    def legend(self) -> list[tuple[str, str]]:
        """Colours that the strips used, with the class or cluster they stand for."""
        matched = any(self.run.matching(stage) for stage in STAGES)
        named = [(color, self.names[category]) for category, color in self.classes.items()]
        if matched:
            named.append((montage.NEUTRAL, "matched with background or with no class"))
        else:
            named = [
                (color, self.run.cluster_name(label - 1)) for label, color in self.colors["masks"].items()
            ] + named
        return [(css(color), name) for color, name in named if color in self.used]
