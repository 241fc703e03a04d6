"""Write a commented configuration for a folder of photographs, and say what to do next.

Without a GPU it holds the small settings of config/folder.yaml, with one the paper's of config/config.yaml. The small
ones' weights are weak on photographs: where there is a network, take --settings dino.
"""

import argparse
import os
import re
from collections import Counter
from contextlib import chdir
from pathlib import Path
from shutil import which
from typing import get_args

import numpy as np

from maskdistill.cli.config import check_file
from maskdistill.config import Config
from maskdistill.config_data import FolderData
from maskdistill.data.manifest import inspect_image
from maskdistill.data.sources import iter_images, left_out_words
from maskdistill.needed_weights import networks, weights_path
from maskdistill.product.commands import CHECKOUT, enter, program, seen_from_checkout
from maskdistill.product.suggestions import Found, Settings, write_config
from maskdistill.runtime.cores import available_cores
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import atomic_path
from maskdistill.runtime.leases import visible_gpus

SAMPLE = 24
NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")
"""Of runs, which are folders."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("photos", metavar="PHOTOS", help="folder that holds the pictures, searched recursively")
    parser.add_argument("--output", default="config/mine.yaml", metavar="YAML", help="default: config/mine.yaml")
    parser.add_argument("--run", metavar="NAME", help="folder below results/ (default: the output's name)")
    parser.add_argument(
        "--settings", choices=("auto", *get_args(Settings)), default="auto",
        help="small ones for a CPU, with shipped weights; dino: the same with DINO's features, downloaded when the run"
        " starts; the paper's, for a GPU (default: auto, small or the paper's)",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="replace the output if it exists")


def run(args: argparse.Namespace) -> None:
    """Look, write, validate, explain."""
    output = Path(args.output)
    if output.exists() and not args.force:
        raise MaskDistillError(f"{output}: exists already; give another --output, or --force to replace it")
    found = look_at(args.photos)
    settings: Settings = "paper" if found.gpus else "small"
    if args.settings != "auto":
        settings = args.settings
    template = CHECKOUT / "config" / ("config.yaml" if settings == "paper" else "folder.yaml")
    if not template.is_file():
        raise MaskDistillError(f"{template}: no such file; maskdistill init works in a checkout of the project")
    name = args.run or NOT_IN_NAMES.sub("-", output.stem).lstrip("-._") or "mine"
    text = write_config(template.read_text(encoding="utf-8"), found, name, settings, str(CHECKOUT))
    with atomic_path(output) as temporary:
        temporary.write_text(text, encoding="utf-8")
        config = check_file(temporary)
    print(f"{output}: {found.count} pictures, K {config.clusters.total}, {config.num_shards} shards")
    if found.left_out:
        print(f"left out, for they are not decoded: {left_out_words(found.left_out)}; convert what you want to use")
    if settings == "small":
        print(f"its weights are weak on photographs; with a network better:\n  {_again(args, found, name, 'dino')}")
    if settings != "paper" and which("sbatch"):
        print(
            "to run it on this Slurm cluster's GPUs take the paper's settings (README, 'On a cluster'):\n"
            f"  {_again(args, found, name, 'paper')}"
        )
    print("\n".join([*_missing(config), "next:", *(f"  {command}" for command in _commands(output, config))]))


def look_at(photos: str) -> Found:
    """Count the pictures, decode a sample spread over all, see what machine this is."""
    root = os.path.abspath(Path(photos).expanduser())
    left_out: Counter[str] = Counter()
    images = [image.path for image in iter_images(FolderData(kind="folder", root=root), left_out=left_out)]
    places = np.unique(np.linspace(0, len(images) - 1, min(SAMPLE, len(images))).astype(int))
    sample = [(images[place], inspect_image(images[place])) for place in places.tolist()]
    return Found(
        root=root,
        count=len(images),
        sizes=[(item.width, item.height) for _, item in sample if not item.reason],
        unusable=[(str(path.relative_to(root)), item.reason) for path, item in sample if item.reason],
        gpus=len(visible_gpus()),
        cores=available_cores(),
        left_out=left_out,
    )


def _missing(config: Config) -> list[str]:
    """A line for each weights file that a user has to fetch; paths are relative to the checkout, where runs start."""
    lines = []
    with chdir(CHECKOUT):
        for stage, network in networks(config).items():
            try:
                weights_path(config, stage, network)
            except MaskDistillError as error:
                lines.append(f"missing: {error}")
    return lines


def _again(args: argparse.Namespace, found: Found, name: str, settings: Settings) -> str:
    """The command that writes the same file with other settings."""
    output = str(Path(args.output).absolute())
    options = ["--output", output, "--run", name, "--settings", settings, "--force"]
    return " && ".join([*enter(), program("maskdistill", "init", found.root, *options)])


def _commands(output: Path, config: Config) -> list[str]:
    """What to type next."""
    file, results = seen_from_checkout(output), f"results/{config.run}"
    return [
        *enter(),
        program("maskdistill", "doctor", "--config", file),
        f"{program('snakemake', '--cores', 'all', '--configfile', file)}  # makes {results}/report.html",
        program("maskdistill", "predict", "--run", results, "OTHER_PHOTOS/", "--out", "predictions"),
        f"make export && {program('maskdistill', 'export', '--run', results, '--out', 'exported')}",
    ]
