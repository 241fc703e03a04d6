"""Write a configuration for your photographs and this machine, with an estimate and next steps.

It times the networks on a few photographs, for about half a minute, and chooses picture sizes, batch size and
training steps from these times, the photographs and the machine. --weights shipped needs no network
connection; it is a rehearsal, with weights that never saw a photograph.
"""

import argparse
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import chdir
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import get_args

import numpy as np
import yaml

from maskdistill.backbones.registry import how_to_get
from maskdistill.cli.config import check_file
from maskdistill.cli.option_types import whole
from maskdistill.config import Config, load_config
from maskdistill.data.listing import iter_images, source_of
from maskdistill.data.manifest import inspect_image
from maskdistill.data.picture_names import left_out_words
from maskdistill.data.picture_refs import shown_name
from maskdistill.product import fitting
from maskdistill.product.fitting import Choice, Weights
from maskdistill.product.speeds import Speeds
from maskdistill.product.suggestions import Changes, Found, left_out_or_refused, write_config
from maskdistill.product.timed import remember
from maskdistill.runtime.cores import available_cores
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import atomic_path
from maskdistill.runtime.leases import visible_gpus
from maskdistill.workflow.commands import (
    CHECKOUT,
    after_a_run,
    enter,
    program,
    seen_from_checkout,
    start_folder,
)
from maskdistill.workflow.needed_weights import downloads, licences, networks, rehearsal, weights_path

RESULTS = start_folder() / "results"
SAMPLE = 24
BUSY = 1.5
TIMED = 4
"""Photographs that are timed, in turn."""
NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")
"""Of runs, which are folders."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "photos", metavar="PHOTOS",
        help="folder of pictures, tar archives, videos or Parquet files, searched recursively; or one such "
        "file",
    )  # fmt: skip
    parser.add_argument(
        "--output", default="config/mine.yaml", metavar="YAML", help="default: config/mine.yaml"
    )
    parser.add_argument("--run", metavar="NAME", help="folder below results/ (default: the output's name)")
    parser.add_argument(
        "--weights", choices=get_args(Weights), default="dino",
        help="dino: DINO's, downloaded when the run starts; shipped: the project's own, for a rehearsal, as "
        "they never saw a photograph (default: dino)",
    )  # fmt: skip
    parser.add_argument(
        "--minutes", type=whole(1), metavar="N",
        help=f"how long the run may take; picture sizes and training steps are chosen to fill it (default: "
        f"every photograph is seen at least {fitting.SEEN} times, at the largest size for which that "
        f"takes at most {fitting.WAIT:.0f} minutes)",
    )  # fmt: skip
    parser.add_argument(
        "--settings", choices=("fitted", "paper"), default="fitted",
        help="fitted: to photographs and machine; paper: the paper's own, for GPUs (default: fitted)",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="replace the output if it exists")


def run(args: argparse.Namespace) -> None:
    """Look, measure, choose, write, explain."""
    output = Path(args.output)
    paper = args.settings == "paper"
    if output.exists() and not args.force:
        raise MaskDistillError(f"{output}: exists already; give another --output, or --force to replace it")
    if paper and (args.minutes or args.weights == "shipped"):
        raise MaskDistillError(
            "--settings paper: the paper's weights and steps; leave out --weights and --minutes"
        )
    found = look_at(args.photos)
    template = CHECKOUT / "config" / ("config.yaml" if paper else fitting.template(found, args.weights))
    if not template.is_file():
        raise MaskDistillError(
            f"{template}: no such file, which comes with the project; get or install it again"
        )
    name = args.run or NOT_IN_NAMES.sub("-", output.stem).lstrip("-._") or "mine"
    text = partial(write_config, template.read_text(encoding="utf-8"), found, name)

    def config_of(changes: Changes) -> Config:
        return load_config(yaml.safe_load(text(changes, {}, [])), str(output))

    if paper:
        choice = fitting.papers(found, config_of)
    else:
        print(
            f"{found.count} pictures; timing the networks on a few of them, about half a minute", flush=True
        )
        choice = fitting.choose(
            found, args.weights, args.minutes, config_of, partial(timed, found), _without_crf()
        )
    explained = _explained(choice, args.minutes)
    more = [
        "Every other key, its meaning and default: config/defaults.yaml.",
        f"Start it in {str(start_folder())!r}, which paths of weights are relative to.",
    ]
    with atomic_path(output) as temporary:
        temporary.write_text(text(choice.changes, choice.notes, [*explained, *more]), encoding="utf-8")
        config = check_file(temporary)
    if choice.speeds:
        remember(config, choice.speeds, found.cores, found.gpus, RESULTS / config.run)
    print(f"{output}: {found.count} pictures, K {config.clusters.total}, {config.num_shards} shards")
    if found.left_out:
        print(
            f"left out because they cannot be decoded: {left_out_words(found.left_out)}; convert those you "
            "want to use"
        )
    if found.unusable:
        (path, reason), *more_bad = found.unusable
        others = f" and {len(more_bad)} more, named in {output}" if more_bad else ""
        print(f"cannot be used: {path!r} ({reason}){others}. {' '.join(left_out_or_refused(found))}")
    print("\n".join(explained))
    for line in _hints(args, found, name, config):
        print(line)
    print("\n".join([*_missing(config), "next:", *(f"  {command}" for command in _commands(output, config))]))


def look_at(photos: str) -> Found:
    """Count the pictures, decode a sample spread over all, see what machine this is.

    Raises:
        MaskDistillError: nothing is there, or nothing that holds pictures.
    """
    root = os.path.abspath(Path(photos).expanduser())
    left_out: Counter[str] = Counter()
    if not os.path.exists(root):
        raise MaskDistillError(f"{root}: no such file or folder; correct the path")
    source = source_of(Path(root))
    if source.kind == "folder" and not os.path.isdir(root):
        raise MaskDistillError(
            f"{root}: neither a folder of pictures nor a file that holds some; give the folder that it is in"
        )
    images = [image.path for image in iter_images(source, left_out=left_out)]
    places = np.unique(np.linspace(0, len(images) - 1, min(SAMPLE, len(images))).astype(int))
    sample = [(images[place], inspect_image(images[place])) for place in places.tolist()]
    usable = [(path, item) for path, item in sample if not item.reason]
    return Found(
        root=root,
        kind=source.kind,
        count=len(images),
        sizes=[(item.width, item.height) for _, item in usable],
        unusable=[(_below(path, root), item.reason) for path, item in sample if item.reason],
        gpus=len(visible_gpus()),
        cores=available_cores(),
        free=shutil.disk_usage(start_folder()).free,
        sample=[path for path, _ in usable[:: max(1, len(usable) // TIMED)]][:TIMED],
        left_out=left_out,
    )


def _below(picture: Path, root: str) -> str:
    """A picture's name below what was given, which may be the file that holds it."""
    top = Path(root) if os.path.isdir(root) else Path(root).parent
    return shown_name(picture.relative_to(top))


