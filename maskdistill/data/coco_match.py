"""Which entries of a COCO file are about which pictures of the run."""

import os
import posixpath
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from maskdistill.data.coco_file import CocoImage, plain_name
from maskdistill.data.manifest import ImageRow
from maskdistill.data.truth_types import Losses, Place
from maskdistill.runtime.user_files import printable_text


def match_images(
    source: str, root: str | Path, entries: Sequence[CocoImage], images: Sequence[ImageRow], losses: Losses
) -> dict[str, list[CocoImage]]:
    """All entries of each picture, by its key; pictures without one are absent.

    A name is taken as the path below ``root`` as it stands, else with ``/`` for a backslash, without ``./``
    and without ``root`` before it; see :func:`match_names`.

    Args:
        source: the file, for messages.
        root: folder of the pictures.
        losses: gets the images that are lost where pictures without entry and entries without picture stand
            side by side: their names differ. Where one side is left over alone, nothing was meant to be
            matched.

    Raises:
        MaskDistillError: no picture has an entry.
    """
    top = os.path.abspath(Path(root).expanduser())
    rows = {Path(os.path.relpath(row.file, top)).as_posix(): row for row in images}
    found, left = match_names(entries, rows, lambda name: _below(name, top))
    if not found:
        raise Place(source).wrong("none of its images is in data.images", "give the JSON of these pictures")
    losses.expect("images", len(found))
    if without := [row for row in images if row.key not in found]:
        # An entry whose picture is there all the same is that of a quarantined one.
        left = [entry for entry in left if not _is_there(os.path.join(top, _below(entry.file_name, top)))]
        _note_lost(source, left, without, losses)
    return found


def match_names(
    entries: Sequence[CocoImage], rows: Mapping[str, ImageRow], plain: Callable[[str], str]
) -> tuple[dict[str, list[CocoImage]], list[CocoImage]]:
    """Entries of each picture, by its key, and those that are about none.

    A name counts as it stands, else in one spelling, else in whatever Unicode form; else a file's name that
    is unique on both sides.

    Args:
        rows: path, as entries may name it -> picture; a picture may have several.
        plain: gives a name's one spelling.
    """
    same = _unique((_nfc(path), path) for path in rows)
    names = _unique((posixpath.basename(_nfc(path)), row.key) for path, row in rows.items())
    found: dict[str, list[CocoImage]] = {}
    unmatched: list[tuple[str, CocoImage]] = []
    uses: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        path = plain(entry.file_name)
        uses[posixpath.basename(path)].add(path)
        known = entry.file_name if entry.file_name in rows else same.get(path)
        if known is None:
            unmatched.append((posixpath.basename(path), entry))
        else:
            found.setdefault(rows[known].key, []).append(entry)
    by_path = set(found)
    left = []
    for name, entry in unmatched:
        key = names.get(name)
        if key is None or len(uses[name]) > 1 or key in by_path:
            left.append(entry)
        else:
            found.setdefault(key, []).append(entry)
    return found, left


def _is_there(path: str) -> bool:
    try:
        return os.path.lexists(path)
    except ValueError:  # no file can have this name
        return False


def _note_lost(source: str, entries: list[CocoImage], images: list[ImageRow], losses: Losses) -> None:
    """Note pictures without entry.

    Where names are left over on both sides, the fewer of them are lost images.
    """
    lost = min(len(entries), len(images))
    losses.expect("images", lost)
    for row in images:
        place = Place(source, printable_text(row.key))
        losses.drop(
            "image" if len(images) == lost else "unscored image", place, "no entry of images has its name"
        )
    for entry in entries if len(images) > lost else ():
        losses.drop("image", entry.place, f"no picture is {printable_text(entry.file_name)!r}")


def _below(name: str, root: str) -> str:
    """A name as a path below ``root`` where it can be one, in one spelling."""
    path = plain_name(name)
    for top in dict.fromkeys((root, os.path.realpath(root))):
        if path.startswith(f"{plain_name(top)}/"):
            return path.removeprefix(f"{plain_name(top)}/")
    return path


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _unique(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Of each first part the second one, where all pairs that have it agree."""
    found: dict[str, set[str]] = defaultdict(set)
    for name, value in pairs:
        found[name].add(value)
    return {name: next(iter(values)) for name, values in found.items() if len(values) == 1}
