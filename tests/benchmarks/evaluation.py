"""Time and memory of the scores: instance AP against pycocotools, semantic scores against a slow reference.

    python tests/benchmarks/evaluation.py instances [--images 5000] [--detections 20] [--threads 2]
    python tests/benchmarks/evaluation.py semantic [--images 1449] [--threads 2]
    python tests/benchmarks/evaluation.py memory [--images 5000] [--detections 20]

``instances``: smooth outlines at 500x375, 1 to 5 objects an image, 3 % crowd regions; of the detections some
lie near an object and the rest anywhere, with scores of two digits, so that many are equal. pycocotools is
timed from indexed annotations with their areas to its twelve numbers; ours from the same RLEs to the same
numbers, areas and overlaps included. ``semantic``: label maps of 21 labels as PNGs, cut from outlines,
500x375 or 375x500, predictions with a known permutation of the labels; the entry point is timed as a whole,
its start included. The reference walks through the images class by class with boolean masks and finds
boundaries with SciPy's minimum filter. ``memory``: peak of the entry point for the stage detector, which
reads candidates in shards of 500 images.
"""

import argparse
import json
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from memory import PER_SHARD, peak
from pseudo_labels import Clock, Cost, outline
from pycocotools import mask as coco_mask
from scipy import ndimage

from maskdistill.data.manifest import COLUMNS, write_manifest
from maskdistill.evaluation.average_precision import average_precision
from maskdistill.evaluation.instances import ImageInstances, image_instances
from maskdistill.evaluation.protocols import PROTOCOLS, protocol_scores
from maskdistill.formats.label_png import read_label_png, write_label_png
from maskdistill.runtime.files import write_json
from maskdistill.runtime.processes import in_forks

sys.path.insert(0, str(Path(__file__).parents[1]))
from coco_reference import coco_indexes, merged, run_coco_eval

CLASSES = 20
HEIGHT, WIDTH = 375, 500
Entry = dict[str, Any]


def encoded(polygon: list[float], image: int, category: int, **more: Any) -> Entry:
    """A COCO entry of one outline."""
    native = coco_mask.merge(coco_mask.frPyObjects([polygon], HEIGHT, WIDTH))
    segmentation = {"size": native["size"], "counts": native["counts"].decode()}
    box, area = coco_mask.toBbox(native).tolist(), int(coco_mask.area(native))
    return {
        "image_id": image,
        "category_id": category,
        "segmentation": segmentation,
        "bbox": box,
        "area": area,
        **more,
    }


