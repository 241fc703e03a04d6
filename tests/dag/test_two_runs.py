"""Two runs at once, and a run after one that was killed: refused, or done; never a mixture, never a
riddle.
"""

import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from dag_project import Project, at_work, kill, make_project

from maskdistill.runtime import run_lock
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.run_lock import explain_lock, hold_run

TARGET = "results/mini/data/scenes"


def slow_project(folder: Path) -> Project:
    """A miniature whose first stage says that it runs and waits until a file ``go`` appears."""
    project = make_project(folder)
    entry = project.folder / "maskdistill/cli/scenes.py"
    wait = "    import pathlib, time\n    pathlib.Path('runs').touch()\n"
    wait += "    while not pathlib.Path('go').exists():\n        time.sleep(0.05)\n"
    changed, count = re.subn(
        r"(?m)^(def run\(.*\n(?:    \"\"\".*\"\"\"\n)?)", lambda found: found[1] + wait, entry.read_text()
    )
    assert count == 1
    entry.write_text(changed)
    return project


@contextmanager
def in_first_stage(project: Project) -> Iterator[subprocess.Popen[bytes]]:
    """A run that is in its first stage."""
    (project.folder / "runs").unlink(missing_ok=True)
    running = subprocess.Popen(
        project.command("--keep-going", TARGET), cwd=project.folder, env=project.environment(),
        start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while not (project.folder / "runs").exists():
            assert running.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        yield running
    finally:
        kill(running, project.folder)


def snakemake_in(project: Project) -> int:
    """The process of the run at work."""
    (found,) = (process for process, name in at_work(project.folder).items() if name == "snakemake")
    return found


def test_a_second_run_is_refused_and_the_first_ends_well(tmp_path: Path) -> None:
    project = slow_project(tmp_path)
    with in_first_stage(project) as first:
        process = snakemake_in(project)
        refused = project.snakemake("--keep-going", TARGET, check=False)
        assert f"results/mini: another run is at work here (process {process} on " in refused
        assert "Directory cannot be locked" in refused and "--config run=NAME" in refused
        assert "Traceback" not in refused

        without_lock = project.snakemake("--nolock", TARGET, check=False)
        assert "another run is at work here" in without_lock and "Traceback" not in without_lock
        assert "rule scenes" not in without_lock

        locks = sorted((project.folder / ".snakemake/locks").iterdir())
        refused = project.snakemake("--unlock", TARGET, check=False)
        assert f"another run is at work here (process {process} on " in refused
        assert "its lock is not cleared" in refused and "Traceback" not in refused
        assert sorted((project.folder / ".snakemake/locks").iterdir()) == locks != []

        assert "was killed" not in project.snakemake("--dry-run", TARGET)
        (project.folder / "go").touch()
        assert first.wait(120) == 0
    assert "Nothing to be done" in project.snakemake("--keep-going", TARGET)


def test_two_results_folders_at_once(tmp_path: Path) -> None:
    project = slow_project(tmp_path)
    other = ("--config", "run=other", "--", TARGET.replace("mini", "other"))
    (project.folder / "go").touch()
    project.snakemake(*other)
    assert (project.folder / "results/other/.lock").read_text() == "", "it ended well"
    shutil.rmtree(project.folder / other[-1])
    (project.folder / "go").unlink()
    with in_first_stage(project) as first:
        assert "was killed" not in project.snakemake("--dry-run", *other)
        (project.folder / "go").touch()
        project.snakemake(*other)
        assert first.wait(120) == 0
    assert (project.folder / other[-1]).is_dir() and (project.folder / TARGET).is_dir()


def test_two_runs_that_want_the_same_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make_project(tmp_path, backbone={"arch": "dino_vits16", "weights": "official"})
    monkeypatch.setattr(run_lock, "_held", {})
    hold_run(project.folder / "results/first")
    weights = "resources/weights/dino_deitsmall16_pretrain.pth"
    (project.folder / ".snakemake/locks").mkdir(parents=True)
    (project.folder / ".snakemake/locks/0.output.lock").write_text(weights + "\n")
    said = project.snakemake("--dry-run")
    assert f"results/first (process {os.getpid()} on " in said and f"holds {weights} until it ends" in said
    run_lock.release_run(project.folder / "results/first")


def test_the_lock_of_a_killed_run_is_explained(tmp_path: Path) -> None:
    project = slow_project(tmp_path)
    with in_first_stage(project) as first:
        process = snakemake_in(project)
        kill(first, project.folder)
    (project.folder / "go").touch()
    refused = project.snakemake("--keep-going", TARGET, check=False)
    assert f"a run was killed and left Snakemake's lock behind (process {process} on " in refused
    assert "Traceback" not in refused and not (project.folder / TARGET).exists()
    command = re.search(r"clear the lock with\n\n    (.*)\n", refused)
    assert command and "--unlock" in command[1] and "config/mini.yaml" in command[1]
    done = subprocess.run(
        shlex.split(command[1]), cwd=project.folder, env=project.environment(), text=True, capture_output=True
    )
    assert done.returncode == 0 and "was killed" not in done.stderr, done.stderr
    project.snakemake("--keep-going", TARGET)
    assert (project.folder / TARGET).is_dir()


def test_the_lock_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locks = tmp_path / "locks"
    locks.mkdir()
    assert explain_lock(tmp_path / "run", locks, "command") is None
    monkeypatch.setattr(run_lock, "_held", {})
    hold_run(tmp_path / "run")
    assert explain_lock(tmp_path / "run", locks, "command") is None, "Snakemake would go on"
    (locks / "0.output.lock").write_text(f"{tmp_path}/run/data/manifest.csv\n")
    assert f"process {os.getpid()} on " in (explain_lock(tmp_path / "run", locks, "command") or "")
    with pytest.raises(MaskDistillError, match="another run is at work here"):
        hold_run(tmp_path / "run")
    run_lock._held.pop(str(tmp_path / "run")).release()  # as the kernel does when a process is killed
    assert "command" in (explain_lock(tmp_path / "run", locks, "command") or "")
    hold_run(tmp_path / "run")
    run_lock.release_run(tmp_path / "run")
    assert (tmp_path / "run/.lock").read_text() == "", "a run that ended is forgotten"
    assert explain_lock(tmp_path / "run", locks, "command") is None


def test_a_living_neighbour_is_never_called_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "_held", {})
    locks, weights = tmp_path / "locks", "resources/weights/dino.pth"
    locks.mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "b/.lock").write_text("process 1, which was killed")
    hold_run(tmp_path / "a")
    (locks / "0.output.lock").write_text(f"{tmp_path}/a/data/manifest.csv\n{weights}\n")
    assert explain_lock(tmp_path / "b", locks, "command --unlock", ["resources/weights/other"]) is None
    said = explain_lock(tmp_path / "b", locks, "command --unlock", [weights]) or ""
    assert f"{tmp_path}/a (process {os.getpid()}" in said and f"holds {weights} until it ends" in said
    assert "command" not in said and "was killed" not in said
    (locks / "1.output.lock").write_text(f"{tmp_path}/b/data/manifest.csv\n")
    said = explain_lock(tmp_path / "b", locks, "command --unlock") or ""
    assert f"{tmp_path}/a (process {os.getpid()}" in said and "command" not in said
    run_lock.release_run(tmp_path / "a")
    said = explain_lock(tmp_path / "b", locks, "command --unlock") or ""
    assert "process 1, which was killed" in said and "command --unlock" in said
