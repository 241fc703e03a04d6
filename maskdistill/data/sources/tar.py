"""Tar archives of photographs, which are never unpacked."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from maskdistill.config.paths import UserPath
from maskdistill.config.types import DistinctSome
from maskdistill.data.containers import Container
from maskdistill.data.listed import ListedImage
from maskdistill.data.sources.base import Look
from maskdistill.data.sources.in_files import InFiles
from maskdistill.data.sources.in_tars import TarPicture, pictures_in_tars
from maskdistill.data.tar_index import COMPRESSED, compressed, pictures_of

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
        return pictures_in_tars(self._members, look, self.named())

    def _members(self, look: Look) -> Iterator[TarPicture]:
        for prefix, archive in self.files(look.section):
            for member in pictures_of(archive, look.kept, look.left_out):
                yield TarPicture(prefix, str(archive), str(archive), member)

    def files(self, section: str) -> list[Container]:
        """The archives; compressed ones are refused."""
        found = super().files(section)
        for _, archive in found:
            if archive.name.lower().endswith(COMPRESSED):
                raise compressed(str(archive), archive.suffix[1:])
        return found
