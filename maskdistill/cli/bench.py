"""Compare mask rules, and what is trained on their masks, on the same features and images; see config section
``bench``.

The scores go to a page, a JSON and two CSV files. The cost of the masks goes to the page and to a CSV of its
own, because seconds differ from run to run.
"""

import argparse
import logging

from maskdistill.cli.bench_pictures import Pictured, pictures
from maskdistill.cli.common import add_common, start
from maskdistill.cli.evaluation_inputs import add_scored_images, load_ground_truth
from maskdistill.cli.pages import add_config, given_config, numbered, write_page, write_table
from maskdistill.config import Config
from maskdistill.paper.cited import cited_values
from maskdistill.report import bench
from maskdistill.report.bench import BenchRecord
from maskdistill.report.bench_costs import Cost, read_cost
from maskdistill.report.bench_page import Published, context
from maskdistill.report.html import render
from maskdistill.report.scores import read_evaluation, score_rows
from maskdistill.report.words import words
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import canonical_json, read_json, sha256_text, write_json
from maskdistill.runtime.provenance import make_provenance
from maskdistill.workflow.layout import benched_folders, benched_suffixes

log = logging.getLogger("maskdistill")
DIGITS = 4
"""Decimals in the CSV files."""
QUOTED = ("(a) ", "(b) ")
"""How groups of the paper's Table 3 begin that are class-agnostic, as the bench is."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_config(parser)
    add_scored_images(parser)
    parser.add_argument(
        "--evaluations", required=True, nargs="+", metavar="JSON", help="of all rules, stages and seeds"
    )
    parser.add_argument("--masks", required=True, nargs="+", metavar="SHARD", help="of all rules")
    parser.add_argument(
        "--assignments",
        required=True,
        nargs="+",
        metavar="H5",
        help="clusters of each rule's masks, first seed",
    )
    parser.add_argument(
        "--labels", nargs="*", default=[], metavar="DIR", help="pseudo_labels or predictions, one per rule"
    )
    parser.add_argument(
        "--beside", nargs="*", default=[], metavar="JSON", help="bench.json of other runs on the same images"
    )
    parser.add_argument("--benchmarks", metavar="DIR", help="records of the run's jobs: what masks cost")
    parser.add_argument("--output", required=True, metavar="HTML")
    parser.add_argument("--summary", required=True, metavar="JSON")
    parser.add_argument("--scores", required=True, metavar="CSV")
    parser.add_argument("--pairs", required=True, metavar="CSV")
    parser.add_argument("--costs", required=True, metavar="CSV")
    add_common(parser, params=False)


def run(args: argparse.Namespace) -> None:
    """Read, compare, write the page, the JSON and the CSV files."""
    start(args, "bench")
    config = given_config(args)
    rows = bench.in_order(score_rows([read_evaluation(path) for path in args.evaluations], config), config)
    own, compared = bench.records(rows, config), bench.pairs(rows, config)
    images = _images(args.ground_truth)
    found = list(own)
    for path in args.beside:
        found += _beside(path, images, {config.run, *(item["run"] for item in found)})
    costs = read_costs(args.benchmarks, config) if args.benchmarks else {}
    files = Pictured(args.manifest, args.ground_truth, args.masks, args.assignments, args.labels)
    shown = pictures(files, rows, load_ground_truth(args.manifest, args.ground_truth), config)
    page = context(config, rows, found, compared, costs, published(), shown)
    write_page(args.output, render("bench", page, words()))
    write_table(args.scores, bench.csv_rows(found), DIGITS)
    write_table(args.pairs, compared, DIGITS)
    write_table(args.costs, bench.cost_rows(costs), DIGITS)
    inputs = numbered(args.evaluations)
    inputs |= {f"beside/{number:03d}": path for number, path in enumerate(args.beside)}
    provenance = make_provenance("bench", config.model_dump(mode="json"), inputs)
    write_json(args.summary, {"provenance": provenance, "images": images, "rows": own, "pairs": compared})
    for item in own:
        told = (f"{m.title} {m.text(item['mean'].get(n))}" for n, m in bench.columns(item["stage"]).items())
        name = bench.labelled(item["rule"], item["rounds"])
        log.info("%-10s %-24s %s", item["stage"], name, ", ".join(told))


def read_costs(folder: str, config: Config) -> dict[str, Cost]:
    """What the features of each backbone and the masks of each rule took, as far as there are records.

    Args:
        folder: of the records.
        config: of the run.
    """
    stages = {name: name for name in map("features{}".format, benched_suffixes(config))}
    stages |= {rule: f"masks/{rule}" for rule in benched_folders(config)}
    found = {name: read_cost(folder, stage) for name, stage in stages.items()}
    return {name: cost for name, cost in found.items() if cost is not None}


def published() -> list[Published]:
    """Values that were printed of the methods, by data and method; the paper's from its Table 3."""
    third = [item for item in cited_values("table3") if item.group.startswith(QUOTED)]
    return [
        Published(item.group.rpartition(", ")[2], item.row, f"{item.column}, masks", item.value, item.source)
        for item in third
    ] + [
        Published(item.group, item.row, item.column, item.value, item.source)
        for item in cited_values("bench")
    ]


def _images(ground_truth: str) -> str:
    """SHA-256 of what is scored: images, objects and classes, whatever else stands in the file."""
    values = read_json(ground_truth)
    return sha256_text(canonical_json([values.get(name) for name in ("images", "annotations", "categories")]))


def _beside(path: str, images: str, taken: set[str]) -> list[BenchRecord]:
    """The rows of another run; a run called like one of ``taken`` is told from it by its file.

    Raises:
        MaskDistillError: the file is of no bench, or of other images.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not {"images", "rows"} <= content.keys():
        raise MaskDistillError(f"{path}: no bench.json; give the one of another run's `snakemake bench`")
    if content["images"] != images:
        raise MaskDistillError(
            f"{path}: scored on other images than this run, so its rows cannot stand beside; take it out of "
            "bench.beside, or run both on the same data"
        )
    found: list[BenchRecord] = content["rows"]
    for item in found:
        if item["run"] in taken:
            item["run"] = f"{item['run']} ({path})"
    return found
