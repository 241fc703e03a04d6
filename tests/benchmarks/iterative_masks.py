"""How many objects of generated scenes one mask an image finds, how many several do, and how many a baseline
does.

A script to run by hand; ground truth is used for the scores alone:

    .venv/bin/python tests/benchmarks/iterative_masks.py --scenes 60 --seed 4321 [--refine]

Recall: share of the objects that some mask overlaps with IoU 0.5 (0.75) or more. Precision: share of the
masks that overlap some object so. Masks of an image are disjoint and so are objects, hence no object and no
mask counts twice. With ``--refine`` outlines are those of ``masks.refine: grabcut``; a box in the middle and
Otsu's foreground stand beside, to tell what GrabCut does alone. The stopping rule's defaults (masks.further)
were chosen on ``--seed 77``; the demo's scenes have seed 0.
"""

import argparse
import time
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scipy import ndimage

from maskdistill.backbones import vit
from maskdistill.backbones.registry import find_backbone
from maskdistill.config import FurtherMasksConfig, MasksConfig
from maskdistill.data.scenes import Scene, generate_scene, make_object, render
from maskdistill.features.extraction import extract, resize
from maskdistill.features.store import ImageFeatures
from maskdistill.masks import registry
from maskdistill.masks.refine import refine
from maskdistill.masks.rules import maskdistill as rule
from maskdistill.masks.upsample import upsample

Mask = npt.NDArray[np.bool_]
Photo = npt.NDArray[np.uint8]
Finder = Callable[[ImageFeatures, Photo], list[Mask]]
LIMITS = FurtherMasksConfig(min_area=0.03, max_area=0.2, max_overlap=0.3)
"""Of the demo, chosen on --seed 78."""
ARCH = "vit_micro_patch8"


def scene_of(args: argparse.Namespace, index: int) -> Scene:
    """The demo's kind of scene, or one with ``--objects`` objects (those that find no room are left out)."""
    if not args.objects:
        return generate_scene(args.seed, index, args.size, args.difficulty)
    rng = np.random.default_rng([args.seed, index])
    while True:
        objects = [make_object(rng, args.difficulty) for _ in range(args.objects)]
        scene = render(rng, objects, args.size, args.size, args.difficulty, spacing=0.08)
        if len(scene.labels):
            return scene


def full_size(mask: Mask, image: ImageFeatures, photo: Photo) -> Mask:
    """A mask of patches at the scene's size."""
    size = (photo.shape[0], photo.shape[1])
    return upsample(mask, find_backbone(ARCH).patch_size, image.resized_hw, size)


def several(most: int, limits: FurtherMasksConfig) -> Finder:
    """The method with up to ``most`` masks."""
    config = MasksConfig(max_masks=most, further=limits)

    def find(image: ImageFeatures, photo: Photo) -> list[Mask]:
        found = rule.distil_several(image.keys, image.cls_query, image.grid, config)
        return [full_size(one.mask, image, photo) for one in found]

    return find


def by_baseline(name: str) -> Finder:
    """All masks of another rule."""
    return lambda image, photo: [
        full_size(one.mask, image, photo) for one in registry.read(name).masks(image)
    ]


def middle(image: ImageFeatures, photo: Photo) -> list[Mask]:
    """A box of half the sides in the middle."""
    box = np.zeros(photo.shape[:2], bool)
    height, width = box.shape
    box[height // 4 : height - height // 4, width // 4 : width - width // 4] = True
    return [box]


def otsu(image: ImageFeatures, photo: Photo) -> list[Mask]:
    """The largest part of the side of Otsu's threshold that the border has less of."""
    _, found = cv2.threshold(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), 0, 1, cv2.THRESH_OTSU)
    solid = found > 0
    border = np.concatenate([solid[0], solid[-1], solid[:, 0], solid[:, -1]])
    labels, _ = ndimage.label(~solid if border.mean() > 0.5 else solid)
    sizes = np.bincount(labels.ravel())[1:]
    return [labels == 1 + sizes.argmax()] if len(sizes) else [solid]


