"""Section ``segmenter`` of the configuration."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from maskdistill.backbones.registry import BACKBONES
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
    Decay,
    Epochs,
    EpochsBefore,
    Fraction,
    Momentum,
    Positive,
    Precision,
    Rate,
    Resized,
    Share,
    Stages,
    Workers,
    ordered,
)

Atrous = Annotated[int, Field(ge=1, le=1024), NUMBER]
Zoom = Annotated[float, Field(gt=0, le=100), NUMBER]
Degrees = Annotated[float, Field(ge=0, le=180), NUMBER]


class SegmenterConfig(StudentConfig):
    """DeepLab-v3, or a vision transformer with a decoder, with hard pixel mining [P §3.3 Eq. 4, §4.1]."""

    head: Literal["aspp", "decoder", "linear"] = Field(
        "aspp",
        description="aspp: DeepLab-v3's head, for a ResNet; decoder: coarse maps enlarged step by step and "
        "joined with finer ones, cheaper, the default for a transformer; linear: a single 1x1 convolution, "
        "as for frozen backbones",
    )
    atrous_rates: tuple[Atrous, Atrous, Atrous] = Field(
        (12, 24, 36), description="dilation rates of head aspp"
    )
    head_channels: Channels = Field(
        256,
        description="channels of ASPP and head, or of the decoder at a quarter of the picture's resolution",
    )
    freeze_at: Stages = Field(3, description=FREEZE_AT)
    epochs: Epochs = 45
    batch_size: Batch = Field(16, description="images per step, over all GPUs")
    reference_batch: Batch = Field(
        16, description="images per step for which lr is stated; lr is scaled to batch_size"
    )
    optimizer: OptimizerName = Field("sgd", description=OPTIMIZER)
    lr: Rate = 2e-3
    backbone_lr: Share = Field(1.0, description=BACKBONE_LR)
    drop_after: EpochsBefore = Field(
        40, description="epochs after which the learning rate is multiplied by gamma"
    )
    gamma: Share = 0.1
    momentum: Momentum = 0.9
    weight_decay: Decay = 1e-4
    hard_pixels: Share = Field(
        0.2, description="share of the batch's pixels that count for the loss: those with the largest loss"
    )
    size: Resized = Field(512, description="side in pixels; images and labels are squashed to size x size")
    rotation: Degrees = Field(
        5.0, description="largest rotation in degrees, drawn uniformly from [-rotation, rotation]"
    )
    scale: Annotated[tuple[Zoom, Zoom], AfterValidator(ordered)] = Field(
        (0.75, 1.25), description="range of the zoom about the centre, drawn uniformly"
    )
    flip: Fraction = 0.5
    border_label: Annotated[Literal[0, 255], NUMBER] = Field(
        0, description="label of pixels that the warp brings in"
    )
    resize_labels: Literal["nearest_exact", "nearest"] = Field(
        "nearest_exact",
        description="resampling of training labels and predictions; nearest_exact: the label at a pixel's "
        "centre; nearest: at its upper left corner (OpenCV's INTER_NEAREST), as in the released code",
    )
    precision: Precision = Field("float32", description=PRECISION)
    compile: bool = Field(
        False,
        description="compile the network with torch.compile, for long trainings on GPUs; requires a C++ "
        "compiler",
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
            raise ValueError(
                f"head aspp is for a ResNet, and arch is {self.arch}; take decoder, or another arch"
            )
        return self
