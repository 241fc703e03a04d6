"""A vision transformer as the trunk of a detector or a segmenter: one map of patch tokens, the first blocks
frozen.
"""

import torch
from torch import Tensor, nn

from maskdistill.backbones.registry import find_backbone
from maskdistill.backbones.vit import ViT, build_vit, load_vit, pad_to_multiple, patch_tokens
from maskdistill.runtime.devices import mixed


def initial_vit(arch: str, weights: str) -> ViT:
    """ViT with the weights of a checkpoint, or random ones from torch's global generator if ``weights`` is
    "random".

    Raises:
        MaskDistillError: unknown name, or the file is missing, damaged, or not of this architecture.
    """
    if weights == "random":
        return build_vit(arch)
    with torch.random.fork_rng(devices=[]):  # so that the heads' initial weights depend on the caller's seed
        return load_vit(arch, weights)


class ViTTrunk(nn.Module):
    """Patch tokens of a ViT after its final norm, as a map.

    Frozen parts run without gradients and stay in eval mode.

    Args:
        vit: from :func:`initial_vit`.
        arch: its name in the registry.
        freeze_at: 0 nothing, 1 the stem (patch embedding, positions, CLS and registers), 1+n also the first n
            blocks, depth+1 everything, the final norm included.
        precision: of the matrix products and convolutions, ``float32`` or ``bfloat16``.

    Attributes:
        out_channels: D.
        stride: pixels of a patch's side.
        depth: number of blocks.
    """

    def __init__(self, vit: ViT, arch: str, freeze_at: int = 0, precision: str = "float32") -> None:
        super().__init__()
        entry = find_backbone(arch)
        self.vit, self.freeze_at, self.precision = vit, freeze_at, precision
        self.out_channels, self.stride, self.depth = entry.embed_dim, entry.patch_size, entry.depth
        vit.requires_grad_(True)
        for name, parameter in vit.named_parameters():
            if self._is_frozen(name):
                parameter.requires_grad_(False)

    def _is_frozen(self, name: str) -> bool:
        """Whether a parameter or a module of the ViT, given by name, belongs to the frozen parts."""
        if name.startswith("blocks."):
            return int(name.split(".")[1]) < self.freeze_at - 1
        return self.freeze_at > self.depth if name.startswith("norm.") else self.freeze_at > 0

    def train(self, mode: bool = True) -> "ViTTrunk":
        """Train mode for everything except the frozen parts."""
        super().train(mode)
        frozen = [self.vit.patch_embed] if self.freeze_at > 0 else []
        for part in [*frozen, *self.vit.blocks[: max(0, self.freeze_at - 1)]]:
            part.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images, float (B, 3, H, W) of any size -> float32 (B, D, ceil(H/p), ceil(W/p)).

        Images are padded with the mean colour at the bottom and right to whole patches.
        """
        padded = pad_to_multiple(images, self.stride)
        grid = (padded.shape[-2] // self.stride, padded.shape[-1] // self.stride)
        with mixed(images.device, self.precision):
            patches = patch_tokens(self.vit, padded, self.freeze_at)
        return patches.float().transpose(1, 2).reshape(patches.shape[0], -1, *grid)
