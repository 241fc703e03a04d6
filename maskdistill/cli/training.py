"""What the training stages share: options, a process per GPU, the resumable state, and what is written.

A stage hands in its section of the settings and a function that reads its inputs and says how to train.
"""

import argparse
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from maskdistill.cli.common import add_common, start_on_device
from maskdistill.cli.option_types import whole
from maskdistill.config import DetectorConfig, PretrainConfig, ProbeConfig, SegmenterConfig, parse_section
from maskdistill.runtime.devices import make_deterministic, pick_device
from maskdistill.runtime.job_record import times_path
from maskdistill.training.checkpoint import training_fingerprint
from maskdistill.training.curves import LIVE, MetricRow, keep_times, write_metrics
from maskdistill.training.distributed import launch, number_of_processes, rank_and_world
from maskdistill.training.loop import LoopSettings, finish

log = logging.getLogger("maskdistill")
S = TypeVar("S", DetectorConfig, SegmenterConfig, ProbeConfig, PretrainConfig)
Options = argparse.Namespace


@dataclass(frozen=True)
class Trained:
    """What a training gave.

    Attributes:
        rows: of the metrics.
        save: writes the model.
    """

    rows: list[MetricRow]
    save: Callable[[], None]


@dataclass(frozen=True)
class Training:
    """A training whose inputs are read.

    Attributes:
        steps: of the optimiser.
        seed: of initialisation, order and sampling.
        provenance: of the model; with the stage's code it is the key of the resumable state.
        train: builds the model and trains it on a device.
        deterministic: on a GPU too, not on the CPU alone.
    """

    steps: int
    seed: int
    provenance: Mapping[str, Any]
    train: Callable[[LoopSettings, torch.device], Trained]
    deterministic: bool = False


def add_training(parser: argparse.ArgumentParser, model: str, drawn: str) -> None:
    """Declare the options of a training stage: outputs, state, seed and those of every stage.

    Args:
        parser: of the stage.
        model: what it writes.
        drawn: what the seed is of.
    """
    parser.add_argument("--output", required=True, help=f"{model} (.safetensors)")
    parser.add_argument("--metrics", required=True, help="CSV of losses and learning rate")
    parser.add_argument("--state", required=True, help="folder of the resumable state, removed after success")
    parser.add_argument("--seed", type=whole(0), default=0, help=f"of {drawn} (default: 0)")
    add_common(parser, device=True)


def run_training(
    args: Options, stage: str, section: type[S], prepare: Callable[[Options, S], Training]
) -> None:
    """Train in one process per GPU. Killed, a training continues from ``--state`` when it is run again.

    Args:
        args: options of the stage, ``output``, ``metrics`` and ``state`` among them.
        stage: its name.
        section: of the settings, which ``--params`` holds.
        prepare: reads the inputs, in each process; a function that other processes find by its name.
    """
    device = start_on_device(args, stage)
    processes = number_of_processes(device, args.gpus, parse_section(section, args.params).batch_size)
    launch(_train, processes, (args, stage, section, prepare))


def _train(args: Options, stage: str, section: type[S], prepare: Callable[[Options, S], Training]) -> None:
    rank, world = rank_and_world()
    if world > 1 and rank == 0:
        start_on_device(args, stage)
    device = torch.device("cuda", rank) if world > 1 else pick_device(args.device, args.gpus)
    config = parse_section(section, args.params)
    training = prepare(args, config)
    settings = LoopSettings(
        total_steps=training.steps,
        state_dir=Path(args.state),
        fingerprint=training_fingerprint(training.provenance, stage),
        seed=training.seed,
        checkpoint_every=config.checkpoint_every,
        log_every=config.log_every,
        rank=rank,
        name=stage,
        batch_size=config.batch_size,
    )
    if device.type == "cpu" or training.deterministic:
        make_deterministic(training.seed)
    torch.manual_seed(training.seed)
    trained = training.train(settings, device)
    if rank == 0:
        write_metrics(args.metrics, trained.rows)
        trained.save()
        if times := times_path(args.log):
            keep_times(settings.state_dir / LIVE, times)
        finish(settings)
        log.info("wrote %s", args.output)
