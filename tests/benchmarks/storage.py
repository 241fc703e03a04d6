"""How keys are best stored: size and speed of dtype x compression, and what 20 thousand and 10 million images
need.

    python tests/benchmarks/storage.py [--images 24] [--short-side 320]

Keys of real photographs by the shipped network. Blosc is not part of h5py and is left out of the choice; zlib
with byte shuffle, which it is built around, stands in for it.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from maskdistill.backbones import vit
from maskdistill.backbones.registry import find_backbone
from maskdistill.config import MasksConfig
from maskdistill.data.images import load_rgb
from maskdistill.features import extraction
from maskdistill.masks.rules import maskdistill as rule

ROOT = Path(__file__).parents[2]
WAYS: dict[str, dict[str, Any]] = {
    "none": {}, "lzf": {"compression": "lzf"}, "lzf + shuffle": {"compression": "lzf", "shuffle": True},
    "gzip 4": {"compression": "gzip", "compression_opts": 4},
    "gzip 4 + shuffle": {"compression": "gzip", "compression_opts": 4, "shuffle": True},
}  # fmt: skip


def main() -> None:
    """Print one row for each way."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--short-side", type=int, default=320)
    parser.add_argument("--photos", type=Path, default=ROOT.parent / "shared/data/voc2007/VOC2007/JPEGImages")
    args = parser.parse_args()
    arch, device = "vit_micro_patch8", torch.device("cpu")
    model = vit.load_vit(arch, str(ROOT / "config/weights/vit_micro_patch8.safetensors"))
    found = []
    for photo in sorted(args.photos.glob("*.jpg"))[: args.images]:
        pixels = extraction.resize(load_rgb(photo), args.short_side)
        found += extraction.extract(model, find_backbone(arch), [pixels], device).get()
    exact = [rule.distil(f.keys, f.cls_query, f.grid, MasksConfig()).mask for f in found]
    total = sum(f.keys.nbytes for f in found)
    print(f"{len(found)} photos, side {args.short_side}, {total / 2**20:.0f} MiB of float32 keys")
    print(
        "dtype    compression        size    write MB/s   read MB/s   IoU of masks with float32's: mean, "
        "least"
    )
    for dtype in ("float32", "float16"):
        for name, options in WAYS.items():
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "keys.h5"
                start = time.perf_counter()
                with h5py.File(path, "w") as file:
                    for i, f in enumerate(found):
                        chunks = (min(1024, len(f.keys)), f.keys.shape[1]) if options else None
                        file.create_dataset(str(i), data=f.keys.astype(dtype), chunks=chunks, **options)
                written = time.perf_counter() - start
                start = time.perf_counter()
                with h5py.File(path) as file:
                    back = [file[str(i)][:].astype(np.float32) for i in range(len(found))]
                read = time.perf_counter() - start
                size = path.stat().st_size
            ious = []
            for keys, f, mask in zip(back, found, exact, strict=True):
                other = rule.distil(keys, f.cls_query, f.grid, MasksConfig()).mask
                ious.append((other & mask).sum() / (other | mask).sum())
            speeds = f"{total / written / 1e6:9.0f} {total / read / 1e6:11.0f}"
            print(
                f"{dtype}  {name:17s} {100 * size / total:5.1f} %  {speeds}   {np.mean(ious):.5f}, "
                f"{np.min(ious):.5f}"
            )
    patches, width = 40 * 54, 384
    for images in (20_000, 10_000_000):
        need = images * patches * width * 4
        print(
            f"{images:,} images, ViT-S/16 at side 640 ({patches} patches): {need / 1e12:.2f} TB as float32, "
            f"{need / 2e12:.2f} TB as float16, 0 with features.store: false"
        )


if __name__ == "__main__":
    main()
