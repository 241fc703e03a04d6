"""K-means: time and memory of the clusters stage against FAISS alone, and inertia against scikit-learn.

    python tests/benchmarks/kmeans.py speed [--rows 1000000] [--dim 384] [--clusters 80] [--threads 2]
    python tests/benchmarks/kmeans.py inertia FOLDER [FOLDER ...] [--images 1000] [--clusters 20]

``speed`` writes random embeddings as shards into a temporary folder (1.5 GB as it stands) and runs two
processes, one after the other: ``maskdistill clusters`` on the shards, and FAISS's K-means on the same number
of rows of an array in memory, with the same iterations, starts, seed and threads, followed by the search for
the nearest centroid of every row. ``inertia`` embeds tiles of the pictures below each folder with the shipped
network and fits both libraries to the whitened, normalised embeddings, with equally many starts by k-means++.
Behind it stands what scikit-learn's own iterations still gain from our centroids.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.cluster import KMeans

ROOT = Path(__file__).parents[2]
WEIGHTS = ROOT / "config/weights/vit_micro_patch8_colorblind.safetensors"
ARCH, SIDE, GRID = "vit_micro_patch8", 64, 4
SHARDS = 8
MAIN = (
    "import sys; from maskdistill.cli import main; status = main(); print(open('/proc/self/status').read())"
)
MAIN += "; sys.exit(status)"
Floats = npt.NDArray[np.float32]


def block(rows: int, dim: int, seed: int) -> Floats:
    """Overlapping groups in a few directions, as embeddings have them."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(200, dim)).astype(np.float32)
    return centres[rng.integers(0, 200, rows)] + rng.standard_normal((rows, dim), np.float32)


def write_shards(folder: Path, rows: int, dim: int) -> list[str]:
    """A manifest and its embeddings."""
    from maskdistill.data.manifest import write_manifest
    from maskdistill.features import store

    shard = np.arange(rows) * SHARDS // rows
    table = pd.DataFrame(
        {
            "image_id": np.arange(1, rows + 1), "key": [f"{i:08d}" for i in range(rows)], "path": "x.jpg",
            "width": 640,
            "height": 480, "mode": "RGB", "sha256": "", "shard": shard, "train": True, "eval": False,
            "status": "ok",
            "reason": "",
        }
    )  # fmt: skip
    write_manifest(folder / "manifest.csv", table)
    paths = []
    for number in range(SHARDS):
        ids = table["image_id"].to_numpy()[shard == number]
        paths.append(str(folder / f"shard-{number:04d}.h5"))
        store.write_embeddings(paths[-1], block(len(ids), dim, number + 1), ids.tolist(), range(len(ids)), {})
    return paths


class Usage(NamedTuple):
    """What a process used: wall-clock and processor seconds, peak memory in MiB."""

    wall: float
    cpu: float
    peak: float


