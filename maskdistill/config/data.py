"""Sections ``data`` and ``support`` of the configuration: where pictures come from."""

from typing import Annotated, Literal

from pydantic import Field

from maskdistill.config.paths import UserPath
from maskdistill.config.types import NUMBER, Fraction, Section, Seed, Text

SceneSide = Annotated[int, Field(ge=64, le=512), NUMBER]
Border = Annotated[int, Field(ge=0, le=1000), NUMBER]
Scenes = Annotated[int, Field(ge=1, le=1_000_000), NUMBER]


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


DataConfig = ScenesData | FolderData | ListData | CocoData | VocData
SupportConfig = FolderData | ListData
