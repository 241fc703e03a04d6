"""A tree of photographs."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from maskdistill.config.paths import UserPath
from maskdistill.data.keys import RESERVED, parts_of_keys
from maskdistill.data.listed import ListedImage
from maskdistill.data.picture_names import SUFFIXES, left_out_kind, left_out_words, printable
from maskdistill.data.sources.base import ImageSource, Look, absolute
from maskdistill.runtime.errors import MaskDistillError


class FolderData(ImageSource):
    """Any tree of photographs, no ground truth."""

    SUPPORT: ClassVar[bool] = True

    kind: Literal["folder"]
    root: UserPath = Field(description="folder that holds the pictures, searched recursively")

    @property
    def place(self) -> str:
        """The folder."""
        return self.root

    def pictures(self, look: Look) -> Iterator[ListedImage]:
        """Every picture below ``root`` by relative path, all to train on."""
        return iter_tree(self.root, f"{look.section}.root", False, look.left_out)


def iter_tree(root: str, setting: str, scored: bool, left_out: Counter[str]) -> Iterator[ListedImage]:
    """Every picture below a folder by its relative path, linked folders last, all to train on.

    Args:
        setting: that names the folder, for messages.
        scored: they are to be scored too.
    """
    top = absolute(root)
    if not top.is_dir():
        raise MaskDistillError(f"{setting}: {top} is not a folder; correct the path")
    found = False
    seen: set[tuple[int, int]] = set()
    linked = [(top, "")]
    while linked:
        for key, path in _walk(*linked.pop(0), seen, linked, left_out):
            found = True
            yield ListedImage(key, path, True, scored)
    if not found:
        others = f"; there are {left_out_words(left_out)}, which are not decoded" if left_out else ""
        raise MaskDistillError(f"{setting}: no picture below {top} (looked for {' '.join(SUFFIXES)}{others})")


def _walk(
    folder: Path,
    prefix: str,
    seen: set[tuple[int, int]],
    linked: list[tuple[Path, str]],
    left_out: Counter[str],
) -> Iterator[tuple[str, Path]]:
    """Keys and paths of the pictures below ``folder``, sorted; one folder's names in memory.

    Linked folders are put off into ``linked``, and each real folder is visited once: there are no loops.
    """
    try:
        stat = folder.stat()
        if (stat.st_dev, stat.st_ino) in seen:
            return
        seen.add((stat.st_dev, stat.st_ino))
        entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError as error:
        raise MaskDistillError(
            f"{folder}: cannot be listed ({error.strerror}); grant access or move it"
        ) from None
    folders = {entry.name: entry.is_symlink() for entry in entries if entry.is_dir()}
    files = [entry.name for entry in entries if entry.name not in folders]
    names = [name for name in files if name.lower().endswith(SUFFIXES)]
    left_out.update(kind for name in files if (kind := left_out_kind(name)))
    parts = parts_of_keys(names, folders, () if prefix else RESERVED)
    for name in sorted([*names, *folders], key=lambda name: f"{name}/" if name in folders else name):
        path = folder / name
        if name not in folders:
            yield printable(prefix + parts[name]), path
        elif folders[name]:
            linked.append((path, f"{prefix}{parts[name]}/"))
        else:
            yield from _walk(path, f"{prefix}{parts[name]}/", seen, linked, left_out)
