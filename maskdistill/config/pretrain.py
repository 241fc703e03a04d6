"""Section ``pretrain`` of the configuration."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from maskdistill.config.backbone import BackboneConfig
from maskdistill.config.types import (
    NUMBER,
    Batch,
    Channels,
    Decay,
    Fraction,
    Positive,
    Precision,
    Rate,
    Rounds,
    Section,
    Seed,
    Share,
    Spread,
    Workers,
)
from maskdistill.data.sources.scenes import SceneSide

ViewSide = Annotated[int, Field(ge=32, le=16_384), NUMBER]
LocalSide = Annotated[int, Field(ge=16, le=16_384), NUMBER]
HalfTurn = Annotated[float, Field(ge=0, le=0.5), NUMBER]
Dim = Annotated[int, Field(ge=1, le=1_048_576), NUMBER]


class PretrainConfig(Section):
    """Self-supervised training of a backbone on unlabelled images; used where weights: pretrain."""

    objective: Literal["dino", "contrast", "distill"] = Field(
        "dino",
        description="dino: self-distillation (Caron et al. 2021); "
        "contrast: NT-Xent between two views (SimCLR, Chen et al. 2020); "
        "distill: a ResNet learns a pre-trained transformer's features (FitNets, Romero et al. 2015)",
    )
    teacher: BackboneConfig | None = Field(None, description="the pre-trained transformer (distill)")
    exchange_share: Fraction = Field(
        0.0,
        description="share of the draws that are generated pairs: the same objects, moved and re-lit, over "
        "two backgrounds; the rest are two augmentations of one picture",
    )
    cutout_share: Fraction = Field(
        0.0,
        description="share of the generated pairs whose views look as with clusters.input masked_square: "
        "one object cut out by a rough mask, on flat ground, the second time with another texture and other "
        "colours",
    )
    crop_share: Fraction = Field(
        0.0,
        description="share of the other generated pairs whose views look like a detector's regions: a "
        "square around one object with its surroundings, the second time with another texture, other "
        "colours and another background",
    )
    exchange_pairs: Positive = Field(
        30_000, description="number of different generated pairs; rendered once, then kept in memory"
    )
    scene_size: SceneSide = Field(96, description="side in pixels at which generated pairs are rendered")
    scene_difficulty: Fraction = Field(0.5, description="largest difficulty of the generated pairs")
    scene_seed: Seed = Field(1_000_000, description="seed of the generated pairs; independent of data.seed")
    steps: Positive = Field(2000, description="optimiser steps")
    batch_size: Batch = Field(64, description="images per step, over all GPUs")
    size: ViewSide = Field(128, description="side of a global view in pixels")
    local_size: LocalSide = Field(64, description="side of a local view in pixels (dino)")
    local_views: Rounds = Field(4, description="local views per image (dino)")
    photometric: Fraction = Field(
        1.0, description="strength of brightness, contrast, blur; 1: the published setting"
    )
    hue: HalfTurn = Field(0.1, description="largest turn of the hue; 0.1: the published setting")
    grayscale: Fraction = Field(
        0.2, description="share of the views converted to grey; 0.2: the published setting"
    )
    min_crop: Share = Field(0.4, description="smallest share of the picture in a global view")
    lr: Rate = Field(5e-4, description="peak learning rate at batch 256, scaled linearly")
    weight_decay: Decay = 0.04
    warmup: Fraction = Field(0.1, description="share of the steps during which the learning rate rises")
    temperature: Spread = Field(0.2, description="contrast only")
    teacher_temperature: Spread = Field(0.04, description="dino only")
    momentum: Fraction = Field(0.996, description="teacher momentum at the start, cosine to 1")
    out_dim: Dim = Field(4096, description="number of prototypes (dino)")
    projection_dim: Channels = Field(256, description="projection size (contrast) or bottleneck (dino)")
    hidden_dim: Channels = Field(1024, description="hidden size of the projection head")
    patch_keep: Share = Field(1.0, description="share of a ViT's patches that training uses (FLIP, Li 2023)")
    drop_path: Fraction = Field(0.1, description="stochastic depth rate of the student ViT")
    precision: Precision = Field(
        "float32", description="precision of matrix products in training; bfloat16 is faster on GPUs"
    )
    workers: Workers = Field(2, description="data loading processes")
    checkpoint_every: Positive = Field(200, description="steps between resumable checkpoints")
    log_every: Positive = Field(20, description="steps between rows of the metrics CSV")
    seed: Seed = 0

    @model_validator(mode="after")
    def _teacher_where_needed(self) -> "PretrainConfig":
        if (self.objective == "distill") != (self.teacher is not None):
            raise ValueError("teacher is for objective distill, which needs it")
        if self.teacher is not None and self.teacher.weights in ("pretrain", "random"):
            raise ValueError(
                "teacher.weights is a file or 'official': a transformer that has learned already"
            )
        return self
