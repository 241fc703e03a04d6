"""Peak memory of every stage at 1,000, 10,000 and 100,000 images, and of a dry run of the workflow.

    python tests/benchmarks/memory.py stages [--images 1000 10000 100000] [--dim 64]
    python tests/benchmarks/memory.py dag [--images 10000000] [--shards 10000] [--repeats 3]

``stages`` writes a manifest with shards of 500 images, small synthetic features (8 x 8 patches) for every
shard, and runs each stage in a process of its own: by-shard stages on the last shard, the others on all.
Pictures are one file under many names. K-means is fitted on 1,000 masks, so that the sample is as large with
few images; by default it is bounded by ``clusters.max_fit``. The detector trains two steps, the segmenter for
a minute. ``dag`` writes a list of names and takes the time of ``snakemake --dry-run`` in a folder of its own,
beside that of a workflow with the same numbers of rules, jobs and files, and prints where it went.
"""

import argparse
import json
import os
import pstats
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from PIL import Image

from maskdistill.data.manifest import COLUMNS, ImageRow, write_manifest
from maskdistill.features import store
from maskdistill.features.store import ImageFeatures
from maskdistill.runtime.files import write_json

ROOT = Path(__file__).parents[2]
PER_SHARD = 500
SIDE = 64
TRAINED = 60.0
"""Seconds of the segmenter's training."""


def peak(arguments: Sequence[object], seconds: float | None = None) -> tuple[float, float]:
    """Run a stage in a process of its own: MiB at its peak, seconds.

    With ``seconds`` it is stopped after so many.
    """
    start = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    code = "import sys; from maskdistill.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    highest, stopped = 0, False
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log) as job,
    ):
        while job.poll() is None:
            status = Path(f"/proc/{job.pid}/status").read_text()
            if "VmHWM:" in status:  # gone once the process has ended
                highest = int(status.split("VmHWM:")[1].split()[0])
            if seconds is not None and time.perf_counter() - start > seconds:
                job.kill()
                stopped = True
            time.sleep(0.02)
        log.seek(0)
        if job.wait() and not stopped:
            raise SystemExit(f"{arguments}\n{log.read()[-3000:]}")
    seconds_taken = time.perf_counter() - start
    print(f"  {arguments[0]}: {highest / 1024:.0f} MiB, {seconds_taken:.1f} s", file=sys.stderr, flush=True)
    return highest / 1024, seconds_taken


def write_inputs(folder: Path, images: int, dim: int) -> int:
    """Manifest, pictures and feature shards; the number of shards."""
    shards = -(-images // PER_SHARD)
    rng = np.random.default_rng(0)
    picture = folder / "p.png"
    Image.fromarray(rng.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)).save(picture)
    ids = np.arange(1, images + 1)
    columns = {
        "image_id": ids, "key": [f"picture-{i:08d}" for i in ids], "path": "p.png", "width": SIDE,
        "height": SIDE,
        "mode": "RGB", "sha256": "", "shard": (ids - 1) // PER_SHARD, "train": True, "eval": False,
        "status": "ok",
        "reason": "",
    }  # fmt: skip
    write_manifest(folder / "manifest.csv", pd.DataFrame(columns)[list(COLUMNS)])
    truth = rng.normal(size=(PER_SHARD, 64, dim)).astype(np.float32)
    truth[:, 18:45] += 1
    for shard in range(shards):
        rows = [
            ImageRow(int(i), f"picture-{i:08d}", str(picture), SIDE, SIDE, shard)
            for i in range(shard * PER_SHARD + 1, min(images, (shard + 1) * PER_SHARD) + 1)
        ]
        path = folder / f"features/shard-{shard:04d}.h5"
        with store.write_features(path, rows, [(8, 8)] * len(rows), 8, {}) as writer:
            writer.create(dim, 1, "float32")
            for place in range(len(rows)):
                query = truth[place, 20][None]
                writer.put(place, ImageFeatures(query, query, truth[place], (8, 8), (SIDE, SIDE)))
    return shards


def write_names(folder: Path, images: int) -> Path:
    """As many pictures, all links to one file, and the list of their names."""
    pictures = folder / "pictures"
    for start in range(0, images, PER_SHARD):
        part = pictures / f"{start:08d}"
        part.mkdir(parents=True)
        for number in range(start, min(images, start + PER_SHARD)):
            (part / f"{number:08d}.png").symlink_to(folder / "p.png")
    names = folder / "names.txt"
    names.write_text("".join(f"{path.relative_to(folder)}\n" for path in sorted(pictures.rglob("*.png"))))
    return names


