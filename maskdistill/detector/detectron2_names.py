"""Names of a whole detector's tensors: those of ``build_detector`` and detectron2's, one to one."""

from collections.abc import Mapping

from torch import Tensor

from maskdistill.backbones.resnet_layouts import FROM_DETECTRON2, TO_DETECTRON2, Renaming, renamed
from maskdistill.runtime.errors import MaskDistillError

# Beginnings of names: ours, detectron2's.
_PARTS = (
    ("rpn.head.conv.0.0.", "proposal_generator.rpn_head.conv."),
    ("rpn.head.cls_logits.", "proposal_generator.rpn_head.objectness_logits."),
    ("rpn.head.bbox_pred.", "proposal_generator.rpn_head.anchor_deltas."),
    ("roi_heads.box_head.1.", "roi_heads.res5.norm."),
    ("roi_heads.box_predictor.", "roi_heads.box_predictor."),
    ("roi_heads.mask_predictor.conv5_mask.", "roi_heads.mask_head.deconv."),
    ("roi_heads.mask_predictor.mask_fcn_logits.", "roi_heads.mask_head.predictor."),
)
# Where the ResNet's stages lie: ours, detectron2's, with what names of a lone ResNet begin with there.
_STAGES = (
    ("backbone.", "", "backbone.", ""),
    ("roi_heads.box_head.0.", "layer4.", "roi_heads.res5.", "res5."),
)
# Ours has the background first among the classes, detectron2 last.
_CLASSES = "roi_heads.box_predictor.cls_score."


def _moved(
    name: str, parts: list[tuple[str, str]], stages: list[tuple[str, str, str, str]], rules: Renaming
) -> str:
    for start, new in parts:
        if name.startswith(start):
            return new + name.removeprefix(start)
    for start, lone, new, new_lone in stages:
        if name.startswith(start):
            return new + renamed(lone + name.removeprefix(start), rules).removeprefix(new_lone)
    raise MaskDistillError(f"{name}: no tensor of this detector")


def to_detectron2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A ResNet-50 ``build_detector`` state in the names of detectron2's Res5ROIHeads with norm.

    Raises:
        MaskDistillError: a name that belongs to no part of the detector.
    """
    return {
        _moved(name, list(_PARTS), list(_STAGES), TO_DETECTRON2): value.roll(-1, 0)
        if name.startswith(_CLASSES)
        else value
        for name, value in state.items()
    }


def from_detectron2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of :func:`to_detectron2`."""
    parts = [(new, old) for old, new in _PARTS]
    stages = [(new, new_lone, old, lone) for old, lone, new, new_lone in _STAGES]
    return {
        _moved(name, parts, stages, FROM_DETECTRON2): value.roll(1, 0) if name.startswith(_CLASSES) else value
        for name, value in state.items()
    }
