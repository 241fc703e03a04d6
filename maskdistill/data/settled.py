"""Whether a manifest's pictures are unchanged: stamps give a hint, content decides.

A listing's fingerprint (:func:`maskdistill.data.listing.listing_fingerprint`) changes when a file is copied,
restored from a backup or given other rights, too. Then the pictures are hashed once and compared with the
manifest's digests; if all are the same, the fingerprint that the manifest was made with goes on standing for
them.
"""

import hashlib
import logging
import os
from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maskdistill.data.listed import ListedImage
from maskdistill.data.manifest import index_path, read_index, stored_path
from maskdistill.data.picture_files import PictureError, open_picture
from maskdistill.data.picture_names import printable
from maskdistill.data.picture_refs import file_of
from maskdistill.data.stream import all_rows
from maskdistill.runtime.background import in_order
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import read_json, write_json

log = logging.getLogger("maskdistill")
NOTE = ".listing.json"
"""Beside a manifest: the last fingerprint that was found to stand for the same pictures."""
FIRST = 100
"""Pictures changed last that are hashed before all others: a picture that was really replaced is among them.
"""
THREADS = 8


class _Pair(NamedTuple):
    path: Path
    sha256: str


def settled_listing(fingerprint: str, images: Callable[[], Iterator[ListedImage]], manifest: Path) -> str:
    """The manifest's own fingerprint if its pictures are unchanged, else the given one.

    Args:
        fingerprint: of the pictures now.
        images: lists them, in the manifest's order.
        manifest: its file, there or not.
    """
    try:
        made = read_index(manifest).get("listing") if index_path(manifest).is_file() else None
    except MaskDistillError:
        made = None
    if made in (None, fingerprint):
        return fingerprint
    note = manifest.with_name(NOTE)
    if _noted(note) == [made, fingerprint]:
        return str(made)
    if not is_unchanged(images, manifest):
        return fingerprint
    with suppress(OSError):
        write_json(note, {"made": made, "seen": fingerprint})
    return str(made)


def _noted(note: Path) -> list[object] | None:
    try:
        found = read_json(note) if note.is_file() else {}
    except MaskDistillError:
        return None
    return [found.get("made"), found.get("seen")]


def is_unchanged(images: Callable[[], Iterator[ListedImage]], manifest: Path) -> bool:
    """Whether the same pictures are listed as in a manifest, each with the content that it had."""
    try:
        changed = array("q", (_changed(pair.path) for pair in _pairs(images(), manifest)))
        times = np.frombuffer(changed, np.int64)
        newest = np.partition(times, -FIRST)[-FIRST] if len(times) > FIRST else 0
        log.info(
            "%d pictures look changed, or were copied: their content is compared with %s",
            len(times),
            manifest,
        )
        for late in (True, False):
            pairs = _pairs(images(), manifest)
            chosen = (pair for pair in pairs if (_changed(pair.path) >= newest) == late)
            if not all(in_order(_is_same, chosen, THREADS)):
                return False
    except (MaskDistillError, ValueError):
        return False
    return True


def _pairs(images: Iterator[ListedImage], manifest: Path) -> Iterator[_Pair]:
    """Each picture with its digest in the manifest.

    Raises:
        ValueError: other pictures are listed, or the same ones for other uses.
    """
    base = Path(os.path.abspath(manifest.parent))
    columns = ("key", "path", "train", "eval", "segmenter", "sha256")
    for rows in all_rows(manifest, columns):
        for *row, sha256 in zip(*(rows[name].tolist() for name in columns), strict=True):
            image = next(images, None)
            if image is None:
                raise ValueError("a picture is gone")
            segmenter = image.train if image.segmenter is None else image.segmenter
            if row != [image.key, stored_path(image.path, base), image.train, image.eval, segmenter]:
                raise ValueError(f"{image.key}: listed otherwise")
            yield _Pair(image.path, sha256)
    if next(images, None) is not None:
        raise ValueError("a picture was added")


def _changed(path: Path) -> int:
    try:
        return os.stat(file_of(path)).st_ctime_ns
    except OSError:
        return 0


def _is_same(pair: _Pair) -> bool:
    """Whether a picture has its digest; without one it could not be read, and still must not be."""
    if not pair.sha256 and printable(str(pair.path)) != str(pair.path):
        return True
    try:
        with open_picture(pair.path) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == pair.sha256
    except (OSError, PictureError):
        return not pair.sha256
