"""What the sections ``detector`` and ``segmenter`` of the configuration have in common."""

from typing import Literal

from pydantic import Field, model_validator

from maskdistill.backbones.registry import BACKBONES, StudentName, find_official
from maskdistill.config.paths import UserPath
from maskdistill.config.types import Section, Stages
from maskdistill.runtime.errors import MaskDistillError

PRECISION = (
    "precision of convolutions and matrix products, in training and afterwards. float32, without TF32: as "
    "in the paper's software; bfloat16 (autocast; weights, losses and the last layer stay in float32) for "
    "GPUs on which it is faster"
)
OptimizerName = Literal["sgd", "adamw"]
OPTIMIZER = "sgd: with momentum, as in the paper; adamw: usual for transformers, with a lower lr"
BACKBONE_LR = "learning rate of the pre-trained network, as a share of lr"
STUDENT_ARCH = "name of a ResNet or a vision transformer"
FREEZE_AT = (
    "frozen parts; ResNet: 1 the stem, 2 also layer1, ... 5 all; transformer: 1 patch embedding and "
    "positions, 1+n also the first n blocks, its depth + 1: all"
)
STUDENT_WEIGHTS = (
    "path of a checkpoint of the ResNet (MoCo v1-v3, DINO, detectron2, torchvision names) or of the "
    "transformer; or what is downloaded: a ResNet of `maskdistill weights --list`, such as dino_resnet50 or "
    "moco_v2_800ep (no commercial use), or 'official': the checkpoint of the transformer's authors; or "
    "'random'"
)


class StudentConfig(Section):
    """What detector and segmenter have in common: the network that they start from, and which part of it is
    frozen.
    """

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
