"""The manifest: every picture of a run decoded once, with its size, hash, shard and whether it is usable."""

import csv
import hashlib
import io
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from PIL import Image

from maskdistill.data.images import Photo, decode, load_rgb
from maskdistill.data.listed import ListedImage
from maskdistill.data.picture_files import PictureError, picture_bytes
from maskdistill.data.picture_names import printable
from maskdistill.data.picture_refs import told_name
from maskdistill.runtime.background import in_order
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import LONGEST_NAME, atomic_path, damaged, read_json, write_json
from maskdistill.runtime.progress import progress
from maskdistill.runtime.provenance import INDEX, ORACLE
from maskdistill.runtime.seal import BrokenSeal, whole_as

log = logging.getLogger("maskdistill")

COLUMNS = {
    "image_id": "int64", "key": "str", "path": "str", "width": "int64", "height": "int64", "mode": "str",
    "sha256": "str", "shard": "int64", "train": "bool", "eval": "bool", "status": "str", "reason": "str",
}  # fmt: skip
FILE_COLUMNS = {**COLUMNS, "segmenter": "bool"}
"""As stored: with whether the segmenter learns from a picture, which is ``train`` where a table does not say.
"""
QUARANTINED = ["image_id", "path", "reason"]
MIN_SIDE = 16


class ImageRow(NamedTuple):
    """One picture of a manifest: ids, the absolute path (a :class:`Photo`) and its upright size in pixels."""

    image_id: int
    key: str
    file: str
    width: int
    height: int
    shard: int


class Inspection(NamedTuple):
    """What decoding found: pixels after EXIF rotation, stored mode, hash, reason if unusable."""

    width: int
    height: int
    mode: str
    sha256: str
    reason: str


def inspect_image(path: Path) -> Inspection:
    """Decode one file. Never raises for a bad picture: the reason says what is wrong with it.

    Raises:
        MaskDistillError: the process ran out of memory or open files.
    """
    if printable(str(path)) != str(path):
        return Inspection(0, 0, "", "", "the file name is not UTF-8; rename it")
    digest = ""
    try:
        with picture_bytes(path) as data:
            digest = hashlib.sha256(data).hexdigest()
            image, mode = decode(data)
            width, height = image.size
            del image  # while its memory is accounted for
    except PictureError as error:
        return Inspection(0, 0, "", digest, str(error))
    except OSError as error:
        return Inspection(0, 0, "", "", f"cannot be read ({error.strerror})")
    reason = ""
    if min(width, height) < MIN_SIDE:
        reason = f"{width}x{height} pixels, smaller than {MIN_SIDE} a side"
    return Inspection(width, height, mode, digest, reason)


def build_manifest(
    images: Iterable[ListedImage],
    num_images: int,
    num_shards: int,
    base: Path,
    threads: int = 1,
    max_quarantined: float = 0.05,
) -> Iterator[pd.DataFrame]:
    """Decode every picture once, quarantine unusable ones; one shard at a time is in memory.

    Row ``i`` of ``n`` gets ``image_id`` i + 1 and shard ``i * num_shards // n``, quarantined or not,
    so that ids and shards do not depend on which pictures are readable.

    Args:
        images: the source's pictures in order.
        num_images: n, their number.
        num_shards: number of shards, 1..n.
        base: folder the manifest will lie in; pictures below it get relative paths.
        threads: pictures decoded at once.
        max_quarantined: tolerated share of unusable pictures, in [0, 1]. One unusable picture is always
            tolerated unless the share is 0.

    Yields:
        The rows of one shard, columns :data:`FILE_COLUMNS`. ``width``/``height`` are pixels after EXIF
        rotation, 0 where the picture cannot be decoded.

    Raises:
        MaskDistillError: if there are not n pictures, no picture is usable, more than tolerated are not, or
            shards exceed pictures.
    """
    n = num_images
    if not 1 <= num_shards <= max(n, 1):
        raise MaskDistillError(
            f"num_shards {num_shards} for {n} images; use between 1 and the number of images"
        )
    base = Path(os.path.abspath(base))
    rows: list[tuple[object, ...]] = []
    listed = 0
    shallow = 0
    bad: list[tuple[str, str]] = []
    for image, item in progress(in_order(_inspected, images, threads), n, "decoding"):
        shard = listed * num_shards // n
        if rows and shard != rows[0][_SHARD]:
            yield _table(rows)
            rows = []
        listed += 1
        shallow += not item.reason and item.mode.endswith(" bits")
        status = "quarantined" if item.reason else "ok"
        place = (listed, image.key, stored_path(image.path, base))
        segmenter = image.train if image.segmenter is None else image.segmenter
        rows.append((*place, *item[:4], shard, image.train, image.eval, status, item.reason, segmenter))
        if item.reason:
            name = printable(told_name(image.path))
            log.warning("quarantined %s: %s", name, item.reason)
            bad.append((name, item.reason))
    if shallow:
        log.info(
            "%d 16-bit images use fewer bits: their white is the largest value of these (see mode)", shallow
        )
    if listed != n:
        raise MaskDistillError(
            f"{listed} images were found, {n} were counted before; run again while nothing changes"
        )
    _refuse_bad_source(n, bad, max_quarantined)
    yield _table(rows)


