"""Which pictures or archives a bucket holds below a prefix: listed once when a run is planned, and kept.

Nothing is read of a picture. Its size and the store's mark of its content (ETag) hint at a change.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from maskdistill.data.keys import key_of_path, parts_of_keys
from maskdistill.data.picture_names import SUFFIXES, left_out_kind
from maskdistill.runtime.files import canonical_json, sealed_path
from maskdistill.runtime.remote_list import Listed, list_objects
from maskdistill.runtime.remote_urls import quoted, split
from maskdistill.runtime.seal import BrokenSeal, verify

FOLDER = "listings"
"""Beside a manifest: what was listed."""
FORMAT = 1
"""Of a listing: a line of it and of the prefix, a line an object, a line of what was left out and of the
digest.
"""
FRESH = 600.0
"""Seconds in which a bucket is not listed again: planning, counting and the manifest see the same."""
_listed: set[Path] = set()


class Stored(NamedTuple):
    """A picture in a bucket.

    Attributes:
        key: of its results, below the prefix and without ending where that is clear.
        url: checked.
        size: in bytes.
        etag: the store's mark of its content.
    """

    key: str
    url: str
    size: int
    etag: str


def pictures_below(root: str, kept: Path | None, left_out: Counter[str]) -> Iterator[Stored]:
    """Pictures below a checked ``s3://`` or ``gs://`` prefix, by name, few at a time in memory.

    Args:
        root: the prefix.
        kept: folder of a manifest, where the listing is kept.
        left_out: counts objects that look like pictures and are not taken, by suffix.

    Raises:
        MaskDistillError: the bucket cannot be listed.
    """
    where = split(root)
    start = f"{where.name.rstrip('/')}/" if where.path.strip("/") else ""
    for key, entry in _keyed(_entries(root, kept, left_out), start):
        yield Stored(key, f"{where.scheme}://{where.host}/{quoted(entry.name)}", entry.size, entry.etag)


def digest_of(root: str, kept: Path | None) -> str:
    """Hex SHA-256 of what :func:`pictures_below` lists: names, sizes and marks."""
    digest = hashlib.sha256()
    for entry in _entries(root, kept, Counter()):
        digest.update(canonical_json(entry).encode())
    return digest.hexdigest()


def files_below(root: str, kept: Path | None, suffixes: tuple[str, ...]) -> Iterator[Listed]:
    """Objects below a checked prefix whose names end so, in any case; otherwise as :func:`pictures_below`."""
    return _entries(root, kept, Counter(), suffixes)


def _keyed(entries: Iterator[Listed], start: str) -> Iterator[tuple[str, Listed]]:
    """Entries with their keys; clashing names are neighbours, and so are told apart."""

    def stem(entry: Listed) -> tuple[str, str]:
        folder, _, name = entry.name[len(start) :].rpartition("/")
        return folder, name.partition(".")[0]

    for (folder, _), group in groupby(entries, key=stem):
        named = {entry.name.rpartition("/")[2]: entry for entry in group}
        above = key_of_path(folder.replace("..", "~~"))
        for name, part in parts_of_keys(list(named), ()).items():
            yield f"{above}/{part}" if above else part, named[name]


def _entries(
    root: str, kept: Path | None, left_out: Counter[str], suffixes: tuple[str, ...] = SUFFIXES
) -> Iterator[Listed]:
    if kept is None:
        yield from _listed_anew(root, left_out, suffixes)
        return
    path = _path(root, kept, suffixes)
    if not _is_current(path, root):
        try:
            _write(path, root, suffixes)
        except OSError:  # nothing can be kept there
            yield from _listed_anew(root, left_out, suffixes)
            return
    _listed.add(path)
    with open(path, encoding="utf-8") as stream:
        next(stream)
        for line in stream:
            found = json.loads(line)
            if isinstance(found, dict):
                left_out.update(found)
                return
            yield Listed(*found)


def _path(root: str, kept: Path, suffixes: tuple[str, ...]) -> Path:
    name = key_of_path(split(root).name).replace("/", "-")[-60:] or "all"
    named = root if suffixes == SUFFIXES else " ".join((root, *suffixes))
    return (
        kept.absolute()
        / FOLDER
        / f"{split(root).host}-{name}-{hashlib.sha256(named.encode()).hexdigest()[:12]}.jsonl"
    )


def _is_current(path: Path, root: str) -> bool:
    """Whether a listing is whole, and of this process or made a short while ago."""
    try:
        if path not in _listed and not 0 <= time.time() - path.stat().st_mtime < FRESH:
            return False
        verify(path)
        with open(path, encoding="utf-8") as stream:
            return bool(json.loads(stream.readline()) == [FORMAT, root])
    except (OSError, ValueError, BrokenSeal):
        return False


def _write(path: Path, root: str, suffixes: tuple[str, ...]) -> None:
    left_out: Counter[str] = Counter()
    with sealed_path(path) as temporary, open(temporary, "w", encoding="utf-8") as stream:
        stream.write(f"{canonical_json([FORMAT, root])}\n")
        for entry in _listed_anew(root, left_out, suffixes):
            stream.write(f"{canonical_json(entry)}\n")
        stream.write(f"{canonical_json(left_out)}\n")


def _listed_anew(root: str, left_out: Counter[str], suffixes: tuple[str, ...]) -> Iterator[Listed]:
    """Objects whose names end so; hidden ones are passed over."""
    folder = f"{root.rstrip('/')}/" if split(root).path.strip("/") else root
    start = len(split(folder).name)
    for entry in list_objects(folder):
        parts = entry.name[start:].split("/")
        if not parts[-1] or any(part.startswith(".") and part not in (".", "..") for part in parts):
            continue
        if parts[-1].lower().endswith(suffixes):
            yield entry
        elif kind := left_out_kind(parts[-1]):
            left_out[kind] += 1
