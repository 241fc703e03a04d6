"""Compare a run with a table or figure of the paper: a page and a CSV.

Reads the evaluations that maskdistill.paper.plan names for the target, below --results.
"""

import argparse
import base64
import logging
from pathlib import Path

from maskdistill.cli.common import add_common, start
from maskdistill.cli.pages import add_config, given_config, write_page, write_table
from maskdistill.config import Config
from maskdistill.paper.cited import cited_values
from maskdistill.paper.page import TITLES, context
from maskdistill.paper.plan import FIGURES, TARGETS, evaluations
from maskdistill.paper.plots import encode, sweep_plot, swept_axis
from maskdistill.paper.rows import Entry, csv_rows, entries
from maskdistill.report.html import Picture, render
from maskdistill.report.words import words
from maskdistill.runtime.files import atomic_path, read_json

log = logging.getLogger("maskdistill")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``maskdistill paper``."""
    parser.add_argument("--target", required=True, choices=TARGETS)
    add_config(parser)
    parser.add_argument("--results", required=True, metavar="DIR", help="the run's folder")
    parser.add_argument("--output", required=True, metavar="HTML")
    parser.add_argument("--csv", required=True, metavar="CSV")
    parser.add_argument(
        "--plots", nargs="*", default=[], metavar="FILE", help="of a figure: files .svg, .png"
    )
    add_common(parser, params=False)


def run(args: argparse.Namespace) -> None:
    """Read, compare, write the page and the CSV."""
    start(args, "paper")
    config = given_config(args)
    records = {path: read_json(Path(args.results) / path) for path in evaluations(args.target, config)}
    found = entries(args.target, config, records)
    write_table(args.csv, csv_rows(args.target, config, found))
    pictures = _draw(args.target, config, found, args.plots) if args.target in FIGURES else []
    html = render("paper", context(args.target, config.run, config, found, pictures), words())
    write_page(args.output, html)
    computed = [entry for entry in found if entry.scores]
    log.info("%s: %d places, %d computed here", args.target, len(found), len(computed))


def _draw(target: str, config: Config, found: list[Entry], files: list[str]) -> list[Picture]:
    """Write the plot to the files; return it for the page."""
    figure = sweep_plot(found, swept_axis(target, config), cited_values(target))
    for file in files:
        with atomic_path(file) as temporary:
            temporary.write_bytes(encode(figure, Path(file).suffix.removeprefix(".")))
    text = base64.b64encode(encode(figure, "svg")).decode("ascii")
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    note = (
        "Points: means over seeds; bars: standard deviation over seeds; band: 95 % bootstrap interval "
        "over images."
    )
    return [Picture(f"data:image/svg+xml;base64,{text}", width, height, TITLES[target], note=note)]
