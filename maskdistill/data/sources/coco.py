"""A folder of pictures with, optionally, a COCO file as ground truth."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from maskdistill.config.paths import UserPath
from maskdistill.config.types import NUMBER
from maskdistill.data.listed import ListedImage
from maskdistill.data.sources.base import ImageSource, Look
from maskdistill.data.sources.folder import iter_tree

Border = Annotated[int, Field(ge=0, le=1000), NUMBER]


class CocoData(ImageSource):
    """Images and, optionally, a COCO JSON as ground truth."""

    LABELS: ClassVar[frozenset[str]] = frozenset({"annotations", "ignore_border"})

    kind: Literal["coco"]
    images: UserPath = Field(description="folder that holds the pictures")
    annotations: UserPath | None = Field(
        None, description="COCO instances JSON, read by evaluation rules only"
    )
    ignore_border: Border = Field(0, description="pixels around each object that semantic scores ignore")

    @property
    def place(self) -> str:
        """The folder that holds the pictures."""
        return self.images

    def pictures(self, look: Look) -> Iterator[ListedImage]:
        """Every picture below ``images``, all to train on and to score."""
        return iter_tree(self.images, f"{look.section}.images", True, look.left_out)

    def describe(self) -> str:
        """The file of ground truth, or the folder."""
        return f"COCO format: {Path(self.annotations or self.images).name}"

    @property
    def has_truth(self) -> bool:
        """With ``annotations``."""
        return self.annotations is not None

    def truth_file(self) -> str | None:
        """``annotations``."""
        return self.annotations
