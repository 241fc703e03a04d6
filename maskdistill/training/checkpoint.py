"""Resumable training state, written atomically and keyed by what the training depends on."""

import logging
import pickle
from pathlib import Path
from typing import Any

import torch

from maskdistill.runtime.files import atomic_path

log = logging.getLogger("maskdistill")


def save_state(path: Path, fingerprint: str, step: int, state: dict[str, Any]) -> None:
    """Write ``state`` after ``step`` finished steps."""
    with atomic_path(path) as temporary:
        torch.save({"fingerprint": fingerprint, "step": step, "state": state}, temporary)


def load_state(path: Path, fingerprint: str) -> tuple[int, dict[str, Any]] | None:
    """Read back what :func:`save_state` wrote: ``(finished steps, state)``.

    Returns None when there is nothing to resume: no file, a damaged one, or one of another
    fingerprint (other data or settings); the last two are said in the log.
    """
    if not path.exists():
        return None
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        log.warning("%s is damaged (%s); training starts anew", path, error)
        return None
    if saved["fingerprint"] != fingerprint:
        log.info("%s belongs to other settings or data; training starts anew", path)
        return None
    return saved["step"], saved["state"]
