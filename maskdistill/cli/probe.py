"""Linear probe: train a segmenter's last layer on true labels, for scoring only.

If killed, it continues from --state when run again with the same settings and inputs.
"""

import argparse
import logging
from pathlib import Path

import torch

from maskdistill.cli.training import Trained, Training, add_training, run_training
from maskdistill.config import ProbeConfig, SegmenterConfig, parse_section
from maskdistill.data.manifest import ImageRow, image_rows, ok_images, read_manifest
from maskdistill.evaluation.probe import make_probe, train_probe
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import read_json, sha256_file, sha256_text
from maskdistill.runtime.provenance import make_provenance
from maskdistill.segmenter.build import build_segmenter
from maskdistill.segmenter.data import LabelledImages
from maskdistill.segmenter.model import steps_per_epoch
from maskdistill.training.checkpoint import describe_model, load_model, model_metadata, save_model
from maskdistill.training.loop import LoopSettings

log = logging.getLogger("maskdistill")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--manifest", required=True)
    parser.add_argument(
        "--ground-truth",
        required=True,
        metavar="JSON",
        help="instances.json of training images; semantic/ beside it",
    )
    parser.add_argument("--model", required=True, help="model of the segmenter stage (.safetensors)")
    add_training(parser, "probe", "initialisation, order, augmentation")


def run(args: argparse.Namespace) -> None:
    """Start one process a GPU."""
    run_training(args, "probe", ProbeConfig, prepare)


def prepare(args: argparse.Namespace, config: ProbeConfig) -> Training:
    """Find the training images that have a label map, and read the segmenter's settings."""
    metadata = model_metadata(args.model, "segmenter")
    segmenter = parse_section(SegmenterConfig, metadata["params"])
    num_classes = len(read_json(args.ground_truth)["categories"])
    rows = _labelled(args)
    own = {"batch_size": config.batch_size, "workers": config.workers}
    files = [(row.file, _label_file(args, row)) for row in rows]
    dataset = LabelledImages(files, num_classes, segmenter.model_copy(update=own), args.seed)
    shaping = config.model_dump(mode="json", exclude={"enabled", "workers", "checkpoint_every", "log_every"})
    inputs = {"manifest": args.manifest, "ground_truth": args.ground_truth, "model": args.model}
    provenance = make_provenance("probe", shaping | {"seed": args.seed}, inputs)
    hashes = [f"{row.key} {sha256_file(file)}" for row, (_, file) in zip(rows, files, strict=True)]
    provenance["inputs"]["labels"] = sha256_text("\n".join(hashes))
    steps = config.epochs * steps_per_epoch(len(dataset), config.batch_size)

    def train(settings: LoopSettings, device: torch.device) -> Trained:
        untrained = build_segmenter(segmenter, int(metadata["num_clusters"]))
        load_model(args.model, untrained)
        model = make_probe(untrained, num_classes, config.init_std)
        log.info("%d labelled images, %d classes, %d steps", len(dataset), num_classes, steps)
        metrics = train_probe(model, dataset, config, settings, device)
        description = describe_model(segmenter, num_classes, provenance)
        return Trained(metrics, lambda: save_model(args.output, model.state_dict(), description))

    return Training(steps, args.seed, provenance, train)


def _label_file(args: argparse.Namespace, row: ImageRow) -> Path:
    return Path(args.ground_truth).parent / "semantic" / f"{row.key}.png"


def _labelled(args: argparse.Namespace) -> list[ImageRow]:
    """The usable training images that have a ground-truth label map; the others are left out."""
    usable = image_rows(ok_images(read_manifest(args.manifest), segmenter=True))
    rows = [row for row in usable if _label_file(args, row).is_file()]
    if not rows:
        raise MaskDistillError(
            f"{args.ground_truth}: no training image has a label map in semantic/ beside it; a probe needs "
            "labels of training images: make them with 'maskdistill ground_truth --images train', or set "
            "probe.enabled to false"
        )
    if len(rows) < len(usable):
        log.warning(
            "%d of %d training images have no label map and are left out",
            len(usable) - len(rows),
            len(usable),
        )
    return rows
