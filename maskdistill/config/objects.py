"""Section ``objects`` of the configuration."""

from typing import Annotated, Literal

from pydantic import Field

from maskdistill.config.types import NUMBER, Count, Distinct, Fraction, Section, Share

FormatChoice = Annotated[str, Field(max_length=1000, pattern=r"^[^,:/\s]+(:[^,]+)*$")]
"""A format with its options, as ``--format`` takes it; ``formats.export.registry`` knows which there are."""
Pixels = Annotated[float, Field(ge=0, le=1000), NUMBER]
"""A distance."""


class ObjectsConfig(Section):
    """The objects of the run's own photographs as files for other tools: the detector's candidates that pass
    tau.

    Nothing learns from them: another value makes these files and the report anew, no more.
    """

    formats: Distinct[FormatChoice] = Field(
        ["coco"],
        description="formats, with options after colons: coco, coco:polygons, yolo, voc, label_studio, "
        "label_studio:brush, cvat, cvat:masks, geojson, huggingface, fiftyone, or another package's; []: no "
        "files",
    )
    simplify: Pixels = Field(
        0.0,
        description="pixels by which outlines may leave the mask's, less where the IoU would fall below "
        "0.98; 0: exact, with many vertices",
    )
    min_area: Count = Field(0, description="smaller objects are left out, pixels")
    class_agnostic_nms: Share | None = Field(
        None,
        description="of two objects above this IoU, whatever their categories, the less confident one is "
        "left out; null: both stay",
    )
    pictures: Literal["link", "copy"] = Field(
        "link", description="how pictures come into folders of formats that want them"
    )
    min_score: Fraction | None = Field(
        None,
        description="least score of an object; null: it passes pseudo_labels.tau by pseudo_labels.compare",
    )
