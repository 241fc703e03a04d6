"""Paint the confident candidates of one shard into label PNGs."""

import argparse
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from maskdistill.cli.common import add_common, start
from maskdistill.cli.option_types import whole
from maskdistill.config import MAX_CLUSTERS, PseudoLabelsConfig, parse_section
from maskdistill.data.images import load_rgb
from maskdistill.data.manifest import ImageRow, image_rows, ok_images, read_manifest
from maskdistill.detector.types import Candidate, Found
from maskdistill.formats.label_png import encode_label_png
from maskdistill.formats.rle import RLE
from maskdistill.pseudo_labels.painting import UNSURE, paint
from maskdistill.pseudo_labels.regions import box_region, grabcut_region
from maskdistill.pseudo_labels.summary import LabelSummary
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import atomic_directory, read_json, write_json
from maskdistill.runtime.processes import in_forks
from maskdistill.runtime.progress import progress
from maskdistill.runtime.provenance import make_provenance

log = logging.getLogger("maskdistill")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--manifest", required=True, metavar="CSV")
    parser.add_argument("--shard", type=whole(0), required=True, metavar="N")
    parser.add_argument("--candidates", required=True, metavar="JSON", help="candidates of the shard")
    parser.add_argument("--tau", type=float, help="threshold on the score (default: the one in --params)")
    parser.add_argument("--num-clusters", type=whole(1), required=True, metavar="K")
    parser.add_argument("--output", required=True, metavar="DIR", help="gets <key>.png and summary.json")
    add_common(parser)


def run(args: argparse.Namespace) -> None:
    """Write one label PNG for every usable image of the shard."""
    start(args, "pseudo_labels")
    config = parse_section(PseudoLabelsConfig, args.params)
    if args.tau is not None:
        config = parse_section(
            PseudoLabelsConfig, config.model_copy(update={"tau": args.tau}).model_dump_json()
        )
    if not 1 <= args.num_clusters <= MAX_CLUSTERS:
        raise MaskDistillError(
            f"{args.num_clusters} clusters: label PNGs hold 1 to {MAX_CLUSTERS}; use fewer"
        )
    rows = image_rows(ok_images(read_manifest(args.manifest, args.shard), support=False))
    found = list(_candidates_of_images(args, rows).items())
    kept = fallback = empty = 0
    coverage, left_out = [], []
    with atomic_directory(args.output) as folder:
        for parent in {(folder / row.key).parent for row in rows}:
            parent.mkdir(parents=True, exist_ok=True)
        painted = in_forks(partial(_paint_one, folder, config), found, args.threads)
        for painted_here, by_fallback, covered, unsure in progress(painted, len(rows), "pseudo-labels"):
            kept += painted_here
            fallback += by_fallback
            empty += not painted_here
            coverage.append(covered)
            left_out.append(unsure)
        settings = config.model_dump(mode="json") | {"num_clusters": args.num_clusters, "shard": args.shard}
        inputs = {"candidates": Path(args.candidates), "manifest": Path(args.manifest)}
        summary: LabelSummary = {
            "images": len(rows),
            "kept": kept,
            "fallback": fallback,
            "empty": empty,
            "mean_coverage": float(np.mean(coverage)) if coverage else 0.0,
            "mean_unsure": float(np.mean(left_out)) if left_out else 0.0,
        }
        provenance = make_provenance("pseudo_labels", settings, inputs)
        write_json(folder / "summary.json", {"provenance": provenance, **summary})
    log.info("%d images, %d candidates kept, %d by fallback, %d empty", len(rows), kept, fallback, empty)


def _candidates_of_images(args: argparse.Namespace, rows: list[ImageRow]) -> dict[ImageRow, list[Candidate]]:
    """The shard's candidates by image, checked."""
    by_image: dict[int, list[Candidate]] = {row.image_id: [] for row in rows}
    for candidate in read_json(args.candidates)["candidates"]:
        if candidate["image_id"] not in by_image:
            raise MaskDistillError(
                f"{args.candidates}: image {candidate['image_id']} is not a usable image of shard "
                f"{args.shard};"
                " run the candidates stage again with this manifest"
            )
        if not 1 <= candidate["category_id"] <= args.num_clusters:
            raise MaskDistillError(
                f"{args.candidates}: category {candidate['category_id']} is not one of {args.num_clusters};"
                " run the candidates stage again"
            )
        by_image[candidate["image_id"]].append(candidate)
    return {row: by_image[row.image_id] for row in rows}


def _paint_one(
    folder: Path, config: PseudoLabelsConfig, found: tuple[ImageRow, list[Candidate]]
) -> tuple[int, bool, float, float]:
    """Write the label PNG of an image: candidates kept, whether by fallback, shares of the pixels that are
    covered and that are unsure.
    """
    row, candidates = found
    region = _region(config, row)
    shape = (row.height, row.width)
    label = paint(candidates, shape, config.tau, config.compare, config.overlap, region, config.unsure)
    (folder / f"{row.key}.png").write_bytes(encode_label_png(label.labels))
    background, unsure = (float(np.mean(label.labels == value)) for value in (0, UNSURE))
    return len(label.kept), label.fallback, 1 - background - unsure, unsure


def _region(config: PseudoLabelsConfig, row: ImageRow) -> Callable[[Found], RLE] | None:
    """What to paint of a candidate of the image; None: its mask. GrabCut alone opens the photograph."""
    if config.type == "bbox":
        return box_region
    if config.type == "grabcut":
        return partial(grabcut_region, photo=np.asarray(load_rgb(row.file)))
    return None
