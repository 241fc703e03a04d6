"""Section ``probe`` of the configuration."""

from pydantic import Field

from maskdistill.config.types import (
    Batch,
    Decay,
    Epochs,
    EpochsBefore,
    Momentum,
    Positive,
    Rate,
    Section,
    Share,
    Spread,
    Workers,
)


class ProbeConfig(Section):
    """Linear probe of the segmenter, the only training on labels, used only for scoring [P §A.2]."""

    enabled: bool = Field(
        False, description="train and score a probe; requires ground truth of training images"
    )
    epochs: Epochs = 45
    batch_size: Batch = 24
    lr: Rate = 0.1
    drop_after: EpochsBefore = Field(
        25, description="epochs after which the learning rate is multiplied by gamma"
    )
    gamma: Share = 0.1
    momentum: Momentum = 0.9
    weight_decay: Decay = 1e-4
    init_std: Spread = Field(0.01, description="standard deviation of the initial weights")
    checkpoint_every: Positive = 500
    log_every: Positive = 20
    workers: Workers = Field(2, description="data loading processes")
