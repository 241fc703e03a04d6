"""Masks of the objects in a picture, and one vector per mask."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from maskdistill.api.backbones import Backbone, Picture, checked
from maskdistill.config import ClustersConfig, MasksConfig
from maskdistill.config.load import validate_section
from maskdistill.features import extraction
from maskdistill.formats import rle
from maskdistill.masks.records import MaskRecorder
from maskdistill.runtime.errors import MaskDistillError

Mask = npt.NDArray[np.bool_]


def distil_masks(image: Picture, backbone: Backbone, *, short_side: int | None = 640, **masks: Any) -> Mask:
    """Masks of the objects in a picture, without labels [method §2].

    Args:
        image: uint8 (H, W, 3), RGB.
        backbone: from ``load_backbone``.
        short_side: shortest side in pixels that the network sees; None: the picture's own.
        masks: keys of the section ``masks`` of the configuration, such as ``topk``, ``max_masks`` or
            ``refine``.

    Returns:
        bool (n, H, W), disjoint, in the order of discovery; n is at most ``max_masks``, which is 1 if not
        given, and 0 where the mask would lie outside of the picture.

    Raises:
        MaskDistillError: an array of another kind, or an unknown or invalid setting.

    >>> from maskdistill import distil_masks
    >>> masks = distil_masks(image, backbone, short_side=128, max_masks=3, refine="grabcut")
    >>> len(masks), int(masks.sum(axis=0).max())
    (2, 1)
    """
    config = validate_section(MasksConfig, masks, "distil_masks")
    found = backbone.features(image, short_side)
    recorder = MaskRecorder(config, backbone.patch_size)
    photo = None if config.refine == "none" else image
    records = recorder.records(0, "", (image.shape[0], image.shape[1]), recorder.search(found), photo)
    full = np.zeros((len(records), *image.shape[:2]), np.bool_)
    for mask, record in zip(full, records, strict=True):
        mask[:] = rle.decode(record["segmentation"])
    return full


def distil_mask(image: Picture, backbone: Backbone, *, short_side: int | None = 640, **masks: Any) -> Mask:
    """The mask of the most salient object in a picture: the first of :func:`distil_masks`, with the same
    arguments.

    Returns:
        bool (H, W).

    >>> from maskdistill import distil_mask, load_backbone
    >>> backbone = load_backbone("vit_micro_patch8", "vit_micro_patch8")
    >>> mask = distil_mask(image, backbone, short_side=128, topk=0.35)
    >>> mask.shape, mask.dtype
    ((160, 128), dtype('bool'))
    """
    found = distil_masks(image, backbone, short_side=short_side, **(masks | {"max_masks": 1}))
    return found[0] if len(found) else np.zeros(image.shape[:2], np.bool_)


def embed_masks(
    image: Picture,
    masks: Mask,
    backbone: Backbone,
    *,
    short_side: int | None = None,
    input: str = "masked_image",
) -> npt.NDArray[np.float32]:
    """One vector per mask, for :func:`kmeans`: the CLS token of the masked picture [method §3].

    Args:
        image: uint8 (H, W, 3), RGB.
        masks: bool (n, H, W), each with at least one pixel.
        backbone: from ``load_backbone``; it may differ from the one that made the masks.
        short_side: shortest side in pixels to which each input is resized; None: no resizing.
        input: ``masked_image``, ``masked_crop``, ``masked_square`` or ``crop``, as ``clusters.input``.

    Returns:
        float32 (n, D).

    Raises:
        MaskDistillError: arrays of another kind or size, an empty mask, or an unknown input.

    >>> from maskdistill import embed_masks
    >>> embed_masks(image, mask[None], backbone, short_side=128).shape
    (1, 128)
    """
    checked(image)
    config = validate_section(ClustersConfig, {"input": input, "short_side": short_side}, "embed_masks")
    if masks.dtype != np.bool_ or masks.shape[1:] != image.shape[:2] or masks.ndim != 3:
        raise MaskDistillError(
            f"masks are bool (n, {image.shape[0]}, {image.shape[1]}), not {masks.dtype} {masks.shape}"
        )
    if not masks.any(axis=(1, 2)).all():
        raise MaskDistillError("a mask has no pixel; leave it out")
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)
    vectors = np.zeros((len(masks), backbone.embed_dim), np.float32)
    for vector, mask in zip(vectors, masks, strict=True):
        x, y, width, height = rle.bbox(rle.encode(mask))
        view = extraction.masked_view(
            pixels, mask, (x, y, width, height), backbone.structure, config.input, config.short_side
        )
        vector[:] = extraction.embed(backbone.model, backbone.patch_size, [view], backbone.device)[0]
    return vectors
