"""Masks end to end, against the way of the released scripts; stage against bare forward; cost of the mask
rule.

    python tests/benchmarks/features.py [--images N] [--short-side 640] [--device cpu|cuda] [--photos FOLDER]

Prints ratios measured in this one run: every round times each way once after the other, since a machine's
speed drifts, and the median of the rounds' ratios counts. The network is a ViT-S/16 with random weights:
speed does not depend on their values, and masks are compared with masks of the same weights.

The reference does, in plain torch, what scripts of this field do: one image at a time, all twelve blocks with
the attention matrix materialised, an N x N affinity per head, and one JSON of polygons at the very end.
"""

import argparse
import functools
import json
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scipy import ndimage

from maskdistill.backbones import vit
from maskdistill.backbones.registry import find_backbone
from maskdistill.cli import main as command
from maskdistill.config import MasksConfig
from maskdistill.features import extraction, store
from maskdistill.formats import rle
from maskdistill.masks.rules import maskdistill as masks
from maskdistill.runtime.allocator import keep_freed_memory
from maskdistill.runtime.devices import mixed

SHARED = Path(__file__).parents[3] / "shared/data"
ARCH = "dino_vits16"
Mask = npt.NDArray[np.bool_]
TOPK = 0.4


def reference_mask(model: Any, picture: Image.Image, short_side: int, device: torch.device) -> Mask:
    """One image: materialised attention everywhere, N x N affinity per head; returns a bool mask (H, W)."""
    width, height = picture.size
    scale = short_side / min(width, height)
    size = (
        (int(width * scale + 1e-9), int(height * scale + 1e-9))
        if width != height
        else (short_side, short_side)
    )
    resized = picture.resize(size, Image.Resampling.BILINEAR)
    x = vit.pad_to_multiple(vit.normalize(torch.from_numpy(np.array(resized)).permute(2, 0, 1)), 16)[None].to(
        device
    )
    rows, columns = x.shape[-2] // 16, x.shape[-1] // 16
    tokens = vit.embed(model, x)
    for block in model.blocks:
        attention = block.attn
        b, n, d = tokens.shape
        qkv = (
            attention.qkv(block.norm1(tokens))
            .reshape(b, n, 3, attention.num_heads, -1)
            .permute(2, 0, 3, 1, 4)
        )
        q, k, v = qkv[0], qkv[1], qkv[2]
        weights = (q @ k.transpose(-2, -1) * attention.head_dim**-0.5).softmax(dim=-1)
        joined = (weights @ v).transpose(1, 2).reshape(b, n, d)
        tokens = tokens + attention.proj(joined)
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


@functools.cache
def reference_model(device: str) -> Any:
    return vit.load_vit(ARCH, "random", torch.device(device))


def reference_round(
    photos: Sequence[Path], short_side: int, device: str, threads: int
) -> tuple[float, list[Mask]]:
    """Seconds and masks of all photos. Runs in a process of its own, whose allocator is the system's."""
    torch.set_num_threads(threads)
    model, chosen = reference_model(device), torch.device(device)
    found, records = [], []
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        start = time.perf_counter()
        for photo in photos:
            mask = reference_mask(model, Image.open(photo).convert("RGB"), short_side, chosen)
            found.append(mask)
            records.append({"segmentation": polygons(mask), "area": int(mask.sum())})
        Path(folder, "reference.json").write_text(json.dumps(records))
        return time.perf_counter() - start, found


