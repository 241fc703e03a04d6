"""Sections of the configuration for what is trained on the masks, and for its scores; see maskdistill.config."""

from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, model_validator

from maskdistill.backbones.registry import BACKBONES, StudentName, find_official
from maskdistill.confidence import Compare
from maskdistill.config_types import (
    NUMBER,
    Batch,
    Channels,
    Count,
    Decay,
    Distinct,
    DistinctSome,
    Epochs,
    EpochsBefore,
    Fraction,
    Momentum,
    Positive,
    Rate,
    Resized,
    Rounds,
    Section,
    Share,
    Side,
    Spread,
    Stages,
    UserPath,
    Workers,
    ascending,
    ordered,
)
from maskdistill.runtime.errors import MaskDistillError

LabelType = Literal["mask", "bbox", "grabcut"]
"""What is painted of a candidate [P Table S1]."""
Precision = Literal["float32", "bfloat16"]
PRECISION = (
    "of convolutions and matrix products, in training and after it. float32, without TF32, is what the paper's engines"
    " ran; bfloat16 (autocast; weights, losses and the last layer stay in float32) is for GPUs that are faster in it"
)
OptimizerName = Literal["sgd", "adamw"]
OPTIMIZER = "sgd, with momentum, as in the paper; adamw, as transformers are trained, at a lower lr"
BACKBONE_LR = "of the pre-trained network, as a share of lr"
Protocol = Literal["agnostic_multi", "semantic_multi", "semantic_single", "semantic_single_strict"]
"""Whose categories and which objects count for instance AP [P §A.4]; see maskdistill.evaluation.protocols."""

Aspect = Annotated[float, Field(gt=0, le=100), NUMBER]
Proposals = Annotated[int, Field(ge=1, le=1_000_000), NUMBER]
Pool = Annotated[int, Field(ge=1, le=256), NUMBER]
Atrous = Annotated[int, Field(ge=1, le=1024), NUMBER]
Zoom = Annotated[float, Field(gt=0, le=100), NUMBER]
Degrees = Annotated[float, Field(ge=0, le=180), NUMBER]
MeanFields = Annotated[int, Field(ge=1, le=1000), NUMBER]
Resamples = Annotated[int, Field(ge=0, le=1_000_000), NUMBER]
Weight = Annotated[float, Field(ge=0, le=10_000), NUMBER]


STUDENT_ARCH = "a ResNet's or a vision transformer's name"
FREEZE_AT = (
    "frozen parts of a ResNet: 1 the stem, 2 also layer1, ... 5 all; of a transformer: 1 patch embedding and positions,"
    " 1+n also the first n blocks, one more than its depth: all"
)
STUDENT_WEIGHTS = (
    "path of a checkpoint: of a ResNet (MoCo v1-v3, DINO, detectron2, torchvision names) or of the transformer; a "
    "ResNet's name that `maskdistill weights --list` shows, downloaded: dino_resnet50, or moco_v2_800ep (no commercial "
    "use); 'official': the transformer's authors', downloaded; or 'random'"
)


class StudentConfig(Section):
    """What detector and segmenter have in common: the network that they begin with, and which part of it is fixed."""

    arch: StudentName = Field("resnet50", description=STUDENT_ARCH)
    weights: UserPath = Field(description=STUDENT_WEIGHTS)
    freeze_at: Stages

    @model_validator(mode="after")
    def _start_of_arch(self) -> "StudentConfig":
        vit = BACKBONES.get(self.arch)
        most = vit.depth + 1 if vit else 5
        if self.freeze_at > most:
            raise ValueError(f"freeze_at is {self.freeze_at}, and all of {self.arch} is frozen at {most}")
        if self.weights == "official":
            if vit is None:
                raise ValueError(
                    f"weights 'official' is for a transformer, and arch is {self.arch!r}; name a checkpoint"
                )
            try:
                find_official(self.arch)
            except MaskDistillError as error:
                raise ValueError(str(error)) from None
        return self