_SHARD = list(COLUMNS).index("shard")


def _table(rows: list[tuple[object, ...]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(FILE_COLUMNS)).astype(FILE_COLUMNS)


def _inspected(image: ListedImage) -> tuple[ListedImage, Inspection]:
    item = inspect_image(image.path)
    derived = image.key.rpartition("/")[2] + ".png"
    if not item.reason and len(derived.encode()) > LONGEST_NAME:
        item = item._replace(
            reason=f"the name is too long for files made of it (NAME.png, {LONGEST_NAME} bytes)"
        )
    return image, item


def _refuse_bad_source(count: int, bad: list[tuple[str, str]], max_quarantined: float) -> None:
    first = "".join(f"\n  {path}: {reason}" for path, reason in bad[:5])
    if len(bad) == count:
        raise MaskDistillError(f"none of the {count} images can be used; give a source of pictures{first}")
    allowed = tolerated(max_quarantined, count)
    if len(bad) > allowed:
        raise MaskDistillError(
            f"{len(bad)} of {count} images cannot be used, more than the {allowed} tolerated"
            f" (max_quarantined: {max_quarantined:g}); repair them, or raise it; the log names all{first}"
        )


def tolerated(share: float, count: int) -> int:
    """How many of ``count`` may be unusable: a share, and at least one unless the share is 0."""
    return 0 if share == 0 else max(1, int(share * count))


def stored_path(path: Path, base: Path) -> str:
    """How a manifest in the folder ``base`` names a picture."""
    return printable(path.relative_to(base).as_posix() if path.is_relative_to(base) else str(path))


def write_manifest(
    path: str | Path,
    tables: pd.DataFrame | Iterable[pd.DataFrame],
    left_out: Mapping[str, int] | None = None,
    listing: str | None = None,
    oracle: str | None = None,
) -> None:
    """Write a manifest as UTF-8 CSV, atomically; equal tables give equal bytes.

    Beside it lies its index (:func:`index_path`): where in the file each shard begins and what digest its
    rows have, so that a shard of a long manifest is read, and compared, without the rest. What is quarantined
    also stands in a file of its own (:func:`quarantine_path`).

    Args:
        tables: the whole, or pieces of it in order, with :data:`COLUMNS` at least; shards ascend.
        left_out: how many files of which suffix look like pictures and are not taken; looked at when all is
            written.
        listing: fingerprint of the pictures' names, sizes and times, kept in the index.
        oracle: what ground truth makes perfect, kept in the index: it marks all that is made with this
            manifest.
    """
    pieces = [tables] if isinstance(tables, pd.DataFrame) else tables
    starts: dict[str, int] = {}
    digests: dict[str, Any] = {}
    whole = hashlib.sha256()
    with atomic_path(path) as temporary, atomic_path(quarantine_path(path)) as quarantine:
        with open(temporary, "wb") as stream, open(quarantine, "wb") as listed:
            header = _csv(pd.DataFrame(columns=list(FILE_COLUMNS)), True)
            whole.update(header)
            stream.write(header)
            listed.write(_csv(pd.DataFrame(columns=QUARANTINED), True))
            for piece in pieces:
                for shard, rows in with_segmenter(piece)[list(FILE_COLUMNS)].groupby("shard", sort=False):
                    starts.setdefault(str(shard), stream.tell())
                    content = _csv(rows)
                    digests.setdefault(str(shard), hashlib.sha256()).update(content)
                    whole.update(content)
                    stream.write(content)
                listed.write(_csv(piece.loc[piece["status"] != "ok", QUARANTINED]))
            size = stream.tell()
        sums = {shard: digest.hexdigest() for shard, digest in digests.items()}
        index = {"size": size, "sha256": whole.hexdigest(), "shards": starts, "digests": sums}
        index["left_out"] = dict(left_out or {})
        index |= {} if listing is None else {"listing": listing}
        write_json(index_path(path), index | ({} if oracle is None else {ORACLE: oracle}))


def _csv(rows: pd.DataFrame, header: bool = False) -> bytes:
    text: str = rows.to_csv(None, index=False, header=header, **_CSV)
    return text.encode()


def with_segmenter(table: pd.DataFrame) -> pd.DataFrame:
    """The table with the column ``segmenter``, which is ``train`` where there is none."""
    return table if "segmenter" in table else table.assign(segmenter=table["train"])


_CSV: Any = {"lineterminator": "\n", "quoting": csv.QUOTE_NONNUMERIC}


def index_path(path: str | Path) -> Path:
    """``manifest.index.json`` of ``manifest.csv``."""
    return Path(path).with_suffix(INDEX)


def left_out_of(path: str | Path) -> dict[str, int]:
    """Counts, by suffix, of files beside a manifest's pictures that were not taken."""
    index = index_path(path)
    found: dict[str, int] = read_json(index).get("left_out", {}) if index.is_file() else {}
    return found


def quarantine_path(path: str | Path) -> Path:
    """``manifest.quarantined.csv`` of ``manifest.csv``."""
    return Path(path).with_suffix(".quarantined.csv")


def read_manifest(path: str | Path, shard: int | None = None) -> pd.DataFrame:
    """Read a manifest or one shard of it; adds ``file``, each picture's absolute path.

    Raises:
        MaskDistillError: if the file is missing, is not a manifest, or has no such shard.
    """
    path = Path(path)
    try:
        if shard is None:
            check_manifest(path)
            table = pd.read_csv(path, dtype=FILE_COLUMNS, na_filter=False, encoding="utf-8")
        else:
            table = _read_shard(path, shard)
        table = with_segmenter(table)[list(FILE_COLUMNS)]
    except FileNotFoundError:
        raise MaskDistillError(f"{path}: no such file; run the manifest stage first") from None
    except (ValueError, KeyError) as error:
        raise damaged(path, f"not a manifest ({error})") from None
    base = Path(os.path.abspath(path.parent))
    return table.assign(file=[str(base / stored) for stored in table["path"]])


def check_manifest(path: str | Path) -> None:
    """Compare a manifest with the digest in its index: a cut one might still parse.

    Raises:
        MaskDistillError: it, or its index, is missing or damaged.
    """
    try:
        whole_as(path, read_index(path)["sha256"])
    except BrokenSeal as error:
        raise damaged(path, f"not a manifest ({error})") from None


def read_index(path: str | Path) -> dict[str, Any]:
    """The index beside a manifest.

    Raises:
        MaskDistillError: the manifest is missing, or the index missing or damaged.
    """
    if not Path(path).is_file():
        raise MaskDistillError(f"{path}: no such file; run the manifest stage first")
    if not index_path(path).is_file():
        raise damaged(path, f"not a manifest (its index {index_path(path).name} is missing)")
    index: dict[str, Any] = read_json(index_path(path))
    return index


def _read_shard(path: Path, shard: int) -> pd.DataFrame:
    """Rows of a shard, found through the index and compared with the digest there."""
    index = read_index(path)
    starts: dict[str, int] = index["shards"]
    if str(shard) not in starts:
        raise MaskDistillError(f"{path}: has no shard {shard}; take one of 0..{max(map(int, starts))}")
    start = starts[str(shard)]
    stop = min((place for place in starts.values() if place > start), default=index["size"])
    with open(path, "rb") as stream:
        stream.seek(start)
        content = stream.read(stop - start)
    if hashlib.sha256(content).hexdigest() != index["digests"][str(shard)]:
        raise damaged(path, f"not a manifest (the rows of shard {shard} are not what their digest says)")
    return pd.read_csv(
        io.BytesIO(content), dtype=FILE_COLUMNS, na_filter=False, encoding="utf-8", header=None,
        names=list(FILE_COLUMNS),
    )  # fmt: skip


def ok_images(
    table: pd.DataFrame,
    shard: int | None = None,
    train: bool | None = None,
    eval: bool | None = None,
    segmenter: bool | None = None,
    support: bool = True,
) -> pd.DataFrame:
    """Usable rows, in order, with a fresh index; optionally of one shard and with the given flags.

    The support set, which nothing trains on or scores, is left out where ``support`` is False.
    """
    keep = table["status"] == "ok"
    if not support:
        keep &= table["train"] | table["eval"] | table["segmenter"]
    if shard is not None:
        keep &= table["shard"] == shard
    if train is not None:
        keep &= table["train"] == train
    if eval is not None:
        keep &= table["eval"] == eval
    if segmenter is not None:
        keep &= table["segmenter"] == segmenter
    return table[keep].reset_index(drop=True)


def image_rows(table: pd.DataFrame) -> list[ImageRow]:
    """The rows of a manifest read by :func:`read_manifest` as plain Python values, in order."""
    columns = (photos(table) if name == "file" else table[name].tolist() for name in ImageRow._fields)
    return [ImageRow(*values) for values in zip(*columns, strict=True)]


def load_listed(row: ImageRow) -> Image.Image:
    """The picture of a manifest's row, upright and in mode RGB.

    Raises:
        MaskDistillError: it cannot be read, was replaced, or has another size than the manifest says.
    """
    image = load_rgb(row.file)
    if (image.height, image.width) != (row.height, row.width):
        raise MaskDistillError(f"{row.file} has changed size since the manifest was made; make it again")
    return image


def photos(table: pd.DataFrame) -> list[Photo]:
    """The pictures of a manifest read by :func:`read_manifest`, with what their bytes were, in order."""
    return list(map(Photo, table["file"].tolist(), table["sha256"].tolist()))
