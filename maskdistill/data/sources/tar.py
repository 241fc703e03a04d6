"""Tar archives of photographs, which are never unpacked."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from maskdistill.config.paths import UserPath
from maskdistill.config.types import DistinctSome
from maskdistill.data.containers import Container
from maskdistill.data.keys import KeyClashes, key_of_path
from maskdistill.data.listed import ListedImage
from maskdistill.data.picture_names import SUFFIXES, left_out_words
from maskdistill.data.picture_refs import Inside
from maskdistill.data.sources.base import Look
from maskdistill.data.sources.in_files import InFiles
from maskdistill.data.tar_index import COMPRESSED, Member, compressed, pictures_of
from maskdistill.runtime.errors import MaskDistillError

SUFFIX = ".tar"


class TarData(InFiles):
    """Tar archives (WebDataset shards), no ground truth: pictures are read at their places, and never
    unpacked.
    """

    SUFFIXES: ClassVar[tuple[str, ...]] = (SUFFIX, *COMPRESSED)
    FILES: ClassVar[str] = "archives"

    kind: Literal["tar"]
    root: UserPath | DistinctSome[UserPath] = Field(
        description="folder that is searched for .tar files recursively, one .tar, a pattern such as "
        "shards/*.tar, or a list of these; compressed archives are refused"
    )

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
                f"{look.section}.root: no picture in {self.named()} (a picture is a member called NAME.jpg "
                f"or the like, without a further dot; looked for {' '.join(SUFFIXES)}{others})"
            )
        if found := clashes.find(
            lambda: ((n, m[0]) for n, m in enumerate(self._members(Look(kept=look.kept)), 1))
        ):
            raise self._clash(found, look)

    def _members(self, look: Look) -> Iterator[tuple[str, Path, Member]]:
        """Key, archive and place of each picture."""
        for prefix, archive in self.files(look.section):
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
            f"results of {first} and of {second} would overwrite each other: one name occurs twice, or "
            "names a folder as results of the other are called; pack the archive again"
        )

    def files(self, section: str) -> list[Container]:
        """The archives; compressed ones are refused."""
        found = super().files(section)
        for _, archive in found:
            if archive.name.lower().endswith(COMPRESSED):
                raise compressed(archive, archive.suffix[1:])
        return found