def near(rng: np.random.Generator, polygon: list[float]) -> list[float]:
    """An outline a few pixels off another."""
    points = (
        np.asarray(polygon).reshape(-1, 2) + rng.normal(0, 6, 2) + rng.normal(0, 2, (len(polygon) // 2, 2))
    )
    return [float(value) for value in points.clip(0, (WIDTH, HEIGHT)).ravel()]


def make_set(images: int, number: int) -> tuple[list[Entry], list[Entry], list[Entry]]:
    """Images, annotations and ``number`` results an image."""
    rng = np.random.default_rng(0)
    rows: list[Entry] = []
    truth: list[Entry] = []
    found: list[Entry] = []
    for image in range(1, images + 1):
        rows.append({"id": image, "height": HEIGHT, "width": WIDTH})
        objects = [outline(rng, HEIGHT, WIDTH) for _ in range(rng.integers(1, 6))]
        classes = rng.integers(1, CLASSES + 1, len(objects)).tolist()
        for polygon, category in zip(objects, classes, strict=True):
            truth.append(
                encoded(polygon, image, category, id=len(truth) + 1, iscrowd=int(rng.random() < 0.03))
            )
        for place in range(number):
            like = place % len(objects)
            close = place < 2 * len(objects)
            category = classes[like] if close and rng.random() < 0.6 else int(rng.integers(1, CLASSES + 1))
            polygon = near(rng, objects[like]) if close else outline(rng, HEIGHT, WIDTH)
            found.append(encoded(polygon, image, category, score=round(float(rng.random()), 2)))
    return rows, truth, found


def timed(work: Callable[[], Any], repeats: int = 1) -> tuple[Cost, Any]:
    """The least cost, and the result."""
    costs = []
    for _ in range(repeats):
        clock = Clock()
        result = work()
        costs.append(clock.read())
    return Cost(*map(min, zip(*costs, strict=True))), result


def instances(args: argparse.Namespace) -> None:
    """Compare with pycocotools, with and without classes; then time all protocols."""
    images, truth, found = make_set(args.images, args.detections)
    by_image: dict[int, tuple[list[Entry], list[Entry]]] = {image["id"]: ([], []) for image in images}
    for entries, place in ((found, 0), (truth, 1)):
        for entry in entries:
            by_image[entry["image_id"]][place].append(entry)

    def overlaps(threads: int) -> list[ImageInstances]:
        items = list(by_image.items())
        return list(in_forks(lambda item: image_instances(item[0], *item[1]), items, threads))

    print(
        f"{args.images} images x {args.detections} detections, {os.cpu_count()} cores, best of {args.repeats}"
    )
    print(f"{'':37s} {'wall s':>7s} {'CPU s':>7s}   pycocotools' by wall, by CPU")
    for agnostic in (True, False):
        one = (images, merged(truth), merged(found)) if agnostic else (images, truth, found)
        indexes = coco_indexes(*one, "segm")
        slow, reference = timed(partial(run_coco_eval, *indexes, "segm"), args.repeats)
        name = "class-agnostic" if agnostic else f"{CLASSES} classes"
        print(f"{name:15s} {'pycocotools':21s} {slow.wall:7.2f} {slow.cpu:7.2f}")
        for threads in dict.fromkeys((1, args.threads)):
            cost, ours = timed(lambda t=threads, a=agnostic: average_precision(overlaps(t), a), args.repeats)  # type: ignore[misc]
            off = float(np.abs(ours.stats - np.asarray(reference.stats)).max())
            assert off < 1e-9, off
            ratios = f"{slow.wall / cost.wall:5.1f}x {slow.cpu / cost.cpu:5.1f}x, off by {off:.0e}"
            print(
                f"{name:15s} {f'ours, {threads} processes':21s} {cost.wall:7.2f} {cost.cpu:7.2f} {ratios}",
                flush=True,
            )
    once, compared = timed(partial(overlaps, args.threads), args.repeats)
    names = ("background", *(f"class {number}" for number in range(1, CLASSES + 1)))
    cost, _ = timed(lambda: protocol_scores(compared, CLASSES, names, PROTOCOLS), args.repeats)
    print(
        f"overlaps {once.wall:.2f} s, then all {len(PROTOCOLS)} protocols with classes and sizes "
        f"{cost.wall:.2f} s"
    )


def make_maps(folder: Path, images: int) -> tuple[list[str], np.ndarray]:
    """Ground truth and predictions as PNGs; their keys, and the label that stands for each class."""
    rng = np.random.default_rng(0)
    order = np.concatenate([[0], 1 + rng.permutation(CLASSES)]).astype(np.uint8)
    keys = [f"image-{number:06d}" for number in range(1, images + 1)]
    for number, key in enumerate(keys):
        height, width = (HEIGHT, WIDTH) if number % 3 else (WIDTH, HEIGHT)
        target, predicted = (np.zeros((height, width), np.uint8) for _ in range(2))
        for _ in range(rng.integers(1, 5)):
            category = int(rng.integers(1, CLASSES + 1))
            polygon = outline(rng, height, width)
            seen = category if rng.random() < 0.7 else int(rng.integers(1, CLASSES + 1))
            for labels, shape, value in ((target, polygon, category), (predicted, near(rng, polygon), seen)):
                cv2.fillPoly(labels, [np.asarray(shape, np.int32).reshape(-1, 2)], value)
                if labels is target:
                    cv2.polylines(labels, [np.asarray(shape, np.int32).reshape(-1, 2)], True, 255, 3)
        write_label_png(folder / f"truth/semantic/{key}.png", target)
        write_label_png(folder / f"labels/shard-0000/{key}.png", order[predicted])
    write_json(folder / "labels/shard-0000/summary.json", {})
    return keys, order


def slow_semantic(folder: Path, keys: list[str], order: np.ndarray) -> tuple[float, float]:
    """Mean IoU and boundary IoU in percent under the known permutation."""
    sums = np.zeros((2, 2, CLASSES + 1))
    for key in keys:
        target = read_label_png(folder / f"truth/semantic/{key}.png")
        predicted = np.argsort(order)[read_label_png(folder / f"labels/shard-0000/{key}.png")]
        scored = target != 255
        predicted[~scored] = 255
        side = 2 * max(1, round(0.02 * float(np.hypot(*target.shape)))) + 1
        for label in range(CLASSES + 1):
            regions = [np.asarray(labels == label) for labels in (predicted, target)]
            for kind in (0, 1):
                if kind:
                    inner = (
                        ndimage.minimum_filter(r.view(np.uint8), side, mode="constant") > 0 for r in regions
                    )
                    regions = [region & ~inside for region, inside in zip(regions, inner, strict=True)]
                sums[kind, 0, label] += (regions[0] & regions[1]).sum()
                sums[kind, 1, label] += (regions[0] | regions[1]).sum()
    miou, boundary = (100 * float((both / either).mean()) for both, either in sums)
    return miou, boundary


def write_tables(folder: Path, keys: list[str], semantic: bool, annotations: list[Entry]) -> list[str]:
    """Manifest and ``instances.json``; the options that name them."""
    sizes = [
        (HEIGHT, WIDTH) if number % 3 or not semantic else (WIDTH, HEIGHT) for number in range(len(keys))
    ]
    ids = range(1, len(keys) + 1)
    columns = {
        "image_id": list(ids), "key": keys, "path": "none.jpg", "width": [w for _, w in sizes],
        "height": [h for h, _ in sizes], "mode": "RGB", "sha256": "",
        "shard": [(i - 1) // PER_SHARD for i in ids],
        "train": False, "eval": True, "status": "ok", "reason": "",
    }  # fmt: skip
    write_manifest(folder / "manifest.csv", pd.DataFrame(columns)[list(COLUMNS)])
    images = [
        {
            "id": i,
            "file_name": k,
            "height": h,
            "width": w,
            "has_masks": not semantic,
            "has_semantic": semantic,
        }
        for i, k, (h, w) in zip(ids, keys, sizes, strict=True)
    ]
    categories = [{"id": number, "name": f"class {number}"} for number in range(1, CLASSES + 1)]
    write_json(
        folder / "truth/instances.json",
        {"images": images, "annotations": annotations, "categories": categories},
    )
    return ["--manifest", f"{folder}/manifest.csv", "--ground-truth", f"{folder}/truth/instances.json",
            "--num-clusters", str(CLASSES), "--output", f"{folder}/out.json"]  # fmt: skip


def semantic(args: argparse.Namespace) -> None:
    """Time the entry point for the stage segmenter, intervals and boundary IoU included, and compare its
    scores.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keys, order = make_maps(folder, args.images)
        options = [*write_tables(folder, keys, True, []), "--label-dirs", f"{folder}/labels/shard-0000"]
        print(f"{args.images} maps of {WIDTH}x{HEIGHT}, {CLASSES + 1} labels, {os.cpu_count()} cores")
        for threads in dict.fromkeys((args.threads, 1)):
            arguments = ["evaluation", "--stage", "segmenter", *options, "--threads", threads]
            cost, (mib, _) = timed(partial(peak, arguments), args.repeats)
            print(
                f"segmenter, {threads} processes: {cost.wall:6.2f} s, {cost.cpu:.2f} s of CPU, {mib:.0f} MiB",
                flush=True,
            )
        ours = json.loads((folder / "out.json").read_text())
        cost, (miou, boundary) = timed(partial(slow_semantic, folder, keys, order))
        print(f"slow reference: {cost.wall:6.2f} s, {cost.cpu:.2f} s of CPU")
        print(
            f"mIoU {ours['miou']:.6f} and {miou:.6f}, boundary IoU {ours['boundary_iou']:.6f} and "
            f"{boundary:.6f}"
        )
        assert abs(ours["miou"] - miou) < 1e-9 and abs(ours["boundary_iou"] - boundary) < 1e-9


def memory(args: argparse.Namespace) -> None:
    """Peak of the entry point, and what the candidates would take at once."""
    images, truth, found = make_set(args.images, args.detections)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shards: dict[int, list[Entry]] = defaultdict(list)
        for entry in found:
            shards[(entry["image_id"] - 1) // PER_SHARD].append(entry)
        for shard, entries in shards.items():
            write_json(folder / f"candidates/shard-{shard:04d}.json", {"candidates": entries})
        write_json(folder / "labels/summary.json", {})
        options = write_tables(folder, [f"image-{image['id']:06d}" for image in images], False, truth)
        files = sorted((folder / "candidates").iterdir())
        size = sum(path.stat().st_size for path in files) / 2**20
        mib, seconds = peak(
            ["evaluation", "--stage", "detector", *options, "--label-dirs", f"{folder}/labels",
            "--candidates", *files,
             "--threads", args.threads]
        )  # fmt: skip
        print(
            f"{args.images} images x {args.detections} candidates in {len(files)} shards, {size:.0f} MiB of "
            "JSON"
        )
        print(f"detector, {args.threads} processes: {seconds:.2f} s, peak {mib:.0f} MiB")


def main() -> None:
    """Run one of the three."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = {"instances": instances, "semantic": semantic, "memory": memory}
    parser.add_argument("part", choices=parts)
    parser.add_argument("--images", type=int, help="default: 1449 for semantic, else 5000")
    parser.add_argument("--detections", type=int, default=20, help="of an image")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--repeats", type=int, default=3, help="the fastest counts, for ours and the references"
    )
    args = parser.parse_args()
    args.images = args.images or (1449 if args.part == "semantic" else 5000)
    parts[args.part](args)


if __name__ == "__main__":
    main()
