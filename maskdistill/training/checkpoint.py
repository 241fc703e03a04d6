"""Checkpoints: the resumable state of a training, keyed by what it depends on, and the final model."""

import json
import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor, nn

from maskdistill.backbones.weights import read_metadata, read_state_dict, save_weights, strict_load
from maskdistill.config import DetectorConfig, SegmenterConfig
from maskdistill.config_roles import DETECTOR_TEST_FIELDS, training_settings
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import atomic_path, canonical_json, sha256_text
from maskdistill.runtime.provenance import make_provenance, stage_code

log = logging.getLogger("maskdistill")
# What torch.load, and reading what it returned, raise for a file that is cut off or holds something else.
DAMAGED = (
    RuntimeError, EOFError, OSError, pickle.UnpicklingError, LookupError, TypeError, ValueError, AttributeError,
)  # fmt: skip


def save_state(path: Path, fingerprint: str, step: int, state: dict[str, Any]) -> None:
    """Write ``state`` after ``step`` finished steps, in place of the one before.

    Raises:
        MaskDistillError: it cannot be written (no space left); the one before is kept.
    """
    try:
        with atomic_path(path) as temporary:
            torch.save({"fingerprint": fingerprint, "step": step, "state": state}, temporary)
    except (OSError, RuntimeError) as error:  # torch's writer reports a full disk as a RuntimeError
        raise MaskDistillError(
            f"{path}: the state after step {step} could not be written ({_first_line(error)}); the one before is kept."
            " Free some space and run again: the training continues from there."
        ) from None


def load_state(path: Path, fingerprint: str) -> tuple[int, dict[str, Any]] | None:
    """Read back what :func:`save_state` wrote: ``(finished steps, state)``.

    Returns None when there is nothing to resume: no file, a damaged one, or one of another
    fingerprint (other data or settings); the last two are said in the log. There is one state, which
    is replaced by renaming, so only a fault of the disk can damage it.
    """
    if not path.exists():
        return None
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        found, step, state = saved["fingerprint"], saved["step"], saved["state"]
    except DAMAGED as error:
        log.warning("%s is damaged (%s); training starts anew", path, _first_line(error))
        return None
    if found != fingerprint:
        log.info("%s belongs to other settings or data; training starts anew", path)
        return None
    return step, state


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def training_provenance(
    stage: str, config: DetectorConfig | SegmenterConfig, seed: int, inputs: Mapping[str, str | Path]
) -> dict[str, Any]:
    """Provenance of a trained model: settings that shape it (not workers, logging or test time), seed, input hashes.

    The initial weights stand among the inputs, by content, unless they are random.
    """
    settings = training_settings(config) if isinstance(config, DetectorConfig) else config.model_dump(mode="json")
    running = {"weights", "workers", "checkpoint_every", "log_every"}
    shaping = {name: value for name, value in settings.items() if name not in running}
    given = {} if config.weights == "random" else {"weights": config.weights}
    for path in given.values():
        if not Path(path).is_file():
            raise MaskDistillError(f"{stage}.weights: {path}: no such file; give a ResNet checkpoint, or 'random'")
    params = {**shaping, "seed": seed, "random_weights": not given}
    return make_provenance(stage, params, {**inputs, **given})


def training_fingerprint(provenance: Mapping[str, Any], stage: str) -> str:
    """Key of a resumable state: everything its result depends on, the code of the stage included."""
    return sha256_text(canonical_json({"provenance": provenance, "code": stage_code(stage)}))


def save_model(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a trained model as ``.safetensors`` in full precision, atomically; equal content gives equal bytes."""
    save_weights(tensors, path, metadata, torch.float32)


def describe_model(
    config: DetectorConfig | SegmenterConfig, num_clusters: int, provenance: Mapping[str, Any]
) -> dict[str, str]:
    """Metadata of a model file: ``arch``, ``num_clusters``, ``params`` (JSON, all settings), ``provenance`` (JSON).

    A detector that was trained without word of its settings at test time has none of them among its params.
    """
    unsaid = DETECTOR_TEST_FIELDS - config.model_fields_set if isinstance(config, DetectorConfig) else set()
    params = config.model_dump(mode="json", exclude=set(unsaid)) | {"weights": Path(config.weights).name}
    return {
        "arch": config.arch,
        "num_clusters": str(num_clusters),
        "params": canonical_json(params),
        "provenance": canonical_json(provenance),
    }


def model_metadata(path: str | Path, *stages: str) -> dict[str, str]:
    """Metadata of a model file, as of :func:`describe_model`.

    Raises:
        MaskDistillError: no such file, unreadable, or not the model of one of the stages.
    """
    stage = " or ".join(stages)
    if not Path(path).is_file():
        raise MaskDistillError(f"{path}: no such file; run the {stage} stage first")
    try:
        metadata = read_metadata(path)
    except safetensors.SafetensorError as error:
        raise MaskDistillError(f"{path}: damaged ({error}); delete it and run the {stage} stage again") from None
    if {"params", "num_clusters"} - metadata.keys() or json.loads(metadata["provenance"])["stage"] not in stages:
        raise MaskDistillError(f"{path}: is not a model of the {stage} stage")
    return metadata


def load_model(path: str | Path, model: nn.Module) -> nn.Module:
    """Fill ``model`` strictly from a file of :func:`save_model`; returned in eval mode."""
    strict_load(model, read_state_dict(path), path)
    return model.eval()
