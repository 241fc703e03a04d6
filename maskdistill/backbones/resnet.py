"""ResNets for detector and segmenter: registry, weights of common self-supervised checkpoints, freezing.

All share torchvision's names (``conv1, bn1, relu, maxpool, layer1 ... layer4``), hence its state-dict keys.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm.models.resnet as timm_resnet
import torch
import torch.nn.functional as F
import torchvision.models
from torch import Tensor, nn

from maskdistill.backbones.resnet_layouts import find_layout, own_names
from maskdistill.backbones.weights import read_state_dict
from maskdistill.runtime.errors import MaskDistillError

STAGES = ("stem", "layer1", "layer2", "layer3", "layer4")


class ResNet(nn.Module):
    """The convolutional part of a ResNet.

    Args:
        source: a torchvision or timm ResNet whose parts are used.

    Attributes:
        channels: output channels of layer1 ... layer4.
    """

    def __init__(self, source: Any) -> None:
        super().__init__()
        self.conv1: nn.Module = source.conv1
        self.bn1: nn.Module = source.bn1
        self.relu: nn.Module = nn.ReLU(inplace=True)
        self.maxpool: nn.Module = source.maxpool
        self.layer1: nn.Module = source.layer1
        self.layer2: nn.Module = source.layer2
        self.layer3: nn.Module = source.layer3
        self.layer4: nn.Module = source.layer4
        convolutions = [[m for m in layer.modules() if isinstance(m, nn.Conv2d)] for layer in self.layers()]
        self.channels = tuple(max(conv.out_channels for conv in layer) for layer in convolutions)

    def layers(self) -> tuple[nn.Module, nn.Module, nn.Module, nn.Module]:
        """The four residual stages."""
        return self.layer1, self.layer2, self.layer3, self.layer4

    def stem(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) -> (B, 64, H/4, W/4)."""
        stem: Tensor = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        return stem

    def pyramid(self, images: Tensor) -> tuple[Tensor, ...]:
        """Normalised images (B, 3, H, W) -> maps of layer1 ... layer4, (B, channels[i], h, w) each, finest
        first.
        """
        maps = [self.stem(images)]
        for layer in self.layers():
            maps.append(layer(maps[-1]))
        return tuple(maps[1:])

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) -> feature maps (B, channels[3], H/stride, W/stride)."""
        return self.pyramid(images)[-1]


class FrozenBatchNorm2d(nn.Module):
    """Batch normalisation with fixed statistics and affine terms, all of them buffers.

    Unlike a ``BatchNorm2d`` put into eval mode, neither ``train()`` nor an optimiser nor a conversion to
    SyncBN can change it. Equal to ``BatchNorm2d`` in eval mode bit for bit.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.eps = norm.eps
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, getattr(norm, name).detach().clone())

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return F.batch_norm(
            maps, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
        )


def _resnet50(output_stride: int) -> ResNet:
    dilate = [False, output_stride <= 8, output_stride <= 16]
    return ResNet(torchvision.models.resnet50(replace_stride_with_dilation=dilate))


def _resnet_tiny(output_stride: int) -> ResNet:
    """Basic blocks [2, 2, 2, 1], 32-64-128-256 channels: 1.6 M parameters, for CPUs."""
    block: Any = timm_resnet.BasicBlock
    return ResNet(
        timm_resnet.ResNet(
            block,
            (2, 2, 2, 1),
            channels=(32, 64, 128, 256),
            output_stride=output_stride,
            zero_init_last=False,
        )
    )


ARCHITECTURES: dict[str, Callable[[int], ResNet]] = {"resnet50": _resnet50, "resnet_tiny": _resnet_tiny}


def build_resnet(arch: str, output_stride: int = 32) -> ResNet:
    """A ResNet without pooling and classifier, randomly initialised from torch's global generator.

    Args:
        arch: name in :data:`ARCHITECTURES`.
        output_stride: 32, 16 or 8; strides beyond it become dilation in layer4, and layer3
            (DeepLab-v3, Chen et al. 2017 §3.2).

    Raises:
        MaskDistillError: unknown architecture.
    """
    if arch not in ARCHITECTURES:
        raise MaskDistillError(f"arch: unknown ResNet {arch!r}; choose one of {', '.join(ARCHITECTURES)}")
    if output_stride not in (8, 16, 32):
        raise ValueError(f"output_stride {output_stride}: must be 8, 16 or 32")
    return ARCHITECTURES[arch](output_stride)


def initial_resnet(arch: str, weights: str, output_stride: int = 32) -> ResNet:
    """:func:`build_resnet` with the weights of a checkpoint, or random ones where ``weights`` is
    ``"random"``.
    """
    model = build_resnet(arch, output_stride)
    if weights != "random":
        load_resnet_weights(model, weights)
    return model


def load_resnet_weights(model: nn.Module, path: str | Path) -> dict[str, Any]:
    """Fill a model of :func:`build_resnet` from a checkpoint, in place and strictly.

    Supported are MoCo v1/v2, MoCo v3, DINO (the backbone alone, or the teacher of a training state),
    detectron2 and plain torchvision or timm names (:mod:`maskdistill.backbones.resnet_layouts`), as
    ``.safetensors`` or pickled with tensors only. Half-precision weights are widened. Everything but the
    backbone is left out; ``num_batches_tracked`` may be absent.

    Returns:
        ``layout``, ``loaded`` (number of tensors) and ``ignored`` (keys).

    Raises:
        MaskDistillError: naming the file and the keys that are missing, unexpected, of another shape or
            not finite.
    """
    found = read_state_dict(path)
    layout = find_layout(found)
    names, ignored, strangers = own_names(found, layout)
    wanted = model.state_dict()
    tensors = {name: found[key] for key, name in names.items() if name in wanted}
    unexpected = strangers + [key for key, name in names.items() if name not in wanted]
    missing = [name for name in wanted if name not in tensors and not name.endswith("num_batches_tracked")]
    shapes = [
        f"{name} {tuple(tensor.shape)} for {tuple(wanted[name].shape)}"
        for name, tensor in tensors.items()
        if tensor.shape != wanted[name].shape
    ]
    broken = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    complaints = {"missing": missing, "unexpected": unexpected, "wrong shape": shapes, "not finite": broken}
    lines = [f"  {what}: {_shortened(keys)}" for what, keys in complaints.items() if keys]
    if lines:
        remedy = "; give a checkpoint of this architecture"
        raise MaskDistillError(
            "\n".join([f"{path}: does not fit the ResNet, read as {layout.name}{remedy}", *lines])
        )
    model.load_state_dict({**wanted, **tensors})
    return {"layout": layout.name, "loaded": len(tensors), "ignored": ignored}


def _shortened(keys: list[str], limit: int = 8) -> str:
    rest = f" and {len(keys) - limit} more" if len(keys) > limit else ""
    return ", ".join(keys[:limit]) + rest


def freeze_stages(model: ResNet, freeze_at: int) -> None:
    """Fix the first stages in place: no gradients, and batch normalisation becomes
    :class:`FrozenBatchNorm2d`.

    Args:
        freeze_at: 0 nothing, 1 the stem, 2 also layer1, ... 5 everything.
    """
    names = ["conv1", "bn1", *STAGES[1:freeze_at]] if freeze_at > 0 else []
    for name in names:
        part = getattr(model, name)
        part.requires_grad_(False)
        setattr(model, name, _with_frozen_norms(part))


def _with_frozen_norms(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.BatchNorm2d):
        return FrozenBatchNorm2d(module)
    for name, child in module.named_children():
        setattr(module, name, _with_frozen_norms(child))
    return module
