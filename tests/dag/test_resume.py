"""Killed with SIGKILL in the middle of a training, the training goes on and ends in the same bytes."""

import shutil
import subprocess
import time

import pytest
from dag_project import Project, kill, tree


def kill_when(project: Project, appears: str, target: str) -> None:
    """Start the run up to ``target`` and kill it with all its jobs as soon as a file matches ``appears``."""
    running = subprocess.Popen(
        project.command("--quiet", "all", "--", target), cwd=project.folder, env=project.environment(),
        start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 600
    try:
        while not list(project.results.glob(appears)):
            assert running.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        kill(running, project.folder)


@pytest.mark.parametrize("stage", ["detector", "segmenter"])
def test_sigkill_in_training(finished: Project, editable: Project, stage: str) -> None:
    """The stage alone: that equal models lead to equal results behind it is test_two_runs' part."""
    model = sorted(finished.results.glob(f"**/{stage}/model.safetensors"))[
        0
    ]  # of the segmenters that of round 0
    resumed = editable.results / model.relative_to(finished.results)
    shutil.rmtree(resumed.parent)
    target = str(resumed.relative_to(editable.folder))
    kill_when(editable, f"**/{stage}.state/state.pt", target)
    assert not resumed.exists()
    editable.snakemake("--unlock")
    editable.snakemake(target)
    log = sorted(editable.results.glob(f"logs/{stage}/**/*.log"))[0]
    assert "resumed after step" in log.read_text()
    made = tree(resumed.parent, ("*",))
    assert {"model.safetensors", "metrics.csv"} <= set(made) and made == tree(model.parent, ("*",))
