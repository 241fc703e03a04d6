"""Apply a run's trained models to other pictures: objects as COCO JSON, label maps, overlays.

Killed, it goes on where it was when the same command is given again, which also makes again what was deleted or
damaged since. In --out: coco.json (run lengths),
coco_polygons.json, labels/ (indexed PNG), overlays/ (JPEG), manifest.csv (unusable pictures with the reason) and, last,
summary.json.
"""

import argparse
import logging
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from maskdistill import cli
from maskdistill.annotations.names import named_categories, read_names
from maskdistill.annotations.types import Category
from maskdistill.cli.common import add_common, start
from maskdistill.cli.option_types import share, whole
from maskdistill.config import Compare, CrfConfig, FolderData
from maskdistill.data.images import load_rgb
from maskdistill.data.manifest import ImageRow, check_manifest, image_rows, ok_images, read_manifest
from maskdistill.data.settled import settled_listing
from maskdistill.data.sources import count_images, listing_fingerprint
from maskdistill.data.stream import all_rows
from maskdistill.formats import rle
from maskdistill.formats.label_png import read_label_png
from maskdistill.product.coco import coco_annotations, polygons
from maskdistill.product.overlay import chosen_images, overlay
from maskdistill.product.photos import Photos, find_photos
from maskdistill.product.trained_run import TrainedRun, find_models
from maskdistill.product.verdict import in_words, is_good
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import (
    atomic_path,
    canonical_json,
    check_seal,
    read_json,
    sha256_file,
    sha256_text,
    write_json,
)
from maskdistill.runtime.json_stream import JsonObject, write_json_object
from maskdistill.runtime.provenance import code_hash, library_versions, make_provenance
from maskdistill.runtime.resume import is_intact
from maskdistill.runtime.run_lock import NAME as LOCK
from maskdistill.runtime.run_lock import hold_run, release_run
from maskdistill.segmenter.crf import load_pydensecrf
from maskdistill.training.checkpoint import model_metadata

log = logging.getLogger("maskdistill")
PER_SHARD = 100  # what a kill loses at most
SIDE = 640
UNFINISHED = ".unfinished"
LISTING = f"{UNFINISHED}/pictures.txt"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "photos", metavar="PHOTOS", nargs="+",
        help="folder of pictures, or text file that names one a line, or pictures one by one",
    )  # fmt: skip
    parser.add_argument("--run", metavar="DIR", help="folder of a finished run, e.g. results/mine")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write into, outside of PHOTOS")
    parser.add_argument("--seed", type=whole(0), help="whose models, where the run has several seeds")
    parser.add_argument("--detector", metavar="FILE", help="another detector than the run's (.safetensors)")
    parser.add_argument("--segmenter", metavar="FILE", help="another segmenter than the run's (.safetensors)")
    parser.add_argument(
        "--names", metavar="YAML", help="names of the clusters, saved from the report (default: the run's)"
    )
    parser.add_argument(
        "--min-score", type=share,
        help="least score of an object in the COCO files (default: what passes the run's pseudo_labels.tau; 0.5 without"
        " a run)",
    )  # fmt: skip
    parser.add_argument(
        "--crf", action="store_true",
        help="sharpen the label maps by a dense CRF with the run's section crf (wants `make crf`; 1-2 s a picture)",
    )  # fmt: skip
    parser.add_argument(
        "--overlays", type=whole(0), default=50, metavar="N", help="most overlay pictures (default: 50)"
    )
    parser.add_argument(
        "--max-quarantined", type=share, default=0.05, metavar="SHARE",
        help="tolerated share of unusable images; one is always tolerated unless 0 (default: 0.05)",
    )  # fmt: skip
    add_common(parser, params=False, device=True)


def run(args: argparse.Namespace) -> None:
    """Predict all pictures, unless that is done."""
    start(args, "predict")
    models = find_models(args.run, args.detector, args.segmenter, args.seed)
    if models.rehearsal:
        log.warning("these models are %s", models.rehearsal)
    if not is_good(models.trust):
        log.warning("%s", in_words(models.trust))
    work = _plan(args, models)
    work.refuse_other()
    hold_run(work.out, "give another folder as --out")
    try:
        _predict(args, work, models)
    finally:
        release_run(work.out)


def _stage(name: str, *arguments: str) -> None:
    cli.run_stage(name, arguments, append_log=True)


