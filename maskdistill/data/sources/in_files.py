"""What sources have in common whose pictures lie inside files: archives, videos, tables."""

from pathlib import Path
from typing import ClassVar, Self

from maskdistill.config.paths import UserPath
from maskdistill.config.types import DistinctSome
from maskdistill.data.containers import Container, containers, fingerprint, holds
from maskdistill.data.sources.base import ImageSource, Look, kind_of


class InFiles(ImageSource):
    """Pictures inside files. ``root`` is a folder of such files, one file, a pattern, or a list of these.

    Attributes:
        SUFFIXES: of the files, in lower case.
        FILES: what they are called in messages.
    """

    SUPPORT: ClassVar[bool] = True
    SUFFIXES: ClassVar[tuple[str, ...]]
    FILES: ClassVar[str]

    root: UserPath | DistinctSome[UserPath]

    @classmethod
    def made_of(cls, path: Path) -> Self | None:
        """Such a file, or a folder that holds some."""
        return (
            cls.model_validate({"kind": kind_of(cls), "root": str(path)})
            if holds(path, cls.SUFFIXES)
            else None
        )

    @property
    def place(self) -> str:
        """The folder, file or pattern; empty for a list."""
        return self.root if isinstance(self.root, str) else ""

    def fingerprint(self, look: Look) -> str:
        """Of each file's name, size, times and inode, which cover the pictures in it."""
        return fingerprint(self.kind, self.files(look.section))

    def describe(self) -> str:
        """The name of the folder, file or pattern, or how many there are."""
        return Path(self.named()).name

    def named(self) -> str:
        """The setting, as messages name it."""
        return (
            self.root if isinstance(self.root, str) else f"{len(self.root)} {self.FILES}, folders or patterns"
        )

    def files(self, section: str) -> list[Container]:
        """The files in the order of the setting, each with the beginning of its pictures' keys.

        Raises:
            MaskDistillError: as :func:`maskdistill.data.containers.containers`.
        """
        return containers(self.root, f"{section}.root", self.SUFFIXES)
