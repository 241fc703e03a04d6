"""Networks that a detector or a segmenter may be built on, by name: ResNets and vision transformers."""

from maskdistill.backbones.registry import BACKBONES
from maskdistill.backbones.resnet import ResNet, build_resnet, initial_resnet
from maskdistill.backbones.vit import ViT, build_vit
from maskdistill.backbones.vit_trunk import initial_vit


def build_student(arch: str, output_stride: int = 32) -> ResNet | ViT:
    """The network, randomly initialised from torch's global generator; ``output_stride`` is only for ResNets.

    Raises:
        MaskDistillError: unknown name.
    """
    return build_vit(arch) if arch in BACKBONES else build_resnet(arch, output_stride)


def initial_student(arch: str, weights: str, output_stride: int = 32) -> ResNet | ViT:
    """:func:`build_student` with the weights of a checkpoint, or random ones where ``weights`` is
    ``"random"``.
    """
    return initial_vit(arch, weights) if arch in BACKBONES else initial_resnet(arch, weights, output_stride)
