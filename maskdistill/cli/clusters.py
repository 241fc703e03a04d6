"""Group all masks into K categories, fitted on training and support images.

Embeddings are read block by block, three times: for the scale, for the sample that K-means is fitted on, and
for the assignments. Memory follows clusters.max_fit, not the number of masks.
"""

import argparse
import logging
import time
from pathlib import Path

import numpy as np

from maskdistill.cli.common import add_common, start
from maskdistill.cli.option_types import whole
from maskdistill.clusters.assignments import write_assignments
from maskdistill.clusters.embeddings import Block, EmbeddingShards, on_blocks, read_sample
from maskdistill.clusters.kmeans import Clustering, assign, check_fit, fit, normalise, pick_gpu
from maskdistill.config import ClustersConfig, parse_section
from maskdistill.data.stream import read_roles
from maskdistill.runtime.files import sealed_path, write_json
from maskdistill.runtime.job_record import add_work
from maskdistill.runtime.leases import claim_gpus
from maskdistill.runtime.provenance import make_provenance

log = logging.getLogger("maskdistill")
COMMON = ("whiten", "l2", "algorithm", "max_fit")
OWN = {"faiss": ("spherical", "niter", "nredo"), "minibatch": ()}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--embeddings", nargs="+", required=True, metavar="H5", help="embeddings of every shard"
    )
    parser.add_argument("--manifest", required=True, metavar="CSV")
    parser.add_argument(
        "--num-clusters", type=whole(1), required=True, metavar="K", help="final K, over-clustering included"
    )
    parser.add_argument("--seed", type=whole(0), required=True)
    parser.add_argument(
        "--output", required=True, metavar="JSON", help="centroids go to the .npz of the same name"
    )
    parser.add_argument("--assignments", required=True, metavar="H5", help="the cluster of every mask")
    add_common(parser, device=True)


def run(args: argparse.Namespace) -> None:
    """Write ``clusters.json``, ``clusters.npz`` and ``assignments.h5``."""
    start(args, "clusters")
    config = parse_section(ClustersConfig, args.params)
    begun = time.monotonic()
    shards = EmbeddingShards(args.embeddings, read_roles(args.manifest))
    sample = read_sample(shards, config, args.seed, config.max_fit, args.threads)
    check_fit(len(sample.points), args.num_clusters)
    log.info("%d masks, %d may be fitted, %d are", shards.rows, sample.available, len(sample.points))
    claim_gpus(args.device, args.gpus)
    gpu = pick_gpu(args.device, args.gpus)
    sampled, scale = len(sample.points), sample.scale
    centroids = fit(sample.points, args.num_clusters, args.seed, config, args.threads, gpu)
    del sample
    inputs = {f"embeddings/{Path(shard).name}": Path(shard) for shard in args.embeddings}
    provenance = make_provenance(
        "clusters",
        config.model_dump(mode="json", include={*COMMON, *OWN[config.algorithm]})
        | {"num_clusters": args.num_clusters, "seed": args.seed},
        inputs | {"manifest": Path(args.manifest)},
    )
    provenance["inputs"] |= shards.weights
    with sealed_path(Path(args.output).with_suffix(".npz")) as temporary:
        np.savez(temporary, centroids=centroids, scale=scale)

    def nearest(block: Block) -> tuple[Block, Clustering]:
        return block, assign(normalise(block.features, scale, config.l2), centroids)

    with write_assignments(args.assignments, shards.rows, args.num_clusters, provenance) as writer:
        sizes, inertia = np.zeros(args.num_clusters, np.int64), 0.0
        for block, found in on_blocks(nearest, shards.blocks(), args.threads):
            writer.append(block.shard, block.image_id, block.mask_index, found.assignments, found.distances)
            sizes += np.bincount(found.assignments, minlength=args.num_clusters)
            inertia += float(np.square(found.distances[block.fitted], dtype=np.float64).sum())
    add_work("mask", shards.rows, time.monotonic() - begun)
    empty = int((sizes == 0).sum())
    if empty:
        log.warning("%d of %d clusters are empty; lower clusters.num_clusters", empty, args.num_clusters)
    write_json(
        args.output,
        {
            "provenance": provenance,
            "num_clusters": args.num_clusters,
            "inertia": inertia,
            "masks": shards.rows,
            "fitted": sampled,
            "sizes": sizes.tolist(),
        },
    )
    log.info("sizes %s, inertia %.4g", sizes.tolist(), inertia)
