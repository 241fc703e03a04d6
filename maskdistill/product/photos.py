"""What ``maskdistill predict`` looks at: a folder, a list of pictures, or named pictures."""

import codecs
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from maskdistill.config import DataConfig, ListData
from maskdistill.config.paths import user_path
from maskdistill.data.keys import key_of_path
from maskdistill.data.listed import ListedImage
from maskdistill.data.listing import iter_images, source_of
from maskdistill.data.picture_names import SUFFIXES
from maskdistill.data.sources.list import first_listed
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.seal import stamp

HEAD = 4096
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class Photos:
    """Pictures to be looked at.

    Attributes:
        data: the source; of named pictures the list that :meth:`write_list` makes.
        folder: absolute; names of pictures are relative to it.
        named: pictures that were named one by one, relative to ``folder``; empty for a folder or a list.
    """

    data: DataConfig
    folder: Path
    named: tuple[str, ...] = ()

    def write_list(self, temporary: Path) -> None:
        """Write the named pictures as a list, one a line."""
        temporary.write_text("".join(f"./{name}\n" for name in self.named), encoding="utf-8")

    def state(self) -> list[tuple[str, tuple[int, ...]]]:
        """Name of each named picture, and what hints at its content."""
        return [(name, stamp(self.folder / name)) for name in self.named]

    def listed(self) -> Iterator[ListedImage]:
        """The pictures, as the manifest will list them."""
        if not self.named:
            return iter_images(self.data)
        return (ListedImage(key_of_path(name), self.folder / name, True, False) for name in self.named)


def find_photos(given: Sequence[str], listing: Path) -> Photos:
    """Tell folder, list and pictures apart by content; archives and videos by their names.

    Args:
        given: what the command line names.
        listing: where the list of named pictures will be written.

    Raises:
        MaskDistillError: nothing of that name, a folder or list beside others, or a name that no list can
            hold.
    """
    paths = [_existing(text) for text in given]
    kinds = {path: _kind(path) for path in paths}
    whole = [path for path in kinds if kinds[path] != "picture"]
    if whole and len(kinds) > 1:
        raise MaskDistillError(
            f"{whole[0]} is a {kinds[whole[0]]}, which must be given alone; give just that, or pictures"
        )
    if whole and kinds[whole[0]] != "list":
        return Photos(source_of(whole[0]), whole[0] if whole[0].is_dir() else whole[0].parent)
    if whole:
        return Photos(ListData(kind="list", file=str(whole[0])), whole[0].parent)
    folder = Path(os.path.commonpath([path.parent for path in paths]))
    named = tuple(str(path.relative_to(folder)) for path in kinds)
    for name in named:
        if name.splitlines() != [name] or name != name.strip() or not _is_text(os.fsencode(name)):
            raise MaskDistillError(
                f"{folder / name!r}: this name cannot stand in a list; rename it, or give its folder"
            )
    return Photos(ListData(kind="list", file=str(listing.absolute()), root=str(folder)), folder, named)


def _existing(text: str) -> Path:
    try:
        path = Path(os.path.abspath(user_path(text)))
    except ValueError as error:
        raise MaskDistillError(f"{text}: {error}") from None
    if not path.exists():
        raise MaskDistillError(
            f"{path}: no such file or folder; give a folder of pictures, a list of them, or pictures"
        )
    if not (path.is_file() or path.is_dir()):
        raise MaskDistillError(
            f"{path}: neither a file nor a folder; give a folder of pictures, a list, or pictures"
        )
    return path


def _kind(path: Path) -> str:
    """What a path is, for :func:`find_photos` and its messages."""
    if path.is_dir():
        return "folder"
    if (source := source_of(path)).kind != "folder":
        return f"source of kind {source.kind}"
    return "list" if is_list(path) else "picture"


def is_list(path: Path) -> bool:
    """Whether a file is a text that names pictures.

    A text that is called like a picture is a list if the picture that it names first is there: it may as well
    be what a server sent instead of a picture.
    """
    try:
        with open(path, "rb") as stream:
            head = stream.read(HEAD)
    except OSError as error:
        raise MaskDistillError(f"{path}: cannot be read ({error.strerror}); grant access") from None
    like_picture = path.name.lower().endswith(SUFFIXES)
    if head.startswith(UTF16):
        return not like_picture
    if b"\0" in head or (like_picture and not _is_text(head)):
        return False
    if not like_picture:
        return True
    first = first_listed(path)
    return first is not None and (path.parent / first).is_file()


def _is_text(head: bytes) -> bool:
    """Whether bytes are UTF-8, the last character possibly cut."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True
