"""Print the scores of a finished run, whether to trust it, and where its report and its objects are."""

import argparse
from pathlib import Path
from typing import Any

from maskdistill.evaluation.metrics.registry import metrics
from maskdistill.formats.written import object_lines
from maskdistill.product.finished_run import run_summary
from maskdistill.product.run_scores import score_rows_of
from maskdistill.product.verdict import verdict_lines
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.workflow import layout


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("run", help="folder of the run, e.g. results/demo")


def run(args: argparse.Namespace) -> None:
    """Print one row a stage."""
    folder = Path(args.run)
    summary = run_summary(folder)
    page = folder / "report.html"
    if not page.is_file():
        raise MaskDistillError(f"{page}: no such file; run snakemake to make it")
    seconds = f"\ncompute: {summary['seconds']['total']:.0f} s"
    print(
        "\n".join(
            [*table(summary), "", *verdict_lines(summary), seconds, f"report:  {page}", objects_line(folder)]
        )
    )


def objects_line(folder: Path) -> str:
    """Where a run's objects lie in other tools' formats, or which command writes them."""
    lines = object_lines(folder / layout.OBJECTS)
    if not lines:
        return f"objects: maskdistill objects {folder} --format coco,yolo (or cvat, label_studio, ...)"
    return "\n".join(f"objects: {line}" for line in lines)


def table(summary: dict[str, Any]) -> list[str]:
    """Lines of the score table; scores in percent, ``-`` where a stage has none."""
    rows = score_rows_of(summary)
    if not rows:
        return ["no ground truth: nothing is scored"]
    columns = metrics("table")
    lines = [f"{'':24s}" + "".join(f"{name:>16s}" for name in columns)]
    for name, scores in rows:
        cells = (metric.text(scores.get(column)) for column, metric in columns.items())
        lines.append(f"{name:24s}" + "".join(f"{cell:>16s}" for cell in cells))
    return lines
