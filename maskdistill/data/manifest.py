"""The manifest: every picture of a run decoded once, with its size, hash, shard and whether it is usable."""

import csv
import hashlib
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from maskdistill.data.images import PictureError, decode
from maskdistill.data.sources import ListedImage
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import atomic_path
from maskdistill.runtime.progress import progress

log = logging.getLogger("maskdistill")

COLUMNS = {
    "image_id": "int64", "key": "str", "path": "str", "width": "int64", "height": "int64", "mode": "str",
    "sha256": "str", "shard": "int64", "train": "bool", "eval": "bool", "status": "str", "reason": "str",
}  # fmt: skip
MIN_SIDE = 16


class ImageRow(NamedTuple):
    """One picture of a manifest: ids, the absolute path and its upright size in pixels."""

    image_id: int
    key: str
    file: str
    width: int
    height: int
    shard: int


class Inspection(NamedTuple):
    """What decoding a picture told: pixels after EXIF rotation, stored mode, hash; ``reason`` is empty if usable."""

    width: int
    height: int
    mode: str
    sha256: str
    reason: str


def inspect_image(path: Path) -> Inspection:
    """Decode one file. Never raises for a bad picture: the reason says what is wrong with it."""
    try:
        data = path.read_bytes()
    except OSError as error:
        return Inspection(0, 0, "", "", f"cannot be read ({error.strerror})")
    digest = hashlib.sha256(data).hexdigest()
    try:
        image, mode = decode(data)
    except PictureError as error:
        return Inspection(0, 0, "", digest, str(error))
    reason = ""
    if min(image.size) < MIN_SIDE:
        reason = f"{image.width}x{image.height} pixels, smaller than {MIN_SIDE} a side"
    return Inspection(image.width, image.height, mode, digest, reason)


def build_manifest(
    images: Sequence[ListedImage],
    num_shards: int,
    base: Path,
    threads: int = 1,
    max_quarantined: float = 0.05,
) -> pd.DataFrame:
    """Decode every listed picture once and quarantine those that cannot be used.

    Row ``i`` of ``n`` gets ``image_id`` i + 1 and shard ``i * num_shards // n``, quarantined or not,
    so that ids and shards do not depend on which pictures are readable.

    Args:
        images: the source's pictures in order.
        num_shards: number of shards, 1..n.
        base: folder the manifest will lie in; pictures below it get relative paths.
        threads: pictures decoded at once.
        max_quarantined: tolerated share of unusable pictures, in [0, 1]. One unusable picture is always
            tolerated unless the share is 0.

    Returns:
        The manifest's columns in :data:`COLUMNS`. ``width``/``height`` are pixels after EXIF rotation,
        0 where the picture cannot be decoded.

    Raises:
        MaskDistillError: if no picture is usable, more than tolerated are not, or shards exceed pictures.
    """
    n = len(images)
    if not 1 <= num_shards <= max(n, 1):
        raise MaskDistillError(f"num_shards {num_shards} for {n} images; use between 1 and the number of images")
    with ThreadPoolExecutor(max(1, threads)) as pool:
        found = list(progress(pool.map(inspect_image, [image.path for image in images]), n, "decoding"))
    _refuse_bad_source(images, found, max_quarantined)
    base = Path(os.path.abspath(base))
    table = pd.DataFrame(
        {
            "image_id": np.arange(1, n + 1),
            "key": [image.key for image in images],
            "path": [_stored_path(image.path, base) for image in images],
            "width": [item.width for item in found],
            "height": [item.height for item in found],
            "mode": [item.mode for item in found],
            "sha256": [item.sha256 for item in found],
            "shard": np.arange(n) * num_shards // n,
            "train": [image.train for image in images],
            "eval": [image.eval for image in images],
            "status": ["quarantined" if item.reason else "ok" for item in found],
            "reason": [item.reason for item in found],
        }
    )
    return table.astype(COLUMNS)


def _refuse_bad_source(images: Sequence[ListedImage], found: Sequence[Inspection], max_quarantined: float) -> None:
    bad = [(image, item.reason) for image, item in zip(images, found, strict=True) if item.reason]
    for image, reason in bad:
        log.warning("quarantined %s: %s", image.path, reason)
    first = "".join(f"\n  {image.path}: {reason}" for image, reason in bad[:5])
    if len(bad) == len(images):
        raise MaskDistillError(f"none of the {len(images)} images can be used; give a source of pictures{first}")
    tolerated = 0 if max_quarantined == 0 else max(1, int(max_quarantined * len(images)))
    if len(bad) > tolerated:
        raise MaskDistillError(
            f"{len(bad)} of {len(images)} images cannot be used, more than the {tolerated} tolerated"
            f" (--max-quarantined {max_quarantined:g}); repair or remove them, or raise the limit{first}"
        )


def _stored_path(path: Path, base: Path) -> str:
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else str(path)


def write_manifest(path: str | Path, table: pd.DataFrame) -> None:
    """Write a manifest as UTF-8 CSV, atomically; equal tables give equal bytes."""
    with atomic_path(path) as temporary:
        table[list(COLUMNS)].to_csv(temporary, index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)


def read_manifest(path: str | Path) -> pd.DataFrame:
    """Read a manifest, all rows; adds the column ``file``, the absolute path of each picture.

    Raises:
        MaskDistillError: if the file is missing or is not a manifest.
    """
    path = Path(path)
    try:
        table = pd.read_csv(path, dtype=COLUMNS, na_filter=False, encoding="utf-8")
        table = table[list(COLUMNS)]
    except FileNotFoundError:
        raise MaskDistillError(f"{path}: no such file; run the manifest stage first") from None
    except (ValueError, KeyError) as error:
        raise MaskDistillError(f"{path}: not a manifest ({error}); delete it and run the manifest stage") from None
    base = Path(os.path.abspath(path.parent))
    return table.assign(file=[str(base / stored) for stored in table["path"]])


def ok_images(
    table: pd.DataFrame,
    shard: int | None = None,
    train: bool | None = None,
    eval: bool | None = None,
) -> pd.DataFrame:
    """Usable rows, in order, with a fresh index; optionally of one shard and with the given flags."""
    keep = table["status"] == "ok"
    if shard is not None:
        keep &= table["shard"] == shard
    if train is not None:
        keep &= table["train"] == train
    if eval is not None:
        keep &= table["eval"] == eval
    return table[keep].reset_index(drop=True)


def image_rows(table: pd.DataFrame) -> list[ImageRow]:
    """The rows of a manifest read by :func:`read_manifest` as plain Python values, in order."""
    return [ImageRow(*values) for values in zip(*(table[name].tolist() for name in ImageRow._fields), strict=True)]
