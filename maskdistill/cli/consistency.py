"""Whether masks and clusters can be found again in changed pictures and resampled masks. No labels.

On a bounded sample: 64 pictures of at most 16 shards, and 2,000 masks of these shards. The JSON holds the
results and the sampled masks; the stage trust judges them together with the detector. The log already gives
the verdict on masks and clusters alone, before anything is trained.
"""

import argparse
import logging
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.metrics import adjusted_rand_score

from maskdistill.backbones import vit
from maskdistill.backbones.registry import BACKBONES, Backbone, find_backbone
from maskdistill.cli.common import add_common, start_on_device
from maskdistill.cli.option_types import whole
from maskdistill.clusters.assignments import shard_number
from maskdistill.clusters.embeddings import EmbeddingShards, read_sample
from maskdistill.clusters.kmeans import Floats, assign, fit
from maskdistill.config import ClustersConfig, ConsistencyConfig, parse_section
from maskdistill.data.images import load_rgb
from maskdistill.data.manifest import ImageRow, image_rows, ok_images, read_manifest
from maskdistill.data.stream import read_roles
from maskdistill.features import extraction
from maskdistill.features.store import HW
from maskdistill.formats import rle
from maskdistill.masks.otsu import otsu_foreground
from maskdistill.masks.records import MaskRecorder, shaping
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import read_json, write_json
from maskdistill.runtime.progress import progress
from maskdistill.runtime.provenance import make_provenance
from maskdistill.trust import signals

log = logging.getLogger("maskdistill")
PICTURES, SHARDS = 64, 16
FITTED, RESAMPLED, STARTS = 2_000, 6, 3
"""Masks, clusterings of resampled masks, and the most starts of each."""
SCALE = 0.75
"""Of the other size that pictures are looked at."""


class Sampled(NamedTuple):
    """A picture of the sample and its first mask in the common frame, empty where it has none."""

    row: ImageRow
    mask: signals.Mask


class Change(NamedTuple):
    """One changed picture, uint8 (3, h, w), the place of its original in the sample, and what was changed."""

    place: int
    name: str
    image: torch.Tensor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--manifest", required=True, metavar="CSV")
    parser.add_argument("--masks", nargs="+", required=True, metavar="JSON", help="masks of every shard")
    parser.add_argument(
        "--embeddings", nargs="+", required=True, metavar="H5", help="embeddings of every shard"
    )
    parser.add_argument(
        "--arch", required=True, help=f"network that made the masks: one of {', '.join(BACKBONES)}"
    )
    parser.add_argument("--weights", required=True, help="checkpoint that made the masks, or 'random'")
    parser.add_argument(
        "--num-clusters", type=whole(1), required=True, metavar="K", help="over-clustering included"
    )
    parser.add_argument("--seed", type=whole(0), required=True)
    parser.add_argument("--output", required=True, metavar="JSON")
    add_common(parser, device=True)


def run(args: argparse.Namespace) -> None:
    """Sample, look again, cluster again, write."""
    device = start_on_device(args, "consistency")
    config = parse_section(ConsistencyConfig, args.params)
    backbone = find_backbone(args.arch)
    model = vit.load_vit(args.arch, args.weights, device, config.features.precision)
    paths = {shard_number(path): path for path in args.masks}
    chosen = _evenly(sorted(paths), SHARDS)
    sample = read_pictures(args.manifest, {shard: paths[shard] for shard in chosen})
    changed, edges = look_again(sample, model, backbone, config, device)
    frames = {"mask": [one.mask for one in sample]} | changed
    clusters = cluster_again(
        args, {shard_number(path): path for path in args.embeddings}, chosen, config.clusters
    )
    inputs = {f"masks/{Path(paths[shard]).name}": Path(paths[shard]) for shard in chosen}
    inputs |= {} if args.weights == "random" else {"weights": Path(args.weights)}
    params = config.model_dump(mode="json", include={"features": {"short_side", "precision"}})
    params |= {
        "masks": shaping(config.masks),
        "arch": args.arch,
        "num_clusters": args.num_clusters,
        "seed": args.seed,
    }
    record: dict[str, Any] = {
        "provenance": make_provenance("consistency", params, inputs | {"manifest": Path(args.manifest)}),
        "images": [
            {"image_id": one.row.image_id, "key": one.row.key, "shard": one.row.shard, "edges": edges[place]}
            | {name: rle.encode(found[place]) for name, found in frames.items()}
            for place, one in enumerate(sample)
        ],
        "clusters": clusters,
    }
    write_json(args.output, record)
    said = signals.judge(signals.read_evidence(record)).sentence(
        "masks and clusters alone, before any training"
    )
    log.log(logging.INFO if said.startswith(signals.USE) else logging.WARNING, "%s", said)


