"""Cluster a frozen ResNet's features into a segmenter; a linear probe starts from the same file.

For the rows of the paper's Table 2 that use a pre-trained backbone unchanged. No label is read.
"""

import argparse
import logging

import numpy as np
import torch

from maskdistill.backbones.resnet import initial_resnet
from maskdistill.cli.common import add_common, start_on_device
from maskdistill.cli.option_types import whole
from maskdistill.config import SegmenterConfig, parse_section
from maskdistill.data.images import load_rgb
from maskdistill.data.manifest import image_rows, ok_images, read_manifest
from maskdistill.evaluation.frozen import MAX_CELLS, clustering_head, sample_cells
from maskdistill.runtime.devices import make_deterministic
from maskdistill.runtime.progress import progress
from maskdistill.segmenter.model import OUTPUT_STRIDE, DeepLab
from maskdistill.training.checkpoint import describe_model, save_model, training_provenance

log = logging.getLogger("maskdistill")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--manifest", required=True)
    parser.add_argument(
        "--num-clusters",
        type=whole(1),
        required=True,
        metavar="K",
        help="categories; the background adds one cluster",
    )
    parser.add_argument("--seed", type=whole(0), default=0, help="of the sample and of K-means (default: 0)")
    parser.add_argument("--output", required=True, help="model (.safetensors)")
    add_common(parser, device=True)


def run(args: argparse.Namespace) -> None:
    """Sample, cluster, write the model."""
    device = start_on_device(args, "frozen")
    config = parse_section(SegmenterConfig, args.params).model_copy(update={"head": "linear"})
    if device.type == "cpu":
        make_deterministic(args.seed)
    torch.manual_seed(args.seed)
    model = DeepLab(config, args.num_clusters, initial_resnet(config.arch, config.weights, OUTPUT_STRIDE))
    model = model.eval().to(device)
    rows = image_rows(ok_images(read_manifest(args.manifest), train=True))
    count = max(1, MAX_CELLS // max(1, len(rows)))
    images = (np.asarray(load_rgb(row.file)) for row in progress(rows, len(rows), "cells of images"))
    cells = sample_cells(model, images, count, config, device, args.seed)
    clustered = clustering_head(model, cells, args.seed, args.threads)
    provenance = training_provenance("segmenter", config, args.seed, {"manifest": args.manifest})
    save_model(args.output, clustered.state_dict(), describe_model(config, args.num_clusters, provenance))
    log.info("clustered %d cells of %d images", len(cells), len(rows))
