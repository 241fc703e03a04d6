"""Say what a run will download, compute and store, before any of it: no data and no weights are needed.

Jobs are those of Snakemake's dry run. Hours come from jobs that ended on this machine with the same settings,
in this run's folder or one beside it; else from what `maskdistill init` timed; else from published or
committed measurements. Each source is named, and so are jobs without one. Approximate sizes are marked.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from maskdistill.backbones.registry import find_checkpoint, weights_bytes
from maskdistill.cli.config import check_file
from maskdistill.cli.dataset import FILES, RECORD
from maskdistill.config import Config
from maskdistill.data.official_datasets import BUILDS, DATASETS
from maskdistill.product.checks import RESERVE, disk_need
from maskdistill.product.costs import sizes_of
from maskdistill.product.plan import Item, items_lines, job_lines, parse_jobs
from maskdistill.product.records import known_costs
from maskdistill.runtime.cores import available_cores
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.workflow import needed_weights
from maskdistill.workflow.commands import need_workflow, seen_from_checkout, snakefile

DATASET_FOLDER = Path("resources/datasets")
DRY_RUN_SECONDS = 3600
DOWNLOADS = Path("resources/downloads")
RESULTS = Path("results")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--config", required=True, metavar="YAML", help="configuration of the run")
    parser.add_argument("targets", nargs="*", help="targets of Snakemake (default: the whole run)")


def run(args: argparse.Namespace) -> None:
    """Print the plan."""
    config = check_file(args.config)
    jobs = parse_jobs(dry_run(args.config, args.targets))
    sizes = sizes_of(config)
    roles = f"{sizes.trained:,} to train on, {sizes.scored:,} to score"
    print(f"{args.config}: run {config.run!r}, {sizes.images:,} pictures ({roles})")
    fetched = list(downloads(config))
    for lines in (
        items_lines("download", fetched),
        job_lines(
            jobs, config, sizes, known_costs(config, lambda: sizes, RESULTS / config.run), available_cores()
        ),
        items_lines("store", list(stored(config, sizes.images))),
    ):
        print("\n".join(["", *lines]))


def dry_run(config: str, targets: list[str]) -> str:
    """What ``snakemake --dry-run`` prints for a configuration.

    Raises:
        MaskDistillError: there is no workflow in this folder.
    """
    need_workflow("plan", "--config", seen_from_checkout(Path(config)), *targets)
    options = ["--dry-run", "--quiet", "rules", "--nolock", "--configfile", config]
    command = [sys.executable, "-m", "snakemake", *targets, *snakefile(), *options]
    try:
        done = subprocess.run(
            command, text=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=DRY_RUN_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise MaskDistillError(
            f"{' '.join(command)} did not end in {DRY_RUN_SECONDS} s; see why by hand"
        ) from None
    return done.stdout + done.stderr


def downloads(config: Config) -> Iterator[Item]:
    """Archives and weights, and of each what is still to fetch."""
    for name in BUILDS.get(str(config.datasets.build), ()):
        given = getattr(config.datasets, name)
        here = (DATASET_FOLDER / name / FILES / RECORD).is_file()
        for file in DATASETS[name].files:
            label = f"{name}: {file.name}"
            held = DOWNLOADS / file.name
            part = held.with_name(held.name + ".part")
            if given.path is not None:
                yield Item(label, 0, f"linked from {given.path}")
            elif here or held.is_file():
                yield Item(label, 0, "here already")
            else:
                begun = part.stat().st_size if part.is_file() else 0
                state = f"{begun:,} bytes of it are here; " if begun else ""
                checksum = "" if file.md5 or file.name in given.md5 else "; no checksum known"
                yield Item(label, max(0, file.size - begun), f"{state}size: {file.size_source}{checksum}")
    for name, path in needed_weights.downloads(config).items():
        official = find_checkpoint(name)
        label = f"weights: {official.file}"
        if Path(path).is_file():
            yield Item(label, 0, f"here already; {official.licence}")
        elif official.url is None:
            yield Item(label, 0, f"by hand, from {official.page}: {official.licence}")
        else:
            yield Item(label, weights_bytes(name), f"about: its parameters in float32; {official.licence}")


def stored(config: Config, count: int) -> Iterator[Item]:
    """What lies on the disk when the run is finished, and what is needed for a while only."""
    for name in BUILDS.get(str(config.datasets.build), ()):
        if getattr(config.datasets, name).path is not None:
            yield Item(f"{name}, links", 0, "the copy stays where it is")
        else:
            size = sum(file.size for file in DATASETS[name].files)
            kept = size if config.datasets.keep_archives else 0
            archives = "are kept" if kept else "need as much meanwhile"
            yield Item(name, size + kept, f"unpacked, taken as large as its archives, which {archives}")
    if names := needed_weights.downloads(config):
        yield Item("weights", sum(map(weights_bytes, names)), "about: their parameters in float32")
    keys = round(disk_need(config, count) - RESERVE)
    if config.features.store:
        yield Item("features", keys, f"keys of {count:,} pictures of 4:3 as {config.features.dtype}")
    yield Item(
        "all else", round(RESERVE), "a reserve for models, masks, label maps and the report; not measured"
    )
