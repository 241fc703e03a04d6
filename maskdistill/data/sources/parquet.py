"""Pictures in the rows of Parquet and Arrow files, which are never unpacked."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from maskdistill.config.paths import UserPath
from maskdistill.config.types import DistinctSome
from maskdistill.data.containers import Container
from maskdistill.data.keys import KeyClashes
from maskdistill.data.listed import ListedImage
from maskdistill.data.picture_names import printable
from maskdistill.data.picture_refs import TABLES, Row
from maskdistill.data.sources.base import Look
from maskdistill.data.sources.in_files import InFiles
from maskdistill.data.tables import layout_of, need_pyarrow, rows_of
from maskdistill.runtime.errors import MaskDistillError

log = logging.getLogger("maskdistill")


class ParquetData(InFiles):
    """Parquet or Arrow files of Hugging Face ``datasets``, no ground truth: only the pictures are read."""

    SUFFIXES: ClassVar[tuple[str, ...]] = TABLES
    FILES: ClassVar[str] = "files"

    kind: Literal["parquet"]
    root: UserPath | DistinctSome[UserPath] = Field(
        description="folder that is searched for .parquet and .arrow files recursively, one, a pattern such "
        "as data/train-*.parquet, or a list of these; needs the extra parquet (pyarrow)"
    )
    column: Annotated[str, Field(min_length=1, pattern=r"^[^:]+$")] = Field(
        "image",
        description="column of the pictures: a struct of bytes and path, or plain binary; others are not "
        "read",
    )

    def pictures(self, look: Look) -> Iterator[ListedImage]:
        """The rows, file by file, all to train on; keys are ``FILE/NAME`` or ``FILE/ROW``."""
        clashes, number = KeyClashes(), 0
        for number, image in enumerate(self._rows(look.section), 1):
            clashes.add(image.key, number)
            yield image
        if not number:
            raise MaskDistillError(f"{look.section}.root: {self.describe()}: the tables have no row")
        if found := clashes.find(
            lambda: ((n, image.key) for n, image in enumerate(self._rows(look.section), 1))
        ):
            first, second = (image.path for n, image in enumerate(self._rows(look.section), 1) if n in found)
            raise MaskDistillError(
                f"results of {first} and of {second} would overwrite each other: one name occurs twice, or "
                "one is called like the folder of the other's results; rename one of the files"
            )

    def count(self, look: Look) -> int:
        """Rows, as the heads of the files state them."""
        return sum(
            sum(layout_of(path, self.column, self._setting(look.section)).groups)
            for _, path in self.files(look.section)
        )

    def files(self, section: str) -> list[Container]:
        """The files, where they can be read."""
        need_pyarrow()
        return super().files(section)

    def _setting(self, section: str) -> str:
        return f"{section}.column"

    def _rows(self, section: str) -> Iterator[ListedImage]:
        told = False
        for prefix, path in self.files(section):
            layout = layout_of(path, self.column, self._setting(section))
            if layout.others and not told:
                told = True
                log.info("columns not read, since no label may reach a run: %s", ", ".join(layout.others))
            for group, row, name, stem in rows_of(path, self.column, layout):
                place = Row(str(path), name, self.column, group, row)
                yield ListedImage(printable(f"{prefix}/{stem}"), Path(str(place)), True, False)
