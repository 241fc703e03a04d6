"""How far the scores of a run move between machines: one thread and two, and other instruction sets.

    python tests/benchmarks/machines.py --work /tmp/machines [--configfile config/demo.yaml] [--variants 1-avx2 2-avx2]

Each variant runs in a copy of the project, ``WORK/VARIANT``; one that was cut off goes on when the same command is
given again, and what has ended is only read. Printed are the scores of all, and the range of each score.
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

from dag_project import Project, make_project

from maskdistill.cli.show import COLUMNS, score_rows_of

OLDER = {
    "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell", "FAISS_OPT_LEVEL": "avx2",
}  # fmt: skip
"""Not torch's own kernels alone, but every library held back to what a processor of 2013 knows."""
SETTINGS: dict[str, dict[str, str]] = {
    "default": {"ATEN_CPU_CAPABILITY": "default"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "avx512": {"ATEN_CPU_CAPABILITY": "avx512"},
    "older": OLDER,
}
VARIANTS = [f"{threads}-{name}" for threads in (1, 2) for name in SETTINGS]
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
        # Threads that wait asleep: it changes no number, and the machine may be shared.
        environment = os.environ | SETTINGS[setting] | {"PYTHONPATH": str(project.folder), "OMP_WAIT_POLICY": "PASSIVE"}
        command = [sys.executable, "-m", "snakemake", "--configfile", "config/machines.yaml", "--resources", "gpu=0"]
        for more in (["--unlock"], ["--cores", threads, "--quiet", "all"]):
            subprocess.run([*command, *more], cwd=project.folder, env=environment, check=True, capture_output=True)
    return scores_of(json.loads(summary.read_text()))


def scores_of(summary: dict[str, Any]) -> Scores:
    """The scores of a summary, ``"stage metric"`` -> percent."""
    return {
        f"{stage} {metric}": scores[metric]
        for stage, scores in score_rows_of(summary)
        for metric in COLUMNS
        if scores.get(metric) is not None
    }


def table(found: Mapping[str, Scores]) -> list[str]:
    """One line a score: its value in each variant, and the range."""
    lines = ["| score | " + " | ".join(found) + " | range |", "|---" * (len(found) + 2) + "|"]
    for score in next(iter(found.values())):
        values = [scores[score] for scores in found.values()]
        cells = " | ".join(f"{value:.2f}" for value in values)
        lines.append(f"| {score} | {cells} | {max(values) - min(values):.2f} |")
    return lines


def main() -> None:
    """Run the variants one after the other; print the table after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, type=Path)
    parser.add_argument("--configfile", default="config/demo.yaml", type=Path)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    args = parser.parse_args()
    found: dict[str, Scores] = {}
    for name in args.variants:
        found[name] = run_variant(name, args.work, args.configfile)
        print("\n".join(["", *table(found)]), flush=True)


if __name__ == "__main__":
    main()
