"""What each stage would reach if all before it were perfect, on one page with its numbers as JSON and CSV.

Reads the evaluations of the run as it is and of the oracle's cases; see config section ``oracle``.
"""

import argparse
import logging

from maskdistill.cli.common import add_common, start
from maskdistill.cli.pages import add_config, add_run_name, given_config, numbered, write_page, write_table
from maskdistill.data.manifest import index_path, ok_images, read_manifest
from maskdistill.report import oracle
from maskdistill.report.html import render
from maskdistill.report.scores import read_evaluation
from maskdistill.report.words import words
from maskdistill.runtime.files import read_json, write_json
from maskdistill.runtime.provenance import ORACLE, make_provenance

log = logging.getLogger("maskdistill")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_run_name(parser)
    add_config(parser)
    parser.add_argument("--manifest", required=True, metavar="CSV", help="the run's own")
    parser.add_argument("--oracle-manifests", required=True, nargs="+", metavar="CSV", help="of the cases")
    parser.add_argument(
        "--evaluations",
        required=True,
        nargs="+",
        metavar="JSON",
        help="of the run and of the cases, all seeds",
    )
    parser.add_argument("--output", required=True, metavar="HTML")
    parser.add_argument("--summary", required=True, metavar="JSON")
    parser.add_argument("--csv", required=True, metavar="CSV")
    add_common(parser, params=False)


def run(args: argparse.Namespace) -> None:
    """Read, compare, write the page, the JSON and the CSV."""
    start(args, "oracle")
    config = given_config(args)
    own = _learnt(args.manifest)
    left_out = {
        read_json(index_path(path))[ORACLE]: sum(count - _learnt(path)[role] for role, count in own.items())
        for path in args.oracle_manifests
    }
    found = oracle.rows([read_evaluation(path) for path in args.evaluations], left_out, config)
    html = render("oracle", oracle.context(args.run_name, config, found), words())
    write_page(args.output, html)
    write_table(args.csv, oracle.csv_rows(found))
    inputs = numbered(args.evaluations)
    provenance = make_provenance("oracle", config.model_dump(mode="json"), inputs)
    content = {"run": args.run_name, "rows": oracle.records(found), "losses": oracle.losses(found)}
    write_json(args.summary, {"provenance": provenance, **content})
    for row in found:
        scores = " ".join(f"{stage} {row.mean(stage, 'miou'):.1f}" for stage in row.stages)
        log.info("%-44s mIoU %s", row.name, scores)
    for sentence in oracle.verdict(found):
        log.info("%s", sentence)


def _learnt(manifest: str) -> dict[str, int]:
    """Usable images that the detector and that the segmenter learn from."""
    images = ok_images(read_manifest(manifest))
    return {role: int(images[role].sum()) for role in ("train", "segmenter")}
