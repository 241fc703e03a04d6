"""Group the masks of all shards into K categories: fitted on training images, assigned to every mask."""

import argparse
import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt

from maskdistill import store
from maskdistill.cli.common import add_common, start_on_device
from maskdistill.clusters import assign, column_scale, fit_kmeans, normalise
from maskdistill.config import ClustersConfig, parse_section
from maskdistill.data.manifest import image_rows, ok_images, read_manifest
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import atomic_path, write_json
from maskdistill.runtime.provenance import make_provenance

log = logging.getLogger("maskdistill")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--embeddings", nargs="+", required=True, metavar="H5", help="embeddings of every shard")
    parser.add_argument("--manifest", required=True, metavar="CSV")
    parser.add_argument("--num-clusters", type=int, required=True, metavar="K")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--output", required=True, metavar="JSON", help="centroids go to the .npz of the same name")
    add_common(parser, device=True)


def run(args: argparse.Namespace) -> None:
    """Write ``clusters.json`` and ``clusters.npz``."""
    device = start_on_device(args, "clusters")
    config = parse_section(ClustersConfig, args.params)
    rows = {row.image_id: row for row in image_rows(ok_images(read_manifest(args.manifest)))}
    trained = set(ok_images(read_manifest(args.manifest), train=True)["image_id"].tolist())
    features, image_ids, mask_index = read_embeddings(args.embeddings)
    for image_id in set(image_ids.tolist()) - rows.keys():
        raise MaskDistillError(f"{args.manifest}: no usable image {image_id}, which has an embedding; make those again")
    shards = np.array([rows[i].shard for i in image_ids.tolist()], dtype=np.int64)
    order = np.lexsort((mask_index, shards))
    features, image_ids, mask_index = features[order], image_ids[order], mask_index[order]
    fitted = np.isin(image_ids, list(trained))
    if not np.isfinite(features).all():
        raise MaskDistillError("the embeddings hold values that are not finite; check the backbone's weights")
    if not fitted.any():
        raise MaskDistillError("no training image has a mask; nothing to cluster: check the masks stage")
    scale = column_scale(features[fitted]) if config.whiten == "std" else np.ones(features.shape[1], np.float32)
    points = normalise(features, scale, config.l2)
    gpu = (device.index or 0) if device.type == "cuda" else None
    fit = fit_kmeans(points[fitted], args.num_clusters, args.seed, config.niter, config.nredo, args.threads, gpu)
    found = assign(points, fit.centroids)
    sizes = np.bincount(found.assignments, minlength=args.num_clusters).tolist()
    if 0 in sizes:
        log.warning("%d of %d clusters are empty; lower clusters.num_clusters", sizes.count(0), args.num_clusters)
    settings = config.model_dump(mode="json", include={"whiten", "l2", "niter", "nredo"})
    inputs = {f"embeddings/{Path(shard).name}": Path(shard) for shard in args.embeddings}
    provenance = make_provenance(
        "clusters",
        settings | {"num_clusters": args.num_clusters, "seed": args.seed},
        inputs | {"manifest": Path(args.manifest)},
    )
    assignments = [
        {"image_id": image_id, "mask_index": index, "shard": rows[image_id].shard, "cluster": cluster, "distance": d}
        for image_id, index, cluster, d in zip(
            image_ids.tolist(), mask_index.tolist(), found.assignments.tolist(), found.distances.tolist(), strict=True
        )
    ]
    with atomic_path(Path(args.output).with_suffix(".npz")) as temporary:
        np.savez(temporary, centroids=fit.centroids, scale=scale)
    write_json(
        args.output,
        {
            "provenance": provenance,
            "num_clusters": args.num_clusters,
            "inertia": fit.inertia,
            "sizes": sizes,
            "assignments": assignments,
        },
    )
    log.info("%d masks, %d of them fitted, sizes %s, inertia %.4g", len(order), fitted.sum(), sizes, fit.inertia)


def read_embeddings(
    shards: list[str],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Embeddings (M, D), image ids (M,) and mask indices (M,) of all shards, one after the other."""
    parts = []
    for shard in shards:
        with store.open_shard(shard) as file:
            parts.append((file["embeddings"][:], file["image_id"][:], file["mask_index"][:]))
    if len({part[0].shape[1] for part in parts}) > 1:
        raise MaskDistillError(f"{shards[0]} ...: shards have embeddings of different sizes; make them again")
    features, image_ids, mask_index = (np.concatenate(column) for column in zip(*parts, strict=True))
    return features, image_ids, mask_index
