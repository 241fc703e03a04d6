"""Label-free distillation: a ResNet learns a pre-trained vision transformer's features at every place of a
picture.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskdistill.backbones import resnet, vit
from maskdistill.backbones.registry import find_backbone
from maskdistill.pretrain.views import Views
from maskdistill.runtime.errors import MaskDistillError


class Student(nn.Module):
    """A ResNet whose last map is as fine as the teacher's patches, and a linear map to the teacher's
    width.
    """

    def __init__(self, arch: str, stride: int, width: int) -> None:
        super().__init__()
        self.backbone = resnet.build_resnet(arch, stride)
        self.head = nn.Conv2d(self.backbone.channels[3], width, 1)

    def forward(self, views: Tensor) -> Tensor:
        """float (n, width, rows, columns) of normalised views (n, 3, H, W)."""
        out: Tensor = self.head(self.backbone(views.contiguous(memory_format=torch.channels_last)))
        return out


class Distillation(nn.Module):
    """Feature distillation (FitNets, Romero et al. 2015) from a transformer into a ResNet.

    Targets are the keys and values of the teacher's last attention block at every patch, standardised column
    by column over the batch. The loss is the mean squared error, so it is 1 for a student that knows nothing.
    The student sees the view re-coloured, the teacher sees it as it is.

    Args:
        arch: ResNet name; its stride is set to the teacher's patch size, 8 or 16, through dilation.
        teacher_arch, teacher_weights: the transformer; it is not trained.
    """

    def __init__(self, arch: str, teacher_arch: str, teacher_weights: str) -> None:
        super().__init__()
        backbone = find_backbone(teacher_arch)
        if arch not in resnet.ARCHITECTURES or backbone.patch_size not in (8, 16):
            raise MaskDistillError(
                f"objective distill trains a ResNet ({', '.join(resnet.ARCHITECTURES)}) from a transformer "
                f"of patch 8 or 16, not {arch} from {teacher_arch}"
            )
        width = 2 * backbone.embed_dim
        self.student = Student(arch, backbone.patch_size, width).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.standardise = nn.BatchNorm1d(width, affine=False, momentum=0.05)
        self.patch_size = backbone.patch_size
        self.teacher = vit.load_vit(teacher_arch, teacher_weights)  # last: it seeds torch's generator

    def train(self, mode: bool = True) -> "Distillation":
        """The teacher stays in eval mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def losses(self, student: nn.Module, views: Views) -> dict[str, Tensor]:
        """Loss and explained share of the targets' variance, for re-coloured and plain views, float (B, 3, H,
        W).
        """
        recoloured, plain = views
        found = student(recoloured)
        with torch.no_grad():
            content = vit.patch_content(self.teacher, plain).float()
            target = self.standardise(content.flatten(0, 1)).view_as(content)
        grid = (plain.shape[-2] // self.patch_size, plain.shape[-1] // self.patch_size)
        loss = F.mse_loss(found.float(), target.transpose(1, 2).unflatten(2, grid))
        return {"loss": loss, "explained": 1 - loss.detach()}

    def kept(self) -> dict[str, Tensor]:
        """The weights to keep: the ResNet's."""
        return self.student.backbone.state_dict()