class Tally(NamedTuple):
    """Best overlap of each mask and of each object found so far, and seconds of CPU for outlines."""

    of_masks: list[float]
    of_objects: list[float]
    seconds: list[float]


def refined(found: list[Mask], photo: Photo, patch: float) -> list[Mask]:
    """As the masks stage refines them: disjoint, none empty."""
    free, out = np.ones(photo.shape[:2], bool), []
    for mask in found:
        if (mask & free).any():
            mask = refine(photo, mask & free, patch) & free
            free &= ~mask
            out += [mask] if mask.any() else []
    return out


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=60)
    parser.add_argument("--seed", type=int, default=4321)
    parser.add_argument("--size", type=int, default=128, help="shortest side of a scene in pixels")
    parser.add_argument("--difficulty", type=float, default=0.3)
    parser.add_argument(
        "--objects", type=int, default=0, help="objects drawn a scene; 0: the demo's one to four"
    )
    parser.add_argument("--short-side", type=int, default=160, help="side at which features are taken")
    parser.add_argument("--weights", default="config/weights/vit_micro_patch8.safetensors")
    parser.add_argument("--refine", action="store_true", help="with outlines refined by GrabCut")
    args = parser.parse_args()
    torch.set_num_threads(1)

    usual = FurtherMasksConfig()
    finders: dict[str, Finder] = {f"max_masks {most}": several(most, usual) for most in (1, 2, 3, 5)}
    finders |= {f"max_masks {most}, the demo's limits": several(most, LIMITS) for most in (3, 5)}
    finders |= {
        name: by_baseline(name)
        for name in (
            "lost-100",
            "lost-400",
            "attention-0.75",
            "attention-0.75-largest",
            "tokencut",
            "maskcut",
            "maskcut-sides",
        )
    }
    finders |= {"a box in the middle": middle, "Otsu, largest part": otsu}
    model, backbone = vit.load_vit(ARCH, args.weights), find_backbone(ARCH)
    tallies = {name: Tally([], [], []) for name in finders}
    for index in range(args.scenes):
        scene = scene_of(args, index)
        pixels = resize(Image.fromarray(scene.image), args.short_side)
        (image,) = extract(model, backbone, [pixels], torch.device("cpu")).get()
        for name, finder in finders.items():
            found, tally = finder(image, scene.image), tallies[name]
            started = time.process_time()
            if args.refine:
                found = refined(
                    found, scene.image, backbone.patch_size * scene.image.shape[0] / image.resized_hw[0]
                )
            tally.seconds.append(time.process_time() - started)
            iou = np.array(
                [[(mask & one).sum() / (mask | one).sum() for one in scene.masks] for mask in found]
            )
            tally.of_masks.extend(iou.max(axis=1))
            tally.of_objects.extend(iou.max(axis=0))

    objects = len(next(iter(tallies.values())).of_objects)
    print(f"{args.scenes} scenes of seed {args.seed}, {objects / args.scenes:.2f} objects each\n")
    print(
        "| rule | masks an image | mean IoU | precision at 0.5, 0.75, % | recall at 0.5, 0.75, % | ms an "
        "image |"
    )
    print("|---|---|---|---|---|---|")
    for name, tally in tallies.items():
        of_masks, of_objects = np.array(tally.of_masks), np.array(tally.of_objects)
        precision, recall = (
            ", ".join(f"{100 * (best >= limit).mean():.1f}" for limit in (0.5, 0.75))
            for best in (of_masks, of_objects)
        )
        cost = f"{1000 * np.mean(tally.seconds):.0f}" if args.refine else "-"
        print(
            f"| {name} | {len(of_masks) / args.scenes:.2f} | {of_masks.mean():.3f} | {precision} | {recall} "
            f"| {cost} |"
        )


if __name__ == "__main__":
    main()
