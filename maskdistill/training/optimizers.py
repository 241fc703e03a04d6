"""The optimisers for detector and segmenter."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from maskdistill.config import OptimizerName


def build_optimizer(
    groups: Iterable[dict[str, Any]], name: OptimizerName, lr: float, momentum: float
) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW (Loshchilov & Hutter 2019) with torch's betas, over parameter groups.

    Args:
        groups: each with ``params`` and ``weight_decay``; ``lr_scale``, if present, is used by the training
            loop.
        momentum: for SGD.
    """
    if name == "adamw":
        return torch.optim.AdamW(groups, lr, fused=True)
    return torch.optim.SGD(groups, lr, momentum, fused=True)


def backbone_groups(
    model: nn.Module, backbone: nn.Module, weight_decay: float, backbone_lr: float
) -> list[dict[str, Any]]:
    """Trainable parameters in two groups: the backbone's, whose learning rate is a share of the others', and
    the rest.
    """
    own = {id(parameter) for parameter in backbone.parameters()}
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    parts = (
        ([p for p in trainable if id(p) in own], backbone_lr),
        ([p for p in trainable if id(p) not in own], 1.0),
    )
    return [
        {"params": part, "weight_decay": weight_decay, "lr_scale": scale} for part, scale in parts if part
    ]