def stages(images: int, dim: int) -> dict[str, tuple[float, float]]:
    """Peak memory and seconds of every stage."""
    found: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shards = write_inputs(folder, images, dim)
        last = f"{shards - 1:04d}"
        every = ["--each", f"0000-{last}"]
        manifest = ["--manifest", folder / "manifest.csv"]
        source = json.dumps({"kind": "list", "file": str(write_names(folder, images))})
        found["manifest"] = peak(
            ["manifest", f"--params={source}", f"--num-shards={shards}", f"--output={folder}/again.csv"]
        )
        network = ["--arch=vit_micro_patch8", "--weights=random", "--device=cpu"]
        found["features"] = peak(
            ["features", *manifest, *network, f"--shard={last}", f"--output={folder}/f.h5",
             f"--params={json.dumps({'short_side': SIDE})}"]
        )  # fmt: skip
        files = [str(path) for path in sorted((folder / "features").iterdir())]
        masks = [path.replace("features", "masks").replace(".h5", ".json") for path in files]
        found["masks"] = peak(
            ["masks", *every, f"--features={folder}/features/shard-{{shard}}.h5",
             f"--output={folder}/masks/shard-{{shard}}.json"]
        )  # fmt: skip
        found["embeddings"] = peak(
            [
                "embeddings",
                *manifest,
                *network,
                f"--shard={last}",
                f"--masks={masks[-1]}",
                f"--output={folder}/e.h5",
            ]
        )
        rng = np.random.default_rng(1)
        for mask_file in masks:
            ids = [mask["image_id"] for mask in json.loads(Path(mask_file).read_text())["masks"]]
            vectors = rng.normal(size=(len(ids), 128)).astype(np.float32)
            path = mask_file.replace("/masks/", "/embeddings/").replace(".json", ".h5")
            store.write_embeddings(path, vectors, ids, range(len(ids)), {})
        embeddings = ["--embeddings", *(path.replace("features", "embeddings") for path in files)]
        settings = json.dumps({"niter": 10, "nredo": 1, "max_fit": 1_000})
        table = f"--assignments={folder}/assignments.h5"
        found["clusters"] = peak(
            ["clusters", *manifest, *embeddings, "--num-clusters=20", "--seed=0", f"--params={settings}",
             f"--output={folder}/clusters.json", table, "--device=cpu"]
        )  # fmt: skip
        found["choose_k"] = peak(
            ["choose_k", *manifest, *embeddings, "--seed=0", f"--output={folder}/k.csv", "--device=cpu",
             f"--params={json.dumps(json.loads(settings) | {'candidates_k': [10, 20]})}"]
        )  # fmt: skip
        found["annotations"] = peak(
            ["annotations", *manifest, "--masks", *masks, table, "--num-clusters=20",
             f"--output={folder}/annotations.json", f"--index={folder}/annotations.h5"]
        )  # fmt: skip
        detector = json.loads(json.dumps(yaml.safe_load((ROOT / "config/demo.yaml").read_text())["detector"]))
        detector |= {
            "weights": "random",
            "iters": 2,
            "steps": [1],
            "min_size_train": [64],
            "min_size_test": 64,
        }
        found["detector"] = peak(
            ["detector", *manifest, f"--annotations={folder}/annotations.json",
            f"--index={folder}/annotations.h5",
             "--seed=0", f"--params={json.dumps(detector)}", f"--output={folder}/d.safetensors",
             f"--metrics={folder}/d.csv", f"--state={folder}/d.state", "--device=cpu"]
        )  # fmt: skip
        found["candidates"] = peak(
            ["candidates", *manifest, f"--shard={last}", f"--model={folder}/d.safetensors",
             f"--params={json.dumps(detector)}", f"--output={folder}/c.json", "--device=cpu"]
        )  # fmt: skip
        for shard in range(shards):
            first, stop = shard * PER_SHARD + 1, min(images, (shard + 1) * PER_SHARD)
            records = [
                {"image_id": m["image_id"], "category_id": 1, "score": 0.95, "bbox": m["bbox"]}
                | {"segmentation": m["segmentation"]}
                for m in json.loads(Path(masks[shard]).read_text())["masks"]
                if first <= m["image_id"] <= stop
            ]
            write_json(folder / f"candidates/shard-{shard:04d}.json", {"candidates": records})
        found["pseudo_labels"] = peak(
            ["pseudo_labels", *every, *manifest, "--shard={shard}", "--num-clusters=20",
             f"--candidates={folder}/candidates/shard-{{shard}}.json",
             f"--output={folder}/labels/shard-{{shard}}"]
        )  # fmt: skip
        shards_of = {
            part: [str(path) for path in sorted((folder / part).iterdir())]
            for part in ("candidates", "labels")
        }
        found["label_summary"] = peak(
            [
                "label_summary",
                *manifest,
                "--candidates",
                *shards_of["candidates"],
                f"--output={folder}/tau.json",
            ]
        )
        demo = yaml.safe_load((ROOT / "config/demo.yaml").read_text())
        segmenter = demo["segmenter"] | {"weights": "random", "size": 32, "batch_size": 16}
        found["segmenter"] = peak(
            ["segmenter", *manifest, "--labels", *shards_of["labels"], "--num-clusters=20", "--device=cpu",
             f"--params={json.dumps(segmenter)}", f"--output={folder}/s.safetensors",
             f"--metrics={folder}/s.csv",
             f"--state={folder}/s.state"], seconds=TRAINED
        )  # fmt: skip
        config = demo | {"run": "memory", "data": {"kind": "folder", "root": str(folder)}}
        config |= {"clusters": {"num_clusters": 20}, "segmenter": segmenter, "detector": detector}
        found["report"] = peak(
            ["report", *manifest, "--run-name=memory", f"--config={json.dumps(config)}", "--masks", *masks,
             f"--clusters={folder}/clusters.json", table, f"--choose-k={folder}/k.csv",
             "--candidates", *shards_of["candidates"], "--pseudo-labels", *shards_of["labels"],
             f"--label-summary={folder}/tau.json", "--predictions", *shards_of["labels"],
             f"--output={folder}/report.html", f"--summary={folder}/summary.json"]
        )  # fmt: skip
    return found


