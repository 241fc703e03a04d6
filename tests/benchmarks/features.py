"""Masks end to end, against the way of the released scripts; stage against bare forward; cost of the mask rule.

    python tests/benchmarks/features.py [--images N] [--short-side 640] [--device cpu|cuda] [--photos FOLDER]

Prints ratios measured in this one run. The network is a ViT-S/16 with random weights: speed does not depend on
their values, and masks are compared with masks of the same weights.

The reference does, in plain torch, what scripts of this field do: one image at a time, all twelve blocks with the
attention matrix materialised, an N x N affinity per head, and one JSON of polygons at the very end.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scipy import ndimage

from maskdistill import features, masks, rle, store
from maskdistill.backbones import vit
from maskdistill.backbones.registry import find_backbone
from maskdistill.cli import main as command
from maskdistill.config import MasksConfig

SHARED = Path(__file__).parents[3] / "shared/data"
ARCH = "dino_vits16"
Mask = npt.NDArray[np.bool_]
TOPK = 0.4


def reference_mask(model: Any, picture: Image.Image, short_side: int, device: torch.device) -> Mask:
    """One image: materialised attention everywhere, N x N affinity per head; returns a bool mask (H, W)."""
    width, height = picture.size
    scale = short_side / min(width, height)
    size = (int(width * scale + 1e-9), int(height * scale + 1e-9)) if width != height else (short_side, short_side)
    resized = picture.resize(size, Image.Resampling.BILINEAR)
    x = vit.pad_to_multiple(vit.normalize(torch.from_numpy(np.array(resized)).permute(2, 0, 1)), 16)[None].to(device)
    rows, columns = x.shape[-2] // 16, x.shape[-1] // 16
    tokens = vit.embed(model, x)
    for block in model.blocks:
        attention = block.attn
        b, n, d = tokens.shape
        qkv = attention.qkv(block.norm1(tokens)).reshape(b, n, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        weights = (q @ k.transpose(-2, -1) * attention.head_dim**-0.5).softmax(dim=-1)
        mixed = (weights @ v).transpose(1, 2).reshape(b, n, d)
        tokens = tokens + attention.proj(mixed)
        tokens = tokens + block.mlp(block.norm2(tokens))
    affinity = (k[0, :, 1:] @ k[0, :, 1:].transpose(-2, -1)).mean(0)
    cls = (q[0, :, :1] @ k[0, :, 1:].transpose(-2, -1)).mean(0)[0]
    order = cls.argsort(descending=True)[: int(TOPK * rows * columns)]
    source = int(order[0])
    related = order[affinity[source, order] > 0]
    found = (affinity[:, related].sum(1) > 0).reshape(rows, columns).cpu().numpy()
    found[divmod(source, columns)] = True
    labels, _ = ndimage.label(found)
    found = labels == labels[divmod(source, columns)]
    full = np.kron(found, np.ones((16, 16), np.uint8))[: size[1], : size[0]]
    return np.asarray(Image.fromarray(full).resize((width, height), Image.Resampling.NEAREST)) > 0


def polygons(mask: Mask) -> list[list[float]]:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [cv2.approxPolyDP(contour, 2, True).ravel().tolist() for contour in contours]


def sync(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def quiet(arguments: Sequence[object]) -> None:
    if command([str(part) for part in arguments]) != 0:
        raise SystemExit(f"failed: {arguments}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--short-side", type=int, default=640)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--photos", type=Path, default=SHARED / "voc2007/VOC2007/JPEGImages")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    photos = sorted(args.photos.glob("*.jpg"))
    photos = (photos * (args.images // len(photos) + 1))[: args.images]
    backbone = find_backbone(ARCH)
    model = vit.load_vit(ARCH, "random", device, args.precision)
    plain = vit.load_vit(ARCH, "random", device)
    print(f"{args.images} photos of {args.photos.name}, side {args.short_side}, {args.device}, {args.threads} threads")

    with tempfile.TemporaryDirectory() as name, torch.no_grad():
        folder = Path(name)
        (folder / "photos").mkdir()
        for number, photo in enumerate(photos):
            (folder / f"photos/{number:06d}.jpg").symlink_to(photo)
        data = json.dumps({"kind": "folder", "root": str(folder / "photos")})
        quiet(["manifest", "--params", data, "--num-shards", 1, "--output", folder / "manifest.csv"])

        settings = {"short_side": args.short_side, "batch_size": args.batch_size, "workers": args.workers}
        settings["precision"] = args.precision
        common = ["--manifest", folder / "manifest.csv", "--shard", 0, "--arch", ARCH, "--weights", "random"]
        common += ["--device", args.device, "--threads", args.threads]
        gpus = ["--gpus", 1 if device.type == "cuda" else 0]
        warm = features.resize(Image.open(photos[0]).convert("RGB"), args.short_side)
        features.extract(model, backbone, [warm], device, args.precision).get()

        start = time.perf_counter()
        quiet(["features", *common, *gpus, "--params", json.dumps(settings), "--output", folder / "features.h5"])
        stage = time.perf_counter() - start
        start = time.perf_counter()
        quiet(["masks", "--features", folder / "features.h5", "--output", folder / "masks.json"])  # fmt: skip
        ours = stage + time.perf_counter() - start
        both = json.dumps({"features": settings, "masks": {}})
        start = time.perf_counter()
        quiet(["distil", *common, *gpus, "--params", both, "--output", folder / "fused.json"])
        fused = time.perf_counter() - start

        batches: dict[tuple[int, int], list[torch.Tensor]] = {}
        for photo in photos:
            tensor = features.resize(Image.open(photo).convert("RGB"), args.short_side)
            batches.setdefault(features.grid_of((tensor.shape[-2], tensor.shape[-1]), 16), []).append(tensor)
        ready = []
        for same in batches.values():
            for i in range(0, len(same), args.batch_size):
                ready.append(features.batch_of(same[i : i + args.batch_size], backbone, device))
        sync(device)
        start = time.perf_counter()
        for batch in ready:
            with features.mixed(device, args.precision):
                vit.last_attention(model, batch)
        sync(device)
        bare = time.perf_counter() - start

        start = time.perf_counter()
        records = []
        expected = []
        for photo in photos:
            mask = reference_mask(plain, Image.open(photo).convert("RGB"), args.short_side, device)
            expected.append(mask)
            records.append({"segmentation": polygons(mask), "area": int(mask.sum())})
        (folder / "reference.json").write_text(json.dumps(records))
        reference = time.perf_counter() - start

        n = len(photos)
        print(f"reference, one image at a time   {n / reference:8.2f} images/s")
        print(f"features + masks                 {n / ours:8.2f} images/s   {reference / ours:6.2f}x the reference")
        print(f"fused (distil)                   {n / fused:8.2f} images/s   {reference / fused:6.2f}x the reference")
        print(f"bare batched forward             {n / bare:8.2f} images/s")
        print(f"stage / bare: features {100 * bare / stage:.0f} %, distil {100 * bare / fused:.0f} % (target 85 %)")

        found = json.loads((folder / "masks.json").read_text())["masks"]
        again = json.loads((folder / "fused.json").read_text())["masks"]
        same = [a["segmentation"] == b["segmentation"] for a, b in zip(found, again, strict=True)]
        print(f"fused masks identical: {sum(same)} of {n}")
        ious = [
            (rle.decode(mask["segmentation"]) & truth).sum() / (rle.decode(mask["segmentation"]) | truth).sum()
            for mask, truth in zip(found, expected, strict=True)
        ]
        print(f"IoU with the reference's masks: mean {np.mean(ious):.5f}, least {np.min(ious):.5f}")

        with store.open_shard(folder / "features.h5") as file:
            loaded = [stored.features for stored in store.read_features(file)]
        start = time.perf_counter()
        for image in loaded:
            masks.distil(image.keys, image.cls_query, image.grid, MasksConfig())
        rule = time.perf_counter() - start
        print(f"mask rule: {1000 * rule / n:.2f} ms an image, {100 * rule / bare:.2f} % of the forward (target 1 %)")

    print("mask rule over N (O(N d): time / N stays level)")
    rng = np.random.default_rng(0)
    query = rng.normal(size=(6, 64)).astype(np.float32)
    for side in (22, 32, 45, 71, 100, 141):
        keys = rng.normal(size=(side * side, 384)).astype(np.float32) + 0.1
        masks.distil(keys, query, (side, side), MasksConfig())
        times = []
        for _ in range(7):
            start = time.perf_counter()
            masks.distil(keys, query, (side, side), MasksConfig())
            times.append(time.perf_counter() - start)
        best = min(times)
        print(f"  N {side * side:6d}: {1000 * best:7.3f} ms, {1e9 * best / side**2:7.0f} ns a patch")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
