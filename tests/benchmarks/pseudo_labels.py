"""How fast candidates become label PNGs, against decoding and painting them one by one as the released script
does.

    python tests/benchmarks/pseudo_labels.py [--images 400] [--candidates 30] [--threads 2]

Candidates are COCO-like: smooth outlines of 10 to 60 corners at 500x375 (375x500), areas spread as in COCO, a
third of them above tau. The references read the same candidates, as polygons or as run lengths, through
pycocotools' own ``COCO`` class, walk through them one by one in one process and save each map with Pillow;
``legacy`` also makes the released script's overlap check as it stands, whose index expression copies one row
of the map for each pixel. All maps are compared with ours pixel by pixel.
"""

import argparse
import contextlib
import io
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from maskdistill.cli import main as maskdistill
from maskdistill.data.manifest import COLUMNS, write_manifest
from maskdistill.formats.label_png import read_label_png
from maskdistill.runtime.files import write_json

TAU, CLUSTERS = 0.9, 20
SIZES = ((375, 500), (500, 375), (375, 500))


class Cost(NamedTuple):
    """Seconds on the clock, and seconds of all processes' CPU time; the latter says more on a busy
    machine.
    """

    wall: float
    cpu: float


class Clock:
    """Measures from its making on."""

    def __init__(self) -> None:
        self.start = self._now()

    def read(self) -> Cost:
        """The cost so far; children count once they have ended."""
        return Cost(*(now - then for now, then in zip(self._now(), self.start, strict=True)))

    def _now(self) -> Cost:
        return Cost(time.perf_counter(), sum(os.times()[:4]))


def outline(rng: np.random.Generator, height: int, width: int) -> list[float]:
    """A smooth closed outline as one COCO polygon."""
    corners = int(rng.integers(10, 61))
    angle = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radius = 1 + sum(rng.normal(0, 0.25 / n) * np.cos(n * angle + rng.uniform(0, 6.3)) for n in range(2, 6))
    side = np.exp(rng.uniform(np.log(12), np.log(0.45 * min(height, width))))
    stretch = np.exp(rng.normal(0, 0.3))
    x = rng.uniform(0, width) + side * stretch * radius * np.cos(angle)
    y = rng.uniform(0, height) + side / stretch * radius * np.sin(angle)
    points = np.stack([x.clip(0, width), y.clip(0, height)], axis=1)
    return [round(float(value), 2) for value in points.ravel()]


def make_candidates(images: int, number: int) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    """Candidates with ``polygon`` and ``segmentation`` of the same pixels, best first in each image, and a
    manifest.
    """
    rng = np.random.default_rng(0)
    candidates, rows = [], []
    for image in range(1, images + 1):
        height, width = SIZES[image % len(SIZES)]
        rows.append(
            (image, f"image-{image:06d}", "none.jpg", width, height, "RGB", "", 0, True, False, "ok", "")
        )
        scores = np.sort(
            np.where(rng.random(number) < 1 / 3, rng.uniform(0.9, 1, number), rng.uniform(0, 0.9, number))
        )
        for score in scores[::-1]:
            polygon = outline(rng, height, width)
            encoded = coco_mask.merge(coco_mask.frPyObjects([polygon], height, width))
            candidates.append(
                {
                    "image_id": image, "category_id": int(rng.integers(1, CLUSTERS + 1)),
                    "score": float(score),
                    "bbox": coco_mask.toBbox(encoded).tolist(), "polygon": [polygon],
                    "segmentation": {"size": encoded["size"], "counts": encoded["counts"].decode()},
                }
            )  # fmt: skip
    return candidates, pd.DataFrame(rows, columns=list(COLUMNS))


def overlaps_as_meant(labels: np.ndarray, mask: np.ndarray) -> bool:
    """Whether a pixel of the mask is painted."""
    return bool(labels[mask.astype(bool)].any())


def overlaps_as_released(labels: np.ndarray, mask: np.ndarray) -> bool:
    """The check as released: the mask's 0 and 1 are taken for row numbers [method §6.4]."""
    return bool(labels[mask].any())


