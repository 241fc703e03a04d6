"""The training loop of pretrain, detector and segmenter."""

import logging
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.progress import progress
from maskdistill.training.checkpoint import is_finite, load_state, save_state
from maskdistill.training.curves import LIVE, Curve, CurveState
from maskdistill.training.curves import MetricRow as MetricRow
from maskdistill.training.distributed import mean_over_processes

log = logging.getLogger("maskdistill")


@dataclass(frozen=True)
class LoopSettings:
    """Settings of the loop itself.

    Attributes:
        total_steps: optimiser steps.
        state_dir: folder of the resumable state; removed by :func:`finish` after success.
        fingerprint: hash of everything that the result depends on; a state with another fingerprint is
            ignored.
        seed: torch is seeded from ``(seed, step)`` before each step, equally in all processes, so that a
            resumed run draws the same dropout masks as an uninterrupted one.
        checkpoint_every, log_every: steps between states, and between metric rows.
        rank: only rank 0 writes.
        name: shown by the progress bar.
        batch_size: images per step, over all processes; only to report images per second.
    """

    total_steps: int
    state_dir: Path
    fingerprint: str
    seed: int = 0
    checkpoint_every: int = 500
    log_every: int = 20
    rank: int = 0
    name: str = "train"
    batch_size: int = 1


def train(
    settings: LoopSettings,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    batches: Callable[[int], Iterable[Any]],
    step_fn: Callable[[int, Any], Mapping[str, Tensor]],
    lr_at: Callable[[int], float],
    after_step: Callable[[int], None] | None = None,
    diagnose: Callable[[], Mapping[str, float]] | None = None,
) -> list[MetricRow]:
    """Train, resuming from ``settings.state_dir`` if it holds a state with the same fingerprint.

    Args:
        modules: everything with weights or buffers that must survive an interruption.
        optimizer: over the trainable parameters; a group's ``lr_scale`` multiplies the rate.
        batches: start step -> iterable of the batches from that step on.
        step_fn: ``(step, batch)`` -> named scalar losses, among them ``loss`` to differentiate.
        lr_at: step -> learning rate.
        after_step: called after each update (e.g. to move a teacher).
        diagnose: returns further columns, called whenever a row is written.

    Returns:
        One row every ``log_every`` steps: ``step``, ``lr`` and the mean of each loss since the last row, over
        all processes. Rank 0 shows them as they come (:mod:`maskdistill.training.curves`).

    Raises:
        MaskDistillError: the loss or a weight is NaN or infinite, or a state cannot be written; the last good
            state is kept.
    """
    state_file = settings.state_dir / "state.pt"
    saved: CurveState | None = None
    sums: dict[str, Tensor] = {}
    start = 0
    if (resumed := load_state(state_file, settings.fingerprint)) is not None:
        start, state = resumed
        for name, module in modules.items():
            module.load_state_dict(state["modules"][name])
        optimizer.load_state_dict(state["optimizer"])
        saved, sums = state["curve"], state["sums"]
        log.info("%s: resumed after step %d of %d", settings.name, start, settings.total_steps)

    curve = Curve(settings.state_dir / LIVE if settings.rank == 0 else None, settings.batch_size, saved)
    steps = range(start, settings.total_steps)
    walk = zip(steps, batches(start), strict=True)
    for step, batch in progress(walk, settings.total_steps, settings.name, "step", start, note=curve.said):
        torch.manual_seed(settings.seed * 1_000_000_007 + step)
        rate = lr_at(step)
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        losses = step_fn(step, batch)
        optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        for key, value in losses.items():
            sums[key] = value.detach() + sums[key].to(value.device) if key in sums else value.detach()
        done = step + 1
        log_now = done % settings.log_every == 0 or done == settings.total_steps
        save_now = done % settings.checkpoint_every == 0
        if log_now or save_now:
            sums = dict(
                zip(sums, mean_over_processes(torch.stack(list(sums.values()))).unbind(), strict=True)
            )
            if not torch.isfinite(sums["loss"]):
                raise _diverged(settings, f"the loss became {sums['loss'].item()}", done)
        optimizer.step()
        if after_step is not None:
            after_step(step)
        if (save_now or done == settings.total_steps) and (
            broken := _not_finite(modules, optimizer)
        ) is not None:
            raise _diverged(settings, f"{broken} became NaN or infinite", done)
        if log_now:
            count = (done - 1) % settings.log_every + 1
            extras = dict(diagnose()) if diagnose is not None else {}
            curve.add(
                {"step": float(done), "lr": rate} | {k: float(v) / count for k, v in sums.items()} | extras
            )
            sums = {}
        if save_now and settings.rank == 0:
            state = {
                "modules": {name: module.state_dict() for name, module in modules.items()},
                "optimizer": optimizer.state_dict(),
                "curve": curve.state(),
                "sums": sums,
            }
            save_state(state_file, settings.fingerprint, done, state)
    log.info("%s: %d steps, %s", settings.name, settings.total_steps, curve.said())
    return curve.rows


def _diverged(settings: LoopSettings, what: str, step: int) -> MaskDistillError:
    return MaskDistillError(
        f"{settings.name}: {what} by step {step}; the last good state is kept in {settings.state_dir}. "
        "Lower the learning rate (lr) and run again."
    )


def _not_finite(modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer) -> str | None:
    """Name of the first weight, running statistic or optimiser state that is not finite."""
    for module in modules.values():
        for name, tensor in module.state_dict().items():
            if not torch.isfinite(tensor).all():
                return name
    return None if is_finite(optimizer.state_dict()["state"]) else "the optimiser's momentum"


def finish(settings: LoopSettings) -> None:
    """Remove the resumable state once the final checkpoint is in place."""
    shutil.rmtree(settings.state_dir, ignore_errors=True)
