"""Train Mask R-CNN (C4 ResNet trunk) on the pseudo-annotations.

If killed, it continues from --state when run again with the same settings and inputs.
"""

import argparse
import logging

import torch

from maskdistill.annotations.index import read_index
from maskdistill.backbones.students import initial_student
from maskdistill.cli.training import Trained, Training, add_training, run_training
from maskdistill.config import DetectorConfig
from maskdistill.detector.data import AnnotatedImages
from maskdistill.detector.engines import portable_state, with_engine
from maskdistill.detector.examples import IndexedExamples
from maskdistill.detector.model import build_detector
from maskdistill.detector.train import train_detector
from maskdistill.training.checkpoint import describe_model, save_model, training_provenance
from maskdistill.training.loop import LoopSettings
from maskdistill.training.scaling import detector_for_batch

log = logging.getLogger("maskdistill")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--annotations", required=True, help="COCO JSON of the annotations stage")
    parser.add_argument("--index", required=True, help="index of the annotations, by the same stage (.h5)")
    add_training(parser, "model", "initialisation, order and sampling")


def run(args: argparse.Namespace) -> None:
    """Start one process a GPU."""
    run_training(args, "detector", DetectorConfig, prepare)


def prepare(args: argparse.Namespace, given: DetectorConfig) -> Training:
    """Open the annotations.

    On a GPU it is not deterministic: torchvision would replace RoIAlign by a slow, memory-hungry one.
    """
    config = detector_for_batch(given)
    index = read_index(args.annotations, args.index)
    num_clusters = index.num_clusters
    examples = IndexedExamples(index, args.manifest)
    groups = examples.portrait if config.aspect_grouping else None
    dataset = AnnotatedImages(examples, config.flip, args.seed, groups, config.copy_paste)
    inputs = {"manifest": args.manifest, "annotations": args.annotations}
    provenance = training_provenance("detector", config, args.seed, inputs)

    def train(settings: LoopSettings, device: torch.device) -> Trained:
        detector = build_detector(config, num_clusters, initial_student(config.arch, config.weights))
        model = with_engine(detector, config, num_clusters)
        counts = (len(dataset), num_clusters, config.iters, config.batch_size)
        log.info("%d images, %d clusters, %d steps of %d", *counts)
        model, rows = train_detector(model, dataset, config, settings, device)
        description = describe_model(config, num_clusters, provenance)
        return Trained(rows, lambda: save_model(args.output, portable_state(model), description))

    return Training(config.iters, args.seed, provenance, train)
