"""What GrabCut does to outlines that are good already: a detector's, or the truth coarsened.

    python tests/benchmarks/refined_candidates.py scenes RUN/data RUN/topk-0.4/k-6/seed-1234/candidates
    python tests/benchmarks/refined_candidates.py photos instances.json IMAGES [--grid 28] [--blur 1.2]

``maskdistill.masks.refine`` looks for the outline in a band on either side of the mask's own, here a share
of the square root of the box's area. ``scenes`` prints class-agnostic AP, AP75 and AR100 of the candidates
of the scored images. ``photos`` draws each true mask of 900 pixels or more on a grid in its box, as a mask
head does, blurs it with some noise, and prints the mean IoU with the truth before and after, and how many
masks gained.
"""

import argparse
import contextlib
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from maskdistill.data.manifest import read_manifest
from maskdistill.formats import rle
from maskdistill.masks.refine import refine

BANDS = (0.02, 0.03, 0.05, 0.07, 0.1)
LEAST_AREA = 900
Mask = npt.NDArray[np.bool_]


def sharpened(photo: npt.NDArray[np.uint8], mask: Mask, area: float, band: float) -> Mask:
    """The refined mask, or the mask itself where nothing is masked or the band is 0."""
    return refine(photo, mask, max(1.0, band * math.sqrt(area))) if band and mask.any() else mask


def scenes(data: Path, candidates: Path) -> None:
    """Print the scores of one run's candidates."""
    truth = json.loads((data / "groundtruth/instances.json").read_text())
    for one in truth["annotations"]:
        one["category_id"] = 1
    truth["categories"] = [{"id": 1, "name": "object"}]
    coco = COCO()
    coco.dataset = truth
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    table = read_manifest(data / "manifest.csv")
    files = {key: data / path for key, path in zip(table["image_id"], table["path"], strict=True)}
    shards = sorted(candidates.glob("shard-*.json"))
    every = [one for shard in shards for one in json.loads(shard.read_text())["candidates"]]
    scored = [one for one in every if one["image_id"] in coco.imgs]
    for band in (0.0, *BANDS):
        found = []
        for one in scored:
            photo = np.asarray(Image.open(files[one["image_id"]]).convert("RGB"))
            mask = sharpened(photo, rle.decode(one["segmentation"]), one["bbox"][2] * one["bbox"][3], band)
            found.append(one | {"category_id": 1, "segmentation": rle.encode(mask)})
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(coco, coco.loadRes(found), "segm")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        ap, ap75, ar100 = 100 * evaluation.stats[[0, 2, 8]]
        print(f"band {band}: AP {ap:.1f}, AP75 {ap75:.1f}, AR100 {ar100:.1f}")


def coarsened(mask: Mask, grid: int, blur: float, rng: np.random.Generator) -> Mask:
    """The mask as a mask head of ``grid`` x ``grid`` cells might draw it."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    inside = mask[window].astype(np.float32)
    cells = cv2.resize(inside, (grid, grid), interpolation=cv2.INTER_AREA)
    cells = cv2.GaussianBlur(cells, (0, 0), blur) + rng.normal(0, 0.08, cells.shape).astype(np.float32)
    drawn = np.zeros_like(mask)
    drawn[window] = cv2.resize(cells, inside.shape[::-1], interpolation=cv2.INTER_LINEAR) > 0.5
    return drawn


def photos(annotations: Path, images: Path, grid: int, blur: float, count: int) -> None:
    """Print the IoU of coarsened true masks before and after."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(annotations))
    rng = np.random.default_rng(0)
    before: list[float] = []
    after: dict[float, list[float]] = {band: [] for band in BANDS}
    for photo, mask in _objects(coco, images, count):
        drawn = coarsened(mask, grid, blur, rng)
        if drawn.any():
            area = float(np.prod([np.ptp(places) + 1 for places in np.nonzero(drawn)]))
            before.append(iou(drawn, mask))
            for band in BANDS:
                after[band].append(iou(sharpened(photo, drawn, area, band), mask))
    print(f"{len(before)} masks, IoU {np.mean(before):.3f} before")
    for band, values in after.items():
        gained = np.mean(np.asarray(values) > np.asarray(before))
        print(f"band {band}: {np.mean(values):.3f}, {gained:.0%} gained")


def _objects(coco: COCO, images: Path, count: int) -> Iterator[tuple[npt.NDArray[np.uint8], Mask]]:
    for image in coco.loadImgs(coco.getImgIds()[:count]):
        photo = np.asarray(Image.open(images / image["file_name"]).convert("RGB"))
        for one in coco.loadAnns(coco.getAnnIds(image["id"], iscrowd=False)):
            mask = coco.annToMask(one).astype(bool)
            if mask.sum() >= LEAST_AREA:
                yield photo, mask


def iou(first: Mask, second: Mask) -> float:
    """Intersection over union."""
    return float((first & second).sum() / (first | second).sum())


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["scenes", "photos"])
    parser.add_argument("truth", type=Path)
    parser.add_argument("where", type=Path)
    parser.add_argument("--grid", type=int, default=28)
    parser.add_argument("--blur", type=float, default=1.2)
    parser.add_argument("--count", type=int, default=40)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    if args.what == "scenes":
        scenes(args.truth, args.where)
    else:
        photos(args.truth, args.where, args.grid, args.blur, args.count)


if __name__ == "__main__":
    main()
