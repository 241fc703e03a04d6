"""Killed with SIGKILL in the middle of a training, the run goes on and ends in the same bytes."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from dag_project import Project, make_project, tree


def kill_when(project: Project, appears: str) -> None:
    """Start the run and kill its whole process group as soon as a file matches ``appears``."""
    running = subprocess.Popen(
        project.command("--quiet", "all"), cwd=project.folder, env=project.environment(), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 600
    try:
        while not list(project.results.glob(appears)):
            assert running.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()


@pytest.mark.parametrize(("stage", "before"), [("detector", "annotations"), ("segmenter", "pseudo_labels")])
def test_sigkill_in_training(finished: Project, tmp_path: Path, stage: str, before: str) -> None:
    project = make_project(tmp_path / "project")
    project.snakemake("--until", before)
    kill_when(project, f"**/{stage}.state/state.pt")
    model = sorted(finished.results.glob(f"**/{stage}/model.safetensors"))[0]  # of the segmenters that of round 0
    resumed = project.results / model.relative_to(finished.results)
    assert not resumed.exists()
    project.snakemake("--unlock")
    project.snakemake()
    log = sorted(project.results.glob(f"logs/{stage}/**/*.log"))[0]
    assert "resumed after step" in log.read_text()
    patterns = ("**/model.safetensors", "**/*.png", "**/metrics.csv")
    expected = tree(finished.results, patterns)
    assert tree(project.results, patterns) == expected
