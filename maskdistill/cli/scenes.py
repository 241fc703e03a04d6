"""Generate scenes as pictures. Their ground truth is made separately, by `maskdistill ground_truth`."""

import argparse
from functools import partial
from pathlib import Path

from PIL import Image

from maskdistill.cli.common import add_common, start
from maskdistill.config import ScenesData, parse_section
from maskdistill.data.scenes import generate_scene
from maskdistill.runtime.files import atomic_directory
from maskdistill.runtime.processes import in_forks
from maskdistill.runtime.progress import progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--output", required=True, help="folder of the pictures")
    add_common(parser)


def run(args: argparse.Namespace) -> None:
    """Write every scene as a JPEG."""
    start(args, "scenes")
    config = parse_section(ScenesData, args.params)
    count = config.num_train + config.num_eval
    with atomic_directory(args.output) as folder:
        write = partial(_write, folder, config)
        for _ in progress(in_forks(write, range(1, count + 1), args.threads), count, "scenes"):
            pass


def _write(folder: Path, config: ScenesData, index: int) -> None:
    scene = generate_scene(config.seed, index, config.size, config.difficulty)
    Image.fromarray(scene.image).save(folder / f"scene-{index:05d}.jpg", quality=92)
