"""Hashes of large external files, such as weights; a file with an unchanged stamp is not read again."""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import read_json, sha256_file, write_json
from maskdistill.runtime.seal import stamp

CACHE = Path(".snakemake/maskdistill/contents.json")
FIRST_SEEN = ".first-seen.json"
"""File in a folder of downloads with the hashes of its files when they were first seen."""
_RACY_NS = 2_000_000_000


def content_of(path: str | Path, cache: Path = CACHE) -> str:
    """Hex SHA-256 of a file, remembered with its size, times and inode.

    Args:
        cache: file in which hashes are remembered; a damaged one is rewritten.

    Raises:
        OSError: the file cannot be read.
    """
    name, found = os.path.abspath(path), list(stamp(path))
    known = _read(cache)
    if known.get(name, {}).get("stamp") == found:
        return str(known[name]["sha256"])
    sha256 = sha256_file(path)
    # A second change right after the first can leave the times unchanged.
    if time.time_ns() - max(found[1], found[3]) > _RACY_NS:
        with suppress(OSError):
            write_json(cache, known | {name: {"stamp": found, "sha256": sha256}})
    return sha256


def is_as_first_seen(path: str | Path, sha256: str) -> bool:
    """Whether a downloaded file still has the content that it had when first seen, as noted in its folder.

    A download does not exist yet when a run is first planned, so Snakemake cannot compare its content with
    the last run's; a later change can be detected this way.
    """
    path = Path(path)
    note = path.with_name(FIRST_SEEN)
    seen = _read(note)
    if path.name in seen:
        return bool(seen[path.name] == sha256)
    with suppress(OSError):
        write_json(note, seen | {path.name: sha256})
    return True


def _read(cache: Path) -> dict[str, Any]:
    try:
        return dict(read_json(cache)) if cache.is_file() else {}
    except MaskDistillError:
        return {}