@cache
def loading() -> float:
    """Seconds that the libraries of a job take to load."""
    before = time.process_time()
    import maskdistill.cli.measuring  # noqa: F401

    return time.process_time() - before


def timed(found: Found, config: Config) -> Speeds | None:
    """Seconds of each stage on this machine; None without pictures or a usable GPU."""
    if not found.sample:
        return None
    start = loading()
    import torch

    from maskdistill.cli.measuring import measure

    if found.gpus and not torch.cuda.is_available():
        return None
    if found.gpus:
        return measure(config, found.sample, torch.device("cuda"), start, found.gpus)
    return measure(config, found.sample, torch.device("cpu"), start, min(fitting.THREADS, found.cores))


def _without_crf() -> Changes:
    """No CRF rounds where what they need is not installed."""
    return {} if find_spec("pydensecrf") else {"crf": {"rounds": 0}}


def _explained(choice: Choice, minutes: int | None) -> list[str]:
    """What was chosen and how long it will take, in lines for the terminal and for the file."""
    lines = [] if (told := rehearsal(choice.config)) is None else [f"This is {told}."]
    lines += [*choice.machine, *choice.estimate(minutes)]
    if choice.seconds and (load := os.getloadavg()[0]) > BUSY * available_cores():
        lines.append(
            f"Other processes keep this machine busy now (load {load:.0f}): beside them it takes longer."
        )
    lines.append("Weights, and their licences:")
    return [*lines, *(f"- {line}" for line in licences(choice.config))]


def _hints(args: argparse.Namespace, found: Found, name: str, config: Config) -> Iterator[str]:
    """Other settings that may be wanted, and what is to be fetched where there is no network."""
    places = {checkpoint: start_folder() / path for checkpoint, path in downloads(config).items()}
    absent = {checkpoint: place for checkpoint, place in places.items() if not place.is_file()}
    for checkpoint, place in absent.items():
        yield f"downloaded when the run starts; without a network {how_to_get(checkpoint, str(place))}"
    if absent and args.settings != "paper":
        yield (
            "to try every step without a download first, as a rehearsal, with weights that never saw a "
            f"photograph:\n  {_again(args, found, name, '--weights', 'shipped')}"
        )
    if rehearsal(config):
        yield f"to take DINO's weights:\n  {_again(args, found, name, '--weights', 'dino')}"
    if args.settings != "paper" and not found.gpus and which("sbatch"):
        yield (
            "if Slurm, which is installed here, has GPUs, the paper's settings run on them "
            "(docs/how-to/cluster.md):\n"
            f"  {_again(args, found, name, '--settings', 'paper')}"
        )


def _missing(config: Config) -> list[str]:
    """A line for each weights file that a user has to fetch; paths are relative to where runs start."""
    lines = []
    with chdir(start_folder()):
        for stage, network in networks(config).items():
            try:
                weights_path(config, stage, network)
            except MaskDistillError as error:
                lines.append(f"missing: {error}")
    return lines


def _again(args: argparse.Namespace, found: Found, name: str, *other: str) -> str:
    """The command that writes the same file with other settings."""
    output = str(Path(args.output).absolute())
    fitted = ["--minutes", str(args.minutes)] if args.minutes and "--settings" not in other else []
    options = ["--output", output, "--run", name, *other, *fitted, "--force"]
    return " && ".join([*enter(), program("maskdistill", "init", found.root, *options)])


def _commands(output: Path, config: Config) -> list[str]:
    """What to type next."""
    file, results = seen_from_checkout(output), f"results/{config.run}"
    return [
        *enter(),
        program("maskdistill", "doctor", "--config", file),
        f"{program('maskdistill', 'run', file)}  # makes {results}/report.html",
        f"{program('snakemake', '--cores', 'all', '--configfile', file)}  # the same, seen whole",
        *after_a_run(results),
    ]