class DetectorConfig(StudentConfig):
    """Mask R-CNN: a C4 ResNet trunk [P §3.3, §A.1], or a vision transformer with a feature pyramid (ViTDet)."""

    engine: Literal["torchvision", "detectron2"] = Field(
        "torchvision", description="library that runs the network; detectron2 needs an installation of its own"
    )
    freeze_at: Stages = Field(2, description=FREEZE_AT)
    iters: Positive = Field(24000, description="optimiser steps")
    batch_size: Batch = Field(16, description="images a step, over all GPUs")
    reference_batch: Batch = Field(
        16, description="images a step for which lr, iters, steps and warmup_iters are given; scaled to batch_size"
    )
    optimizer: OptimizerName = Field("sgd", description=OPTIMIZER)
    lr: Rate = 0.02
    backbone_lr: Share = Field(1.0, description=BACKBONE_LR)
    steps: Annotated[list[Positive], Field(max_length=1000), AfterValidator(ascending)] = Field(
        [20000, 22000], description="iterations at which the rate drops; none: it never does"
    )
    gamma: Share = 0.1
    warmup_iters: Count = 100
    warmup_factor: Share = 0.001
    momentum: Momentum = 0.9
    weight_decay: Decay = Field(1e-4, description="norm layers have none")
    min_size_train: list[Resized] = Field(
        [480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800], min_length=1, max_length=1000
    )
    min_size_test: Resized = 800
    max_size: Resized = 1333
    flip: Fraction = 0.5
    aspect_grouping: bool = Field(
        True, description="batches of portraits and squares alone, or of none, as detectron2 has them"
    )
    precise_bn: Count = Field(
        200, description="batches at the end whose statistics normalisation layers take on; 0: running averages"
    )
    anchor_sizes: DistinctSome[Side] = Field([32, 64, 128, 256, 512], description="side in pixels")
    aspect_ratios: DistinctSome[Aspect] = Field([0.5, 1.0, 2.0], description="height / width")
    rpn_pre_nms: tuple[Proposals, Proposals] = Field((12000, 6000), description="proposals before NMS: train, test")
    rpn_post_nms: tuple[Proposals, Proposals] = Field((2000, 1000), description="proposals after NMS: train, test")
    drop_loss: Fraction = Field(
        0.0,
        description="regions whose largest IoU with an annotated object is not above this are no negatives: they may"
        " show an object that has no annotation; 0.01 in CutLER (Wang et al. 2023); 0: off",
    )
    rpn_batch: Batch = 256
    roi_batch: Batch = 512
    roi_pool: Pool = Field(14, description="RoIAlign output; a ResNet's layer4 halves it")
    pyramid: bool = Field(
        False,
        description="read regions off a feature pyramid by light heads, instead of running layer4 on every region (C4,"
        " as in the paper); on a transformer it is always so",
    )
    head_channels: Channels = Field(256, description="channels of the pyramid and its heads; 64 suits a CPU")
    score_thresh: Fraction = 0.05
    nms: Fraction = 0.5
    max_dets: Proposals = 100
    precision: Precision = Field("float32", description=PRECISION)
    compile: bool = Field(
        False, description="let torch.compile take the network: for long trainings on GPUs; wants a C++ compiler"
    )
    checkpoint_every: Positive = 1000
    log_every: Positive = 20
    workers: Workers = Field(2, description="data loading processes")

    @model_validator(mode="after")
    def _engine_has_arch(self) -> "DetectorConfig":
        if self.engine == "detectron2" and self.arch != "resnet50":
            raise ValueError(f"engine detectron2 has resnet50 only, and arch is {self.arch!r}; use engine torchvision")
        if self.engine == "detectron2" and self.drop_loss:
            raise ValueError("engine detectron2 has no drop_loss; set it to 0 or use engine torchvision")
        if self.engine == "detectron2" and self.pyramid:
            raise ValueError("engine detectron2 has C4 only; set pyramid to false or use engine torchvision")
        if self.engine == "detectron2" and self.compile:
            raise ValueError("engine detectron2 is not compiled; set compile to false or use engine torchvision")
        return self


class AnnotationsConfig(Section):
    """Which masks the detector learns from, each with its cluster as the category [P §3.3]."""

    keep: Share = Field(
        1.0,
        description="share of the training images' masks, those nearest to their centroids; the rest, oddly shaped or "
        "between two clusters, is left out, beyond the paper. Set detector.drop_loss beside it",
    )


class PseudoLabelsConfig(Section):
    """Confident candidates become one semantic map an image [P §3.3, §4.1]."""

    tau: Fraction = Field(0.9, description="a candidate is kept when its score exceeds tau")
    compare: Compare = Field("gt", description="score > tau or score >= tau")
    overlap: Literal["drop", "pixel", "legacy"] = Field(
        "drop",
        description="drop: skip a candidate that overlaps a better one; pixel: paint what is free of it; "
        "legacy: the released script's check, under which worse candidates are painted over better ones",
    )
    type: LabelType = Field(
        "mask", description="what is painted of a candidate: mask, bbox: its box, grabcut: OpenCV's GrabCut in its box"
    )