def dag(images: int, shards: int, repeats: int) -> None:
    """Time and memory of a dry run, and the time of one of a workflow with the same jobs and files and
    nothing else.
    """
    with tempfile.TemporaryDirectory() as name:
        folder, bare = Path(name, "real"), Path(name, "skeleton")
        folder.mkdir()
        for part in ("Snakefile", "workflow", "profiles", "envs", "config"):
            (folder / part).symlink_to(ROOT / part)
        with open(folder / "names.txt", "w") as stream:
            for start in range(0, images, 100_000):
                stream.writelines(
                    f"{i // 1000:05d}/{i:08d}.jpg\n" for i in range(start, min(images, start + 100_000))
                )
        config = yaml.safe_load((ROOT / "config/folder.yaml").read_text())
        config |= {"run": "long", "num_shards": shards, "data": {"kind": "list", "file": "names.txt"}}
        (folder / "long.yaml").write_text(yaml.safe_dump(config))
        count = write_skeleton(bare, planned_jobs(folder, "long.yaml"))
        print(f"{images:,} images in {shards:,} shards: {count}")
        ratios = []
        for _ in range(repeats):
            real, memory = dry_run(folder, "--configfile", "long.yaml")
            skeleton, _ = dry_run(bare)
            ratios.append(real / skeleton)
            print(
                f"dry run {real:.1f} s of CPU, {memory:.0f} MiB; skeleton {skeleton:.1f} s; ratio "
                f"{ratios[-1]:.2f}",
                flush=True,
            )
        print(f"median ratio {np.median(ratios):.2f}")
        profile(folder)


def planned_jobs(folder: Path, configfile: str) -> list[dict[str, Any]]:
    """The jobs of a workflow, as the tests see them."""
    command = [sys.executable, str(ROOT / "tests/dag/dag_dump.py"), configfile]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    jobs: list[dict[str, Any]] = json.loads(done.stdout)[0]
    return jobs


