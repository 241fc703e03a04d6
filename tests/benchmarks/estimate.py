"""What ``maskdistill init`` says that a run will take, beside what it took: python
tests/benchmarks/estimate.py PHOTOS

In the checkout, on an otherwise idle machine. ``--cores 1`` holds all to one core, a second machine so to
speak; ``--clock cpu`` compares computed seconds instead, for a machine that others use: with ``--cores 1``
the same thing.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

from maskdistill.cli import init, main
from maskdistill.cli.config import check_file
from maskdistill.product.speeds import estimate
from maskdistill.workflow.commands import CHECKOUT

STAGES = {
    "photographs": {"manifest"}, "features": {"features"}, "masks": {"masks"},
    "clusters": {"embeddings", "clusters", "choose_k"}, "verdict": {"consistency", "trust"},
    "detector": {"detector", "candidates"}, "pseudo-labels": {"pseudo_labels"},
    "segmenter": {"segmenter", "predictions"}, "CRF rounds": {"refined_labels"},
    "report and the rest": {"annotations", "label_summary", "objects", "report"},
}  # fmt: skip


def spent(folder: Path, rules: set[str], column: str) -> float:
    """Seconds of rules by Snakemake's benchmarks, of all their jobs: ``s`` on the clock, or ``cpu_time``."""
    files = [
        file for file in folder.rglob("*.tsv") if rules & set(file.relative_to(folder).with_suffix("").parts)
    ]
    return float(sum(pd.read_csv(file, sep="\t")[column].sum() for file in files))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", help="folder of photographs")
    parser.add_argument("--run", default="estimate", help="folder below results/, which must be new")
    parser.add_argument("--weights", default="shipped")
    parser.add_argument("--minutes", default="3")
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    return parser.parse_args()


def run(args: argparse.Namespace) -> int:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.cores])
    os.chdir(CHECKOUT)
    file = Path(f"results/{args.run}.yaml")
    options = [
        "--weights",
        args.weights,
        "--minutes",
        args.minutes,
        "--run",
        args.run,
        "--output",
        str(file),
        "--force",
    ]
    if main(["init", args.photos, *options]):
        return 1
    config, found = check_file(file), init.look_at(args.photos)
    speeds = init.timed(found, config)
    if speeds is None:
        print("nothing was timed", file=sys.stderr)
        return 1
    told = estimate(config, found, speeds)
    started = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "all", "--configfile", str(file)], check=True
    )
    wall, folder = time.monotonic() - started, Path(f"results/{args.run}/benchmarks")
    column = {"cpu": "cpu_time", "wall": "s"}[args.clock]
    for stage, seconds in told.items():
        took = spent(folder, STAGES[stage], column)
        print(f"{stage:20s} estimated {seconds:7.1f} s, jobs took {took:7.1f} s in sum")
    every = {rule for rules in STAGES.values() for rule in rules}
    whole = spent(folder, every, column) if args.clock == "cpu" else wall
    print(
        f"{'all':20s} estimated {sum(told.values()):7.1f} s, took {whole:7.1f} s: "
        f"{sum(told.values()) / whole:.2f}x"
    )
    return 0


if __name__ == "__main__":
    sys.exit(run(arguments()))
