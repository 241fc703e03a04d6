"""How many objects of generated scenes one mask an image finds, how many several do, and how many a baseline does.

A script to run by hand; ground truth is used for the scores alone:

    .venv/bin/python tests/benchmarks/iterative_masks.py --scenes 60 --seed 4321

Recall: share of the objects that some mask overlaps with IoU 0.5 or more. Precision: share of the masks that overlap
some object so. Masks of an image are disjoint and so are objects, hence no object and no mask counts twice.
The stopping rule's defaults (masks.further) were chosen on ``--seed 77``; the demo's scenes have seed 0.
"""

import argparse
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from maskdistill import masks
from maskdistill.backbones import vit
from maskdistill.backbones.registry import find_backbone
from maskdistill.config import MasksConfig
from maskdistill.data.scenes import Scene, generate_scene, make_object, render
from maskdistill.features import extract, resize
from maskdistill.mask_baselines import MaskBaseline
from maskdistill.store import ImageFeatures

Mask = npt.NDArray[np.bool_]
Finder = Callable[[ImageFeatures], list[Mask]]
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


def several(most: int) -> Finder:
    """The method with up to ``most`` masks."""
    config = MasksConfig(max_masks=most)
    return lambda image: [one.mask for one in masks.distil_several(image.keys, image.cls_query, image.grid, config)]


def by_baseline(name: str) -> Finder:
    """A baseline's one mask."""
    return lambda image: [MaskBaseline.parse(name).mask(image)[0]]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=60)
    parser.add_argument("--seed", type=int, default=4321)
    parser.add_argument("--size", type=int, default=128, help="shortest side of a scene in pixels")
    parser.add_argument("--difficulty", type=float, default=0.3)
    parser.add_argument("--objects", type=int, default=0, help="objects drawn a scene; 0: the demo's one to four")
    parser.add_argument("--short-side", type=int, default=160, help="side at which features are taken")
    parser.add_argument("--weights", default="config/weights/vit_micro_patch8.safetensors")
    args = parser.parse_args()
    torch.set_num_threads(1)

    finders: dict[str, Finder] = {f"max_masks {most}": several(most) for most in (1, 2, 3, 5)}
    finders |= {
        name: by_baseline(name) for name in ("lost-100", "lost-400", "attention-0.75", "attention-0.75-largest")
    }
    model, backbone = vit.load_vit(ARCH, args.weights), find_backbone(ARCH)
    objects = 0
    found, right, hit = (dict.fromkeys(finders, 0) for _ in range(3))
    for index in range(args.scenes):
        scene = scene_of(args, index)
        size = (scene.image.shape[0], scene.image.shape[1])
        pixels = resize(Image.fromarray(scene.image), args.short_side)
        (image,) = extract(model, backbone, [pixels], torch.device("cpu")).get()
        objects += len(scene.masks)
        for name, finder in finders.items():
            full = [masks.upsample(mask, backbone.patch_size, image.resized_hw, size) for mask in finder(image)]
            iou = np.array([[(mask & one).sum() / (mask | one).sum() for one in scene.masks] for mask in full])
            found[name] += len(full)
            right[name] += int((iou >= 0.5).any(axis=1).sum())
            hit[name] += int((iou >= 0.5).any(axis=0).sum())

    print(f"{args.scenes} scenes of seed {args.seed}, {objects / args.scenes:.2f} objects each\n")
    print("| rule | masks an image | recall at IoU 0.5, % | precision, % |\n|---|---|---|---|")
    for name in finders:
        scores = f"{100 * hit[name] / objects:.1f} | {100 * right[name] / found[name]:.1f}"
        print(f"| {name} | {found[name] / args.scenes:.2f} | {scores} |")


if __name__ == "__main__":
    main()
