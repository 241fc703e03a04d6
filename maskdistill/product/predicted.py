"""The folder of ``maskdistill predict``: what is finished in it, and how the parts are put together."""

import logging
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from maskdistill.config import Compare
from maskdistill.data.containers import FOLDER
from maskdistill.data.images import load_rgb
from maskdistill.data.manifest import ImageRow, check_manifest, image_rows, ok_images, read_manifest
from maskdistill.data.picture_refs import shown_name
from maskdistill.data.stream import all_rows
from maskdistill.formats.export.coco import Form, coco_object, outlined
from maskdistill.formats.export.records import Picture
from maskdistill.formats.label_png import read_label_png
from maskdistill.product.objects import Choice, pictures
from maskdistill.product.overlay import overlay
from maskdistill.product.photos import Photos
from maskdistill.product.trained_run import TrainedRun
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import (
    atomic_path,
    check_seal,
    read_json,
    sha256_file,
    write_json,
)
from maskdistill.runtime.json_stream import write_json_object
from maskdistill.runtime.provenance import make_provenance
from maskdistill.runtime.run_lock import NAME as LOCK

log = logging.getLogger("maskdistill")
SIDE = 640
UNFINISHED = ".unfinished"
LISTING = f"{UNFINISHED}/pictures.txt"
BEGUN = ".key"


