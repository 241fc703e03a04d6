"""What a source of pictures is: a section of the configuration that lists its pictures."""

import hashlib
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self, get_args

from maskdistill.config.types import Section
from maskdistill.data.listed import ListedImage
from maskdistill.runtime.files import canonical_json
from maskdistill.runtime.seal import stamp


@dataclass(frozen=True)
class Look:
    """What is handed to a source that is to look at its pictures.

    Attributes:
        section: of the configuration, to name in messages.
        left_out: counts files that are not taken though they look like pictures or lie in an archive, by
            suffix.
        scenes: folder of the generated scenes, for ``kind: scenes`` alone.
        kept: folder where a source may keep what takes long to find out; None: nowhere.
    """

    section: str = "data"
    left_out: Counter[str] = field(default_factory=Counter)
    scenes: Path | None = None
    kept: Path | None = None


class ImageSource(Section, ABC):
    """A source: its fields are its settings, of which ``kind`` is a literal.

    Attributes:
        LABELS: settings that say where its ground truth lies and how it is read. No label-free stage is given
            them.
        SCORED: settings that say which pictures are scored. They are processed too, so the manifest lists
            them.
        SUPPORT: may be a support set: it has neither ground truth nor pictures with roles of their own.
        GENERATED: the run makes its pictures, which follow from the section.
    """

    LABELS: ClassVar[frozenset[str]] = frozenset()
    SCORED: ClassVar[frozenset[str]] = frozenset()
    SUPPORT: ClassVar[bool] = False
    GENERATED: ClassVar[bool] = False

    kind: str

    @classmethod
    def made_of(cls, path: Path) -> Self | None:
        """The source that a path given to ``init`` or ``predict`` is, if this one; else None."""
        return None

    @property
    @abstractmethod
    def place(self) -> str:
        """Path that all pictures lie below, as it is configured; empty where there is none."""

    @abstractmethod
    def pictures(self, look: Look) -> Iterator[ListedImage]:
        """List the pictures in a fixed order, one at a time; none is opened, so none need be readable.

        Raises:
            MaskDistillError: a folder, list or archive is missing or wrong, or there is no picture.
        """

    def count(self, look: Look) -> int:
        """Number of pictures, readable or not."""
        return sum(1 for _ in self.pictures(look))

    def count_fitted(self) -> int | None:
        """Number of pictures that K-means may be fitted on; None: all of them."""
        return None

    def fingerprint(self, look: Look) -> str:
        """Hex SHA-256 that changes when a picture is added, removed, renamed or rewritten.

        It covers each picture's relative path, flags, size, times and inode, and reads no content (see
        :mod:`maskdistill.data.settled`).
        """
        root, digest = absolute(self.place), hashlib.sha256(self.kind.encode())
        for image in self.pictures(look):
            row = [os.fsencode(image.path.relative_to(root)).hex(), image.train, image.eval, image.segmenter]
            with suppress(OSError):
                row += stamp(image.path)
            digest.update(canonical_json(row).encode())
        return digest.hexdigest()

    def describe(self) -> str:
        """The images that are scored, in a few words, without folders above the source's own."""
        return Path(self.place).name

    def reach(self, look: Look) -> str:
        """Try whether pictures that lie elsewhere can be read, and say it in words; empty where all lie here.

        Raises:
            MaskDistillError: they cannot.
        """
        return ""

    @property
    def has_truth(self) -> bool:
        """Whether there is ground truth to score against (:mod:`maskdistill.data.truth`)."""
        return False

    def truth_file(self) -> str | None:
        """The one file that holds all ground truth; None where there is none, or it lies elsewhere."""
        return None

    def truth_listing(self) -> str:
        """What changes when ground truth does that :meth:`truth_file` does not name; reads none of it."""
        return ""

    def scored_file(self) -> Path | None:
        """The list of the pictures to score; None where the manifest's column ``eval`` says it."""
        return None

    def scored_keys(self) -> set[str] | None:
        """Keys of the pictures that are scored; None where the manifest's column ``eval`` tells them.

        Raises:
            MaskDistillError: no such list.
        """
        return None

    def instance_keys(self) -> set[str] | None:
        """Keys of the pictures whose instances are scored; None where they are those that are scored at all.

        Raises:
            MaskDistillError: no such list.
        """
        return None


def kind_of(source: type[ImageSource]) -> str:
    """The one value that a source's ``kind`` may have; empty where it is not declared as one."""
    values = get_args(source.model_fields["kind"].annotation)
    return str(values[0]) if len(values) == 1 else ""


def absolute(path: str | Path) -> Path:
    """The absolute path of a setting."""
    return Path(os.path.abspath(Path(path).expanduser()))
