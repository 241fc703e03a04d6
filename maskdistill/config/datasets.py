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
        None, description="folder of an existing copy, which is linked and never changed; null: download"
    )
    mirror: Text | None = Field(
        None, description="address of a folder with the same files, e.g. where the official server is slow"
    )
    md5: dict[str, Annotated[str, Field(pattern="^[0-9a-f]{32}$")]] = Field(
        {}, description="MD5 by file name, for files without a published one or another edition"
    )


class DatasetsConfig(Section):
    """Official datasets that the workflow downloads or links, and the lists that it builds from them."""

    build: Literal["voc", "coco20k"] | None = Field(
        None,
        description="voc: VOC2007 and VOC2012 in one folder with train_aug (needs voc2012, voc2007, sbd), "
        "data.root is resources/data/voc; coco20k: LOST's 19,817 of train2014, the others apart as support "
        "(needs coco2014, coco20k), below resources/data/coco20k; null: data is there already",
    )
    voc2007: DatasetConfig = DatasetConfig()
    voc2012: DatasetConfig = DatasetConfig()
    sbd: DatasetConfig = DatasetConfig()
    coco2014: DatasetConfig = DatasetConfig()
    coco20k: DatasetConfig = DatasetConfig()
    num_images: Positive | None = Field(
        None,
        description="pictures of data and support together, which must be known before they are here: for "
        "excerpts and other lists; null: the paper's",
    )
    keep_archives: bool = Field(False, description="keep downloaded archives after they are unpacked")
    check_lists: bool = Field(
        True, description="compare lists with the published counts and checksums; false: for excerpts"
    )
