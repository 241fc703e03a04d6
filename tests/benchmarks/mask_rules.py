"""CPU seconds of each mask rule, on one thread, on generated scenes of seed 78.

Beside the network's forward, by default DINO's ViT-S/16 with random weights:

    python tests/benchmarks/mask_rules.py --scenes 8

Beside the same cuts by scipy's dense ``eigh``, on 40 x 54 = 2,160 patches of the shipped network:

    python tests/benchmarks/mask_rules.py --eigh --scenes 4

The time of cuts alone depends on the keys: cuts of almost equal value take longer.
"""

import argparse
import os
import time
from collections.abc import Callable
from typing import TypeVar
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from scipy import linalg

from maskdistill.backbones import vit
from maskdistill.backbones.registry import find_backbone
from maskdistill.config import MasksConfig
from maskdistill.data.scenes import generate_scene
from maskdistill.features import extraction
from maskdistill.features.store import ImageFeatures
from maskdistill.masks import ncut
from maskdistill.masks.patches import Mask
from maskdistill.masks.records import chosen
from maskdistill.masks.rules import maskcut, tokencut

NAMES = ("maskdistill", "lost-400", "attention-0.75", "tokencut", "maskcut")
GRID = (40, 54)
T = TypeVar("T")
DEVICE = torch.device("cpu")


def features_of(model: vit.ViT, arch: str, photo: Image.Image, side: int) -> ImageFeatures:
    """Of one picture, scaled to a shortest side."""
    pixels = extraction.resize(photo, side)
    (features,) = extraction.extract(model, find_backbone(arch), [pixels], DEVICE, "float32").get()
    return features


def timed(work: Callable[..., T], *args: object) -> tuple[T, float]:
    """What a call returns, and milliseconds of this process's CPU."""
    begun = time.process_time()
    result = work(*args)
    return result, 1000 * (time.process_time() - begun)


def beside_forward(arch: str, weights: str, scenes: int, sides: list[int]) -> None:
    """Print a table, a row a size."""
    model = vit.load_vit(arch, weights, DEVICE, "float32")
    print("| short side | patches | forward |", *(f" {name} |" for name in NAMES), sep="")
    print("|---|---|---|", "---|" * len(NAMES), sep="")
    for side in sides:
        spent = {name: 0.0 for name in ("forward", *NAMES)}
        for number in range(scenes):
            photo = Image.fromarray(generate_scene(78, number, 640).image)
            features, forward = timed(features_of, model, arch, photo, side)
            spent["forward"] += forward
            for name in NAMES:
                spent[name] += timed(chosen(MasksConfig(rule=name)).masks, features)[1]
        cells = [f"{total / scenes:.0f} ms" for total in spent.values()]
        print(f"| {side} | {len(features.keys)} | " + " | ".join(cells) + " |")


def graphs_cut(name: str, features: ImageFeatures) -> list[tuple[Mask, ncut.Vector]]:
    """Each graph that a rule cuts, and the eigenvector that it finds."""
    seen: list[tuple[Mask, ncut.Vector]] = []
    usual = ncut.second_eigenvector

    def recorded(alike: Mask, start: ncut.Vector | None = None) -> ncut.Vector:
        graph, vector = alike.copy(), usual(alike, start)
        seen.append((graph, vector))
        return vector

    with (
        patch.object(tokencut, "second_eigenvector", recorded),
        patch.object(maskcut, "second_eigenvector", recorded),
    ):
        chosen(MasksConfig(rule=name)).masks(features)
    return seen


def by_eigh(alike: Mask, only: list[int] | None) -> ncut.Vector:
    """The second eigenvector of ``(D - E) x = lambda D x``, of all eigenvectors or of those asked for."""
    edges = np.where(alike, 1, ncut.WEAK)
    degrees = np.diag(edges.sum(axis=1))
    vectors: ncut.Vector = linalg.eigh(degrees - edges, degrees, subset_by_index=only)[1]
    return vectors[:, 0 if only else 1]


def beside_eigh(arch: str, weights: str, scenes: int) -> None:
    """Print a table, a row a rule."""
    model, pixels = vit.load_vit(arch, weights, DEVICE, "float32"), find_backbone(arch).patch_size
    spent = {name: np.zeros(5) for name in NAMES}  # of the rule, of eigh, of eigh for one; masks, cuts
    apart = 0.0
    for number in range(scenes):
        photo = Image.fromarray(generate_scene(78, number, 640, 0.3).image).resize(
            (pixels * GRID[1], pixels * GRID[0])
        )
        features = features_of(model, arch, photo, pixels * GRID[0])
        for name in NAMES:
            graphs = graphs_cut(name, features)
            masks, own = timed(chosen(MasksConfig(rule=name)).masks, features)
            spent[name] += [own, 0, 0, len(masks), len(graphs)]
            for alike, vector in graphs:
                spent[name][1] += timed(by_eigh, alike, None)[1]
                exact, one = timed(by_eigh, alike, [1, 1])
                spent[name][2] += one
                vector, exact = vector / np.linalg.norm(vector), exact / np.linalg.norm(exact)
                apart = max(apart, float(np.abs(vector * np.sign(vector @ exact) - exact).max()))
    print(
        f"{scenes} scenes, {np.prod(GRID):,} patches, {arch}; largest difference of an eigenvector "
        f"{apart:.1e}\n"
    )
    print(
        "| rule | masks | cuts | rule, ms | its cuts by `eigh`, ms | times as long | for one eigenvector, ms "
        "| times |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, total in spent.items():
        own, whole, one, masks, cuts = total / scenes
        dense = [f"{value:,.0f} | {value / own:.0f}" if cuts else "- | -" for value in (whole, one)]
        print(f"| `{name}` | {masks:.1f} | {cuts:.1f} | {own:.0f} | {dense[0]} | {dense[1]} |")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=4)
    parser.add_argument("--eigh", action="store_true", help="beside scipy's dense eigh; takes 20 s a scene")
    parser.add_argument("--arch", help="default: dino_vits16, with --eigh vit_micro_patch8")
    parser.add_argument("--weights", help="default: random, with --eigh the shipped ones")
    parser.add_argument("--sides", type=int, nargs="+", default=[224, 480, 640])
    args = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1":
        parser.error("set OMP_NUM_THREADS=1: times are of one thread")
    torch.set_num_threads(1)
    if args.eigh:
        shipped = "config/weights/vit_micro_patch8.safetensors"
        beside_eigh(args.arch or "vit_micro_patch8", args.weights or shipped, args.scenes)
    else:
        beside_forward(args.arch or "dino_vits16", args.weights or "random", args.scenes, args.sides)


if __name__ == "__main__":
    main()