@dataclass(frozen=True)
class Work:
    """One call's work, in pieces that are finished or not.

    Attributes:
        out: the folder that is written.
        photos: what is looked at.
        key: of all that the result depends on.
        listing: fingerprint of the pictures as they are found.
        names: category 1..K -> name.
        min_score, compare: which objects the COCO files hold.
        crf: settings that sharpen the label maps, as JSON; None for maps as the segmenter gives them.
        overlaid: ids of the images that get an overlay.
    """

    out: Path
    photos: Photos
    key: str
    listing: str
    num_shards: int
    names: dict[int, str]
    min_score: float
    compare: Compare
    crf: str | None
    overlaid: set[int]

    @property
    def manifest(self) -> Path:
        """Where the pictures are listed."""
        return self.out / "manifest.csv"

    def candidates(self, shard: int) -> Path:
        """Where a shard's candidates lie until all shards are done."""
        return self.out / UNFINISHED / f"candidates-{shard:04d}.json"

    def predictions(self, shard: int) -> Path:
        """Where a shard's label maps lie until all shards are done."""
        return self.out / UNFINISHED / f"predictions-{shard:04d}"

    @property
    def named_list(self) -> Path:
        """Where the list of pictures lies that were named one by one."""
        return self.out / LISTING

    @property
    def begun(self) -> Path:
        """Holds the key of the work that the folder is for."""
        return self.out / BEGUN

    def refuse_other(self) -> None:
        """Refuse a folder that holds something else, before anything is written into it.

        Raises:
            MaskDistillError: it does.
        """
        if self.is_begun() or not self.out.exists():
            return
        if self.begun.exists() or not is_free(self.out):
            raise MaskDistillError(
                f"{self.out}: holds something else, or predictions of other pictures, models or settings, or "
                "another version's; give another folder as --out"
            )

    def is_finished(self) -> bool:
        """Whether all was done, and what was collected from all shards is there as it was written."""
        try:
            check_manifest(self.manifest)
            for name in ("coco.json", "coco_polygons.json"):
                check_seal(self.out / name)
            return bool(read_json(self.out / "summary.json")["key"] == self.key)
        except MaskDistillError:
            return False

    def broken_shards(self) -> list[int]:
        """Finished shards with missing or damaged label maps or overlays; damaged ones are removed."""
        overlays: dict[str, str] = read_json(self.out / "summary.json")["overlays"]
        broken = []
        for shard in range(self.num_shards):
            rows = self.rows(shard)
            shown = [row.key for row in rows if row.image_id in self.overlaid]
            wrong = [key for key in shown if _sum(self._overlay(key)) != overlays.get(key)]
            for key in wrong:
                self._overlay(key).unlink(missing_ok=True)
            if wrong or not all(_is_label_map(self.out / "labels" / f"{row.key}.png", row) for row in rows):
                broken.append(shard)
        return broken

    def _overlay(self, key: str) -> Path:
        return self.out / "overlays" / f"{key}.jpg"

    def is_begun(self) -> bool:
        """Whether an earlier call of the same kind has begun."""
        return self.begun.is_file() and self.begun.read_text() == self.key

    def begin(self) -> None:
        """Claim the folder."""
        if self.is_begun() and (self.out / UNFINISHED).exists():
            log.info("%s: continuing where the last call stopped", self.out)
        with atomic_path(self.begun) as temporary:
            temporary.write_text(self.key)

    def draw(self, shard: int) -> None:
        """The overlays of a shard, whose models' outputs are there; what is there stays."""
        wanted = {row.image_id: row for row in self.rows(shard) if row.image_id in self.overlaid}
        wanted = {number: row for number, row in wanted.items() if not self._overlay(row.key).is_file()}
        for picture in self._pictures(shard) if wanted else ():
            if picture.image_id in wanted:
                labels = read_label_png(self.predictions(shard) / f"{picture.key}.png")
                photo = load_rgb(wanted[picture.image_id].file)
                drawn = overlay(photo, labels, picture.objects, SIDE, len(self.names))
                with atomic_path(self._overlay(picture.key)) as temporary:
                    Image.fromarray(drawn).save(temporary, format="JPEG", quality=88)

    def rows(self, shard: int) -> list[ImageRow]:
        """A shard's usable pictures."""
        return image_rows(ok_images(read_manifest(self.manifest, shard)))

    def _pictures(self, shard: int) -> Iterator[Picture]:
        """A shard's pictures with what the COCO files hold of them."""
        candidates = read_json(self.candidates(shard))["candidates"]
        return pictures(
            self.rows(shard), candidates, self.names, Choice(self.min_score, self.compare), self.name
        )

    def collect(self, models: TrainedRun) -> None:
        """Write both COCO files and the summary, one shard in memory at a time."""
        inputs = {"manifest": self.manifest, "detector": models.detector, "segmenter": models.segmenter}
        settings = {"min_score": self.min_score, "compare": self.compare, "crf": self.crf}
        provenance = make_provenance("predict", settings, inputs)
        pixels, objects, count = np.zeros(len(self.names) + 1, dtype=np.int64), Counter[int](), 0
        more = {"provenance": provenance}
        with (
            write_json_object(self.out / "coco.json") as exact,
            write_json_object(self.out / "coco_polygons.json") as outlines,
            coco_object(exact, Form(self.names, more=more)) as append,
            coco_object(outlines, Form(self.names, outlined(0), more=more)) as append_outlined,
        ):
            for shard in range(self.num_shards):
                pixels += read_json(self.predictions(shard) / "summary.json")["pixels"]
                for picture in self._pictures(shard):
                    append(picture)
                    append_outlined(picture)
                    objects.update(item.category_id for item in picture.objects)
                    count += 1
        names = list(self.names.values())
        shares = (pixels / max(1, pixels.sum())).round(6).tolist()
        summary = {
            "images": count,
            "quarantined": sum(1 for rows in all_rows(self.manifest, ["status"]) for _ in rows.index) - count,
            "objects": _by_name(names, [objects[category] for category in self.names]),
            "pixel_shares": _by_name(["background", *names], shares),
            "overlays": {
                path.relative_to(self.out / "overlays").with_suffix("").as_posix(): _sum(path)
                for path in sorted((self.out / "overlays").rglob("*.jpg"))
            },
            "trust": models.trust,
            "key": self.key,
            "provenance": provenance,
        }
        write_json(self.out / "summary.json", summary)
        shutil.rmtree(self.out / UNFINISHED, ignore_errors=True)
        log.info(
            "%d pictures, %d unusable, %d objects: %s", count, summary["quarantined"], objects.total(),
            self.out / "coco.json",
        )  # fmt: skip

    def name(self, row: ImageRow) -> str:
        """Name of a picture relative to the folder of photographs, where it lies below it."""
        shown = shown_name(row.file)
        with suppress(ValueError):
            return Path(shown).relative_to(self.photos.folder).as_posix()
        return shown


def is_free(out: Path) -> bool:
    """Whether a folder may be written into: new, or without anything but what is there before work begins."""
    return not out.exists() or {path.name for path in out.iterdir()} <= {UNFINISHED, LOCK, FOLDER}


def _is_label_map(path: Path, row: ImageRow) -> bool:
    """Whether a picture's label map is there, undamaged and of its size."""
    try:
        return path.is_file() and read_label_png(path).shape == (row.height, row.width)
    except MaskDistillError:
        return False


def _sum(path: Path) -> str | None:
    """Hex SHA-256 of a file, if it is there."""
    return sha256_file(path) if path.is_file() else None


def _by_name(names: Sequence[str], values: Sequence[float]) -> dict[str, float]:
    """Values by name; those of one name are added up."""
    found: dict[str, float] = {}
    for name, value in zip(names, values, strict=True):
        found[name] = found.get(name, 0) + value
    return found
