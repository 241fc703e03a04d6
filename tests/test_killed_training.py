"""kill -9: a training that is killed again and again ends in the bytes of an uninterrupted one.

The entry points run in processes of their own, forked from a server that has imported them once.
"""

import io
import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from miniature import NUM_CLUSTERS, detector_config, scenes, segmenter_config, write_run

from maskdistill import cli
from maskdistill.detector import train as detector_train
from maskdistill.report.collect import read_metrics
from maskdistill.segmenter import train as segmenter_train
from maskdistill.training import loop
from maskdistill.training.curves import LIVE, read_curve

STEPS = 12
PLACES = ("data", "loss", "update", "checkpoint")


@pytest.fixture(scope="module")
def server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["maskdistill.cli.detector", "maskdistill.cli.segmenter"])
    return context


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_run(folder, scenes(8))
    return folder


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def train_and_die(step: int, place: str) -> Callable[..., Any]:
    """The training loop, killed in a step: before or after its loss is computed, between update and state, or
    in the middle of writing the next state.
    """

    def killed(
        settings: loop.LoopSettings, modules: Any, optimizer: Any, batches: Any, step_fn: Any, *rest: Any
    ) -> Any:
        now = -1

        def step_and_die(number: int, batch: Any) -> Mapping[str, torch.Tensor]:
            nonlocal now
            now = number
            if place == "data" and number == step:
                die()
            losses: Mapping[str, torch.Tensor] = step_fn(number, batch)
            if place == "loss" and number == step:
                die()
            return losses

        def save_and_die(content: Any, path: Path) -> None:
            whole = io.BytesIO()
            plain_save(content, whole)
            Path(path).write_bytes(whole.getvalue()[: len(whole.getvalue()) // (2 if now >= step else 1)])
            if now >= step:
                die()

        plain_save = torch.save
        if place == "update":
            optimizer.register_step_post_hook(lambda *_: die() if now == step else None)
        if place == "checkpoint":
            torch.save = save_and_die  # type: ignore[assignment]
        return loop.train(settings, modules, optimizer, batches, step_and_die, *rest)

    return killed


def run_stage(arguments: list[str], kill: tuple[int, str] | None) -> None:
    """Body of a process: one call of an entry point."""
    if kill is not None:
        detector_train.train = segmenter_train.train = train_and_die(*kill)  # type: ignore[attr-defined]
    raise SystemExit(cli.main(arguments))


def arguments(stage: str, folder: Path, output: Path) -> list[str]:
    files = ["--manifest", str(folder / "manifest.csv")]
    if stage == "detector":
        files += [
            "--annotations",
            str(folder / "annotations.json"),
            "--index",
            str(folder / "annotations.h5"),
        ]
        params = detector_config(iters=STEPS, precise_bn=2).model_dump_json()
    else:
        files += ["--labels", str(folder / "labels"), "--num-clusters", str(NUM_CLUSTERS)]
        params = segmenter_config(epochs=STEPS // 4).model_dump_json()
    outputs = ["--output", str(output / "model.safetensors"), "--metrics", str(output / "metrics.csv")]
    common = ["--state", str(output / "state"), "--device", "cpu", "--threads", "1", "--seed", "5"]
    return [stage, *files, *outputs, *common, "--log", str(output / "log.txt"), "--params", params]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["detector", "segmenter"])
def test_five_kills_change_no_byte(
    server: ForkServerContext, run_folder: Path, tmp_path: Path, stage: str
) -> None:
    def exit_code(output: Path, kill: tuple[int, str] | None) -> int | None:
        process = server.Process(target=run_stage, args=(arguments(stage, run_folder, output), kill))
        process.start()
        process.join()
        return process.exitcode

    assert exit_code(tmp_path / "whole", None) == 0
    rows = read_curve(tmp_path / "whole/metrics.csv", sealed=True).rows
    rng = np.random.default_rng(["detector", "segmenter"].index(stage))
    steps = sorted(rng.choice(STEPS, 5, replace=False).tolist())
    kills = list(zip(steps, rng.permutation([*PLACES, "update"]).tolist(), strict=True))
    finished = 0
    for kill in [*kills, None]:
        assert exit_code(tmp_path / "killed", kill) == (0 if kill is None else -signal.SIGKILL)
        said = (tmp_path / "killed/log.txt").read_text()
        assert (f"resumed after step {finished} of {STEPS}" in said) == (finished > 0)
        assert "damaged" not in said
        assert (tmp_path / "killed/model.safetensors").exists() == (kill is None)
        if kill is not None and kill[0] >= 3:
            seen = read_curve(tmp_path / "killed/state" / LIVE, sealed=False).rows
            assert len(seen) >= kill[0] // 3 and seen == rows[: len(seen)]
        finished = kill[0] // 2 * 2 if kill is not None else STEPS

    for name in ("model.safetensors", "metrics.csv"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert read_metrics(tmp_path / "killed/metrics.csv")["step"].tolist() == list(range(3, STEPS + 1, 3))
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == [
        "log.txt", "metrics.csv", "model.safetensors"
    ]  # fmt: skip
