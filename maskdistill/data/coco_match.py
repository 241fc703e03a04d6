"""Which entries of a COCO file are about which pictures of the run."""

import os
import posixpath
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from maskdistill.data.coco_file import CocoImage, plain_name
from maskdistill.data.manifest import ImageRow
from maskdistill.data.truth_types import Losses, Place
from maskdistill.runtime.user_files import printable_text


def match_images(
    source: str, root: str | Path, entries: Sequence[CocoImage], images: Sequence[ImageRow], losses: Losses
) -> dict[str, list[CocoImage]]:
    """Entries of each picture, by its key; several of one picture are all there, pictures without one are not.

    A name is taken as the path below ``root`` as it stands, else with ``/`` for a backslash, without ``./`` and without
    ``root`` before it, else in whatever Unicode form; else a file's name counts that is unique on both sides.

    Args:
        source: the file, for messages.
        root: folder of the pictures.
        losses: gets the images that are lost where pictures without entry and entries without picture stand side by
            side: their names differ. Where one side is left over alone, nothing was meant to be matched.

    Raises:
        MaskDistillError: no picture has an entry.
    """
    top = os.path.abspath(Path(root).expanduser())
    rows = {Path(os.path.relpath(row.file, top)).as_posix(): row for row in images}
    same = _unique((_nfc(path), path) for path in rows)
    names = _unique((_nfc(posixpath.basename(path)), path) for path in rows)
    found: dict[str, list[CocoImage]] = {}
    unmatched: list[tuple[str, CocoImage]] = []
    uses: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        plain = _below(entry.file_name, top)
        uses[posixpath.basename(plain)].add(plain)
        path = entry.file_name if entry.file_name in rows else same.get(plain)
        if path is None:
            unmatched.append((posixpath.basename(plain), entry))
        else:
            found.setdefault(rows[path].key, []).append(entry)
    by_path = set(found)
    left = []
    for name, entry in unmatched:
        path = names.get(name)
        if path is None or len(uses[name]) > 1 or rows[path].key in by_path:
            left.append(entry)
        else:
            found.setdefault(rows[path].key, []).append(entry)
    if not found:
        raise Place(source).wrong("none of its images is in data.images", "give the JSON of these pictures")
    losses.expect("images", len(found))
    if without := [row for row in images if row.key not in found]:
        # An entry whose picture is there all the same is that of a quarantined one.
        left = [entry for entry in left if not _is_there(os.path.join(top, _below(entry.file_name, top)))]
        _note_lost(source, left, without, losses)
    return found


def _is_there(path: str) -> bool:
    try:
        return os.path.lexists(path)
    except ValueError:  # no file can have this name
        return False


def _note_lost(source: str, entries: list[CocoImage], images: list[ImageRow], losses: Losses) -> None:
    """Note pictures without entry. Where names are left over on both sides, the fewer of them are lost images."""
    lost = min(len(entries), len(images))
    losses.expect("images", lost)
    for row in images:
        place = Place(source, printable_text(row.key))
        losses.drop("image" if len(images) == lost else "unscored image", place, "no entry of images has its name")
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
    """The pairs whose first part no other pair has, as a mapping."""
    found: dict[str, list[str]] = defaultdict(list)
    for name, path in pairs:
        found[name].append(path)
    return {name: paths[0] for name, paths in found.items() if len(paths) == 1}
