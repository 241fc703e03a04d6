"""What seals, hashes of photographs and files written through to the disk cost: their share of each stage.

Seals and hashes are shares of the stage's CPU time, which other processes do not change much; waiting for the
disk is given in milliseconds. Before, provenance hashed each input once; now the comparison with the seal
gives that hash, too. What this saves is measured by hashing the same files again, and subtracted.

python tests/benchmarks/seals.py [--images 48]
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image

from maskdistill import cli
from maskdistill.data.images import Photo
from maskdistill.data.scenes import generate_scene
from maskdistill.runtime import files, seal
from maskdistill.runtime.files import read_json, write_json

ROOT = Path(__file__).parents[2]
ARCH = "vit_small_patch16"
SEALS = ("add_seal", "verify", "sealed_text", "whole_as", "check_png")
SYNCS = ("_sync_all", "_sync")
spent: defaultdict[str, float] = defaultdict(float)
busy: set[str] = set()
answered: list[str] = []


def timed(what: str, function: Callable[..., Any], clock: Callable[[], float]) -> Callable[..., Any]:
    """The function, whose seconds are added to ``spent``; of calls inside of each other the outermost
    counts.
    """

    def call(*args: Any, **kwargs: Any) -> Any:
        if what in busy:
            return function(*args, **kwargs)
        busy.add(what)
        start = clock()
        try:
            return function(*args, **kwargs)
        finally:
            spent[what] += clock() - start
            busy.discard(what)

    return call


def watch() -> None:
    """Time the functions wherever modules have them."""
    watched = (("seals", seal, SEALS, time.thread_time), ("on the disk", files, SYNCS, time.perf_counter))
    for what, module, names, clock in watched:
        for name in names:
            original = getattr(module, name)
            replaced = timed(what, original, clock)
            for other in [found for key, found in sys.modules.items() if key.startswith("maskdistill")]:
                for known in [key for key, value in vars(other).items() if value is original]:
                    setattr(other, known, replaced)
    known = seal.known_sha256

    def remembered(path: str | Path) -> str | None:
        found = known(path)
        if found and "seals" not in busy:
            answered.append(str(path))
        return found

    seal.known_sha256 = remembered
    Photo.check = timed("photographs", Photo.check, time.thread_time)  # type: ignore[method-assign]


def run(name: str, *arguments: object) -> None:
    """One stage: its seconds and the shares in them."""
    time.sleep(2.5)  # as long as a process takes to start: then files are old enough to be remembered
    spent.clear()
    answered.clear()
    start = time.process_time()
    with redirect_stderr(StringIO()) as said:
        assert cli.main([name, *map(str, arguments)]) == 0, said.getvalue()
    seconds = time.process_time() - start
    start = time.thread_time()
    for path in answered:
        files.file_digest(path, "sha256")
    spent["saved"] = start - time.thread_time()
    parts = [100 * spent[what] / seconds for what in ("seals", "saved", "photographs")]
    shares = " | ".join(f"{part:.2f}" for part in (*parts, sum(parts)))
    print(f"| {name} | {seconds:.2f} | {shares} | {1000 * spent['on the disk']:.0f} |", flush=True)


def main() -> None:
    """Print one row a stage."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--side", type=int, default=480, help="of the pictures and of the network's input")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for stage in ("manifest", "features", "masks", "distil", "embeddings", "clusters", "annotations",
    "detector",
                  "candidates", "pseudo_labels", "segmenter", "predictions"):  # fmt: skip
        __import__(f"maskdistill.cli.{stage}")
    watch()
    demo = yaml.safe_load((ROOT / "config/demo.yaml").read_text())
    print(f"{args.images} pictures of {args.side} px, {ARCH}, {args.threads} thread(s)\n")
    print("| stage | CPU s | seals % | saved % | photographs % | together % | disk ms |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "photos").mkdir()
        for number in range(args.images):
            scene = generate_scene(0, number, args.side, 0.5)
            Image.fromarray(scene.image).save(folder / f"photos/{number}.jpg", quality=90)
        table, here = ["--manifest", folder / "manifest.csv"], ["--device", "cpu", "--threads", args.threads]
        network = ["--arch", ARCH, "--weights", "random", "--shard", 0]
        data = json.dumps({"kind": "folder", "root": str(folder / "photos")})
        run(
            "manifest",
            "--params",
            data,
            "--num-shards",
            1,
            "--output",
            folder / "manifest.csv",
            "--threads",
            1,
        )
        settings = {"short_side": args.side, "workers": 0}
        shard = {part: folder / part / f"shard-0000{end}" for part, end in
                 (("features", ".h5"), ("masks", ".json"), ("embeddings", ".h5"), ("candidates", ".json"),
                  ("labels", ""), ("predictions", ""))}  # fmt: skip
        run(
            "features",
            *table,
            *network,
            *here,
            "--params",
            json.dumps(settings),
            "--output",
            shard["features"],
        )
        run("masks", "--features", shard["features"], "--output", shard["masks"], "--threads", args.threads)
        both = json.dumps({"features": settings, "masks": {}})
        run("distil", *table, *network, *here, "--params", both, "--output", folder / "distilled.json")
        run("embeddings", *table, *network, *here, "--masks", shard["masks"], "--params",
        json.dumps({"workers": 0}),
            "--output", shard["embeddings"])  # fmt: skip
        assigned = ["--assignments", folder / "assignments.h5"]
        run("clusters", *table, "--embeddings", shard["embeddings"], "--num-clusters", 5, "--seed", 0,
        *assigned,
            "--output", folder / "clusters.json", *here)  # fmt: skip
        coco = folder / "annotations.json"
        index = folder / "annotations.h5"
        run("annotations", *table, "--masks", shard["masks"], "--num-clusters", 5, *assigned, "--output",
        coco,
            "--index", index)  # fmt: skip
        detector = demo["detector"] | {"weights": "random", "workers": 0, "iters": 40, "steps": [30]}
        detector |= {"checkpoint_every": 20}
        run("detector", *table, "--annotations", coco, "--index", index, "--params", json.dumps(detector),
        *here,
            "--output", folder / "d.safetensors", "--metrics", folder / "d.csv",
            "--state", folder / "d.state")  # fmt: skip
        run("candidates", *table, "--shard", 0, "--model", folder / "d.safetensors", *here,
            "--output", shard["candidates"])  # fmt: skip
        found = [item | {"category_id": 1, "score": 0.95} for item in read_json(shard["masks"])["masks"]]
        write_json(shard["candidates"], {"candidates": found})
        run("pseudo_labels", *table, "--shard", 0, "--candidates", shard["candidates"], "--num-clusters", 5,
            "--output", shard["labels"], "--threads", args.threads)  # fmt: skip
        segmenter = demo["segmenter"] | {
            "weights": "random",
            "workers": 0,
            "epochs": 6,
            "checkpoint_every": 20,
        }
        run("segmenter", *table, "--labels", shard["labels"], "--num-clusters", 5, "--params",
        json.dumps(segmenter),
            "--output", folder / "s.safetensors", "--metrics", folder / "s.csv", "--state",
            folder / "s.state",
            *here)  # fmt: skip
        run("predictions", *table, "--shard", 0, "--model", folder / "s.safetensors", "--images", "all",
            "--output", shard["predictions"], *here)  # fmt: skip
        size = shard["features"].stat().st_size
        start = time.perf_counter()
        seal.verify(shard["features"])
        print(f"\na feature shard of {size / 1e6:.0f} MB compared in {time.perf_counter() - start:.2f} s")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
