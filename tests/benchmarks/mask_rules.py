"""CPU seconds of each mask rule beside the network's forward: python tests/benchmarks/mask_rules.py --scenes 8

DINO's ViT-S/16 on generated scenes of seed 78, by default with random weights. TokenCut's time alone depends on the
keys: more pairs that are alike take longer, and so do cuts of almost equal value.
"""

import argparse
import time

import torch
from PIL import Image

from maskdistill.backbones import vit
from maskdistill.backbones.registry import find_backbone
from maskdistill.config import MasksConfig
from maskdistill.data.scenes import generate_scene
from maskdistill.features import extraction
from maskdistill.masks.records import chosen

NAMES = ("maskdistill", "lost-400", "attention-0.75", "tokencut")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=4)
    parser.add_argument("--arch", default="dino_vits16")
    parser.add_argument("--weights", default="random")
    parser.add_argument("--sides", type=int, nargs="+", default=[224, 480, 640])
    args = parser.parse_args()
    torch.set_num_threads(1)
    backbone, device = find_backbone(args.arch), torch.device("cpu")
    model = vit.load_vit(args.arch, args.weights, device, "float32")
    print("| short side | patches | forward |", *(f" {name} |" for name in NAMES), sep="")
    print("|---|---|---|", "---|" * len(NAMES), sep="")
    for side in args.sides:
        spent = {name: 0.0 for name in ("forward", *NAMES)}
        for number in range(args.scenes):
            image = extraction.resize(Image.fromarray(generate_scene(78, number, 640).image), side)
            begun = time.process_time()
            (features,) = extraction.extract(model, backbone, [image], device, "float32").get()
            spent["forward"] += time.process_time() - begun
            for name in NAMES:
                rule = chosen(MasksConfig(rule=name))
                begun = time.process_time()
                rule.masks(features)
                spent[name] += time.process_time() - begun
        cells = [f"{1000 * seconds / args.scenes:.0f} ms" for seconds in spent.values()]
        print(f"| {side} | {len(features.keys)} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
