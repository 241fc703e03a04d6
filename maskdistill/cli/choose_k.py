"""Compare numbers of clusters without labels, on a bounded sample of the masks: help to choose K.

The CSV has one row per number of clusters: inertia (sum of squared distances, for the elbow), simplified
silhouette (by centroids) and silhouette (by pairs of masks).
"""

import argparse
import logging

import numpy as np
import pandas as pd

from maskdistill.cli.common import add_common, start
from maskdistill.cli.option_types import whole
from maskdistill.clusters.choose_k import candidates, silhouettes, simplified_silhouette
from maskdistill.clusters.embeddings import EmbeddingShards, read_sample
from maskdistill.clusters.kmeans import assign, fit, pick_gpu
from maskdistill.config import ClustersConfig, parse_section
from maskdistill.data.stream import read_roles
from maskdistill.runtime.files import sealed_path
from maskdistill.runtime.leases import claim_gpus
from maskdistill.runtime.progress import progress

log = logging.getLogger("maskdistill")
FITTED, COMPARED = 10_000, 4_000
COLUMNS = ("num_clusters", "masks", "inertia", "simplified_silhouette", "silhouette")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--embeddings", nargs="+", required=True, metavar="H5", help="embeddings of every shard"
    )
    parser.add_argument("--manifest", required=True, metavar="CSV")
    parser.add_argument("--seed", type=whole(0), required=True)
    parser.add_argument("--output", required=True, metavar="CSV")
    add_common(parser, device=True)


def run(args: argparse.Namespace) -> None:
    """Fit each number of clusters on up to 10,000 masks; pairwise silhouettes use 4,000."""
    start(args, "choose_k")
    config = parse_section(ClustersConfig, args.params)
    shards = EmbeddingShards(args.embeddings, read_roles(args.manifest))
    points = read_sample(shards, config, args.seed, min(FITTED, config.max_fit), args.threads).points
    compared = np.sort(np.random.default_rng(args.seed).permutation(len(points))[:COMPARED])
    claim_gpus(args.device, args.gpus)
    gpu = pick_gpu(args.device, args.gpus)
    tried = candidates(config.total, len(compared), config.candidates_k)
    left_out = set(config.candidates_k or ()) - set(tried)
    if left_out:
        log.warning("too few masks for %s clusters; left out", ", ".join(map(str, sorted(left_out))))
    rows, labels = [], []
    for k in progress(tried, len(tried), "choose_k", unit="K"):
        centroids = fit(points, k, args.seed, config, args.threads, gpu)
        found = assign(points, centroids)
        rows.append(
            [k, len(points), found.inertia, simplified_silhouette(points, centroids, found.assignments)]
        )
        labels.append(found.assignments[compared])
    scores = silhouettes(points[compared], labels)
    table = pd.DataFrame(
        [[*row, score] for row, score in zip(rows, scores, strict=True)], columns=list(COLUMNS)
    )
    with sealed_path(args.output) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n", float_format="%.6g")
    log.info(
        "silhouettes %s",
        ", ".join(f"K={row[0]}: {score:.3f}" for row, score in zip(rows, scores, strict=True)),
    )
