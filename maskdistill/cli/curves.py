"""Losses, rates and speed of a run's trainings, while they train and afterwards; also as TensorBoard's files.

The trainings themselves write a CSV as they go; this command reads it, so a run need not know that it is
watched.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from maskdistill.product.curves import Found, places, read
from maskdistill.product.tensorboard import EventFiles
from maskdistill.runtime.errors import MaskDistillError

EVERY = 5.0
"""Seconds between two looks."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("run", help="folder of the run, e.g. results/demo")
    parser.add_argument(
        "--tensorboard",
        metavar="DIR",
        help="also write TensorBoard's event files below this folder, one per training",
    )
    parser.add_argument("--follow", action="store_true", help="keep printing new rows, until Ctrl-C")


def run(args: argparse.Namespace) -> None:
    """Print a line a training, again whenever it has changed."""
    folder = Path(args.run)
    if not folder.is_dir():
        raise MaskDistillError(f"{folder}: no such folder; give the folder of a run, e.g. results/demo")
    shown: dict[str, str] = {}
    with ExitStack() as stack:
        events = stack.enter_context(EventFiles(Path(args.tensorboard))) if args.tensorboard else None
        while True:
            for found in curves(folder):
                if events is not None:
                    events.update(found)
                if shown.get(found.name) != (line := found.line()):
                    print(line, flush=True)
                    shown[found.name] = line
            if not args.follow:
                break
            time.sleep(EVERY)
    if not shown:
        raise MaskDistillError(
            f"{folder}: no training has written a row yet (one every log_every steps); see its logs"
        )
    if args.tensorboard:
        print(f"look at it: tensorboard --logdir {args.tensorboard}", file=sys.stderr)


def curves(folder: Path) -> Iterator[Found]:
    """The curves of a run's trainings that have a row."""
    for place in places(folder):
        if (found := read(place)) is not None:
            yield found