def _evenly(items: Sequence[Any], count: int) -> list[Any]:
    """At most ``count`` of the items, at even steps."""
    places = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[place] for place in places.tolist()]


def read_pictures(manifest: str, paths: dict[int, str]) -> list[Sampled]:
    """At most :data:`PICTURES` pictures at even steps through some shards, the support set left out.

    Raises:
        MaskDistillError: a mask has not the size of its picture.
    """
    found: list[tuple[ImageRow, dict[str, Any] | None]] = []
    for shard, path in paths.items():
        rows = image_rows(ok_images(read_manifest(manifest, shard), support=False))
        first: dict[int, dict[str, Any]] = {}
        for record in read_json(path)["masks"]:
            first.setdefault(record["image_id"], record["segmentation"])
        found += [(row, first.get(row.image_id)) for row in _evenly(rows, -(-PICTURES // len(paths)))]
    sample = []
    for row, code in _evenly(found, PICTURES):
        mask = np.zeros((row.height, row.width), bool) if code is None else rle.decode(code)
        if mask.shape != (row.height, row.width):
            raise MaskDistillError(
                f"{row.file} has changed size since its mask was made; make the manifest again"
            )
        sample.append(Sampled(row, signals.to_frame(mask)))
    return sample


def look_again(
    sample: Sequence[Sampled],
    model: vit.ViT,
    backbone: Backbone,
    config: ConsistencyConfig,
    device: torch.device,
) -> tuple[dict[str, list[signals.Mask]], list[float]]:
    """What is seen on each picture once more.

    Returns:
        Masks, bool (FRAME, FRAME), by name: its first one when it is mirrored (mirrored back) and when it has
        another size, and Otsu's foreground; and the :func:`maskdistill.trust.signals.edge_contrast` of the
        mask that it has.
    """
    short_side = config.features.short_side
    found = {name: [signals.empty()] * len(sample) for name in ("mirrored", "rescaled", "otsu")}
    edges: list[float] = []
    recorder = MaskRecorder(config.masks, backbone.patch_size)

    def changes() -> Iterator[Change]:
        for place, one in enumerate(sample):
            photo = load_rgb(one.row.file)
            image = extraction.resize(photo, short_side)
            pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
            found["otsu"][place] = signals.to_frame(otsu_foreground(pixels))
            edges.append(signals.edge_contrast(pixels, one.mask))
            yield Change(place, "mirrored", image.flip(2))
            yield Change(place, "rescaled", extraction.resize(photo, round(SCALE * short_side)))

    def size_of(change: Change) -> HW:
        return extraction.grid_of((change.image.shape[-2], change.image.shape[-1]), backbone.patch_size)

    shown = progress(changes(), 2 * len(sample), "changed pictures")
    for batch in extraction.bucketed(shown, size_of, config.features.batch_size):
        images = [change.image for change in batch]
        pending = extraction.extract(model, backbone, images, device, config.features.precision)
        for change, image in zip(batch, pending.get(), strict=True):
            pixels = np.ascontiguousarray(change.image.permute(1, 2, 0).numpy())
            photo = pixels if config.masks.refine == "grabcut" else None
            if records := recorder.records(0, change.name, image.resized_hw, recorder.search(image), photo):
                mask = signals.to_frame(rle.decode(records[0]["segmentation"]))
                found[change.name][change.place] = mask[:, ::-1] if change.name == "mirrored" else mask
    return found, edges


def cluster_again(
    args: argparse.Namespace, embeddings: dict[int, str], shards: Sequence[int], config: ClustersConfig
) -> list[float]:
    """Adjusted Rand index of each pair of clusterings fitted on bootstrap samples of masks.

    Empty where there is one cluster, or fewer masks than clusters.
    """
    found = EmbeddingShards([embeddings[shard] for shard in shards], read_roles(args.manifest))
    available = min(FITTED, sum(int(block.fitted.sum()) for block in found.blocks()))
    if not 1 < args.num_clusters < available:
        log.warning("%d clusters of %d sampled masks: not clustered again", args.num_clusters, available)
        return []
    points = read_sample(found, config, args.seed, FITTED, args.threads).points
    fewer = config.model_copy(update={"nredo": min(STARTS, config.nredo)})
    return resampled_agreement(points, args.num_clusters, args.seed, fewer, args.threads)


def resampled_agreement(
    points: Floats, k: int, seed: int, config: ClustersConfig, threads: int = 1
) -> list[float]:
    """Adjusted Rand index over all points (n, D) of each pair of :data:`RESAMPLED` clusterings."""
    rng = np.random.default_rng(seed)
    labels = []
    for number in range(RESAMPLED):
        drawn = points[rng.integers(len(points), size=len(points))]
        labels.append(assign(points, fit(drawn, k, seed + number, config, threads)).assignments)
    return [float(adjusted_rand_score(one, other)) for one, other in combinations(labels, 2)]