def measured(command: list[str], threads: int) -> tuple[Usage, str]:
    """What one process used, and what it printed."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, env=environment, stdout=output)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        output.seek(0)
        text = output.read()
    if status != 0:
        raise SystemExit(f"{command[:4]} failed")
    found = re.search(r"VmHWM:\s+(\d+) kB", text)  # ru_maxrss would hold the parent's memory at the fork
    return Usage(
        seconds, usage.ru_utime + usage.ru_stime, int(found[1]) / 1024 if found else float("nan")
    ), text


def speed(args: argparse.Namespace) -> None:
    """Our stage and FAISS alone, each in a process of its own."""
    need = 4 * args.rows * args.dim * 1.3
    if shutil.disk_usage(tempfile.gettempdir()).free < need:
        raise SystemExit(f"{tempfile.gettempdir()}: {need / 1e9:.1f} GB of free space are needed; set TMPDIR")
    with tempfile.TemporaryDirectory(prefix="kmeans-") as name:
        folder = Path(name)
        paths = write_shards(folder, args.rows, args.dim)
        size = sum(Path(path).stat().st_size for path in paths) / 2**20
        settings = {"niter": args.niter, "nredo": args.nredo, "max_fit": args.max_fit}
        stage = [
            sys.executable, "-c", MAIN, "clusters", "--embeddings", *paths, "--manifest",
            str(folder / "manifest.csv"), "--num-clusters", str(args.clusters), "--seed", "1234", "--output",
            str(folder / "clusters.json"), "--assignments", str(folder / "assignments.h5"), "--params",
            json.dumps(settings), "--device", "cpu", "--threads", str(args.threads),
        ]  # fmt: skip
        ours, _ = measured(stage, args.threads)
        alone = [
            sys.executable,
            __file__,
            "faiss",
            *(f"--{k}={getattr(args, k)}" for k in ("rows", "dim", "clusters")),
        ]
        alone += [f"--niter={args.niter}", f"--nredo={args.nredo}", f"--max-fit={args.max_fit}"]
        theirs, text = measured([*alone, f"--threads={args.threads}"], args.threads)
    wall, cpu = map(float, text.splitlines()[0].split())
    print(f"{args.rows} x {args.dim}, K = {args.clusters}, {size:.0f} MiB of shards, {args.threads} threads")
    print(
        f"maskdistill clusters: {ours.wall:.1f} s, processor {ours.cpu:.1f} s, peak {ours.peak:.0f} MiB (all "
        "of it)"
    )
    print(
        f"FAISS on an array:    {wall:.1f} s, processor {cpu:.1f} s, peak {theirs.peak:.0f} MiB (fit and "
        "search only)"
    )
    print(f"ratio of seconds {ours.wall / wall:.3f}, of processor seconds {ours.cpu / cpu:.3f}")


def faiss_alone(args: argparse.Namespace) -> None:
    """Print the wall-clock and processor seconds that FAISS takes to fit and to search."""
    import faiss

    faiss.omp_set_num_threads(args.threads)
    counts = np.bincount(np.arange(args.rows) * SHARDS // args.rows)
    points = np.empty((args.rows, args.dim), np.float32)
    place = 0
    for number, count in enumerate(counts.tolist()):
        points[place : place + count] = block(count, args.dim, number + 1)
        place += count
    points /= np.sqrt(np.einsum("ij,ij->i", points, points))[:, None]
    chosen = points
    if args.max_fit < args.rows:
        chosen = points[np.sort(np.random.default_rng(0).permutation(args.rows)[: args.max_fit])]
    start, used = time.perf_counter(), time.process_time()
    kmeans = faiss.Kmeans(
        args.dim, args.clusters, niter=args.niter, nredo=args.nredo, seed=1234, min_points_per_centroid=1,
        max_points_per_centroid=args.rows,
    )  # fmt: skip
    kmeans.train(chosen)
    kmeans.assign(points)
    print(time.perf_counter() - start, time.process_time() - used)
    print(Path("/proc/self/status").read_text())


def embed_pictures(folder: Path, limit: int) -> Floats:
    """CLS features of the tiles of pictures at even steps through a folder, 4 x 4 tiles of 64 pixels a
    picture.
    """
    import torch

    from maskdistill.backbones import vit
    from maskdistill.backbones.registry import find_backbone
    from maskdistill.data.images import load_rgb
    from maskdistill.features import extraction

    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    chosen = [files[i] for i in np.unique(np.linspace(0, len(files) - 1, min(limit, len(files))).astype(int))]
    backbone, device = find_backbone(ARCH), torch.device("cpu")
    model = vit.load_vit(ARCH, str(WEIGHTS))
    found = []
    for start in range(0, len(chosen), 16):
        views = []
        for file in chosen[start : start + 16]:
            pixels = extraction.resize(load_rgb(file).resize((GRID * SIDE, GRID * SIDE)), None)
            tiles = pixels.reshape(3, GRID, SIDE, GRID, SIDE).permute(1, 3, 0, 2, 4).flatten(0, 1)
            views += list(vit.normalize(tiles, backbone.mean, backbone.std))
        found.append(extraction.embed(model, backbone.patch_size, views, device))
    return np.concatenate(found)


def inertia(args: argparse.Namespace) -> None:
    """Sum of squared distances by both libraries, for each folder and seed."""
    import torch

    from maskdistill.clusters.kmeans import ColumnMoments, assign, fit_kmeans, normalise

    torch.set_num_threads(args.threads)
    for folder in args.folders:
        embeddings = embed_pictures(Path(folder), args.images)
        points = normalise(embeddings, ColumnMoments.of(embeddings).scale(), True)
        for seed in range(args.seeds):
            ours = fit_kmeans(points, args.clusters, seed, args.niter, args.nredo, args.threads)
            same = fit_kmeans(points, args.clusters, seed, args.niter, args.nredo, args.threads)
            theirs, further = reference(points, args.clusters, seed, args.nredo, ours)
            mine, other, rest = (assign(points, centroids).inertia for centroids in (ours, theirs, further))
            print(
                f"{folder}: {len(points)} tiles, K = {args.clusters}, seed {seed}: maskdistill {mine:.3f}, "
                f"scikit-learn {other:.3f}, {100 * (mine / other - 1):+.2f} %, "
                f"left to gain {100 * (1 - rest / mine):.2f} %, two runs "
                f"{'identical' if np.array_equal(ours, same) else 'DIFFER'}"
            )


def reference(points: Floats, k: int, seed: int, starts: int, ours: Floats) -> tuple[Floats, Floats]:
    """scikit-learn's centroids, the best of ``starts`` k-means++ starts, and those it reaches from
    ``ours``.
    """
    theirs = KMeans(k, n_init=starts, random_state=seed).fit(points).cluster_centers_
    further = KMeans(k, init=ours, n_init=1).fit(points).cluster_centers_
    return theirs.astype(np.float32), further.astype(np.float32)


def main() -> None:
    """Parse the arguments and run one part."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=("speed", "inertia", "faiss"))
    parser.add_argument("folders", nargs="*", help="of pictures (inertia)")
    for name, value in {
        "rows": 1_000_000,
        "dim": 384,
        "clusters": 80,
        "niter": 100,
        "nredo": 10,
        "threads": 2,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--max-fit", type=int, default=1_000_000)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    {"speed": speed, "inertia": inertia, "faiss": faiss_alone}[args.part](args)


if __name__ == "__main__":
    main()
