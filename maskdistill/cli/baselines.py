"""Score two label-free colour baselines on the evaluation images, by the protocol of the stage evaluation.

color_kmeans  K-means with K + 1 clusters over the L*a*b* colours of all evaluation images (fitted on a sample
              of their pixels), every pixel labelled. No label is background, so labels and classes are always
              matched with the Hungarian over all classes; CorLoc and AP are null.
otsu          each image's foreground by Otsu's threshold; K-means with K clusters over the foregrounds' mean
              colours; CorLoc from the largest 4-connected region; AP is null.
"""

import argparse
import logging
from functools import partial
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from maskdistill.cli.common import add_common, start
from maskdistill.cli.evaluation_inputs import add_scored_images, load_ground_truth, read_semantic
from maskdistill.cli.option_types import whole
from maskdistill.config import EvaluationConfig, parse_section
from maskdistill.data.images import Photo, load_rgb
from maskdistill.data.manifest import ok_images, photos, read_manifest
from maskdistill.evaluation.color_baseline import (
    fit_colors,
    nearest_color,
    rgb_to_lab,
    sample_pixels,
)
from maskdistill.evaluation.ground_truth import GroundTruth, TruthImage
from maskdistill.evaluation.metrics.registry import Setting, View
from maskdistill.evaluation.scorer import Scorer
from maskdistill.evaluation.stages import BASELINES
from maskdistill.masks.otsu import otsu_foreground
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import write_json
from maskdistill.runtime.progress import progress
from maskdistill.runtime.provenance import make_provenance

log = logging.getLogger("maskdistill")
Colors = npt.NDArray[np.float32]
FIT_PIXELS = 200_000
FIT_PIXELS_IMAGE = (16, 2000)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``maskdistill baselines``."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_scored_images(parser)
    parser.add_argument(
        "--num-clusters", required=True, type=whole(1), metavar="K", help="clusters, without background"
    )
    parser.add_argument(
        "--seed", type=whole(0), default=0, help="of K-means, the pixel sample and the bootstrap"
    )
    parser.add_argument("--output", required=True, metavar="JSON")
    add_common(parser)


def run(args: argparse.Namespace) -> None:
    """Fit, label, score and write the JSON."""
    config = parse_section(EvaluationConfig, args.params)
    start(args, "baselines")
    faiss.omp_set_num_threads(max(1, args.threads))
    truth = load_ground_truth(args.manifest, args.ground_truth)
    table = ok_images(read_manifest(args.manifest))
    files = dict(zip(table["image_id"], photos(table), strict=True))

    pixel_centers, means, mean_centers = _fit(truth, files, args.num_clusters, args.seed)
    scorers = {
        name: Scorer(Setting(stage, truth, args.num_clusters, config, args.seed))
        for name, stage in BASELINES.items()
    }
    counts: dict[str, dict[int, list[Any]]] = {name: {} for name in scorers}
    for image in progress(truth.images, len(truth.images), "baselines"):
        rgb = _pixels(files, image)
        maps = {
            "color_kmeans": partial(_by_color, rgb, pixel_centers),
            "otsu": partial(_by_otsu, rgb, means.get(image.id), mean_centers),
        }
        read_target = partial(read_semantic, args.ground_truth, image, truth)
        for name, scorer in scorers.items():
            counts[name][image.id] = scorer.count(View(image, scorer.setting, (), maps[name], read_target))

    params = config.model_dump() | {"num_clusters": args.num_clusters, "seed": args.seed}
    inputs = {"manifest": args.manifest, "ground_truth": args.ground_truth}
    for name, scorer in scorers.items():
        scorer.score(counts[name])
    scores = {name: scorer.record() for name, scorer in scorers.items()}
    write_json(args.output, {"provenance": make_provenance("baselines", params, inputs), **scores})
    log.info("mIoU: %s", ", ".join(f"{name} {scores[name]['miou']}" for name in scores))


def _by_color(rgb: npt.NDArray[np.uint8], centers: Colors) -> npt.NDArray[np.integer]:
    return nearest_color(rgb_to_lab(rgb), centers)


def _by_otsu(rgb: npt.NDArray[np.uint8], mean: Colors | None, centers: Colors) -> npt.NDArray[np.integer]:
    cluster = 0 if mean is None else int(nearest_color(mean, centers))
    return np.where(otsu_foreground(rgb), 1 + cluster, 0)


def _fit(
    truth: GroundTruth, files: dict[int, Photo], num_clusters: int, seed: int
) -> tuple[Colors, dict[int, Colors], Colors]:
    """Centres of pixel colours, the foreground's mean colour by image id, and centres of those."""
    low, high = FIT_PIXELS_IMAGE
    count = min(max(FIT_PIXELS // len(truth.images), low), high)
    samples, means = [], {}
    for image in progress(truth.images, len(truth.images), "colours"):
        rgb = _pixels(files, image)
        lab = rgb_to_lab(rgb)
        samples.append(sample_pixels(lab, count, (seed, image.id)))
        foreground = otsu_foreground(rgb)
        if foreground.any():
            means[image.id] = lab[foreground].mean(axis=0)
    centers = (
        fit_colors(np.stack(list(means.values())), num_clusters, seed)
        if means
        else np.zeros((1, 3), np.float32)
    )
    return fit_colors(np.concatenate(samples), num_clusters + 1, seed), means, centers


def _pixels(files: dict[int, Photo], image: TruthImage) -> npt.NDArray[np.uint8]:
    """Picture as uint8 (H, W, 3), of the size that the ground truth says."""
    picture = load_rgb(files[image.id])
    if picture.size != (image.width, image.height):
        raise MaskDistillError(
            f"{files[image.id]}: {picture.width} x {picture.height} pixels where the ground truth has "
            f"{image.width} x {image.height}; run the stages manifest and ground_truth again"
        )
    return np.asarray(picture, dtype=np.uint8)
