"""The base of all configuration sections, and those that say where pictures come from."""

from typing import Annotated, Literal

from pydantic import Field

from maskdistill.config_types import NUMBER, Text, UserPath
from maskdistill.config_types import Fraction as Fraction
from maskdistill.config_types import Positive as Positive
from maskdistill.config_types import Section as Section
from maskdistill.config_types import Seed as Seed
from maskdistill.config_types import Share as Share

SceneSide = Annotated[int, Field(ge=64, le=512), NUMBER]
Border = Annotated[int, Field(ge=0, le=1000), NUMBER]
Scenes = Annotated[int, Field(ge=1, le=1_000_000), NUMBER]
MAX_CLUSTERS = 254
"""Labels are 1..K in uint8, and 255 means ignore wherever labels are read."""


class ScenesData(Section):
    """Generated scenes with exact ground truth (no download)."""

    kind: Literal["scenes"] = "scenes"
    num_train: Scenes = Field(300, description="scenes that every unsupervised stage trains on")
    num_eval: Scenes = Field(100, description="further scenes that only evaluation scores")
    size: SceneSide = Field(128, description="shortest side in pixels")
    difficulty: Fraction = Field(0.5, description="0: plain backgrounds, clean light; 1: camouflage, occlusion")
    seed: Seed = Field(0, description="seed of the generator")


class FolderData(Section):
    """Any tree of photographs, no ground truth."""

    kind: Literal["folder"]
    root: UserPath = Field(description="folder that holds the pictures, searched recursively")


class ListData(Section):
    """A text file that names one photograph a line, no ground truth: for millions of pictures."""

    kind: Literal["list"]
    file: UserPath = Field(
        description="text file; paths are relative to its folder, or absolute; empty lines and those that begin with #"
        " are passed over"
    )
    root: UserPath | None = Field(None, description="folder that relative paths are below; null: the file's own")


class CocoData(Section):
    """Images and, optionally, a COCO JSON as ground truth."""

    kind: Literal["coco"]
    images: UserPath = Field(description="folder that holds the pictures")
    annotations: UserPath | None = Field(None, description="COCO instances JSON, read by evaluation rules only")
    ignore_border: Border = Field(0, description="pixels around each object that semantic scores ignore")


class VocData(Section):
    """PASCAL VOC directory layout (JPEGImages, ImageSets, SegmentationClass, ...)."""

    kind: Literal["voc"]
    root: UserPath = Field(description="folder that holds JPEGImages, e.g. VOCdevkit/VOC2012")
    train_list: Text = Field("Main/trainval", description="list below ImageSets: unlabelled training images")
    segmenter_list: Text | None = Field(
        None, description="list below ImageSets: images whose pseudo-labels the segmenter learns from; null: train_list"
    )
    eval_list: Text = Field("Segmentation/val", description="list below ImageSets: images that are scored")
    instance_list: Text | None = Field(
        None,
        description="list below ImageSets: images whose instances are scored (AP), all of them in the other lists too; "
        "null: eval_list",
    )


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
        description="pictures of data and support together, which must be known before they are here: for excerpts and "
        "other lists; null: the paper's",
    )
    keep_archives: bool = Field(False, description="keep downloaded archives after they are unpacked")
    check_lists: bool = Field(
        True, description="compare lists with the published counts and checksums; false: for excerpts"
    )


DataConfig = ScenesData | FolderData | ListData | CocoData | VocData
SupportConfig = FolderData | ListData
