"""Convert ground truth into one format: of the images to score, of training images for the linear probe, or
of all images for the oracle.

Only evaluation reads the result.
"""

import argparse
import logging
from pathlib import Path
from typing import Any

import pandas as pd

from maskdistill.cli.common import add_common, start
from maskdistill.cli.option_types import share
from maskdistill.config import DataConfig
from maskdistill.data.ground_truth import ImageTruth, read_ground_truth
from maskdistill.data.listing import parse_data
from maskdistill.data.manifest import image_rows, ok_images, read_manifest
from maskdistill.data.truth_types import Losses
from maskdistill.formats.label_png import write_label_png
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import atomic_directory, write_json
from maskdistill.runtime.progress import progress
from maskdistill.runtime.provenance import make_provenance

log = logging.getLogger("maskdistill")

PATH_SETTINGS = {"root", "images", "annotations"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--manifest", required=True, metavar="CSV")
    parser.add_argument(
        "--images", choices=("eval", "train", "all"), default="eval",
        help="images to score, images that the segmenter is trained on, or all (default: eval)",
    )  # fmt: skip
    parser.add_argument(
        "--max-dropped", type=share, default=0.05, metavar="SHARE",
        help="share of annotations, or images, that may be dropped; above it the stage stops (default: 0.05)",
    )  # fmt: skip
    parser.add_argument(
        "--output",
        required=True,
        metavar="DIR",
        help="gets instances.json, dropped.json and semantic/<key>.png",
    )
    add_common(parser)


def run(args: argparse.Namespace) -> None:
    """Write ``instances.json`` and one semantic map an image."""
    start(args, "ground_truth")
    data = parse_data(args.params)
    listed = read_manifest(args.manifest)
    table = ok_images(listed)
    role = _of_images(args.images, data, table)
    instances = data.instance_keys() if args.images == "eval" else None
    evaluated = set(table.loc[role, "image_id"])
    rows = image_rows(table[role | table["key"].isin(instances or ())])
    if instances is not None:
        _check_listed(instances, set(listed["key"]))
    if not rows:
        purpose = {"eval": "to be scored", "train": "for training", "all": "there"}[args.images]
        raise MaskDistillError(f"{args.manifest}: no usable image is {purpose}; check the data section")
    # Of a list to train on, nothing says that all of it has labels.
    losses = Losses(args.max_dropped) if args.images == "eval" else Losses(1, logged=0)
    names, truths = read_ground_truth(data, rows, losses)
    by_id = {row.image_id: row for row in rows}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    with atomic_directory(args.output) as folder:
        (folder / "semantic").mkdir()
        for truth in progress(truths, len(rows), "ground truth"):
            row = by_id[truth.image_id]
            truth = _of_role(truth, truth.image_id in evaluated, instances is None or row.key in instances)
            images.append(
                {
                    "id": truth.image_id,
                    "file_name": row.key,
                    "width": row.width,
                    "height": row.height,
                    "has_masks": truth.has_masks,
                    "has_semantic": truth.semantic is not None,
                    "evaluated": truth.image_id in evaluated,
                }
            )
            if truth.semantic is not None:
                write_label_png(folder / "semantic" / f"{row.key}.png", truth.semantic)
            for item in truth.objects:
                record = {"id": len(annotations) + 1, "image_id": truth.image_id, **item._asdict()}
                if item.segmentation is None:
                    del record["segmentation"]
                annotations.append(record)
        losses.refuse_many()
        inputs = {"manifest": Path(args.manifest)}
        if (file := data.truth_file()) is not None:
            inputs["annotations"] = Path(file).expanduser()
        settings = data.model_dump(mode="json", exclude=PATH_SETTINGS) | {"of": args.images}
        provenance = make_provenance("ground_truth", settings, inputs)
        dropped = [item._asdict() for item in losses.dropped]
        counts = {"images": len(images)} | {
            flag: sum(image[flag] for image in images) for flag in ("has_masks", "has_semantic")
        }
        write_json(
            folder / "dropped.json",
            {"provenance": provenance, "counts": losses.counts, "dropped": dropped, "of": counts},
        )
        write_json(
            folder / "instances.json",
            {
                "provenance": provenance,
                "images": images,
                "annotations": annotations,
                "categories": [{"id": i, "name": name} for i, name in enumerate(names, start=1)],
            },
        )
    log.info("%d images, %d objects, %d categories", len(images), len(annotations), len(names))
    if losses.dropped:
        log.warning(
            "dropped of the ground truth: %s; listed in %s", losses.text(), Path(args.output) / "dropped.json"
        )


def _of_images(which: str, data: DataConfig, table: pd.DataFrame) -> "pd.Series[bool]":
    """Which rows of a manifest are scored, learnt from by the segmenter, or anything but the support set."""
    if which == "train":
        return table["segmenter"]
    if which == "all":
        return table["train"] | table["eval"] | table["segmenter"]
    keys = data.scored_keys()
    return table["eval"] if keys is None else table["key"].isin(keys)


def _check_listed(instances: set[str], listed: set[str]) -> None:
    """Refuse images of ``data.instance_list`` that the run does not have."""
    if unlisted := instances - listed:
        raise MaskDistillError(
            f"data.instance_list: {len(unlisted)} of its {len(instances)} images are in no other list, e.g."
            f" {min(unlisted)}; add them to data.train_list, or choose another list"
        )


def _of_role(truth: ImageTruth, evaluated: bool, with_instances: bool) -> ImageTruth:
    """What counts in an image: its semantic map or its objects' masks, if they are scored."""
    if not evaluated:
        truth = truth._replace(semantic=None)
    if not with_instances:
        boxes = [item._replace(segmentation=None) for item in truth.objects]
        truth = truth._replace(has_masks=False, objects=boxes)
    return truth