def one_by_one(
    folder: Path, table: pd.DataFrame, form: str, overlaps: Callable[[np.ndarray, np.ndarray], bool]
) -> Cost:
    """What decoding and painting one by one costs, from a COCO JSON on disk to PNGs on disk."""
    folder.mkdir()
    clock = Clock()
    with contextlib.redirect_stdout(io.StringIO()):
        found = COCO(str(folder.parent / f"{form}.json"))
    by_image = defaultdict(list)
    for image, annotations in found.imgToAnns.items():
        passed = [annotation for annotation in annotations if annotation["score"] >= TAU]
        by_image[image] = passed or annotations[:1]
    keys = dict(zip(table["image_id"], table["key"], strict=True))
    for image, annotations in by_image.items():
        labels = np.zeros((found.imgs[image]["height"], found.imgs[image]["width"]), np.uint8)
        for place, annotation in enumerate(annotations):
            mask = found.annToMask(annotation)
            if place and overlaps(labels, mask):
                continue
            labels[mask == 1] = annotation["category_id"]
        Image.fromarray(labels).save(folder / f"{keys[image]}.png")
    return clock.read()


def ours(folder: Path, overlap: str, threads: int) -> Cost:
    """What the stage costs, from the candidates' JSON on disk to PNGs on disk."""
    clock = Clock()
    status = maskdistill(
        ["pseudo_labels", "--manifest", str(folder.parent / "manifest.csv"), "--shard", "0", "--candidates",
         str(folder.parent / "candidates.json"), "--num-clusters", str(CLUSTERS), "--threads", str(threads),
         "--params", json.dumps({"tau": TAU, "compare": "ge", "overlap": overlap}), "--output", str(folder)]
    )  # fmt: skip
    assert status == 0
    return clock.read()


def main() -> None:
    """Print one row for each way."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--candidates", type=int, default=30, help="of an image")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--repeats", type=int, default=3, help="the fastest counts, for ours and the references"
    )
    args = parser.parse_args()
    candidates, table = make_candidates(args.images, args.candidates)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_manifest(folder / "manifest.csv", table)
        found = [{k: v for k, v in c.items() if k != "polygon"} for c in candidates]
        write_json(folder / "candidates.json", {"candidates": found})
        images = [
            {"id": row.image_id, "height": row.height, "width": row.width} for row in table.itertuples()
        ]
        for form, key in (("polygon", "polygon"), ("rle", "segmentation")):
            drop = {"polygon", "segmentation"}
            annotations = [
                {k: v for k, v in c.items() if k not in drop} | {"id": number, "segmentation": c[key]}
                for number, c in enumerate(candidates, start=1)
            ]
            content = {"images": images, "annotations": annotations, "categories": []}
            write_json(folder / f"{form}.json", content)
        above = sum(c["score"] >= TAU for c in candidates) / args.images
        print(
            f"{args.images} images, {args.candidates} candidates each, {above:.1f} above tau; "
            f"{os.cpu_count()} cores"
        )
        print(f"{'way':34s} {'wall s':>8s} {'CPU s':>8s} {'images/s':>9s}   times ours by wall, by CPU")

        def row(text: str, cost: Cost, own: Cost) -> None:
            rate = f"{cost.wall:8.3f} {cost.cpu:8.3f} {args.images / cost.wall:9.0f}"
            print(f"{text:34s} {rate} {cost.wall / own.wall:20.1f} {cost.cpu / own.cpu:7.1f}", flush=True)

        for overlap, check in (("drop", overlaps_as_meant), ("legacy", overlaps_as_released)):
            own = {}
            for threads in dict.fromkeys([args.threads, 1]):
                costs = [ours(folder / f"{overlap}-{threads}", overlap, threads) for _ in range(args.repeats)]
                own[threads] = Cost(*map(min, zip(*costs, strict=True)))
                row(f"ours, {overlap}, {threads} processes", own[threads], own[args.threads])
            for form in ("polygon", "rle"):
                turns = range(args.repeats if overlap == "drop" else 1)
                costs = [
                    one_by_one(folder / f"{form}-{overlap}-{turn}", table, form, check) for turn in turns
                ]
                row(
                    f"one by one, {overlap}, from {form}",
                    Cost(*map(min, zip(*costs, strict=True))),
                    own[args.threads],
                )
                for key in table["key"]:
                    expected = read_label_png(folder / f"{form}-{overlap}-0" / f"{key}.png")
                    for threads in own:
                        found = read_label_png(folder / f"{overlap}-{threads}" / f"{key}.png")
                        assert np.array_equal(found, expected), (form, overlap, threads, key)
    print("all label maps equal")


if __name__ == "__main__":
    main()
