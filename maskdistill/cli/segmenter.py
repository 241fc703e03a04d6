"""Train DeepLab-v3, or a ViT with a decoder, on the pseudo-labels of the training images.

Killed, it continues from --state when run again with the same settings and inputs.
"""

import argparse
import logging
from pathlib import Path

import torch

from maskdistill.cli.common import add_common, start_on_device
from maskdistill.cli.option_types import whole
from maskdistill.config import SegmenterConfig, parse_section
from maskdistill.data.manifest import image_rows, ok_images, read_manifest
from maskdistill.runtime.devices import make_deterministic, pick_device
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import sha256_file, sha256_text
from maskdistill.segmenter.build import initial_segmenter
from maskdistill.segmenter.data import LabelledImages, find_label_files
from maskdistill.segmenter.model import steps_per_epoch
from maskdistill.segmenter.train import train_segmenter
from maskdistill.training.checkpoint import describe_model, save_model, training_fingerprint, training_provenance
from maskdistill.training.distributed import launch, number_of_processes, rank_and_world
from maskdistill.training.loop import LoopSettings, finish, write_metrics
from maskdistill.training.scaling import segmenter_for_batch

log = logging.getLogger("maskdistill")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--labels", required=True, nargs="+", metavar="DIR", help="pseudo-label folders of all shards")
    parser.add_argument("--num-clusters", type=whole(1), required=True, help="K; label 0 is the background")
    parser.add_argument("--output", required=True, help="model (.safetensors)")
    parser.add_argument("--metrics", required=True, help="CSV of loss and learning rate")
    parser.add_argument("--state", required=True, help="folder of the resumable state, removed after success")
    parser.add_argument("--seed", type=whole(0), default=0, help="of initialisation, order, augmentation (default: 0)")
    add_common(parser, device=True)


def run(args: argparse.Namespace) -> None:
    """Start one process a GPU."""
    device = start_on_device(args, "segmenter")
    config = parse_section(SegmenterConfig, args.params)
    launch(_train, number_of_processes(device, args.gpus, config.batch_size), (args,))


def _train(args: argparse.Namespace) -> None:
    rank, world = rank_and_world()
    if world > 1 and rank == 0:
        start_on_device(args, "segmenter")
    device = torch.device("cuda", rank) if world > 1 else pick_device(args.device, args.gpus)
    config = segmenter_for_batch(parse_section(SegmenterConfig, args.params))
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
    settings = LoopSettings(
        total_steps=config.epochs * steps_per_epoch(len(dataset), config.batch_size),
        state_dir=Path(args.state),
        fingerprint=training_fingerprint(provenance, "segmenter"),
        seed=args.seed,
        checkpoint_every=config.checkpoint_every,
        log_every=config.log_every,
        rank=rank,
        name="segmenter",
    )
    if device.type == "cpu":
        make_deterministic(args.seed)
    torch.manual_seed(args.seed)
    model = initial_segmenter(config, args.num_clusters)
    log.info("%d images, %d steps of %d", len(dataset), settings.total_steps, config.batch_size)
    trained, metrics = train_segmenter(model, dataset, config, settings, device)
    if rank == 0:
        write_metrics(args.metrics, metrics)
        save_model(args.output, trained.state_dict(), describe_model(config, args.num_clusters, provenance))
        finish(settings)
        log.info("wrote %s", args.output)
