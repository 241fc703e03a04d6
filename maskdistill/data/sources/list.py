"""A text file that names photographs."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from maskdistill.config.paths import UserPath
from maskdistill.data.keys import RESERVED, KeyClashes, key_of_path
from maskdistill.data.listed import ListedImage
from maskdistill.data.sources.base import ImageSource, Look, absolute
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import canonical_json, sha256_file, sha256_text
from maskdistill.runtime.seal import stamp

LONGEST_LINE = 16_384
STATTED = 1_000_000
"""Names of a list up to which each picture's size and times are looked at when a run is planned."""


class ListData(ImageSource):
    """A text file that names one photograph a line, no ground truth: for millions of pictures."""

    SUPPORT: ClassVar[bool] = True

    kind: Literal["list"]
    file: UserPath = Field(
        description="text file; paths are relative to its folder, or absolute; empty lines and lines that "
        "begin with # are skipped"
    )
    root: UserPath | None = Field(None, description="folder that paths are relative to; null: the file's own")

    @property
    def place(self) -> str:
        """The folder that relative paths are below, if it is named."""
        return self.root or ""

    def pictures(self, look: Look) -> Iterator[ListedImage]:
        """The lines of ``file``, all to train on; keys are the names, but for slashes that do not count."""
        path = self._file(look)
        root, clashes = self._root(path), KeyClashes()
        for number, name in named_lines(path, root):
            key = key_of_path(name)
            if ".." in name.split("/") or not key:
                raise MaskDistillError(
                    f"{path}: line {number} ({name!r}) names no picture; give a path without '..'"
                )
            if key.startswith(tuple(f"{name}/" for name in RESERVED)):
                raise MaskDistillError(
                    f"{path}: line {number} ({name!r}): results have a file of that folder's name; rename "
                    "the folder"
                )
            clashes.add(key, number)
            yield ListedImage(key, root / name, True, False)
        if found := clashes.find(
            lambda: ((number, key_of_path(name)) for number, name in named_lines(path, root))
        ):
            raise _clash(path, root, found)

    def count(self, look: Look) -> int:
        """Lines that name a picture."""
        path = self._file(look)
        return sum(1 for _ in named_lines(path, self._root(path)))

    def fingerprint(self, look: Look) -> str:
        """Of the file of names, and up to :data:`STATTED` names of each picture's size, times and inode.

        That one of ten million pictures was rewritten is noticed by the next stage that opens it.
        """
        path, elsewhere = self._file(look), [] if self.root is None else [self.root]
        names = sha256_text(canonical_json([self.kind, sha256_file(path), *elsewhere]))
        if _line_ends(path) > STATTED:
            return names
        root, digest = self._root(path), hashlib.sha256(names.encode())
        for _, name in named_lines(path, root):
            try:
                found = stamp(os.path.join(root, name))
            except (OSError, ValueError):  # a name that no file can have is refused where the list is read
                found = (0, 0, 0, 0)
            digest.update(b"%d %d %d %d\n" % found)
        return digest.hexdigest()

    def describe(self) -> str:
        """The file's name."""
        return Path(self.file).name

    def _file(self, look: Look) -> Path:
        path = absolute(self.file)
        if not path.is_file():
            raise MaskDistillError(
                f"{look.section}.file: {path}: no such file; give a text file that names one picture per line"
            )
        return path

    def _root(self, path: Path) -> Path:
        return path.parent if self.root is None else absolute(self.root)


def first_listed(path: Path) -> str | None:
    """The first picture that a text names; None if it names none, or is no text."""
    try:
        return next((name for _, name in named_lines(path, path.parent)), None)
    except MaskDistillError:
        return None


def _clash(path: Path, root: Path, found: tuple[int, int]) -> MaskDistillError:
    """What to say of two lines whose results would be one file."""
    named = dict(line for line in named_lines(path, root) if line[0] in found)
    first, second = (root / named[number] for number in found)
    if first == second:
        return MaskDistillError(f"{path}: lines {found[0]} and {found[1]} name the same picture; remove one")
    return MaskDistillError(
        f"{path}: results of lines {found[0]} and {found[1]} would overwrite each other: their names, "
        f"{first} and {second}, are kept as {key_of_path(named[found[0]])!r} and "
        f"{key_of_path(named[found[1]])!r}; rename or"
        " link one of the pictures, or its folder"
    )


def named_lines(path: Path, root: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line that names a picture: no empty ones, no comments, no byte order mark."""
    number, found = 0, False
    try:
        with open(path, encoding="utf-8-sig") as stream:
            while line := stream.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE or "\0" in line:
                    raise MaskDistillError(
                        f"{path}: line {number} is not the name of a picture; give a text file"
                    )
                name = line.rstrip("\r\n")
                if not name.strip():
                    continue
                if name.startswith("#"):
                    if (root / name).exists():
                        raise MaskDistillError(
                            f"{path}: line {number} ({name!r}) is a comment, and there is a file of this "
                            f"name; write {f'./{name}'!r} for the picture"
                        )
                    continue
                found = True
                yield number, name
    except UnicodeDecodeError:
        raise MaskDistillError(f"{path}: line {number + 1} is not UTF-8; save the list as UTF-8") from None
    if not found:
        raise MaskDistillError(f"{path}: names no picture; write one per line")


def _line_ends(path: Path) -> int:
    with open(path, "rb") as stream:
        return sum(block.count(b"\n") for block in iter(lambda: stream.read(1 << 24), b""))
