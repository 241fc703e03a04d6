"""Train a backbone on unlabelled images: DINO, SimCLR's contrastive loss, or distillation.

Writes the teacher's encoder as float16 safetensors. If killed, it continues from --state when run again.
"""

import argparse
import json
from pathlib import Path

import torch

from maskdistill.backbones.weights import save_weights
from maskdistill.cli.common import add_common
from maskdistill.cli.training import Trained, Training, run_training
from maskdistill.config import PretrainConfig
from maskdistill.data.manifest import ok_images, photos, read_manifest
from maskdistill.pretrain.train import pretrain
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.provenance import make_provenance
from maskdistill.training.loop import LoopSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--arch", required=True, help="vit_micro_patch8, vit_small_patch16, resnet_tiny, resnet50, ..."
    )
    parser.add_argument("--manifest", action="append", default=[], help="images to train on; may be repeated")
    parser.add_argument("--output", required=True, help="weights (.safetensors)")
    parser.add_argument("--metrics", required=True, help="CSV of losses and diagnostics")
    parser.add_argument(
        "--init", metavar="WEIGHTS", help="start the encoder from an earlier pretraining's weights"
    )
    parser.add_argument("--state", help="folder of the resumable state (default: beside the output)")
    add_common(parser, device=True)


def run(args: argparse.Namespace) -> None:
    """Start one process a GPU."""
    args.state = args.state or str(Path(args.output).with_suffix(".state"))
    run_training(args, "pretrain", PretrainConfig, prepare)


def prepare(args: argparse.Namespace, config: PretrainConfig) -> Training:
    """List the images, and look for the weights that it starts or learns from."""
    frames = [ok_images(read_manifest(path), train=True) for path in args.manifest]
    files = [file for frame in frames for file in photos(frame)]
    if not files and config.exchange_share < 1:
        raise MaskDistillError(
            "pretrain: no images; give --manifest, or exchange_share 1 for generated pairs only"
        )
    shaping = config.model_dump(exclude={"workers", "checkpoint_every", "log_every"})
    params = {"arch": args.arch, **shaping, "teacher": config.teacher and config.teacher.arch}
    inputs = {f"manifest{i}": path for i, path in enumerate(args.manifest)}
    for name, weights in {"init": args.init, "teacher": config.teacher and config.teacher.weights}.items():
        if weights:
            if not Path(weights).is_file():
                raise MaskDistillError(
                    f"{name}: {weights}: no such file; give weights of an earlier pretraining"
                )
            inputs[name] = weights
    provenance = make_provenance("pretrain", params, inputs)

    def train(settings: LoopSettings, device: torch.device) -> Trained:
        model, rows = pretrain(args.arch, files, config, settings, device, args.init)
        metadata = {"arch": args.arch, "provenance": json.dumps(provenance, sort_keys=True)}
        return Trained(rows, lambda: save_weights(model.kept(), args.output, metadata))

    return Training(config.steps, config.seed, provenance, train, deterministic=True)
