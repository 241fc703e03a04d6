"""Run the trained segmenter over the evaluation images of a shard, or with --all over all its usable images."""

import argparse
import logging
from pathlib import Path

import numpy as np

from maskdistill.backbones.resnet import build_resnet
from maskdistill.cli.common import add_common, start_on_device
from maskdistill.config import SegmenterConfig, parse_section
from maskdistill.data.images import load_rgb
from maskdistill.data.manifest import image_rows, ok_images, read_manifest
from maskdistill.palette import write_label_png
from maskdistill.runtime.files import atomic_directory, write_json
from maskdistill.runtime.progress import progress
from maskdistill.runtime.provenance import make_provenance
from maskdistill.segmenter.inference import segment
from maskdistill.segmenter.model import OUTPUT_STRIDE, DeepLab
from maskdistill.training.checkpoint import load_model, model_metadata

log = logging.getLogger("maskdistill")
BATCH = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--shard", type=int, required=True, help="number of the shard")
    parser.add_argument("--model", required=True, help="model of the segmenter or the probe (.safetensors)")
    parser.add_argument("--all", action="store_true", help="predict every usable image, not evaluation images alone")
    parser.add_argument("--output", required=True, help="folder of the label maps (PNG)")
    add_common(parser, params=False, device=True)


def run(args: argparse.Namespace) -> None:
    """Predict one shard."""
    device = start_on_device(args, "predictions")
    metadata = model_metadata(args.model, "segmenter", "probe")
    config = parse_section(SegmenterConfig, metadata["params"])
    num_clusters = int(metadata["num_clusters"])
    untrained = DeepLab(config, num_clusters, build_resnet(config.arch, OUTPUT_STRIDE))
    model = load_model(args.model, untrained).to(device)
    table = read_manifest(args.manifest, args.shard)
    rows = image_rows(ok_images(table, eval=None if args.all else True, support=False))
    batches = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    pixels = np.zeros(256, dtype=np.int64)
    coverage = 0.0
    with atomic_directory(args.output) as folder:
        for batch in progress(batches, len(batches), f"predictions {args.shard}", unit="batch"):
            maps = segment(model, [np.asarray(load_rgb(row.file)) for row in batch], config.size, device)
            for row, labels in zip(batch, maps, strict=True):
                write_label_png(Path(folder) / f"{row.key}.png", labels)
                pixels += np.bincount(labels.ravel(), minlength=256)
                coverage += float((labels > 0).mean())
        provenance = make_provenance(
            "predictions",
            {"shard": args.shard, "all": args.all, "size": config.size},
            {"manifest": args.manifest, "model": args.model},
        )
        summary = {
            "provenance": provenance,
            "images": len(rows),
            "mean_coverage": round(coverage / max(1, len(rows)), 6),
            "pixels": pixels[: num_clusters + 1].tolist(),
        }
        write_json(folder / "summary.json", summary)
    log.info("wrote %d label maps to %s", len(rows), args.output)
