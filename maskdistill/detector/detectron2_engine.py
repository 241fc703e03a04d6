"""The detector as detectron2's own GeneralizedRCNN with Res5ROIHeads.

The one module that imports detectron2.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.config import get_cfg
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from maskdistill.config import DetectorConfig
from maskdistill.detector.detectron2_names import from_detectron2, to_detectron2
from maskdistill.detector.heads import MASK_CHANNELS, TensorDict
from maskdistill.detector.model import ResizeTransform
from maskdistill.runtime.devices import mixed

LOSSES = {
    "loss_cls": "loss_classifier",
    "loss_box_reg": "loss_box_reg",
    "loss_mask": "loss_mask",
    "loss_rpn_cls": "loss_objectness",
    "loss_rpn_loc": "loss_rpn_box_reg",
}


def detectron2_config(config: DetectorConfig, num_clusters: int) -> Any:
    """detectron2's configuration: its defaults, with the detector's section put in [method §5].

    Pixels come normalised: mean and standard deviation are ImageNet's in :class:`ResizeTransform`.
    """
    cfg = get_cfg()
    cfg.INPUT.FORMAT, cfg.INPUT.MASK_FORMAT = "RGB", "bitmask"
    cfg.TEST.DETECTIONS_PER_IMAGE = config.max_dets
    model = cfg.MODEL
    model.DEVICE = "cpu"
    model.MASK_ON = True
    model.PIXEL_MEAN, model.PIXEL_STD = [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]
    model.BACKBONE.FREEZE_AT = config.freeze_at
    model.RESNETS.NORM = "BN"
    model.RESNETS.STRIDE_IN_1X1 = False
    model.ANCHOR_GENERATOR.SIZES = [config.anchor_sizes]
    model.ANCHOR_GENERATOR.ASPECT_RATIOS = [config.aspect_ratios]
    model.RPN.BATCH_SIZE_PER_IMAGE = config.rpn_batch
    model.RPN.PRE_NMS_TOPK_TRAIN, model.RPN.PRE_NMS_TOPK_TEST = config.rpn_pre_nms
    model.RPN.POST_NMS_TOPK_TRAIN, model.RPN.POST_NMS_TOPK_TEST = config.rpn_post_nms
    model.ROI_HEADS.NUM_CLASSES = num_clusters
    model.ROI_HEADS.BATCH_SIZE_PER_IMAGE = config.roi_batch
    model.ROI_HEADS.POSITIVE_FRACTION = config.roi_positive
    model.ROI_HEADS.SCORE_THRESH_TEST = config.score_thresh
    model.ROI_HEADS.NMS_THRESH_TEST = config.nms
    model.ROI_BOX_HEAD.POOLER_RESOLUTION = config.roi_pool
    model.ROI_MASK_HEAD.CONV_DIM = MASK_CHANNELS
    return cfg


class Detectron2Detector(nn.Module):
    """detectron2's model under the calling convention of ``build_detector``.

    Images are normalised and resized by :class:`ResizeTransform`, with the same draws from torch's generator.
    With ``precision: bfloat16`` the whole model runs under autocast, as under detectron2's own AMPTrainer.

    Args:
        config: the detector's section; ``arch`` is resnet50.
        num_clusters: K.
        state: of ``build_detector`` with the same settings.

    Attributes:
        model: detectron2's.
    """

    def __init__(self, config: DetectorConfig, num_clusters: int, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.transform, self.precision = ResizeTransform(config), config.precision
        self.model: nn.Module = build_model(detectron2_config(config, num_clusters))
        res5: Any = self.model.get_submodule("roi_heads.res5")
        if config.freeze_at >= 5:
            for block in res5:
                block.freeze()
        # Extra norm after res5 [P §A.1].
        res5.add_module("norm", nn.BatchNorm2d(res5[-1].out_channels))
        for module in self.model.modules():
            if isinstance(module, FrozenBatchNorm2d):
                module.num_batches_tracked = None
        self.model.load_state_dict(to_detectron2(state))

    def portable_state(self) -> dict[str, Tensor]:
        """The weights under the names of ``build_detector``."""
        return from_detectron2(self.model.state_dict())

    def forward(self, images: list[Tensor], targets: list[TensorDict] | None = None) -> Any:
        """Losses by name in train mode, else by image ``boxes``, ``labels`` (1..K), ``scores`` and ``masks``.

        Args:
            images: float (3, H, W) in 0..1.
            targets: ``boxes`` (n, 4), ``labels`` (n,) in 1..K and ``masks`` uint8 (n, H, W) an image.
        """
        given: Sequence[TensorDict | None] = targets or [None] * len(images)
        inputs = [self._input(image, target) for image, target in zip(images, given, strict=True)]
        with mixed(images[0].device, self.precision), EventStorage():
            outputs = self.model(inputs)
        if self.training:
            return {LOSSES[name]: loss for name, loss in outputs.items()}
        return [self._detections(output["instances"]) for output in outputs]

    def _input(self, image: Tensor, target: TensorDict | None) -> dict[str, Any]:
        height, width = image.shape[-2:]
        resized, target = self.transform.resize(self.transform.normalize(image), target)
        given = {"image": resized, "height": height, "width": width}
        if target is None:
            return given
        shape = (resized.shape[-2], resized.shape[-1])
        truth = Instances(
            shape,
            gt_boxes=Boxes(target["boxes"]),
            gt_classes=target["labels"] - 1,
            gt_masks=BitMasks(target["masks"]),
        )
        return {**given, "instances": truth}

    @staticmethod
    def _detections(found: Any) -> TensorDict:
        return {
            "boxes": found.pred_boxes.tensor,
            "labels": found.pred_classes + 1,
            "scores": found.scores,
            "masks": found.pred_masks.to(torch.bool),
        }
