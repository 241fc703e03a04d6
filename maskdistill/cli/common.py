"""Options that every entry point shares."""

import argparse

import torch

from maskdistill.runtime.devices import pick_device, set_threads
from maskdistill.runtime.logs import setup_logging


def add_common(parser: argparse.ArgumentParser, params: bool = True, device: bool = False) -> None:
    """Add ``--log``, ``--threads`` and, where they apply, ``--params``, ``--device`` and ``--gpus``."""
    if params:
        parser.add_argument("--params", default="{}", metavar="JSON", help="this stage's section of the configuration")
    if device:
        parser.add_argument("--device", default="auto", help="auto, cpu or cuda:N (default: auto)")
        parser.add_argument("--gpus", type=int, default=1, help="GPUs granted; 0 means CPU (default: 1)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads granted (default: 2)")
    parser.add_argument("--log", metavar="FILE", help="also log to this file")


def start(args: argparse.Namespace, stage: str) -> torch.device:
    """Set up logging and threads as granted; return the device to compute on."""
    gpus = getattr(args, "gpus", 0)
    device = pick_device(getattr(args, "device", "cpu"), gpus)
    set_threads(args.threads)
    setup_logging(stage, args.log, device=device, threads=args.threads, gpus=gpus)
    return device
