"""The profile for schedulers that take a script, with a stand-in for PBS's qsub."""

import os
import re
from pathlib import Path

import pytest
from dag_project import make_project

QSUB = """#!/bin/sh
# Keeps its arguments, runs the script beside, prints an id, as qsub does.
echo "$@" >> "{log}"
for script; do :; done
setsid sh "$script" > /dev/null 2>&1 &
echo "$!.stand-in"
"""


def test_every_job_goes_through_qsub_with_its_resources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(tmp_path / "project", baselines={"masks": []})
    log, tools = tmp_path / "submitted.txt", tmp_path / "tools"
    tools.mkdir()
    (tools / "qsub").write_text(QSUB.format(log=log))
    (tools / "qsub").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    project.snakemake(
        "--workflow-profile", "workflow/profiles/pbs", "--resources", "gpu=2", "--latency-wait", "5",
        "--seconds-between-status-checks", "1", "--until", "masks",
    )  # fmt: skip
    assert sorted(path.name for path in project.results.rglob("masks/*.json")) == [
        "shard-0000.json",
        "shard-0001.json",
    ]
    asked = re.findall(r"ncpus=(\d+):mem=(\d+)mb:ngpus=(\d) -l walltime=00:(\d+):00", log.read_text())
    assert len(asked) == len(log.read_text().splitlines()) >= 4
    assert all(int(cpus) and int(memory) >= 1000 and int(minutes) >= 10 for cpus, memory, _, minutes in asked)
    assert {gpus for _, _, gpus, _ in asked} == {"0", "1"}
