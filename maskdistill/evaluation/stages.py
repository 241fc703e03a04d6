"""What can be scored: the stages in the order of the method, and the baselines beside them."""

from dataclasses import dataclass
from typing import Literal

from maskdistill.evaluation.matching import Matching


@dataclass(frozen=True)
class Stage:
    """A stage whose output is compared with the ground truth.

    Attributes:
        name: as in the name of its file, ``evaluation/NAME.json``.
        title: its name in tables.
        needs: options of ``maskdistill evaluation`` that give its files, without dashes.
        detects: whether it finds objects one by one, each with a mask and a score.
        located_by: whether an image's box (CorLoc) comes from its best detection or from the largest region
            of its label map; None if it has no box.
        matching: mode of matching labels with classes, if not the configuration's; see
            :func:`maskdistill.evaluation.matching.match_clusters`.
        baseline: whether it is one of the colour baselines, which are scored in one file and follow no stage.
    """

    name: str
    title: str
    needs: tuple[str, ...] = ("label_dirs",)
    detects: bool = False
    located_by: Literal["detections", "labels"] | None = None
    matching: Matching | None = None
    baseline: bool = False

    @property
    def learns_labels(self) -> bool:
        """Whether it is trained on labels, as the linear probe is: its label values are classes."""
        return self.matching == "none"


ALL = (
    Stage("masks", "masks", ("masks", "assignments"), True, "detections"),
    Stage("detector", "detector", ("candidates", "label_dirs"), True, "detections"),
    Stage("segmenter", "segmenter", located_by="labels"),
    Stage("segmenter_crf", "segmenter + CRF", located_by="labels"),
    Stage("probe", "linear probe (trained on labels)", matching="none"),
    Stage("probe_crf", "linear probe (trained on labels) + CRF", matching="none"),
    Stage("color_kmeans", "color_kmeans", (), matching="iou", baseline=True),
    Stage("otsu", "otsu", (), located_by="labels", baseline=True),
)
STAGES = {stage.name: stage for stage in ALL if not stage.baseline}
"""By name, in the order of the method."""
BASELINES = {stage.name: stage for stage in ALL if stage.baseline}
DETECTING = tuple(stage.name for stage in ALL if stage.detects)
LABELLING = tuple(STAGES)
"""Stages with a label map for every image: all but the baselines."""
EVERY = tuple(stage.name for stage in ALL)
