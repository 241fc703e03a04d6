"""Run the trained segmenter over a shard's evaluation images, training images or both.

With --crf a dense CRF sharpens the predictions at full size, in one process per thread.
"""

import argparse
import logging
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from maskdistill.cli.common import add_common, start_on_device
from maskdistill.cli.option_types import whole
from maskdistill.config import CrfConfig, SegmenterConfig, parse_section
from maskdistill.data.images import load_rgb
from maskdistill.data.manifest import ImageRow, image_rows, ok_images, read_manifest
from maskdistill.formats.label_png import write_label_png
from maskdistill.runtime.background import in_processes
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import atomic_directory, write_json
from maskdistill.runtime.job_record import note_settings
from maskdistill.runtime.progress import progress
from maskdistill.runtime.provenance import initial_weights, make_provenance
from maskdistill.segmenter.crf import refine_pair
from maskdistill.segmenter.inference import class_probabilities, segment
from maskdistill.segmenter.trained import load_segmenter

log = logging.getLogger("maskdistill")
BATCH = 8
ROLES: dict[str, dict[str, Any]] = {"eval": {"eval": True}, "train": {"segmenter": True}, "all": {}}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--shard", type=whole(0), required=True, help="number of the shard")
    parser.add_argument("--model", required=True, help="model of the segmenter or the probe (.safetensors)")
    parser.add_argument(
        "--images",
        default="eval",
        metavar="WHICH",
        help="which usable images: eval (the manifest's column), train (the segmenter's for training), all, "
        "or a text file whose lines begin with their keys, as VOC's lists do (default: eval)",
    )
    parser.add_argument(
        "--crf", metavar="JSON", help="sharpen by a dense CRF with these settings: the section crf"
    )
    parser.add_argument("--output", required=True, help="folder of the label maps (PNG)")
    add_common(parser, params=False, device=True)


def run(args: argparse.Namespace) -> None:
    """Predict one shard."""
    device = start_on_device(args, "predictions")
    model, config, num_clusters, trained = load_segmenter(args.model, device)
    note_settings(config.model_dump(mode="json"))
    crf = None if args.crf is None else parse_section(CrfConfig, args.crf)
    rows = chosen_rows(args.manifest, args.shard, args.images)
    if crf is None:
        maps = _predict(model, rows, config, device)
    else:
        pairs = _probabilities(model, rows, config, device)
        maps = in_processes(partial(refine_pair, config=crf), pairs, min(args.threads, len(rows)))
    pixels = np.zeros(256, dtype=np.int64)
    coverage = 0.0
    with atomic_directory(args.output) as folder:
        for row, labels in progress(zip(rows, maps, strict=True), len(rows), f"predictions {args.shard}"):
            write_label_png(Path(folder) / f"{row.key}.png", labels)
            pixels += np.bincount(labels.ravel(), minlength=256)
            coverage += float((labels > 0).mean())
        listed = {} if args.images in ROLES else {"images": args.images}
        settings = {"shard": args.shard, "images": "listed" if listed else args.images, "size": config.size}
        if crf is not None:
            settings["crf"] = crf.model_dump(exclude={"rounds"})
        inputs = {"manifest": args.manifest, "model": args.model, **listed}
        provenance = make_provenance("predictions", settings, inputs)
        provenance["inputs"] |= initial_weights(trained)
        summary = {
            "provenance": provenance,
            "images": len(rows),
            "mean_coverage": round(coverage / max(1, len(rows)), 6),
            "pixels": pixels[: num_clusters + 1].tolist(),
        }
        write_json(folder / "summary.json", summary)
    log.info("wrote %d label maps to %s", len(rows), args.output)


def chosen_rows(manifest: str, shard: int, which: str) -> list[ImageRow]:
    """Usable images of a shard: of a role, or those that a text file lists.

    Raises:
        MaskDistillError: ``which`` is neither.
    """
    if which in ROLES:
        return image_rows(ok_images(read_manifest(manifest, shard), support=False, **ROLES[which]))
    try:
        lines = Path(which).expanduser().read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise MaskDistillError(
            f"--images {which}: no such list ({error.strerror}); give eval, train, all or a text file of keys"
        ) from None
    keys = {line.split()[0] for line in lines if line.strip()}
    table = ok_images(read_manifest(manifest, shard), support=False)
    return image_rows(table[table["key"].isin(keys)])


def _batches(rows: Sequence[ImageRow]) -> Iterator[list[npt.NDArray[np.uint8]]]:
    """Pictures, uint8 (H, W, 3) each."""
    for start in range(0, len(rows), BATCH):
        yield [np.asarray(load_rgb(row.file)) for row in rows[start : start + BATCH]]


def _predict(
    model: nn.Module, rows: Sequence[ImageRow], config: SegmenterConfig, device: torch.device
) -> Iterator[npt.NDArray[np.uint8]]:
    """Label maps in the order of the rows."""
    for images in _batches(rows):
        yield from segment(model, images, config, device)


def _probabilities(
    model: nn.Module, rows: Sequence[ImageRow], config: SegmenterConfig, device: torch.device
) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]]:
    """Pictures with their class probabilities, in the order of the rows."""
    for images in _batches(rows):
        yield from zip(images, class_probabilities(model, images, config, device), strict=True)
