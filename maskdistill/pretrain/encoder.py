"""One interface over both kinds of backbone: images to one vector each."""

from typing import Any, cast

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from maskdistill.backbones import resnet, vit
from maskdistill.runtime.errors import MaskDistillError


class Encoder(nn.Module):
    """A ViT's CLS token, or a ResNet's mean over positions.

    Args:
        arch: ViT or ResNet name.
        drop_path: stochastic depth rate of a ViT.
        patch_keep: share of a ViT's patches that training mode forwards.

    Attributes:
        backbone: the network whose weights are kept.
        dim: length of the vector.
    """

    def __init__(self, arch: str, drop_path: float = 0.0, patch_keep: float = 1.0) -> None:
        super().__init__()
        self.patch_keep = patch_keep
        self.backbone: Any
        if arch in vit.ARCHITECTURES:
            self.backbone = vit.build_vit(arch, drop_path)
        elif arch in resnet.ARCHITECTURES:
            self.backbone = resnet.build_resnet(arch).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        else:
            known = sorted([*vit.ARCHITECTURES, *resnet.ARCHITECTURES])
            raise MaskDistillError(f"arch {arch!r} is unknown; take one of {', '.join(known)}")
        self.is_vit = arch in vit.ARCHITECTURES
        with torch.no_grad():
            training = self.training
            self.dim = self.eval()(torch.zeros(1, 3, 64, 64)).shape[1]
            self.train(training)

    def forward(self, images: Tensor) -> Tensor:
        """float (n, dim) of normalised images (n, 3, H, W)."""
        net = self.backbone
        if self.is_vit:
            return vit.cls_feature(
                cast(VisionTransformer, net), images, self.patch_keep if self.training else 1.0
            )
        act = net.act1 if hasattr(net, "act1") else net.relu
        out = net.maxpool(act(net.bn1(net.conv1(images.contiguous(memory_format=torch.channels_last)))))
        out = net.layer4(net.layer3(net.layer2(net.layer1(out))))
        mean: Tensor = out.mean(dim=(2, 3))
        return mean
