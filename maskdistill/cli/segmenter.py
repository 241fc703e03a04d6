"""Train DeepLab-v3, or a ViT with a decoder, on the pseudo-labels of the training images.

If killed, it continues from --state when run again with the same settings and inputs.
"""

import argparse
import logging

import torch

from maskdistill.cli.option_types import whole
from maskdistill.cli.training import Trained, Training, add_training, run_training
from maskdistill.config import SegmenterConfig
from maskdistill.data.manifest import image_rows, ok_images, read_manifest
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import sha256_file, sha256_text
from maskdistill.segmenter.build import initial_segmenter
from maskdistill.segmenter.data import LabelledImages, find_label_files
from maskdistill.segmenter.model import steps_per_epoch
from maskdistill.segmenter.train import train_segmenter
from maskdistill.training.checkpoint import describe_model, save_model, training_provenance
from maskdistill.training.loop import LoopSettings
from maskdistill.training.scaling import segmenter_for_batch

log = logging.getLogger("maskdistill")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--manifest", required=True)
    parser.add_argument(
        "--labels", required=True, nargs="+", metavar="DIR", help="pseudo-label folders of all shards"
    )
    parser.add_argument("--num-clusters", type=whole(1), required=True, help="K; label 0 is the background")
    add_training(parser, "model", "initialisation, order, augmentation")


def run(args: argparse.Namespace) -> None:
    """Start one process a GPU."""
    run_training(args, "segmenter", SegmenterConfig, prepare)


def prepare(args: argparse.Namespace, given: SegmenterConfig) -> Training:
    """Find the training images and their labels."""
    config = segmenter_for_batch(given)
    rows = image_rows(ok_images(read_manifest(args.manifest), segmenter=True))
    if not rows:
        raise MaskDistillError(f"{args.manifest}: no usable training image")
    label_files = find_label_files([row.key for row in rows], args.labels)
    files = list(zip([row.file for row in rows], label_files, strict=True))
    dataset = LabelledImages(files, args.num_clusters, config, args.seed)
    provenance = training_provenance("segmenter", config, args.seed, {"manifest": args.manifest})
    hashes = [f"{row.key} {sha256_file(file)}" for row, file in zip(rows, label_files, strict=True)]
    provenance["inputs"]["labels"] = sha256_text("\n".join(hashes))
    provenance["params"]["num_clusters"] = args.num_clusters
    steps = config.epochs * steps_per_epoch(len(dataset), config.batch_size)

    def train(settings: LoopSettings, device: torch.device) -> Trained:
        model = initial_segmenter(config, args.num_clusters)
        log.info("%d images, %d steps of %d", len(dataset), steps, config.batch_size)
        trained, metrics = train_segmenter(model, dataset, config, settings, device)
        description = describe_model(config, args.num_clusters, provenance)
        return Trained(metrics, lambda: save_model(args.output, trained.state_dict(), description))

    return Training(steps, args.seed, provenance, train)
