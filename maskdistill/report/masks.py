"""What the page needs of all masks: a number each, and the full records of the few that are pictured."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from maskdistill.clusters.assignments import Assignments, Rows, shard_number
from maskdistill.masks.types import MaskRecord
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import read_json
from maskdistill.runtime.types import Provenance

Place: TypeAlias = tuple[int, int]
"""A mask: its shard and its index there."""


class Member(NamedTuple):
    """A mask of a cluster with its distance to the centroid."""

    shard: int
    mask_index: int
    distance: float


@dataclass(frozen=True)
class Extremes:
    """The masks nearest to a centroid, nearest first, and the farthest of the others, farthest last."""

    nearest: list[Member]
    farthest: list[Member]


@dataclass(frozen=True)
class Masks:
    """All masks in numbers, some in full.

    Attributes:
        coverage: (n,) share of its image that each mask covers, in percent.
        images: images with a mask.
        records: the masks that are pictured.
        labels: 1 + cluster of the masks that are pictured.
        spread: places at even steps through all masks sorted by coverage.
        chain: the shards' provenance records.
        tied: mean share of the candidate patches that the order of equal CLS affinities chose, None without
            cls_mass.
    """

    coverage: NDArray[np.float64]
    images: int
    records: dict[Place, MaskRecord]
    labels: dict[Place, int]
    spread: list[Place]
    chain: list[Provenance] = field(default_factory=list)
    tied: float | None = None

    def of_image(self, image_id: int) -> list[Place]:
        """Places of the pictured masks of an image, in order."""
        return [place for place, record in sorted(self.records.items()) if record["image_id"] == image_id]


def pick_evenly(count: int, total: int) -> list[int]:
    """``count`` positions spread evenly over ``range(total)``, ends included; all if fewer."""
    if total == 0 or count == 0:
        return []
    return sorted({int(place) for place in np.linspace(0, total - 1, min(count, total)).round()})


def extremes(blocks: Iterable[Rows], num_clusters: int, nearest: int, farthest: int) -> list[Extremes]:
    """Nearest and farthest masks of each cluster; ties by image and index; memory by cluster.

    Args:
        blocks: the table of assignments, in pieces.
        num_clusters: K.
        nearest, farthest: how many of each, at most.
    """
    kept: Rows | None = None
    for block in blocks:
        rows = block if kept is None else kept.followed_by(block)
        rows = rows.take(np.lexsort((rows.mask_index, rows.image_id, rows.distance, rows.cluster)))
        sizes = np.bincount(rows.cluster, minlength=num_clusters)
        rank = np.arange(len(rows.cluster)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        kept = rows.take((rank < nearest) | (rank >= np.repeat(sizes, sizes) - farthest))
    if kept is None:
        return [Extremes([], []) for _ in range(num_clusters)]
    found = []
    for cluster in range(num_clusters):
        own = kept.take(kept.cluster == cluster)
        columns = zip(own.shard.tolist(), own.mask_index.tolist(), own.distance.tolist(), strict=True)
        members = [Member(*values) for values in columns]
        found.append(Extremes(members[:nearest], members[nearest:][-farthest:] if farthest else []))
    return found


def read_masks(
    paths: Sequence[str], table: Assignments, members: Sequence[Extremes], images: set[int], steps: int
) -> Masks:
    """Read the shards one at a time.

    Args:
        paths: mask shards.
        table: the clusters of their masks.
        members: masks that are pictured with their clusters.
        images: images all of whose masks are pictured.
        steps: how many masks are pictured at even steps of coverage.

    Raises:
        MaskDistillError: a member's shard or mask is missing.
    """
    files = {shard_number(path): path for path in sorted(paths)}
    wanted = {(item.shard, item.mask_index) for one in members for item in [*one.nearest, *one.farthest]}
    columns: list[tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]] = []
    records: dict[Place, MaskRecord] = {}
    with_masks = 0
    chain: list[Provenance] = []
    tied: list[float] = []
    for shard, path in sorted(files.items()):
        content = read_json(path)
        found: list[MaskRecord] = content["masks"]
        chain += [content["provenance"]] if content.get("provenance") else []
        with_masks += len({record["image_id"] for record in found})
        coverage = np.array([record["coverage"] for record in found], dtype=np.float64)
        tied += [record["tied"] for record in found if "tied" in record]
        columns.append((coverage, np.full(len(found), shard), np.arange(len(found))))
        for index, record in enumerate(found):
            if (shard, index) in wanted or record["image_id"] in images:
                records[shard, index] = record
    for shard, index in sorted(wanted - records.keys()):
        raise MaskDistillError(
            f"--assignments: no mask {index} in shard {shard} of --masks; give the masks of all shards that "
            "the clusters were made from"
        )
    coverage, shards, indices = (np.concatenate(column) for column in zip(*columns, strict=True))
    order = np.lexsort((indices, shards, coverage))
    picked = order[pick_evenly(steps, len(order))]
    spread = list(zip(shards[picked].tolist(), indices[picked].tolist(), strict=True))
    for shard in sorted({shard for shard, _ in spread}):
        found = read_json(files[shard])["masks"]
        records |= {place: found[place[1]] for place in spread if place[0] == shard}
    share = float(np.mean(tied)) if tied else None
    return Masks(100 * coverage, with_masks, records, labels_of(table, records), spread, chain, share)


def labels_of(table: Assignments, places: Iterable[Place]) -> dict[Place, int]:
    """1 + cluster of some masks; those without a cluster are left out."""
    labels: dict[Place, int] = {}
    for shard in sorted({shard for shard, _ in places}):
        rows = table.of_shard(shard)
        for index, cluster in zip(rows.mask_index.tolist(), rows.cluster.tolist(), strict=True):
            if (shard, index) in places:
                labels[shard, index] = 1 + cluster
    return labels
