"""Write the objects of the run's own photographs in other tools' formats, by the section objects.

A folder per format beside --output. Folders that were corrected by hand are kept and named. ``maskdistill
objects RUN`` does the same for a finished run, in any format.
"""

import argparse
import logging
from pathlib import Path

from maskdistill.annotations.names import named_categories, read_names
from maskdistill.cli.common import add_common, start
from maskdistill.config import OwnObjectsConfig, parse_section
from maskdistill.product.own_objects import Own, write_own
from maskdistill.runtime.files import read_json

log = logging.getLogger("maskdistill")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options. --params: section objects; of pseudo_labels tau and compare."""
    parser.add_argument("--manifest", required=True, metavar="CSV")
    parser.add_argument(
        "--candidates", required=True, nargs="+", metavar="JSON", help="candidates of all shards"
    )
    parser.add_argument(
        "--clusters", required=True, metavar="JSON", help="clusters.json, for the clusters' sizes"
    )
    parser.add_argument("--names", metavar="YAML", help="names of the clusters, saved from an earlier report")
    parser.add_argument(
        "--output", required=True, metavar="JSON", help="objects.json, which lists what lies beside it"
    )
    add_common(parser)


def run(args: argparse.Namespace) -> None:
    """Write each format, unless that is done."""
    start(args, "own_objects")
    names = _names(args.names, read_json(args.clusters)["sizes"])
    settings = parse_section(OwnObjectsConfig, args.params)
    own = Own(Path(args.manifest), list(map(Path, args.candidates)), names, settings, Path(args.output))
    write_own(own, keep_changed=True)


def _names(path: str | None, sizes: list[int]) -> dict[int, str]:
    """Category -> name: of the file, unless it names another clustering, as the report does."""
    given = read_names(path, len(sizes)) if path else None
    if given and not given.fit(sizes):
        log.warning("%s: names of another clustering; they are not used", path)
        given = None
    return {
        entry["id"]: entry["name"] for entry in named_categories(len(sizes), given.names if given else {})
    }