class SegmenterConfig(StudentConfig):
    """DeepLab-v3, or a vision transformer with a decoder, with hard pixel mining [P §3.3 Eq. 4, §4.1]."""

    head: Literal["aspp", "decoder", "linear"] = Field(
        "aspp",
        description="aspp: DeepLab-v3's, of a ResNet; decoder: two enlargements that see the picture again, cheaper and"
        " a transformer's default; linear: one 1x1 convolution alone, as for frozen backbones",
    )
    atrous_rates: tuple[Atrous, Atrous, Atrous] = Field((12, 24, 36), description="of head aspp")
    head_channels: Channels = Field(
        256, description="channels of ASPP and head, or of the decoder at a quarter of the picture's sides"
    )
    freeze_at: Stages = Field(3, description=FREEZE_AT)
    epochs: Epochs = 45
    batch_size: Batch = Field(16, description="images a step, over all GPUs")
    reference_batch: Batch = Field(16, description="images a step for which lr is given; scaled to batch_size")
    optimizer: OptimizerName = Field("sgd", description=OPTIMIZER)
    lr: Rate = 2e-3
    backbone_lr: Share = Field(1.0, description=BACKBONE_LR)
    drop_after: EpochsBefore = Field(40, description="epochs after which the rate is multiplied by gamma")
    gamma: Share = 0.1
    momentum: Momentum = 0.9
    weight_decay: Decay = 1e-4
    hard_pixels: Share = Field(0.2, description="share of the batch's pixels with the largest loss")
    size: Resized = Field(512, description="images and labels are squashed to size x size")
    rotation: Degrees = Field(5.0, description="degrees, uniform in [-rotation, rotation]")
    scale: Annotated[tuple[Zoom, Zoom], AfterValidator(ordered)] = Field(
        (0.75, 1.25), description="uniform zoom about the centre"
    )
    flip: Fraction = 0.5
    border_label: Annotated[Literal[0, 255], NUMBER] = Field(0, description="label of pixels that the warp brings in")
    resize_labels: Literal["nearest_exact", "nearest"] = Field(
        "nearest_exact",
        description="of training labels and predictions: the label at a pixel's centre; nearest: at its upper left"
        " corner, OpenCV's INTER_NEAREST, as in the released code",
    )
    precision: Precision = Field("float32", description=PRECISION)
    compile: bool = Field(
        False, description="let torch.compile take the network: for long trainings on GPUs; wants a C++ compiler"
    )
    checkpoint_every: Positive = 500
    log_every: Positive = 20
    workers: Workers = Field(2, description="data loading processes")

    @model_validator(mode="before")
    @classmethod
    def _decoder_of_a_transformer(cls, values: Any) -> Any:
        arch = values.get("arch") if isinstance(values, dict) else None
        return {"head": "decoder"} | values if isinstance(arch, str) and arch in BACKBONES else values

    @model_validator(mode="after")
    def _head_of_arch(self) -> "SegmenterConfig":
        if self.head == "aspp" and self.arch in BACKBONES:
            raise ValueError(f"head aspp is for a ResNet, and arch is {self.arch}; take decoder, or another arch")
        return self


class GaussianConfig(Section):
    """Pairwise term of the dense CRF for pixels that are close."""

    sxy: Spread = Field(1.0, description="standard deviation in pixels")
    compat: Weight = Field(3.0, description="weight")


class BilateralConfig(Section):
    """Pairwise term of the dense CRF for pixels that are close and of similar colour."""

    sxy: Spread = Field(67.0, description="standard deviation in pixels")
    srgb: Spread = Field(3.0, description="standard deviation of each colour channel, of 256 levels")
    compat: Weight = Field(4.0, description="weight")


class CrfConfig(Section):
    """Rounds of training on the segmenter's own predictions, sharpened by a dense CRF [P §B]."""

    rounds: Rounds = Field(
        1,
        description="fresh segmenters, each trained on refined predictions of the one before; the last is the run's",
    )
    iters: MeanFields = Field(10, description="mean-field iterations")
    channels: Literal["rgb", "bgr"] = Field(
        "rgb",
        description="order of the picture's colour channels; bgr: the released code's. The library's filter is"
        " approximate, so that some 0.3 % of the pixels differ",
    )
    gaussian: GaussianConfig = GaussianConfig()
    bilateral: BilateralConfig = BilateralConfig()


class ProbeConfig(Section):
    """Linear probe of the segmenter, the only training on labels; for scoring alone [P §A.2]."""

    enabled: bool = Field(False, description="train and score a probe; needs ground truth of training images")
    epochs: Epochs = 45
    batch_size: Batch = 24
    lr: Rate = 0.1
    drop_after: EpochsBefore = Field(25, description="epochs after which the rate is multiplied by gamma")
    gamma: Share = 0.1
    momentum: Momentum = 0.9
    weight_decay: Decay = 1e-4
    init_std: Spread = Field(0.01, description="spread of the initial weights")
    checkpoint_every: Positive = 500
    log_every: Positive = 20
    workers: Workers = Field(2, description="data loading processes")


class EvaluationConfig(Section):
    """Scores against ground truth; the only stages that read it [P §4, §A.3, §A.4]."""

    matching: Literal["iou", "bg_fixed"] = Field("iou", description="Hungarian over all classes, or 0 fixed to 0")
    bootstrap: Resamples = Field(200, description="resamples of the images for the intervals; 0: none")
    protocols: Distinct[Protocol] = Field(
        list(get_args(Protocol)), description="which instance AP [P Table 3] is scored where there are detections"
    )
