"""Files that hold many pictures each (archives, videos, tables): found by name, listed once.

What takes long to find out about one, where its pictures lie, is kept beside the manifest that lists them.
"""

import glob
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from maskdistill.data.keys import RESERVED
from maskdistill.data.picture_names import printable
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import canonical_json, sealed_path
from maskdistill.runtime.seal import BrokenSeal, stamp, verify

FOLDER = "archives"
"""Beside a manifest: what is known of the archives, videos and tables."""
Container = tuple[str, Path]
"""What the keys of a file's pictures begin with, and its path."""


def containers(root: str | Sequence[str], setting: str, suffixes: Sequence[str]) -> list[Container]:
    """The files that a setting names, each with what its pictures' keys begin with: its path without suffix.

    Where two files differ in nothing but their suffix, it stays.

    Args:
        root: a folder, which is searched recursively, a file, a pattern, or several of these.
        setting: its name, for messages.
        suffixes: of the files that are taken, in lower case.

    Raises:
        MaskDistillError: nothing there, a folder that cannot be listed, or results of two files in one
            folder.
    """
    found: dict[str, Path] = {}
    for given in [root] if isinstance(root, str) else root:
        named = f"{setting}: {given}"
        pairs = _below(Path(os.path.abspath(Path(given).expanduser())), named, suffixes)
        stems = Counter(_stem(name, suffixes) for name, _ in pairs)
        for name, path in pairs:
            stem = _stem(name, suffixes)
            prefix = stem if stems[stem] == 1 else name
            if f"{prefix}/".startswith(tuple(f"{name}/" for name in RESERVED)):
                raise MaskDistillError(f"{path}: results have a file called {prefix}; rename it")
            if (other := found.setdefault(prefix, path)) != path:
                raise MaskDistillError(
                    f"{named}: results of {other} and {path} would lie in one folder, {prefix}; rename one, "
                    "or give the folder above both"
                )
    return list(found.items())


def holds(path: Path, suffixes: Sequence[str]) -> bool:
    """Whether a path is a file with one of these suffixes, or a folder with one somewhere below."""
    if path.is_dir():
        return any(name.lower().endswith(tuple(suffixes)) for name in _walk(path))
    return path.name.lower().endswith(tuple(suffixes))


def fingerprint(kind: str, found: Iterable[Container]) -> str:
    """Hex SHA-256 of each file's name, size, times and inode, which cover the pictures in it."""
    digest = hashlib.sha256(kind.encode())
    for prefix, path in found:
        row: list[object] = [os.fsencode(prefix).hex()]
        with suppress(OSError):
            row += stamp(path)
        digest.update(canonical_json(row).encode())
    return digest.hexdigest()


def kept_lines(
    path: Path,
    kept: Path | None,
    settings: list[object],
    lines: Callable[[], Iterator[Any]],
    marked: Callable[[Path], Sequence[object]] = stamp,
) -> Iterator[Any]:
    """The values of ``lines`` for a file, from a note that is kept while the file stays the same.

    Args:
        kept: folder of a manifest; None: nothing is kept.
        settings: what the lines depend on beside the file.
        lines: finds them out.
        marked: what tells by its value that the file is the same.
    """
    if kept is None:
        yield from lines()
        return
    digest = hashlib.sha256(os.fsencode(os.path.abspath(path))).hexdigest()
    note = kept / FOLDER / f"{printable(path.stem)[:100]}-{digest[:12]}.jsonl"
    if not _is_current(note, path, settings, marked):
        try:
            first = canonical_json([*settings, *_marks(path, marked)])
            with sealed_path(note) as temporary, open(temporary, "w", encoding="utf-8") as stream:
                stream.writelines(f"{line}\n" for line in [first])
                stream.writelines(f"{canonical_json(line)}\n" for line in lines())
        except OSError:  # nothing can be kept there
            yield from lines()
            return
    with open(note, encoding="utf-8") as stream:
        next(stream)
        yield from map(json.loads, _without_seal(stream))


def _without_seal(stream: Iterable[str]) -> Iterator[str]:
    """All lines but the last, which seals the file."""
    before = None
    for line in stream:
        if before is not None:
            yield before
        before = line


def _marks(path: Path, marked: Callable[[Path], Sequence[object]]) -> Sequence[object]:
    try:
        return marked(path)
    except OSError as error:
        raise unreadable(path, error) from None


def _is_current(
    note: Path, path: Path, settings: list[object], marked: Callable[[Path], Sequence[object]]
) -> bool:
    """Whether a note is whole, and of the file as it is."""
    try:
        verify(note)
        with open(note, encoding="utf-8") as stream:
            return bool(json.loads(stream.readline()) == [*settings, *marked(path)])
    except (OSError, ValueError, BrokenSeal):
        return False


def unreadable(path: Path, error: OSError) -> MaskDistillError:
    """What to say of a file that the system does not give."""
    return MaskDistillError(f"{path}: cannot be read ({error.strerror}); grant access or restore it")


def _stem(name: str, suffixes: Sequence[str]) -> str:
    suffix = next(suffix for suffix in suffixes if name.lower().endswith(suffix))
    return name[: -len(suffix)]


def _below(given: Path, setting: str, suffixes: Sequence[str]) -> list[tuple[str, Path]]:
    """Files that one path names, sorted, each with its path below the folder."""
    if given.is_dir():
        top, names = given, list(_walk(given))
    elif given.is_file():
        top, names = given.parent, [given.name]
    elif glob.has_magic(str(given)):
        fixed = [part for part in given.parents if not glob.has_magic(str(part))]
        top, names = (
            fixed[0],
            [os.path.relpath(path, fixed[0]) for path in glob.glob(str(given), recursive=True)],
        )
    else:
        raise MaskDistillError(
            f"{setting}: no such file or folder; give a folder of {suffixes[0]} files, one, or a pattern"
        )
    taken = sorted(name for name in names if name.lower().endswith(tuple(suffixes)))
    if not taken:
        raise MaskDistillError(f"{setting}: no {suffixes[0]} file there; correct the path")
    return [(name, top / name) for name in taken]


def _walk(top: Path) -> Iterator[str]:
    """Files below a folder by relative path; hidden ones and linked folders are passed over."""

    def refuse(error: OSError) -> None:
        raise MaskDistillError(
            f"{error.filename}: cannot be listed ({error.strerror}); grant access or move it"
        )

    for folder, folders, files in os.walk(top, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (
            os.path.relpath(os.path.join(folder, name), top) for name in files if not name.startswith(".")
        )