@dataclass(frozen=True)
class Work:
    """One call's work, in pieces that are finished or not.

    Attributes:
        out: the folder that is written.
        photos: what is looked at.
        key: of all that the result depends on.
        listing: fingerprint of the pictures as they are found.
        categories: of COCO, in the order of their ids.
        min_score, compare: which objects the COCO files hold.
        crf: settings that sharpen the label maps, as JSON; None for maps as the segmenter gives them.
        overlaid: ids of the images that get an overlay.
    """

    out: Path
    photos: Photos
    key: str
    listing: str
    num_shards: int
    categories: list[Category]
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
        return self.out / ".key"

    def refuse_other(self) -> None:
        """Refuse a folder that holds something else, before anything is written into it.

        Raises:
            MaskDistillError: it does.
        """
        if self.is_begun() or not self.out.exists():
            return
        if any(path.name not in (UNFINISHED, LOCK) or self.begun.exists() for path in self.out.iterdir()):
            raise MaskDistillError(
                f"{self.out}: holds something else, or predictions of other pictures, models or settings, or another"
                " version's; give another folder as --out"
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
        """Shards of finished work whose label maps or overlays are missing or damaged; the latter are removed."""
        overlays: dict[str, str] = read_json(self.out / "summary.json")["overlays"]
        broken = []
        for shard in range(self.num_shards):
            rows = image_rows(ok_images(read_manifest(self.manifest, shard)))
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
            log.info("%s: going on where the last call stopped", self.out)
        with atomic_path(self.begun) as temporary:
            temporary.write_text(self.key)

    def predict(self, shard: int, models: TrainedRun, device: list[str]) -> None:
        """Both models over one shard; overlays; the label maps go to their place. What is there stays."""
        of_shard = [f"--manifest={self.manifest}", f"--shard={shard}", *device]
        candidates, predictions = self.candidates(shard), self.predictions(shard)
        if not is_intact(candidates):
            settings = f"--params={models.test_settings}"
            _stage("candidates", f"--model={models.detector}", settings, f"--output={candidates}", *of_shard)
        if not is_intact(predictions):
            sharpen = [] if self.crf is None else [f"--crf={self.crf}"]
            maps = ["--images=all", f"--output={predictions}", *sharpen]
            _stage("predictions", f"--model={models.segmenter}", *maps, *of_shard)
        self._overlays(shard)
        for png in sorted(predictions.rglob("*.png")):
            place = self.out / "labels" / png.relative_to(predictions)
            place.parent.mkdir(parents=True, exist_ok=True)
            png.replace(place)

    def _overlays(self, shard: int) -> None:
        rows = image_rows(ok_images(read_manifest(self.manifest, shard)))
        wanted = {row.image_id: self._overlay(row.key) for row in rows}
        wanted = {key: path for key, path in wanted.items() if key in self.overlaid and not path.is_file()}
        found: dict[int, list[dict[str, Any]]] = {key: [] for key in wanted}
        for item in self._objects(shard, 1) if wanted else ():
            if item["image_id"] in found:
                found[item["image_id"]].append(item)
        for row in rows:
            if row.image_id in wanted:
                labels = read_label_png(self.predictions(shard) / f"{row.key}.png")
                picture = overlay(load_rgb(row.file), labels, found[row.image_id], SIDE, len(self.categories))
                with atomic_path(wanted[row.image_id]) as temporary:
                    Image.fromarray(picture).save(temporary, format="JPEG", quality=88)

    def _objects(self, shard: int, first_id: int) -> Iterator[dict[str, Any]]:
        candidates = read_json(self.candidates(shard))["candidates"]
        return coco_annotations(candidates, self.min_score, first_id, self.compare)

    def collect(self, models: TrainedRun) -> None:
        """Write both COCO files and the summary, one shard in memory at a time."""
        inputs = {"manifest": self.manifest, "detector": models.detector, "segmenter": models.segmenter}
        settings = {"min_score": self.min_score, "compare": self.compare, "crf": self.crf}
        provenance = make_provenance("predict", settings, inputs)
        names = [entry["name"] for entry in self.categories]
        pixels = np.zeros(len(names) + 1, dtype=np.int64)
        objects = np.zeros(len(names) + 1, dtype=np.int64)
        with (
            write_json_object(self.out / "coco.json") as exact,
            write_json_object(self.out / "coco_polygons.json") as outlined,
        ):
            with exact.array("annotations") as append, outlined.array("annotations") as append_outlined:
                for shard in range(self.num_shards):
                    pixels += read_json(self.predictions(shard) / "summary.json")["pixels"]
                    for item in self._objects(shard, 1 + int(objects.sum())):
                        objects[item["category_id"]] += 1
                        append(item)
                        append_outlined(item | {"segmentation": polygons(rle.decode(item["segmentation"]))})
            counts = self._rest(exact, provenance)
            self._rest(outlined, provenance)
        shares = (pixels / max(1, pixels.sum())).round(6).tolist()
        summary = counts | {
            "objects": _by_name(names, objects[1:].tolist()),
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
        log.info("%d pictures, %d without use, %d objects: %s", *counts.values(), objects.sum(), self.out / "coco.json")

    def _rest(self, content: JsonObject, provenance: dict[str, Any]) -> dict[str, int]:
        """The other keys of a COCO file; numbers of usable images and of others."""
        content.value("categories", self.categories)
        counts = {"images": 0, "quarantined": 0}
        columns = ("image_id", "path", "width", "height", "status")
        with content.array("images") as append:
            for rows in all_rows(self.manifest, columns):
                for number, path, width, height, status in zip(*(rows[name].tolist() for name in columns), strict=True):
                    counts["images" if status == "ok" else "quarantined"] += 1
                    if status == "ok":
                        append({"id": number, "file_name": self._name(path), "width": width, "height": height})
        content.value("info", {"description": "MaskDistill: categories were discovered without labels"})
        content.value("licenses", [])
        content.value("provenance", provenance)
        return counts

    def _name(self, stored: str) -> str:
        """Name of a picture relative to the folder of photographs, where it lies below it."""
        path = self.manifest.parent.absolute() / stored
        with suppress(ValueError):
            return path.relative_to(self.photos.folder).as_posix()
        return path.as_posix()


def _predict(args: argparse.Namespace, work: Work, models: TrainedRun) -> None:
    """What is left to do, in a folder that no other process writes into."""
    finished = work.is_finished()
    shards = work.broken_shards() if finished else list(range(work.num_shards))
    if not shards:
        shutil.rmtree(work.out / UNFINISHED, ignore_errors=True)
        log.info("%s: finished before, nothing to do", args.out)
        return
    if finished:
        log.warning("%s: label maps or overlays are missing or damaged and made again: shards %s", args.out, shards)
    elif (work.out / "summary.json").is_file():
        log.warning("%s: finished before, but what it holds is not whole; it is made again", args.out)
    work.begin()
    common = [f"--threads={args.threads}", *([f"--log={args.log}"] if args.log else [])]
    if not _is_manifest(work.manifest):
        if work.photos.named:
            with atomic_path(work.named_list) as temporary:
                work.photos.write_list(temporary)
        shares = [f"--num-shards={work.num_shards}", f"--max-quarantined={args.max_quarantined}"]
        source = [f"--params={work.photos.data.model_dump_json()}", f"--listing={work.listing}"]
        _stage("manifest", *source, *shares, f"--output={work.manifest}", *common)
    device = [f"--device={args.device}", f"--gpus={args.gpus}", *common]
    for shard in shards:
        work.predict(shard, models, device)
    if finished:
        shutil.rmtree(work.out / UNFINISHED, ignore_errors=True)
    else:
        work.collect(models)


def _is_manifest(path: Path) -> bool:
    try:
        check_manifest(path)
    except MaskDistillError:
        return False
    return True


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


def _plan(args: argparse.Namespace, models: TrainedRun) -> Work:
    """What is to be done, from the options."""
    out = Path(args.out)
    photos = find_photos(args.photos, out / LISTING)
    if isinstance(photos.data, FolderData) and out.resolve().is_relative_to(photos.folder.resolve()):
        raise MaskDistillError(
            f"--out {out} lies inside of {photos.folder}, whose pictures are read; give another folder"
        )
    metadata = {
        "detector": model_metadata(models.detector, "detector"),
        "segmenter": model_metadata(models.segmenter, "segmenter", "probe"),
    }
    clusters = {name: int(found["num_clusters"]) for name, found in metadata.items()}
    if clusters["detector"] != clusters["segmenter"]:
        raise MaskDistillError(
            f"the detector {models.detector} knows {clusters['detector']} categories, the segmenter {models.segmenter}"
            f" {clusters['segmenter']}; take two models of one run"
        )
    compare: Compare = "ge"
    min_score = 0.5 if args.min_score is None else args.min_score
    if args.min_score is None and models.config:
        min_score, compare = models.config.pseudo_labels.tau, models.config.pseudo_labels.compare
    crf = None
    if args.crf:
        load_pydensecrf()
        crf = (models.config.crf if models.config else CrfConfig()).model_dump_json()
    categories = models.categories(clusters["detector"])
    if args.names:
        categories = named_categories(clusters["detector"], read_names(args.names, clusters["detector"]).names)
    count = len(photos.named) or count_images(photos.data)
    found = sha256_text(canonical_json(photos.state())) if photos.named else listing_fingerprint(photos.data)
    listing = settled_listing(found, photos.listed, out / "manifest.csv")
    parts = [
        listing, photos.data.model_dump(), compare, sha256_file(models.detector), sha256_file(models.segmenter),
        min_score, args.overlays, args.max_quarantined, crf, categories, models.test_settings, code_hash(),
        library_versions(),
    ]  # fmt: skip
    return Work(
        out=out,
        photos=photos,
        key=sha256_text(canonical_json(parts)),
        listing=found,
        num_shards=math.ceil(count / PER_SHARD),
        categories=categories,
        min_score=min_score,
        compare=compare,
        crf=crf,
        overlaid=chosen_images(count, args.overlays),
    )
