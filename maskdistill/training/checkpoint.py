"""Checkpoints: the resumable state of a training, with a fingerprint of all it depends on, and the final
model.
"""

import json
import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from maskdistill.backbones.weights import read_metadata, read_state_dict, save_weights, strict_load
from maskdistill.config import DetectorConfig, SegmenterConfig
from maskdistill.config.roles import DETECTOR_TEST_FIELDS, training_settings
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import canonical_json, check_seal, sealed_path, sha256_text
from maskdistill.runtime.provenance import ORACLE, make_provenance, stage_code
from maskdistill.runtime.seal import BrokenSeal, verify

log = logging.getLogger("maskdistill")
# Raised by torch.load, or on use of its result, for a file that is cut off or holds something else.
DAMAGED = (
    RuntimeError, EOFError, OSError, pickle.UnpicklingError, LookupError, TypeError, ValueError,
    AttributeError,
)  # fmt: skip


def save_state(path: Path, fingerprint: str, step: int, state: dict[str, Any]) -> None:
    """Write ``state`` after ``step`` finished steps, sealed; the previous one is kept as
    ``state.previous.pt``.

    Raises:
        MaskDistillError: it cannot be written (no space left); the previous one is kept.
    """
    try:
        with sealed_path(path) as temporary:
            torch.save({"fingerprint": fingerprint, "step": step, "state": state}, temporary)
            if path.exists():
                path.replace(previous_state(path))
    except (OSError, RuntimeError) as error:  # torch's writer reports a full disk as a RuntimeError
        raise MaskDistillError(
            f"{path}: the state after step {step} could not be written ({_first_line(error)}); the one "
            "before is kept. Free some space and run again: the training continues from there."
        ) from None


def load_state(path: Path, fingerprint: str) -> tuple[int, dict[str, Any]] | None:
    """Read the state that :func:`save_state` wrote: ``(finished steps, state)``.

        A damaged state, recognised by its seal or a value that is not finite, is removed and the previous one
    used. Returns None when there is nothing to resume: no file, no sound one, or one with another fingerprint
    (other data or settings). The last two cases are logged.
    """
    faults: list[str] = []
    for file in (path, previous_state(path)):
        if not file.exists():
            continue
        try:
            found, step, state = _read_state(file)
        except (*DAMAGED, BrokenSeal) as error:
            faults.append(f"{file} is damaged ({_first_line(error)})")
            file.unlink(missing_ok=True)
            continue
        if found != fingerprint:
            log.info("%s belongs to other settings or data; training starts over", file)
            return None
        if faults:
            log.warning("%s; the previous state, %s, is used", faults[0], file)
        return step, state
    if faults:
        log.warning("%s; training starts over", " and ".join(faults))
    return None


def _read_state(path: Path) -> tuple[str, int, dict[str, Any]]:
    """Fingerprint, finished steps and state from a file, after checking its seal."""
    verify(path)
    saved = torch.load(path, map_location="cpu", weights_only=True)
    if not is_finite(saved["state"]):
        raise ValueError("it holds NaN or infinity")
    return saved["fingerprint"], saved["step"], saved["state"]


def previous_state(path: Path) -> Path:
    """Path of the previous state: ``state.previous.pt`` beside ``state.pt``."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def is_finite(value: Any) -> bool:
    """Whether no tensor in nested dicts and lists holds NaN or infinity."""
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    if isinstance(value, Mapping):
        return all(map(is_finite, value.values()))
    return not isinstance(value, list | tuple) or all(map(is_finite, value))


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def training_provenance(
    stage: str, config: DetectorConfig | SegmenterConfig, seed: int, inputs: Mapping[str, str | Path]
) -> dict[str, Any]:
    """Provenance of a trained model: settings that affect it (not workers, logging or test time), seed, input
    hashes.

    The initial weights are among the inputs, by content, unless they are random.
    """
    settings = (
        training_settings(config) if isinstance(config, DetectorConfig) else config.model_dump(mode="json")
    )
    running = {"weights", "workers", "checkpoint_every", "log_every"}
    shaping = {name: value for name, value in settings.items() if name not in running}
    given = {} if config.weights == "random" else {"weights": config.weights}
    for path in given.values():
        if not Path(path).is_file():
            raise MaskDistillError(
                f"{stage}.weights: {path}: no such file; give a ResNet checkpoint, or 'random'"
            )
        refuse_oracle(path)
    params = {**shaping, "seed": seed, "random_weights": not given}
    return make_provenance(stage, params, {**inputs, **given})


def refuse_oracle(path: str | Path) -> None:
    """Refuse a file made with ground truth: it serves only to measure what a stage loses.

    Raises:
        MaskDistillError: its provenance has the oracle's mark. Other errors are left to its readers.
    """
    try:
        provenance = json.loads(read_metadata(path).get("provenance", "{}"))
    except (SafetensorError, ValueError):
        return
    if isinstance(provenance, dict) and ORACLE in provenance:
        raise MaskDistillError(
            f"{path}: an oracle's model ({provenance[ORACLE]}): ground truth made it, to see what a stage "
            "loses; nothing starts from it, and it is neither applied nor handed out: give another one"
        )


def training_fingerprint(provenance: Mapping[str, Any], stage: str) -> str:
    """Fingerprint of a resumable state: everything that its result depends on, including the stage's code."""
    return sha256_text(canonical_json({"provenance": provenance, "code": stage_code(stage)}))


def save_model(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a trained model as ``.safetensors`` in full precision, atomically; equal content gives equal
    bytes.
    """
    save_weights(tensors, path, metadata, torch.float32)


def describe_model(
    config: DetectorConfig | SegmenterConfig, num_clusters: int, provenance: Mapping[str, Any]
) -> dict[str, str]:
    """Metadata of a model file: ``arch``, ``num_clusters``, ``params`` (JSON, all settings), ``provenance``
    (JSON).

    If a detector's settings at test time were not given to its training, they are absent from its params.
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
        MaskDistillError: no such file, a damaged one, or not a model of one of the stages.
    """
    stage = " or ".join(stages)
    if not Path(path).is_file():
        raise MaskDistillError(f"{path}: no such file; run the {stage} stage first")
    check_seal(path)
    metadata = read_metadata(path)
    if {"params", "num_clusters"} - metadata.keys() or json.loads(metadata["provenance"])[
        "stage"
    ] not in stages:
        raise MaskDistillError(f"{path}: is not a model of the {stage} stage")
    return metadata


def load_model(path: str | Path, model: nn.Module) -> nn.Module:
    """Load a file of :func:`save_model` into ``model``, strictly; the model is returned in eval mode."""
    check_seal(path)
    strict_load(model, read_state_dict(path), path)
    return model.eval()
