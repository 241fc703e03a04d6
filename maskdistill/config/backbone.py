"""Section ``backbone`` of the configuration."""

from pydantic import Field, field_validator, model_validator

from maskdistill.backbones.registry import find_backbone, find_official
from maskdistill.config.paths import UserPath
from maskdistill.config.types import Section
from maskdistill.runtime.errors import MaskDistillError


class BackboneConfig(Section):
    """Vision transformer that computes the features [P §3.2, §4.1]."""

    arch: str = Field("dino_vits16", description="name of a backbone; `maskdistill weights --list` shows all")
    weights: UserPath = Field(
        description="path of a checkpoint; 'official': the authors' checkpoint, downloaded into "
        "resources/weights; 'pretrain': train on the run's own images; 'random': for comparison only"
    )
    sha256: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="SHA-256 of the weights file; null: the published one, if there is one",
    )

    @field_validator("arch")
    @classmethod
    def _known(cls, arch: str) -> str:
        try:
            find_backbone(arch)
        except MaskDistillError as error:
            raise ValueError(str(error)) from None
        return arch

    @model_validator(mode="after")
    def _weights_of_arch(self) -> "BackboneConfig":
        if self.weights == "official":
            try:
                find_official(self.arch)
            except MaskDistillError as error:
                raise ValueError(str(error)) from None
        if self.sha256 and self.weights in ("pretrain", "random"):
            raise ValueError(f"sha256 is for a file, and weights is {self.weights!r}; remove it")
        return self
