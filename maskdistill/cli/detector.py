"""Train Mask R-CNN (C4 ResNet trunk) on the pseudo-annotations.

If killed, it continues from --state when run again with the same settings and inputs.
"""

import argparse
import logging
from collections.abc import Sequence

import torch

from maskdistill.annotations.index import read_index
from maskdistill.backbones.students import initial_student
from maskdistill.cli.training import Trained, Training, add_training, run_training
from maskdistill.config import DetectorConfig, parse_section
from maskdistill.config.roles import DETECTOR_FORM_FIELDS
from maskdistill.detector.data import AnnotatedImages
from maskdistill.detector.engines import portable_state, with_engine
from maskdistill.detector.examples import IndexedExamples
from maskdistill.detector.model import build_detector
from maskdistill.detector.train import train_detector
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.provenance import ORACLE
from maskdistill.training.checkpoint import (
    describe_model,
    load_model,
    model_metadata,
    refuse_oracle,
    save_model,
    training_provenance,
)
from maskdistill.training.loop import LoopSettings
from maskdistill.training.scaling import detector_for_batch

log = logging.getLogger("maskdistill")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--annotations", required=True, help="COCO JSON of the annotations stage")
    parser.add_argument("--index", required=True, help="index of the annotations, by the same stage (.h5)")
    parser.add_argument(
        "--start",
        nargs="*",
        default=[],
        metavar="MODEL",
        help="detector to go on from, as a round of self-training does, in place of detector.weights; at "
        "most one",
    )
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
    start = _start(args.start, config, num_clusters)
    inputs |= {"start": start} if start else {}
    provenance = training_provenance("detector", config, args.seed, inputs)
    if start is not None and ORACLE not in provenance:
        refuse_oracle(start)

    def train(settings: LoopSettings, device: torch.device) -> Trained:
        detector = build_detector(config, num_clusters, initial_student(config.arch, config.weights))
        if start is not None:
            load_model(start, detector)
        model = with_engine(detector, config, num_clusters)
        counts = (len(dataset), num_clusters, config.iters, config.batch_size)
        log.info("%d images, %d clusters, %d steps of %d", *counts)
        model, rows = train_detector(model, dataset, config, settings, device)
        description = describe_model(config, num_clusters, provenance)
        return Trained(rows, lambda: save_model(args.output, portable_state(model), description))

    return Training(config.iters, args.seed, provenance, train)


def _start(paths: Sequence[str], config: DetectorConfig, num_clusters: int) -> str | None:
    """The file of the detector to go on from.

    Raises:
        MaskDistillError: there are several, or it is no detector of this form.
    """
    if not paths:
        return None
    if len(paths) > 1:
        raise MaskDistillError(f"--start: one detector, not {len(paths)}: {' '.join(paths)}")
    metadata = model_metadata(paths[0], "detector")
    trained = parse_section(DetectorConfig, metadata["params"])
    differing = [name for name in DETECTOR_FORM_FIELDS if getattr(trained, name) != getattr(config, name)]
    if differing or int(metadata["num_clusters"]) != num_clusters:
        names = ", ".join(differing) or "number of clusters"
        raise MaskDistillError(
            f"{paths[0]}: a detector of another form ({names}); a round of self-training goes on from one "
            "that was trained with the same settings"
        )
    return paths[0]
