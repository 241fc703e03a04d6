"""Training views of one generated object: cut out as for the clustering of masks, or like a detector's
region.

The two views of a pair have only the outline in common, so individuals can be told apart only by shape. The
exact mask serves only to place a rough one, or a square; the rough mask resembles those of the masks stage,
with or without ``masks.refine``. Neither masks nor categories leave this module.
"""

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from maskdistill.backbones.vit import IMAGENET_MEAN, IMAGENET_STD, normalize
from maskdistill.data.scenes import ObjectSpec, Scene, another_surface, make_object, render
from maskdistill.features.extraction import cluster_input
from maskdistill.masks.refine import refine

Mask = npt.NDArray[np.bool_]
REFINED = 0.7
"""Share of the rough masks whose outline is refined."""
_TRIES = 20


def rough_mask(rng: np.random.Generator, mask: Mask) -> Mask:
    """A rough mask like those from the affinity of patches: cells of a grid with a ragged rim and a few gaps.

    Args:
        mask: bool (H, W), not empty.

    Returns:
        bool (H, W), not empty.
    """
    cell = int(rng.integers(4, 8))
    top, left = rng.integers(0, cell, 2)
    height, width = mask.shape
    rows, columns = (height + 2 * cell) // cell, (width + 2 * cell) // cell
    padded = np.zeros((rows * cell, columns * cell), np.float32)
    padded[top : top + height, left : left + width] = mask
    covered = padded.reshape(rows, cell, columns, cell).mean((1, 3))
    chosen = covered > rng.uniform(0.02, 0.5)
    rim = cv2.dilate(chosen.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) & ~chosen
    chosen |= rim & (rng.random(chosen.shape) < rng.uniform(0, 0.7))
    chosen &= rng.random(chosen.shape) >= rng.uniform(0, 0.12)
    if not chosen.any():
        chosen = covered > 0
    full: Mask = np.kron(chosen, np.ones((cell, cell), bool))[top : top + height, left : left + width]
    return full if full.any() else mask


def cutout_pair(rng: np.random.Generator, size: int, difficulty: float, side: int) -> tuple[Tensor, Tensor]:
    """Two views, uint8 (3, side, side), of one individual, the second with another texture and other colours.

    Each is cut out of its own picture, in which another object may lie nearby.

    Args:
        size: side in pixels of these pictures.
        difficulty: of the pictures, 0 to 1.
    """
    spec = make_object(rng, difficulty)
    return _view(rng, spec, size, difficulty, side), _view(
        rng, another_surface(rng, spec), size, difficulty, side
    )


def crop_pair(rng: np.random.Generator, size: int, difficulty: float, side: int) -> tuple[Tensor, Tensor]:
    """Two squares, uint8 (3, side, side), around one individual with its surroundings; see also
    :func:`cutout_pair`.
    """
    spec = make_object(rng, difficulty)
    return _crop(rng, spec, size, difficulty, side), _crop(
        rng, another_surface(rng, spec), size, difficulty, side
    )


def _crop(rng: np.random.Generator, spec: ObjectSpec, size: int, difficulty: float, side: int) -> Tensor:
    scene = _photographed(rng, spec, size, difficulty)
    left, top, width, height = cv2.boundingRect(scene.masks[0].astype(np.uint8))
    half = max(width, height) * rng.uniform(0.5, 0.72)
    x, y = (left, top) + np.array([width, height]) * (0.5 + 0.06 * rng.standard_normal(2))
    zoom = side / (2 * half)
    placed = np.array([[zoom, 0, side / 2 - x * zoom], [0, zoom, side / 2 - y * zoom]])
    view = cv2.warpAffine(
        scene.image, placed, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    return torch.from_numpy(view).permute(2, 0, 1)


def _view(rng: np.random.Generator, spec: ObjectSpec, size: int, difficulty: float, side: int) -> Tensor:
    scene = _photographed(rng, spec, size, difficulty)
    mask = rough_mask(rng, scene.masks[0])
    if rng.random() < REFINED:
        mask = refine(scene.image, mask, rng.uniform(4, 8))
    image = normalize(torch.from_numpy(scene.image).permute(2, 0, 1))
    box = cv2.boundingRect(mask.astype(np.uint8))
    cut = cluster_input(image, mask, (*map(float, box),), "masked_square", rng.uniform(0.55, 0.75))  # type: ignore[arg-type]
    view = torch.nn.functional.interpolate(cut[None], (side, side), mode="bilinear", antialias=True)[0]
    std, mean = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_STD, IMAGENET_MEAN))
    return ((view * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)


def _photographed(rng: np.random.Generator, spec: ObjectSpec, size: int, difficulty: float) -> Scene:
    """A picture in which the individual, whose mask is the first, and the other, if any, are visible."""
    for _ in range(_TRIES):
        others = [make_object(rng, difficulty) for _ in range(int(rng.integers(2)))]
        scene = render(rng, [spec, *others], size, size, difficulty)
        if len(scene.masks) == 1 + len(others):
            return scene
    raise RuntimeError(
        f"an object of category {spec.category} found no place in {_TRIES} pictures of {size} pixels"
    )
