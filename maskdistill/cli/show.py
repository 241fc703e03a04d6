"""Print the scores of a finished run and where its report is."""

import argparse
from pathlib import Path
from typing import Any

from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import read_json

STAGES = ("masks", "detector", "segmenter", "probe")
COLUMNS = ("miou", "pixel_accuracy", "ap50", "ap", "corloc", "purity")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("run", help="folder of the run, e.g. results/demo")


def run(args: argparse.Namespace) -> None:
    """Print one row a stage."""
    folder = Path(args.run)
    summary = read_json(folder / "summary.json")
    page = folder / "report.html"
    if not page.is_file():
        raise MaskDistillError(f"{page}: no such file; run snakemake to make it")
    print("\n".join([*table(summary), f"\ncompute: {summary['seconds']['total']:.0f} s", f"report:  {page}"]))


def table(summary: dict[str, Any]) -> list[str]:
    """Lines of the score table; scores in percent, ``-`` where a stage has none."""
    rows = dict(summary["baselines"])
    rows |= {stage: summary["stages"][stage] for stage in STAGES if stage in summary["stages"]}
    if not rows:
        return ["no ground truth: nothing is scored"]
    lines = [f"{'':14s}" + "".join(f"{name:>16s}" for name in COLUMNS)]
    for stage, scores in rows.items():
        cells = (scores.get(name) for name in COLUMNS)
        lines.append(f"{stage:14s}" + "".join(f"{'-' if cell is None else format(cell, '.1f'):>16s}" for cell in cells))
    return lines
