"""Write the objects of a finished run's own photographs in the formats that other tools take.

Writes the detector's candidates that pass the run's tau to RUN/objects/FORMAT/. The run itself did so for the
formats in its section objects; use this command for other formats or options. Files that were corrected by
hand are never replaced. docs/how-to/use-the-objects.md says which tool takes which format; for photographs
outside the run use `maskdistill predict`.
"""

import argparse
import logging
from pathlib import Path
from typing import Any

from maskdistill.annotations.names import named_categories, read_names
from maskdistill.cli.common import add_common, start
from maskdistill.cli.object_options import add_own_options, with_options
from maskdistill.config import Config, OwnObjectsConfig
from maskdistill.product.finished_run import chosen_seed, cluster_names, finished_run
from maskdistill.product.own_objects import Own, write_own
from maskdistill.product.verdict import in_lines, is_good, run_verdict
from maskdistill.workflow import layout

log = logging.getLogger("maskdistill")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_own_options(parser, formats=True)
    parser.add_argument("--out", metavar="DIR", help="folder to write into (default: RUN/objects)")
    add_common(parser, params=False)


def run(args: argparse.Namespace) -> None:
    """Write each format, unless that is done."""
    start(args, "objects")
    summary, config = finished_run(Path(args.run))
    if not is_good(verdict := run_verdict(summary)):
        log.warning("%s", in_lines(verdict))
    write_own(own_of(args, summary, config, args.out), keep_changed=False)


def own_of(args: argparse.Namespace, summary: dict[str, Any], config: Config, out: str | None = None) -> Own:
    """The objects of the run in ``args.run``, chosen by its section and what the options change of it."""
    folder, objects = Path(args.run), with_options(config.objects, args)
    usual = folder / layout.OBJECTS
    return Own(
        manifest=folder / "data/manifest.csv",
        candidates=_candidates(folder, config, args.seed),
        names=_names(args, config, summary),
        settings=OwnObjectsConfig(objects=objects, pseudo_labels=config.pseudo_labels),
        record=Path(out) / usual.name if out else usual,
    )


def _names(args: argparse.Namespace, config: Config, summary: dict[str, Any]) -> dict[int, str]:
    """Category -> name, from the given file, else from the report (the first seed's clusters)."""
    total = config.clusters.total
    own = cluster_names(summary) if args.seed in (None, config.seeds[0]) else {}
    given = read_names(args.names, total).names if args.names else own
    return {entry["id"]: entry["name"] for entry in named_categories(total, given)}


def _candidates(folder: Path, config: Config, seed: int | None) -> list[Path]:
    """Files of the main run's candidates."""
    values = layout.main_values(config) | {"seed": chosen_seed(config, seed, folder)}
    return sorted((folder / layout.CANDIDATES.format(**values, shard="")).parent.glob("shard-*.json"))
