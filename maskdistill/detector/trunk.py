"""The part of a ResNet that sees whole pictures: C4's trunk."""

from collections import OrderedDict

from torch import Tensor, nn

from maskdistill.backbones.resnet import ResNet
from maskdistill.runtime.devices import mixed


class Trunk(nn.Sequential):
    """Stem to layer3 of a ResNet, stride 16.

    Args:
        resnet: whose parts are taken over.
        precision: of the convolutions.
    """

    def __init__(self, resnet: ResNet, precision: str) -> None:
        names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3")
        super().__init__(OrderedDict((name, getattr(resnet, name)) for name in names))
        self.out_channels = resnet.channels[2]
        self.precision = precision

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> float32 (B, out_channels, H/16, W/16)."""
        with mixed(images.device, self.precision):
            maps: Tensor = super().forward(images)  # type: ignore[no-untyped-call]
        return maps.float()

    def stages(self, images: Tensor) -> list[Tensor]:
        """The outputs of layer1, layer2 and layer3, strides 4, 8 and 16, in the precision of the caller."""
        maps: list[Tensor] = []
        last = images
        for name, part in self.named_children():
            last = part(last)
            if name.startswith("layer"):
                maps.append(last)
        return maps
