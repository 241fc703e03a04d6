"""What the page says and shows of the manifest's images: counts and samples, read in pieces."""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from maskdistill.data.manifest import ImageRow, image_rows, left_out_of, read_manifest
from maskdistill.data.stream import all_rows, usable_rows
from maskdistill.report.masks import pick_evenly

LISTED = 1000
"""Quarantined files that are listed one by one."""
SAMPLED = 20_000
"""Images whose sizes are drawn."""
Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Images:
    """The images of a run.

    Attributes:
        total, usable: rows of the manifest, and those with status ok.
        train, eval: usable images to train on, and to score.
        examples: ids of images at even steps through those to score, or through all where none is.
        sizes: ``width`` and ``height`` in pixels of usable images at even steps.
        quarantined: path and reason of the first unusable files.
        reasons: reason -> number of unusable files.
        left_out: suffix -> number of files that look like pictures and were not taken.
    """

    total: int
    usable: int
    train: int
    eval: int
    examples: list[int]
    sizes: dict[str, npt.NDArray[np.int64]]
    quarantined: list[tuple[str, str]]
    reasons: dict[str, int]
    left_out: dict[str, int]


def read_images(manifest: str | Path, examples: int, scored_ids: npt.NDArray[np.int64]) -> Images:
    """Read the manifest twice: for the counts, then for the samples.

    Args:
        examples: number of example images, at most.
        scored_ids: of the images that are scored, as the ground truth names them; none without one.

    Raises:
        MaskDistillError: if the file is missing or is not a manifest.
    """
    total = usable = train = scored = 0
    quarantined: list[tuple[str, str]] = []
    reasons: Counter[str] = Counter()
    for rows in all_rows(manifest, ("image_id", "path", "train", "status", "reason")):
        ok = rows["status"] == "ok"
        bad = rows[~ok]
        total, usable = total + len(rows), usable + int(ok.sum())
        train += int((ok & rows["train"]).sum())
        scored += int((ok & rows["image_id"].isin(scored_ids)).sum())
        reasons.update(bad["reason"])
        quarantined += list(zip(bad["path"][: LISTED - len(quarantined)], bad["reason"], strict=False))
    sampled = np.array(pick_evenly(SAMPLED, usable), np.int64)
    shown = np.array(pick_evenly(examples, scored or usable), np.int64)
    ids: list[int] = []
    sizes: dict[str, list[npt.NDArray[np.int64]]] = {"width": [], "height": []}
    seen = pooled = 0
    for rows in usable_rows(manifest, ("image_id", "width", "height")):
        pool = rows[rows["image_id"].isin(scored_ids)] if scored else rows
        ids += pool["image_id"].to_numpy()[_within(shown, pooled, len(pool))].tolist()
        for name, parts in sizes.items():
            parts.append(rows[name].to_numpy(np.int64)[_within(sampled, seen, len(rows))])
        seen, pooled = seen + len(rows), pooled + len(pool)
    joined = {name: np.concatenate([np.zeros(0, np.int64), *parts]) for name, parts in sizes.items()}
    return Images(
        total,
        usable,
        train,
        scored,
        ids,
        joined,
        quarantined,
        dict(reasons.most_common()),
        left_out_of(manifest),
    )


def _within(places: Places, first: int, count: int) -> Places:
    """Those of ascending ``places`` that fall into ``first .. first + count``, counted from ``first``."""
    low, high = np.searchsorted(places, (first, first + count))
    return places[low:high] - first


def find_images(manifest: str | Path, image_ids: Collection[int]) -> dict[int, ImageRow]:
    """Rows of the given images by id; an image that the manifest lacks is left out."""
    wanted = np.array(sorted(image_ids), np.int64)
    return {row.image_id: row for row in _found(manifest, wanted)}


def _found(manifest: str | Path, wanted: Places) -> Iterator[ImageRow]:
    shards: set[int] = set()
    for rows in usable_rows(manifest, ("image_id", "shard")):
        shards.update(rows["shard"][np.isin(rows["image_id"], wanted)].tolist())
    for shard in sorted(shards):
        table = read_manifest(manifest, shard)
        yield from image_rows(table[np.isin(table["image_id"], wanted)])
