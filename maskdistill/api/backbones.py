"""Vision transformers, and the features that they compute from a picture."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from maskdistill.backbones import registry, vit
from maskdistill.backbones.timm_names import load_timm
from maskdistill.config import FeaturesConfig
from maskdistill.config.load import validate_section
from maskdistill.data.picture_files import refuse_size
from maskdistill.features import extraction
from maskdistill.features.store import ImageFeatures
from maskdistill.runtime.devices import pick_device
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.workflow.commands import CHECKOUT
from maskdistill.workflow.layout import OFFICIAL
from maskdistill.workflow.needed_weights import SHIPPED

Picture = npt.NDArray[np.uint8]
"""uint8 (H, W, 3), RGB."""


@dataclass(frozen=True)
class Backbone:
    """A vision transformer with its weights, as :func:`load_backbone` returns it.

    Attributes:
        name: as given to :func:`load_backbone`.
        weights: the checkpoint's file.
        patch_size: side of a patch in pixels.
        embed_dim: D, numbers per patch and per embedding.
        structure: its entry in the registry; for a timm model an equivalent one.
        model: the network, in eval mode, on ``device``.
        device: where it computes.
    """

    name: str
    weights: Path
    structure: registry.Backbone
    model: vit.ViT
    device: torch.device

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        return self.structure.patch_size

    @property
    def embed_dim(self) -> int:
        """D, numbers per patch and per embedding."""
        return self.structure.embed_dim

    def features(self, image: Picture, short_side: int | None = 640) -> ImageFeatures:
        """Query of CLS and keys of all patches in the last attention block, from which masks are made.

        Args:
            image: uint8 (H, W, 3), RGB.
            short_side: shortest side in pixels to which the picture is resized first; None: no resizing.

        Returns:
            ``cls_query`` and ``cls_key`` float32 (heads, D / heads), ``keys`` float32 (R * C, D) row by row,
            ``grid`` (R, C) and ``resized_hw``, the size in pixels before padding.

        Raises:
            MaskDistillError: not such an array, or a side that ``features.short_side`` does not allow.

        >>> found = backbone.features(image, short_side=128)
        >>> found.grid, found.keys.shape, found.keys.dtype
        ((20, 16), (320, 128), dtype('float32'))
        """
        if short_side is not None:
            validate_section(FeaturesConfig, {"short_side": short_side}, "features")
        resized = extraction.resize(Image.fromarray(checked(image)), short_side)
        return extraction.extract(self.model, self.structure, [resized], self.device).get()[0]


def load_backbone(name: str, weights: str | Path, device: str = "cpu") -> Backbone:
    """Load a vision transformer by name.

    Args:
        name: a value of ``backbone.arch``, such as ``dino_vits16``, or any plain ViT of timm's, such as
            ``vit_base_patch14_dinov2.lvd142m``.
        weights: path of a checkpoint; or weights that ship with the project, such as
            ``vit_micro_patch8_shapes`` (config/weights/README.md); or ``official``, which ``maskdistill
            weights`` has downloaded into resources/weights. This function downloads nothing and offers no
            random weights.
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``auto``.

    Returns:
        The network in eval mode, without gradients; the state of torch's random generators is unchanged.

    Raises:
        MaskDistillError: unknown name, no such file, or a file with the weights of another network.

    >>> from maskdistill import load_backbone
    >>> backbone = load_backbone("vit_micro_patch8", "vit_micro_patch8")
    >>> backbone.patch_size, backbone.embed_dim
    (8, 128)
    """
    file = _weights_file(name, str(weights))
    if name in registry.BACKBONES:
        with torch.random.fork_rng(devices=[]):
            model, structure = vit.load_vit(name, str(file)), registry.find_backbone(name)
    else:
        model, structure = load_timm(name, str(file))
    chosen = pick_device(device)
    return Backbone(name, file, structure, model.to(chosen), chosen)


def checked(image: Picture) -> Picture:
    """The picture itself, checked.

    Raises:
        MaskDistillError: it is not uint8 (H, W, 3), or has a size for which files are refused too.
    """
    kind = getattr(image, "dtype", type(image).__name__)
    shape: tuple[int, ...] = getattr(image, "shape", ())
    if kind != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise MaskDistillError(
            f"a picture is an array of uint8 (height, width, 3) in RGB, not {kind} {shape}"
        )
    refuse_size(shape[1], shape[0])
    return image


def _weights_file(name: str, weights: str) -> Path:
    """The file that ``weights`` stands for.

    Raises:
        MaskDistillError: there is none.
    """
    if weights == "official":
        return _official(name)
    for path in (Path(weights), CHECKOUT / SHIPPED / f"{weights}.safetensors"):
        if path.is_file():
            return path
    names = sorted(path.stem for path in (CHECKOUT / SHIPPED).glob("vit_*.safetensors"))
    raise MaskDistillError(
        f"weights {weights}: no such file; give the path of a checkpoint, 'official', or one of those that "
        f"ship with the project: {', '.join(names)}"
    )


def _official(name: str) -> Path:
    """The downloaded checkpoint of a backbone, in the current folder or in the checkout."""
    place = Path(OFFICIAL) / registry.find_official(name).file
    for path in (place, CHECKOUT / place):
        if path.is_file():
            return path
    raise MaskDistillError(
        f"weights 'official': {place}: no such file; {registry.how_to_get(name, str(place))}"
    )
