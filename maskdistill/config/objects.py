"""Section ``objects`` of the configuration."""

from typing import Annotated, Literal

from pydantic import Field

from maskdistill.config.types import NUMBER, Count, Distinct, Fraction, Section, Share

FormatChoice = Annotated[str, Field(max_length=1000, pattern=r"^[^,:/\s]+(:[^,]+)*$")]
"""A format with its options, as ``--format`` takes it; ``formats.export.registry`` lists the formats."""
Pixels = Annotated[float, Field(ge=0, le=1000), NUMBER]
"""A distance."""


class ObjectsConfig(Section):
    """The objects in the run's photographs, as files for other tools: the detector's candidates that pass
    tau.

    Nothing learns from them: another value rewrites only these files and the report.
    """

    formats: Distinct[FormatChoice] = Field(
        ["coco"],
        description="formats, with options after a colon, such as coco, coco:polygons, yolo "
        "[all: docs/how-to/use-the-objects.md]; []: no files",
    )
    simplify: Pixels = Field(
        0.0,
        description="pixels by which outlines may deviate from the mask, reduced if the IoU would fall "
        "below 0.98; 0: exact, with many vertices",
    )
    min_area: Count = Field(0, description="smallest area of an object in pixels; smaller ones are left out")
    class_agnostic_nms: Share | None = Field(
        None,
        description="of two objects with a larger IoU, the less confident one is left out, whatever their "
        "categories; null: both stay",
    )
    pictures: Literal["link", "copy"] = Field(
        "link", description="how pictures are put into the folders of formats that contain them"
    )
    min_score: Fraction | None = Field(
        None,
        description="lowest score of an object; null: what passes pseudo_labels.tau by pseudo_labels.compare",
    )
