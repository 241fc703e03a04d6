"""Names of pictures' results: no name is another's file, or a folder in its path."""

import hashlib
import unicodedata
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath

DERIVED = (".png", ".jpg")
"""What a key ends in where something is made of its picture: label maps and overlays."""


def fold(name: str) -> str:
    """Equal for names that some file systems cannot tell apart: by case, or by how accents are composed."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


RESERVED = ("summary.json",)
"""What lies beside label maps: no first folder of a key is called so."""


def parts_of_keys(
    pictures: Sequence[str], folders: Iterable[str], reserved: Sequence[str] = ()
) -> dict[str, str]:
    """What each picture and folder of one folder contributes to keys.

    Folders keep their names and pictures are named without extension. Where that is ambiguous, or a file made
    of a picture would be called as a folder is, the extension stays; where that does not help either, ``~2``
    is added.

    Args:
        pictures, folders: names in one folder, all distinct.
        reserved: names that no folder may have.
    """
    taken = set(map(fold, reserved))
    found: dict[str, str] = {}
    for name in sorted(folders):
        found[name] = _free(name, ("",), taken)
    keys = {name: name.rpartition(".")[0] for name in pictures}
    while True:
        counts = Counter(map(fold, keys.values()))
        unclear = {
            name
            for name, key in keys.items()
            if key != name and (counts[fold(key)] > 1 or any(fold(key + end) in taken for end in DERIVED))
        }
        if not unclear:
            break
        keys |= {name: name for name in unclear}
    for name in sorted(pictures):
        found[name] = _free(keys[name], DERIVED, taken)
    return found


def _free(name: str, endings: Sequence[str], taken: set[str]) -> str:
    """``name``, or ``name~2`` and so on: the first that is free with all endings, now taken."""
    chosen, number = name, 2
    while any(fold(chosen + end) in taken for end in endings):
        chosen, number = f"{name}~{number}", number + 1
    taken |= {fold(chosen + end) for end in endings}
    return chosen


def key_of_path(name: str) -> str:
    """Key of a picture that is named by a path: without ``.``, doubled slashes and the one in front."""
    return "/".join(part for part in name.split("/") if part not in ("", "."))


class KeyClashes:
    """Finds two of many keys that would share a file, by 12 bytes a key."""

    def __init__(self) -> None:
        self._hashes, self._lines = array("Q"), array("I")
        self._folders: dict[int, int] = {}

    def add(self, key: str, line: int) -> None:
        """Note the key of a line."""
        self._hashes.append(_hash(key))
        self._lines.append(line)
        if not any(f"{end}/" in key for end in DERIVED):
            return
        for parent in PurePosixPath(key).parents:
            if parent.name.endswith(DERIVED):
                self._folders.setdefault(_hash(str(parent)), line)

    def find(self, keys: Callable[[], Iterable[tuple[int, str]]]) -> tuple[int, int] | None:
        """Two lines with equal keys, or where one's file would be the other's folder; else None.

        Args:
            keys: gives lines and keys once more; called only where folders are named like pictures.
        """
        import numpy as np  # the configuration loads this module, and has no other use for numpy

        hashes = np.frombuffer(self._hashes, np.uint64) if self._hashes else np.zeros(0, np.uint64)
        order = np.argsort(hashes, kind="stable")
        same = np.flatnonzero(np.diff(hashes[order]) == 0)
        if len(same):
            first, second = sorted(self._lines[place] for place in order[same[0] : same[0] + 2])
            return first, second
        for line, key in keys() if self._folders else ():
            for end in DERIVED:
                if (other := self._folders.get(_hash(key + end))) is not None:
                    return min(line, other), max(line, other)
        return None


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
