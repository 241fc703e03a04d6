"""Section ``detector`` of the configuration."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from maskdistill.config.self_training import SelfTrainingConfig
from maskdistill.config.student import (
    BACKBONE_LR,
    FREEZE_AT,
    OPTIMIZER,
    PRECISION,
    OptimizerName,
    StudentConfig,
)
from maskdistill.config.types import (
    NUMBER,
    Batch,
    Channels,
    Count,
    Decay,
    DistinctSome,
    Fraction,
    Momentum,
    Positive,
    Precision,
    Rate,
    Resized,
    Share,
    Side,
    Stages,
    Workers,
    ascending,
)

Aspect = Annotated[float, Field(gt=0, le=100), NUMBER]
Proposals = Annotated[int, Field(ge=1, le=1_000_000), NUMBER]
Pool = Annotated[int, Field(ge=1, le=256), NUMBER]


class DetectorConfig(SelfTrainingConfig, StudentConfig):
    """Mask R-CNN: a C4 ResNet trunk [P §3.3, §A.1], or a vision transformer with a feature pyramid
    (ViTDet).
    """

    engine: Literal["torchvision", "detectron2"] = Field(
        "torchvision",
        description="library that runs the network; detectron2 must be installed separately",
    )
    freeze_at: Stages = Field(2, description=FREEZE_AT)
    iters: Positive = Field(24000, description="optimiser steps")
    batch_size: Batch = Field(16, description="images per step, over all GPUs")
    reference_batch: Batch = Field(
        16,
        description="images per step for which lr, iters, steps and warmup_iters are stated; they are "
        "scaled to batch_size",
    )
    optimizer: OptimizerName = Field("sgd", description=OPTIMIZER)
    lr: Rate = 0.02
    backbone_lr: Share = Field(1.0, description=BACKBONE_LR)
    steps: Annotated[list[Positive], Field(max_length=1000), AfterValidator(ascending)] = Field(
        [20000, 22000], description="iterations at which the learning rate drops; []: never"
    )
    gamma: Share = 0.1
    warmup_iters: Count = 100
    warmup_factor: Share = 0.001
    momentum: Momentum = 0.9
    weight_decay: Decay = Field(1e-4, description="norm layers are exempt")
    min_size_train: list[Resized] = Field(
        [480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800], min_length=1, max_length=1000
    )
    min_size_test: Resized = 800
    max_size: Resized = 1333
    flip: Fraction = 0.5
    copy_paste: Fraction = Field(
        0.0,
        description="share of training images into which objects of another image are pasted, anywhere and "
        "at 0.3 to 1 times their size, as in CutLER (Ghiasi et al. 2021); 0: none, as in the paper",
    )
    aspect_grouping: bool = Field(
        True,
        description="fill each batch either with portraits and squares or with landscapes, as "
        "detectron2 does",
    )
    precise_bn: Count = Field(
        200,
        description="batches from which normalisation statistics are recomputed at the end; 0: keep the "
        "running averages",
    )
    anchor_sizes: DistinctSome[Side] = Field([32, 64, 128, 256, 512], description="side in pixels")
    aspect_ratios: DistinctSome[Aspect] = Field([0.5, 1.0, 2.0], description="height / width")
    rpn_pre_nms: tuple[Proposals, Proposals] = Field(
        (12000, 6000), description="proposals before NMS: train, test"
    )
    rpn_post_nms: tuple[Proposals, Proposals] = Field(
        (2000, 1000), description="proposals after NMS: train, test"
    )
    drop_loss: Fraction = Field(
        0.0,
        description="a region whose largest IoU with an annotated object is not above this is not trained "
        "as a negative, as it may show an object without annotation; 0.01 in CutLER (Wang et al. 2023); 0: "
        "off",
    )
    rpn_batch: Batch = 256
    roi_batch: Batch = Field(512, description="regions of an image that a step learns from")
    roi_positive: Share = Field(
        0.25,
        description="largest share of objects among them; the rest is background. Where a step has few "
        "regions, a larger share makes scores more confident",
    )
    roi_pool: Pool = Field(14, description="side of RoIAlign's output; a ResNet's layer4 halves it")
    pyramid: bool = Field(
        False,
        description="read regions from a feature pyramid with light heads, instead of running layer4 on "
        "every region (C4, as in the paper); transformers always use a pyramid",
    )
    head_channels: Channels = Field(256, description="channels of the pyramid and its heads; 64 suits a CPU")
    score_thresh: Fraction = 0.05
    nms: Fraction = 0.5
    max_dets: Proposals = 100
    precision: Precision = Field("float32", description=PRECISION)
    compile: bool = Field(
        False,
        description="compile the network with torch.compile, for long trainings on GPUs; requires a C++ "
        "compiler",
    )
    checkpoint_every: Positive = 1000
    log_every: Positive = 20
    workers: Workers = Field(2, description="data loading processes")

    @model_validator(mode="after")
    def _engine_has_arch(self) -> "DetectorConfig":
        if self.engine == "detectron2" and self.arch != "resnet50":
            raise ValueError(
                f"engine detectron2 has resnet50 only, and arch is {self.arch!r}; use engine torchvision"
            )
        if self.engine == "detectron2" and self.drop_loss:
            raise ValueError("engine detectron2 has no drop_loss; set it to 0 or use engine torchvision")
        if self.engine == "detectron2" and self.backbone_lr != 1:
            raise ValueError(
                "engine detectron2 has one learning rate; set backbone_lr to 1 or use engine torchvision"
            )
        if self.engine == "detectron2" and self.pyramid:
            raise ValueError("engine detectron2 has C4 only; set pyramid to false or use engine torchvision")
        if self.engine == "detectron2" and self.compile:
            raise ValueError(
                "engine detectron2 is not compiled; set compile to false or use engine torchvision"
            )
        return self
