"""Section ``datasets`` of the configuration: official datasets, and what is built from them."""

from typing import Annotated, Literal

from pydantic import Field

from maskdistill.config.paths import UserPath
from maskdistill.config.types import Positive, Section, Text

BUILT = "resources/data"
"""Folder below which data is built, shared between runs."""


class DatasetConfig(Section):
    """Where one official dataset comes from."""

    path: UserPath | None = Field(
        None, description="folder of an existing copy, which is linked, never changed; null: download"
    )
    mirror: Text | None = Field(
        None, description="URL of a folder with the same files, e.g. if the official server is slow"
    )
    md5: dict[str, Annotated[str, Field(pattern="^[0-9a-f]{32}$")]] = Field(
        {}, description="MD5 by file name, for files without a published checksum, or for another edition"
    )


class DatasetsConfig(Section):
    """Official datasets that the workflow downloads or links, and the lists that it builds from them."""

    build: Literal["voc", "coco20k"] | None = Field(
        None,
        description="voc: VOC2007 and VOC2012 in one folder with train_aug (needs voc2012, voc2007, sbd); "
        "set data.root to resources/data/voc. coco20k: LOST's 19,817 images of train2014, and the others in "
        "a separate folder as support (needs coco2014, coco20k), below resources/data/coco20k. null: build "
        "nothing, the data is already there",
    )
    voc2007: DatasetConfig = DatasetConfig()
    voc2012: DatasetConfig = DatasetConfig()
    sbd: DatasetConfig = DatasetConfig()
    coco2014: DatasetConfig = DatasetConfig()
    coco20k: DatasetConfig = DatasetConfig()
    num_images: Positive | None = Field(
        None,
        description="number of pictures of data and support together, which the plan needs before the "
        "download; set it for excerpts and other lists; null: the paper's number",
    )
    keep_archives: bool = Field(False, description="keep downloaded archives after they are unpacked")
    check_lists: bool = Field(
        True,
        description="compare lists with the published counts and checksums; set it to false for excerpts",
    )