def write_skeleton(folder: Path, jobs: Sequence[dict[str, Any]]) -> str:
    """A workflow of the same jobs: rules of as many outputs, each with a log, a benchmark, threads and one
    param.

    A job's files are ``RULE/NUMBER/PLACE``, and its inputs are looked up, so there is next to nothing to
    evaluate.

    Returns:
        What it has, in words.
    """
    folder.mkdir()
    names: dict[str, str] = {}
    inputs: dict[str, list[list[str]]] = {}
    outputs: dict[str, int] = {}
    for job in jobs:
        rule = inputs.setdefault(job["rule"], [])
        names |= {path: f"{job['rule']}/{len(rule)}/{k}" for k, path in enumerate(job["outputs"])}
        outputs[job["rule"]] = len(job["outputs"])
        rule.append(job["inputs"])
    targets = [name for rule in ("all",) for name in inputs.pop(rule)[0]]
    renamed = {
        rule: [[names.get(path, "source") for path in one] for one in every] for rule, every in inputs.items()
    }
    (folder / "source").touch()
    (folder / "inputs.json").write_text(json.dumps(renamed))
    lines = [
        "import json",
        "INPUTS = json.load(open('inputs.json'))",
        "rule all:",
        f"    input: {list(map(names.get, targets))}",
    ]
    for rule in inputs:
        made = [f"{rule}/{{n}}/{k}" for k in range(outputs[rule])]
        lines += [
            f"rule {rule}:", f"    input: lambda wildcards: INPUTS[{rule!r}][int(wildcards.n)]",
            f"    output: {made}",
            f"    log: 'logs/{rule}/{{n}}.log'", f"    benchmark: 'benchmarks/{rule}/{{n}}.tsv'",
            "    wildcard_constraints: n=r'\\d+'", "    threads: 1", "    resources: mem_mb=1000, runtime=60",
            "    params: n=1", f"    message: '{rule} {{wildcards.n}}'", "    shell: 'make {output} "
            "{params.n}'",
        ]  # fmt: skip
    (folder / "Snakefile").write_text("\n".join(lines) + "\n")
    edges = sum(len(one) for every in renamed.values() for one in every)
    return f"{len(inputs)} rules, {len(jobs):,} jobs, {len(names):,} files made, {edges:,} inputs"


def snakemake(*options: str) -> list[str]:
    """A command of a dry run."""
    return ["-m", "snakemake", "--dry-run", "--cores", "2", "--quiet", "all", *options]


def dry_run(folder: Path, *options: str) -> tuple[float, float]:
    """Seconds of CPU and MiB at the peak."""
    code = (
        f"import resource, subprocess, sys; r = subprocess.run([sys.executable, *{snakemake(*options)!r}]); "
    )
    code += (
        "u = resource.getrusage(resource.RUSAGE_CHILDREN); print(r.returncode, u.ru_utime + u.ru_stime, "
        "u.ru_maxrss)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True
    )
    status, seconds, memory = done.stdout.split()[-3:]
    if status != "0":
        raise SystemExit(done.stderr[-3000:])
    return float(seconds), int(memory) / 1024


def profile(folder: Path) -> None:
    """Where the time of a dry run goes: by function, the work of those it calls included."""
    out = folder / "profile"
    command = [sys.executable, "-m", "cProfile", "-o", str(out), *snakemake("--configfile", "long.yaml")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=True)
    stats = pstats.Stats(str(out))
    stats.sort_stats("tottime").print_stats(25)
    stats.sort_stats("cumulative").print_stats(
        r"maskdistill|smk|Snakefile|dag\.py|jobs\.py|rules\.py|persistence", 45
    )


def main() -> None:
    """Parse the arguments and run one part."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(dest="part", required=True)
    part = parts.add_parser("stages")
    part.add_argument("--images", type=int, nargs="+", default=[1000, 10_000, 100_000])
    part.add_argument("--dim", type=int, default=64)
    part = parts.add_parser("dag")
    part.add_argument("--images", type=int, default=10_000_000)
    part.add_argument("--shards", type=int, default=10_000)
    part.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    if args.part == "dag":
        dag(args.images, args.shards, args.repeats)
        return
    table = {images: stages(images, args.dim) for images in args.images}
    print("peak MiB (seconds)" + "".join(f"{images:>18,}" for images in table) + "   last / first")
    for stage in next(iter(table.values())):
        row = [results[stage] for results in table.values()]
        cells = "".join(f"{memory:9.0f} ({seconds:5.1f})" for memory, seconds in row)
        print(f"{stage:18s}{cells}   {row[-1][0] / row[0][0]:.3f}")


if __name__ == "__main__":
    main()
