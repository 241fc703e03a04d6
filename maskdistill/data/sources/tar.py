"""Tar archives of photographs, which are never unpacked."""

import glob
import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from maskdistill.config.paths import UserPath
from maskdistill.config.types import DistinctSome
from maskdistill.data.keys import RESERVED, KeyClashes, key_of_path
from maskdistill.data.listed import ListedImage
from maskdistill.data.picture_names import SUFFIXES, left_out_words
from maskdistill.data.picture_refs import Inside
from maskdistill.data.sources.base import ImageSource, Look, absolute
from maskdistill.data.tar_index import COMPRESSED, Member, compressed, pictures_of
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import canonical_json
from maskdistill.runtime.seal import stamp

SUFFIX = ".tar"


class TarData(ImageSource):
    """Tar archives (WebDataset shards), no ground truth: pictures are read at their places, and never unpacked."""

    SUPPORT: ClassVar[bool] = True

    kind: Literal["tar"]
    root: UserPath | DistinctSome[UserPath] = Field(
        description="folder that is searched for .tar files recursively, one .tar, a pattern such as shards/*.tar, or a"
        " list of these; compressed archives are refused"
    )

    @property
    def place(self) -> str:
        """The folder, archive or pattern; of a list none."""
        return self.root if isinstance(self.root, str) else ""

    def pictures(self, look: Look) -> Iterator[ListedImage]:
        """The picture of each sample, archive by archive, all to train on; keys are ``ARCHIVE/SAMPLE``."""
        clashes, number = KeyClashes(), 0
        for number, (key, archive, member) in enumerate(self._members(look), start=1):
            clashes.add(key, number)
            place = Inside(str(archive), member.name, member.offset, member.size, member.fault)
            yield ListedImage(key, Path(str(place)), True, False)
        if not number:
            others = f"; there are {left_out_words(look.left_out)}" if look.left_out else ""
            raise MaskDistillError(
                f"{look.section}.root: no picture in {self._named()} (a picture is a member called NAME.jpg or the"
                f" like, without a further dot; looked for {' '.join(SUFFIXES)}{others})"
            )
        if found := clashes.find(lambda: ((n, m[0]) for n, m in enumerate(self._members(Look(kept=look.kept)), 1))):
            raise self._clash(found, look)

    def fingerprint(self, look: Look) -> str:
        """Of each archive's name, size, times and inode, which cover its members."""
        digest = hashlib.sha256(self.kind.encode())
        for prefix, archive in self._archives(look.section):
            row: list[object] = [os.fsencode(prefix).hex()]
            with suppress(OSError):
                row += stamp(archive)
            digest.update(canonical_json(row).encode())
        return digest.hexdigest()

    def describe(self) -> str:
        """The folder's or archive's name."""
        return Path(self._named()).name

    def _named(self) -> str:
        return self.root if isinstance(self.root, str) else f"{len(self.root)} archives, folders or patterns"

    def _members(self, look: Look) -> Iterator[tuple[str, Path, Member]]:
        """Key, archive and place of each picture."""
        for prefix, archive in self._archives(look.section):
            for member in pictures_of(archive, look.kept, look.left_out):
                sample = member.sample.replace("..", "~~") if member.fault else member.sample
                yield f"{prefix}/{key_of_path(sample) or '~'}", archive, member

    def _clash(self, found: tuple[int, int], look: Look) -> MaskDistillError:
        first, second = (
            f"member {member.name!r} of {archive}"
            for number, (_, archive, member) in enumerate(self._members(Look(kept=look.kept)), 1)
            if number in found
        )
        return MaskDistillError(
            f"results of {first} and of {second} would overwrite each other: one name is there twice, or names a folder"
            " as results of the other are called; pack the archive anew"
        )

    def _archives(self, section: str) -> list[tuple[str, Path]]:
        """The archives in the order of the setting, each with what its pictures' keys begin with."""
        found: dict[str, Path] = {}
        for given in [self.root] if isinstance(self.root, str) else self.root:
            setting = f"{section}.root: {given}"
            for prefix, archive in _below(absolute(given), setting):
                if archive.name.lower().endswith(COMPRESSED):
                    raise compressed(archive, archive.suffix[1:])
                if f"{prefix}/".startswith(tuple(f"{name}/" for name in RESERVED)):
                    raise MaskDistillError(f"{archive}: results have a file called {prefix}; rename the archive")
                if (other := found.setdefault(prefix, archive)) != archive:
                    raise MaskDistillError(
                        f"{setting}: results of {other} and {archive} would lie in one folder, {prefix}; rename one, or"
                        " give the folder above both"
                    )
        return list(found.items())


def holds_archives(folder: Path) -> bool:
    """Whether there is a tar, compressed or not, below a folder."""
    return any(name.lower().endswith((SUFFIX, *COMPRESSED)) for name in _walk(folder))


def _below(given: Path, setting: str) -> list[tuple[str, Path]]:
    """Archives that one path names, compressed ones too, sorted, each with its path below the folder without suffix."""
    if given.is_dir():
        top, names = given, list(_walk(given))
    elif given.is_file():
        top, names = given.parent, [given.name]
    elif glob.has_magic(str(given)):
        fixed = [part for part in given.parents if not glob.has_magic(str(part))]
        top, names = fixed[0], [os.path.relpath(path, fixed[0]) for path in glob.glob(str(given), recursive=True)]
    else:
        raise MaskDistillError(f"{setting}: no such file or folder; give a folder of .tar files, one, or a pattern")
    tars = sorted(name for name in names if name.lower().endswith((SUFFIX, *COMPRESSED)))
    if not tars:
        raise MaskDistillError(f"{setting}: no {SUFFIX} file there; correct the path")
    return [(name[: -len(SUFFIX)], top / name) for name in tars]


def _walk(top: Path) -> Iterator[str]:
    """Files below a folder by relative path; hidden ones and linked folders are passed over."""

    def refuse(error: OSError) -> None:
        raise MaskDistillError(f"{error.filename}: cannot be listed ({error.strerror}); grant access or move it")

    for folder, folders, files in os.walk(top, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (os.path.relpath(os.path.join(folder, name), top) for name in files if not name.startswith("."))