def sync(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def quiet(arguments: Sequence[object]) -> None:
    if command([str(part) for part in arguments]) != 0:
        raise SystemExit(f"failed: {arguments}")


def prepared_batches(
    photos: Sequence[Path], short_side: int, batch_size: int, device: torch.device
) -> list[torch.Tensor]:
    """Batches of equal grids, decoded, resized and on the device: what the bare forward starts from."""
    backbone = find_backbone(ARCH)
    by_grid: dict[tuple[int, int], list[torch.Tensor]] = {}
    for photo in photos:
        tensor = extraction.resize(Image.open(photo).convert("RGB"), short_side)
        by_grid.setdefault(extraction.grid_of((tensor.shape[-2], tensor.shape[-1]), 16), []).append(tensor)
    return [
        extraction.batch_of(same[i : i + batch_size], backbone, device)
        for same in by_grid.values()
        for i in range(0, len(same), batch_size)
    ]


def print_ratios(seconds: dict[str, list[float]], images: int) -> None:
    """Images/s of all rounds together, and the median, least and greatest of each round's ratios."""
    for name, times in seconds.items():
        print(
            f"{name:<32} {images * len(times) / sum(times):7.3f} images/s; seconds a round",
            np.round(times, 1),
        )
    reference, bare = np.array(seconds["reference"]), np.array(seconds["bare forward"])
    for name in ("features + masks", "fused (distil)", "bare forward"):
        ratio = reference / np.array(seconds[name])
        print(f"{name:<32} {np.median(ratio):5.2f}x the reference ({ratio.min():.2f} to {ratio.max():.2f})")
    for name in ("features", "fused (distil)"):
        share = 100 * bare / np.array(seconds[name])
        print(
            f"{name:<32} {np.median(share):4.0f} % of the bare forward ({share.min():.0f} to "
            f"{share.max():.0f})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--short-side", type=int, default=640)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--workers", type=int, help="default: the product's")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--photos", type=Path, default=SHARED / "voc2007/VOC2007/JPEGImages")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    photos = sorted(args.photos.glob("*.jpg"))
    photos = (photos * (args.images // len(photos) + 1))[: args.images]
    model = vit.load_vit(ARCH, "random", device, args.precision)
    print(
        f"{args.images} photos of {args.photos.name}, side {args.short_side}, {args.device}, {args.threads} "
        f"threads, {args.precision}, batch {args.batch_size}, {args.workers} decoding processes, "
        f"{args.rounds} rounds"
    )

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
        common += ["--gpus", 1 if device.type == "cuda" else 0]
        both = json.dumps({"features": settings, "masks": {}})
        extracted, masked = folder / "features.h5", folder / "masks.json"
        ready = prepared_batches(photos, args.short_side, args.batch_size, device)

        def bare() -> None:
            for batch in ready:
                with mixed(device, args.precision):
                    vit.last_attention(model, batch)
            sync(device)

        steps: dict[str, Callable[[], None]] = {
            "features": lambda: quiet(
                ["features", *common, "--params", json.dumps(settings), "--output", extracted]
            ),
            "masks": lambda: quiet(["masks", "--features", extracted, "--output", masked]),
            "fused (distil)": lambda: quiet(
                ["distil", *common, "--params", both, "--output", folder / "fused.json"]
            ),
            "bare forward": bare,
        }
        keep_freed_memory()  # as every stage does on a CPU: the bare forward has the same
        bare()
        seconds: dict[str, list[float]] = {name: [] for name in ("reference", *steps)}
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as other:
            for _ in range(args.rounds):
                work = other.submit(reference_round, photos, args.short_side, args.device, args.threads)
                taken, expected = work.result()
                seconds["reference"].append(taken)
                for name, step in steps.items():
                    start = time.perf_counter()
                    step()
                    seconds[name].append(time.perf_counter() - start)
        seconds["features + masks"] = [
            a + b for a, b in zip(seconds["features"], seconds["masks"], strict=True)
        ]
        n = len(photos)
        print_ratios(seconds, n)

        found = json.loads((folder / "masks.json").read_text())["masks"]
        again = json.loads((folder / "fused.json").read_text())["masks"]
        same = [a["segmentation"] == b["segmentation"] for a, b in zip(found, again, strict=True)]
        print(f"fused masks identical: {sum(same)} of {n}")
        ious = [
            (rle.decode(mask["segmentation"]) & truth).sum()
            / (rle.decode(mask["segmentation"]) | truth).sum()
            for mask, truth in zip(found, expected, strict=True)
        ]
        print(f"IoU with the reference's masks: mean {np.mean(ious):.5f}, least {np.min(ious):.5f}")

        with store.open_shard(folder / "features.h5") as file:
            loaded = [stored.features for stored in store.read_features(file)]
        start = time.perf_counter()
        for image in loaded:
            masks.distil(image.keys, image.cls_query, image.grid, MasksConfig())
        rule = time.perf_counter() - start
        share = 100 * rule / min(seconds["bare forward"])
        print(f"mask rule: {1000 * rule / n:.2f} ms an image, {share:.2f} % of the forward (target 1 %)")

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
