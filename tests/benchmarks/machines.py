"""How far the scores of a run move between machines: one thread and two, and other instruction sets.

    python tests/benchmarks/machines.py run --work /tmp/machines [--configfile config/demo.yaml]
    python tests/benchmarks/machines.py yardstick [--write tests/machines.json]

``run``: a whole workflow a variant, in a copy of the project, ``WORK/VARIANT``; one that was cut off goes on
when the same command is given again, and what has ended is only read. ``yardstick``: the numbers of
``tests/yardstick.py``, a few seconds a variant; what is written is what CI compares with. Printed are all
variants, and the range of each number.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "dag"))

from dag_project import ROOT, Project, make_project

from maskdistill.evaluation.metrics.registry import metrics
from maskdistill.product.run_scores import score_rows_of

OLDER = {
    "ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    "OPENBLAS_CORETYPE": "Nehalem", "FAISS_OPT_LEVEL": "generic",
}  # fmt: skip
"""Not torch's own kernels alone, but every library held back to what a processor of 2008 knows."""
SETTINGS: dict[str, dict[str, str]] = {
    "default": {"ATEN_CPU_CAPABILITY": "default"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "avx512": {"ATEN_CPU_CAPABILITY": "avx512"},
    "older": OLDER,
}
ASLEEP = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Threads that wait asleep: it changes no number, and the machine may be shared."""
ABLE = [name for name in SETTINGS if name != "avx512" or "avx512f" in Path("/proc/cpuinfo").read_text()]
"""What this processor can run."""
VARIANTS = [f"{threads}-{name}" for threads in (1, 2) for name in ABLE]
Scores = dict[str, float]


def run_variant(name: str, work: Path, configfile: Path) -> Scores:
    """Scores of one variant, ``"stage metric"`` -> percent; run unless it has ended before."""
    threads, _, setting = name.partition("-")
    project = Project(work / name)
    run = yaml.safe_load(configfile.read_text())["run"]
    summary = project.folder / "results" / run / "summary.json"
    if not summary.exists():
        if not (project.folder / "config/machines.yaml").exists():
            make_project(project.folder)
            (project.folder / "config/machines.yaml").write_text(configfile.read_text())
        environment = os.environ | SETTINGS[setting] | ASLEEP | {"PYTHONPATH": str(project.folder)}
        command = [
            sys.executable,
            "-m",
            "snakemake",
            "--configfile",
            "config/machines.yaml",
            "--resources",
            "gpu=0",
        ]
        for more in (["--unlock"], ["--cores", threads]):
            with open(project.folder / "output.txt", "a") as stream:
                subprocess.run(
                    [*command, *more],
                    cwd=project.folder,
                    env=environment,
                    check=True,
                    stdout=stream,
                    stderr=stream,
                )
    return scores_of(json.loads(summary.read_text()))


def scores_of(summary: dict[str, Any]) -> Scores:
    """The scores of a summary, ``"stage metric"`` -> percent."""
    return {
        f"{stage} {metric}": scores[metric]
        for stage, scores in score_rows_of(summary)
        for metric in metrics("table")
        if scores.get(metric) is not None
    }


def run_yardstick(name: str) -> Scores:
    """The numbers of ``tests/yardstick.py`` in one variant."""
    threads, _, setting = name.partition("-")
    own = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    environment = os.environ | SETTINGS[setting] | ASLEEP | own
    done = subprocess.run(
        [sys.executable, "-m", "yardstick"], env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    numbers: Scores = json.loads(done.stdout)
    return numbers


def table(found: Mapping[str, Scores], digits: int) -> list[str]:
    """One line a number: its value in each variant, and the range."""
    lines = ["| | " + " | ".join(found) + " | range |", "|---" * (len(found) + 2) + "|"]
    for score in next(iter(found.values())):
        values = [scores[score] for scores in found.values()]
        cells = " | ".join(f"{value:.{digits}f}" for value in values)
        lines.append(f"| {score} | {cells} | {max(values) - min(values):.{digits}f} |")
    return lines


def summarised(found: Mapping[str, Scores]) -> dict[str, dict[str, float]]:
    """The middle and the range of each number."""
    columns = {name: [numbers[name] for numbers in found.values()] for name in next(iter(found.values()))}
    return {
        name: {"middle": (max(values) + min(values)) / 2, "range": max(values) - min(values)}
        for name, values in columns.items()
    }


def main() -> None:
    """Run the variants one after the other; print the table after each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["run", "yardstick"])
    parser.add_argument("--work", default="/tmp/maskdistill-machines", type=Path, help="of run")
    parser.add_argument("--configfile", default=ROOT / "config/demo.yaml", type=Path, help="of run")
    parser.add_argument("--write", type=Path, help="of yardstick: the file that CI compares with")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    args = parser.parse_args()
    found: dict[str, Scores] = {}
    for name in args.variants:
        of_run = args.what == "run"
        found[name] = run_variant(name, args.work, args.configfile) if of_run else run_yardstick(name)
        print("\n".join(["", *table(found, 2 if of_run else 7)]), flush=True)
    if args.write:
        args.write.write_text(json.dumps(summarised(found), indent=1) + "\n")


if __name__ == "__main__":
    main()
