"""Options that every entry point shares."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from maskdistill.cli.option_types import whole
from maskdistill.runtime.cores import available_cores
from maskdistill.runtime.devices import pick_device, set_threads
from maskdistill.runtime.logs import setup_logging

if TYPE_CHECKING:
    import torch

MOST_THREADS = 8
"""Threads of a command that was granted none: some stages start as many processes."""


def add_common(parser: argparse.ArgumentParser, params: bool = True, device: bool = False) -> None:
    """Add ``--log``, ``--threads`` and, where they apply, ``--params``, ``--device`` and ``--gpus``."""
    if params:
        parser.add_argument(
            "--params", default="{}", metavar="JSON", help="this stage's section of the configuration"
        )
    if device:
        parser.add_argument("--device", default="auto", help="auto, cpu or cuda:N (default: auto)")
        parser.add_argument(
            "--gpus", type=whole(0, 4096), default=1, help="GPUs to use; 0 means the CPU (default: 1)"
        )
    parser.add_argument(
        "--threads",
        type=whole(1, 4096),
        default=min(MOST_THREADS, available_cores()),
        help=f"CPU threads to use, at most the available cores (default: all of these, up to {MOST_THREADS})",
    )
    parser.add_argument("--log", metavar="FILE", help="also log to this file")


def start(args: argparse.Namespace, stage: str) -> None:
    """Set up logging and threads as granted, for a stage that computes on the CPU alone."""
    setup_logging(stage, args.log, device="cpu", threads=_settle_threads(args))


def start_on_device(args: argparse.Namespace, stage: str) -> torch.device:
    """Set up logging and threads as granted; return the device to compute on."""
    device = pick_device(args.device, args.gpus)
    gpus = {"gpus": args.gpus} if device.type == "cuda" else {}
    setup_logging(stage, args.log, device=device, threads=_settle_threads(args), **gpus)
    return device


def _settle_threads(args: argparse.Namespace) -> str:
    """Set ``args.threads`` to what may be used; that as text, with the number granted if it differs."""
    granted, args.threads = args.threads, set_threads(args.threads)
    return str(granted) if granted == args.threads else f"{args.threads} ({granted} granted)"
