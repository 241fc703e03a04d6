"""One page of all objects of a run, filtered and sorted in the browser without a server."""

import argparse
import logging
import os
from pathlib import Path
from urllib.parse import quote

from maskdistill.annotations.names import ClusterNames, read_names
from maskdistill.cli.common import add_common, start
from maskdistill.cli.pages import add_run_name, write_page
from maskdistill.clusters.types import ClustersRecord
from maskdistill.report.gallery import context
from maskdistill.report.html import render
from maskdistill.report.thumbnails import ThumbnailsRecord
from maskdistill.runtime.files import read_json

log = logging.getLogger("maskdistill")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_run_name(parser)
    parser.add_argument("--thumbnails", required=True, metavar="DIR", help="what the stage thumbnails wrote")
    parser.add_argument("--clusters", required=True, metavar="JSON", help="clusters.json")
    parser.add_argument("--names", metavar="YAML", help="names of the clusters, saved from the report")
    parser.add_argument("--output", required=True, metavar="HTML")
    add_common(parser, params=False)


def run(args: argparse.Namespace) -> None:
    """Read, compose, write."""
    start(args, "gallery")
    record: ThumbnailsRecord = read_json(Path(args.thumbnails) / "objects.json")
    clusters: ClustersRecord = read_json(args.clusters)
    names = read_names(args.names, clusters["num_clusters"]) if args.names else ClusterNames({})
    if not (fits := names.fit(clusters["sizes"])):
        log.warning("%s: names of another clustering; they are not used", args.names)
    sheets = quote(os.path.relpath(args.thumbnails, Path(args.output).parent)) + "/"
    html = render(
        "objects", context(args.run_name, record, sheets, clusters["sizes"], names.names if fits else {})
    )
    write_page(args.output, html)
    log.info("%s: %.1f MB", args.output, len(html) / 1e6)
