"""RoI heads: what all have in common, and C4's, where layer4 of the trunk runs on every region."""

from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads, maskrcnn_inference

from maskdistill.config import DetectorConfig
from maskdistill.detector.boxes import overlaps
from maskdistill.detector.drop_loss import drop_distant
from maskdistill.detector.grids import mask_targets
from maskdistill.detector.losses import REGIONS, balanced_sample, random_stream, region_losses
from maskdistill.detector.pooling import RegionPool
from maskdistill.detector.proposals import STRIDE
from maskdistill.runtime.devices import mixed

MASK_CHANNELS = 256
TensorDict: TypeAlias = dict[str, Tensor]


class BoxPredictor(nn.Module):
    """Linear layers for classes and, one for each class but the background, boxes.

    Args:
        in_channels: C.
        num_clusters: K.
    """

    def __init__(self, in_channels: int, num_clusters: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(in_channels, num_clusters + 1)
        self.bbox_pred = nn.Linear(in_channels, num_clusters * 4)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(n, C) -> logits (n, K + 1), background first; deltas (n, 4 (K + 1)), background 0."""
        return self.cls_score(features), F.pad(self.bbox_pred(features), (4, 0))


class RegionHeads(RoIHeads):  # type: ignore[misc]
    """Boxes and masks of regions, whatever these are read off.

    Matching and the choice of detections are torchvision's. Losses are cross-entropy of the class, L1 of the
    box over the number of regions, and binary cross-entropy of the true class's mask [method §5].

    Args:
        config: the detector's section.
        pool: of ``box_features``.
        box_head: of ``box_features`` or ``box_vectors``.
        box_predictor: classes and boxes of vectors.
        mask_predictor: K masks of a region's features, whose last layer is ``MaskRCNNPredictor``'s.
    """

    def __init__(
        self,
        config: DetectorConfig,
        pool: nn.Module,
        box_head: nn.Module,
        box_predictor: BoxPredictor,
        mask_predictor: nn.Module,
    ) -> None:
        super().__init__(
            box_roi_pool=pool,
            box_head=box_head,
            box_predictor=box_predictor,
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=config.roi_batch,
            positive_fraction=config.roi_positive,
            bbox_reg_weights=(10.0, 10.0, 5.0, 5.0),
            score_thresh=config.score_thresh,
            nms_thresh=config.nms,
            detections_per_img=config.max_dets,
        )
        self.box_similarity = overlaps
        self.precision, self.drop_loss = config.precision, config.drop_loss
        self.mask_predictor = mask_predictor
        (masks,) = [layer for layer in mask_predictor.modules() if isinstance(layer, MaskRCNNPredictor)]
        last = (self.box_predictor.cls_score, self.box_predictor.bbox_pred, masks.mask_fcn_logits)
        for layer, std in zip(last, (0.01, 0.001, 0.001), strict=True):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(masks.conv5_mask.bias)

    def box_features(self, maps: dict[str, Tensor], boxes: list[Tensor]) -> Tensor:
        """Float (all n, C, side, side) from the trunk's maps and each image's boxes (n, 4) xyxy."""
        raise NotImplementedError

    def box_vectors(self, regions: Tensor) -> Tensor:
        """What classes and boxes are predicted from: float (n, D) of ``box_features`` (n, C, side, side)."""
        raise NotImplementedError

    def mask_features(self, maps: dict[str, Tensor], boxes: list[Tensor]) -> Tensor:
        """What masks are predicted from: float (all n, C, P, P)."""
        raise NotImplementedError

    def _positive_features(
        self, maps: dict[str, Tensor], boxes: list[Tensor], labels: list[Tensor], regions: Tensor
    ) -> Tensor:
        """In training the ``mask_features`` of the boxes whose label is above 0; ``regions``: all
        ``box_features``.
        """
        return self.mask_features(maps, [box[label > 0] for box, label in zip(boxes, labels, strict=True)])

    def _mask_logits(self, regions: Tensor) -> Tensor:
        with mixed(regions.device, self.precision):
            out: Tensor = self.mask_predictor(regions)
        return out.float()

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[TensorDict] | None = None,
    ) -> tuple[list[TensorDict], TensorDict]:
        """Losses in training, detections otherwise.

        Args:
            features: the trunk's maps, float (B, C, H/stride, W/stride), by name.
            proposals: an image's boxes, float (n, 4) xyxy in pixels of the resized image.
            image_shapes: (height, width) of the resized images.
            targets: ``boxes`` (n, 4), ``labels`` (n,) in 1..K, ``masks`` uint8 (n, H, W) and ``seed`` an
                image.

        Returns:
            ``(detections, losses)``; a detection holds ``boxes``, ``labels``, ``scores`` and ``masks``
            (n, 1, 2P, 2P), probabilities inside the box, where P is the side of ``mask_features``.
        """
        if self.training:
            assert targets is not None
            return [], self._losses(features, proposals, targets)
        logits, deltas = self.box_predictor(self.box_vectors(self.box_features(features, proposals)))
        found = self.postprocess_detections(logits, deltas, proposals, image_shapes)
        result = [
            dict(zip(("boxes", "scores", "labels"), one, strict=True)) for one in zip(*found, strict=True)
        ]
        classes = [one["labels"] - 1 for one in result]
        if sum(len(labels) for labels in classes) == 0:
            return [{**one, "masks": logits.new_zeros((0, 1, 1, 1))} for one in result], {}
        masks = self._mask_logits(self.mask_features(features, [one["boxes"] for one in result]))
        for one, probabilities in zip(result, maskrcnn_inference(masks, classes), strict=True):
            one["masks"] = probabilities
        return result, {}

    def _losses(
        self, maps: dict[str, Tensor], proposals: list[Tensor], targets: list[TensorDict]
    ) -> TensorDict:
        boxes, matched, labels, wanted = self.select_training_samples(proposals, targets)
        regions = self.box_features(maps, boxes)
        logits, deltas = self.box_predictor(self.box_vectors(regions))
        classes = torch.cat(labels)
        masks = self._mask_logits(self._positive_features(maps, boxes, labels, regions))
        grids = [
            mask_targets(target["masks"], box[label > 0], index[label > 0], masks.shape[-1])
            for target, box, index, label in zip(targets, boxes, matched, labels, strict=True)
        ]
        return region_losses(logits, deltas, masks, classes, torch.cat(wanted), torch.cat(grids))

    def select_training_samples(
        self, proposals: list[Tensor], targets: list[TensorDict]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
        """The sampled regions of each image: boxes, index of the matched object, label, regression target.

        The objects' own boxes are among the candidates; the sample is drawn from ``seed`` of the target.
        """
        objects = [target["boxes"] for target in targets]
        candidates = self.add_gt_proposals(proposals, objects)
        matched, labels = self.assign_targets_to_proposals(
            candidates, objects, [one["labels"] for one in targets]
        )
        size, share = self.fg_bg_sampler.batch_size_per_image, self.fg_bg_sampler.positive_fraction
        for place, target in enumerate(targets):
            generator = random_stream(target, REGIONS, labels[place].device)
            labels[place] = drop_distant(labels[place], candidates[place], objects[place], self.drop_loss)
            chosen = balanced_sample(labels[place], size, share, generator)
            candidates[place] = candidates[place][chosen]
            matched[place], labels[place] = matched[place][chosen], labels[place][chosen]
        wanted = [boxes[index] for boxes, index in zip(objects, matched, strict=True)]
        return candidates, matched, labels, list(self.box_coder.encode(wanted, candidates))


class Res5RoIHeads(RegionHeads):
    """RoIAlign -> layer4 (stride 2) -> batch normalisation -> boxes (from the mean) and masks [P §A.1].

    In training the masks of the positive regions are read off the features that their boxes were read off;
    at test time the final boxes are pooled anew.

    Args:
        config: the detector's section.
        layer4: last stage of the ResNet, moved here from the trunk.
        in_channels: channels of layer4's output.
        num_clusters: K; box classes are 0 (background), 1..K, and there are K masks a region.
        side: of the pooled regions, ``config.roi_pool`` by default.
        masks: the mask predictor, by default one for layer4's output.
    """

    def __init__(
        self,
        config: DetectorConfig,
        layer4: nn.Module,
        in_channels: int,
        num_clusters: int,
        side: int | None = None,
        masks: nn.Module | None = None,
    ) -> None:
        super().__init__(
            config,
            RegionPool(side or config.roi_pool, STRIDE),
            nn.Sequential(layer4, nn.BatchNorm2d(in_channels)),
            BoxPredictor(in_channels, num_clusters),
            masks or MaskRCNNPredictor(in_channels, MASK_CHANNELS, num_clusters),
        )

    def box_features(self, maps: dict[str, Tensor], boxes: list[Tensor]) -> Tensor:
        """Of the trunk's only map, (B, C, H/16, W/16): layer4's output."""
        (only,) = maps.values()
        regions = self.box_roi_pool(only, boxes)
        with mixed(only.device, self.precision):
            out: Tensor = self.box_head(regions)
        return out.float()

    def box_vectors(self, regions: Tensor) -> Tensor:
        """Means over the cells."""
        return regions.mean(dim=(2, 3))

    def mask_features(self, maps: dict[str, Tensor], boxes: list[Tensor]) -> Tensor:
        """The same as for boxes."""
        return self.box_features(maps, boxes)

    def _positive_features(
        self, maps: dict[str, Tensor], boxes: list[Tensor], labels: list[Tensor], regions: Tensor
    ) -> Tensor:
        return regions[torch.cat(labels) > 0]
