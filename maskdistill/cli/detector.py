"""Train Mask R-CNN (C4 ResNet trunk) on the pseudo-annotations.

Killed, it continues from --state when run again with the same settings and inputs.
"""

import argparse
import logging
from pathlib import Path

import torch

from maskdistill.annotations.index import read_index
from maskdistill.backbones.students import initial_student
from maskdistill.cli.common import add_common, start_on_device
from maskdistill.cli.option_types import whole
from maskdistill.config import DetectorConfig, parse_section
from maskdistill.detector.data import AnnotatedImages
from maskdistill.detector.engines import portable_state, with_engine
from maskdistill.detector.examples import IndexedExamples
from maskdistill.detector.model import build_detector
from maskdistill.detector.train import train_detector
from maskdistill.runtime.devices import make_deterministic, pick_device
from maskdistill.training.checkpoint import describe_model, save_model, training_fingerprint, training_provenance
from maskdistill.training.distributed import launch, number_of_processes, rank_and_world
from maskdistill.training.loop import LoopSettings, finish, write_metrics
from maskdistill.training.scaling import detector_for_batch

log = logging.getLogger("maskdistill")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--annotations", required=True, help="COCO JSON of the annotations stage")
    parser.add_argument("--index", required=True, help="index of the annotations, by the same stage (.h5)")
    parser.add_argument("--output", required=True, help="model (.safetensors)")
    parser.add_argument("--metrics", required=True, help="CSV of losses and learning rate")
    parser.add_argument("--state", required=True, help="folder of the resumable state, removed after success")
    parser.add_argument("--seed", type=whole(0), default=0, help="of initialisation, order and sampling (default: 0)")
    add_common(parser, device=True)


def run(args: argparse.Namespace) -> None:
    """Start one process a GPU."""
    device = start_on_device(args, "detector")
    config = parse_section(DetectorConfig, args.params)
    launch(_train, number_of_processes(device, args.gpus, config.batch_size), (args,))


def _train(args: argparse.Namespace) -> None:
    rank, world = rank_and_world()
    if world > 1 and rank == 0:
        start_on_device(args, "detector")
    device = torch.device("cuda", rank) if world > 1 else pick_device(args.device, args.gpus)
    config = detector_for_batch(parse_section(DetectorConfig, args.params))
    index = read_index(args.annotations, args.index)
    num_clusters = index.num_clusters
    examples = IndexedExamples(index, args.manifest)
    groups = examples.portrait if config.aspect_grouping else None
    dataset = AnnotatedImages(examples, config.flip, args.seed, groups)
    inputs = {"manifest": args.manifest, "annotations": args.annotations}
    provenance = training_provenance("detector", config, args.seed, inputs)
    settings = LoopSettings(
        total_steps=config.iters,
        state_dir=Path(args.state),
        fingerprint=training_fingerprint(provenance, "detector"),
        seed=args.seed,
        checkpoint_every=config.checkpoint_every,
        log_every=config.log_every,
        rank=rank,
        name="detector",
    )
    # On a GPU torchvision replaces RoIAlign by a slow, memory-hungry one when determinism is asked for.
    if device.type == "cpu":
        make_deterministic(args.seed)
    torch.manual_seed(args.seed)
    detector = build_detector(config, num_clusters, initial_student(config.arch, config.weights))
    model = with_engine(detector, config, num_clusters)
    log.info("%d images, %d clusters, %d steps of %d", len(dataset), num_clusters, config.iters, config.batch_size)
    model, rows = train_detector(model, dataset, config, settings, device)
    if rank == 0:
        write_metrics(args.metrics, rows)
        save_model(args.output, portable_state(model), describe_model(config, num_clusters, provenance))
        finish(settings)
        log.info("wrote %s", args.output)
