"""A copy of the project in a temporary folder, and a miniature run of the whole workflow in it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

from fork_server import ForkServer, fork_server

ROOT = Path(__file__).parents[2]
PARTS = ("Snakefile", "workflow", "profiles", "config", "envs", "maskdistill")

MINIATURE: dict[str, Any] = {
    "run": "mini",
    "num_shards": 2,
    "seeds": [1234],
    "data": {"kind": "scenes", "num_train": 16, "num_eval": 8, "size": 96, "difficulty": 0.3},
    "backbone": {"arch": "vit_micro_patch8", "weights": "random"},
    "features": {"short_side": 96, "batch_size": 4, "workers": 0},
    "masks": {"affinity": {"center": True}},
    "baselines": {"masks": ["lost-100"]},
    "clusters": {"num_clusters": 3, "nredo": 2, "workers": 0},
    "detector": {
        "arch": "resnet_tiny", "weights": "random", "freeze_at": 0, "iters": 8, "batch_size": 2, "lr": 0.005,
        "steps": [6], "warmup_iters": 2, "min_size_train": [96], "min_size_test": 96, "max_size": 128,
        "anchor_sizes": [32, 64], "rpn_pre_nms": [50, 50], "rpn_post_nms": [20, 20], "rpn_batch": 16,
        "roi_batch": 8, "roi_pool": 4, "max_dets": 5, "checkpoint_every": 2, "log_every": 2, "workers": 0,
        "score_thresh": 0.01, "reference_batch": 2, "precise_bn": 2,
    },
    "segmenter": {
        "arch": "resnet_tiny", "weights": "random", "freeze_at": 0, "epochs": 2, "batch_size": 4, "lr": 0.01,
        "drop_after": 1, "size": 64, "head_channels": 16, "atrous_rates": [2, 4, 6], "checkpoint_every": 2,
        "log_every": 2, "workers": 0, "reference_batch": 4,
    },
    "crf": {"rounds": 1, "iters": 2},
    "probe": {"epochs": 2, "batch_size": 4, "drop_after": 1, "checkpoint_every": 2, "log_every": 2,
    "workers": 0},
    "evaluation": {"bootstrap": 20},
    "report": {"examples": 3, "per_cluster": 2},
}  # fmt: skip
GIVEN = ("--configfile", "config/mini.yaml", "--resources", "gpu=0", "--cores", "2", "--max-threads", "1")
"""One thread a job: two tests run at once, and threads beyond the cores only wait for each other."""


@dataclass(frozen=True)
class Project:
    """A copy of the project that may be edited."""

    folder: Path

    @property
    def results(self) -> Path:
        return self.folder / "results" / "mini"

    def configure(self, **sections: Any) -> None:
        """Write config/mini.yaml: the miniature with some sections merged over it."""
        config = json.loads(json.dumps(MINIATURE))
        for name, value in sections.items():
            merge = isinstance(value, dict) and "kind" not in value
            config[name] = config.get(name, {}) | value if merge else value
        (self.folder / "config/mini.yaml").write_text(yaml.safe_dump(config))

    def command(self, *options: str) -> list[str]:
        """Snakemake as a process, for runs that are killed: see :func:`kill`."""
        return [fork_server().command("python"), "-m", "snakemake", *GIVEN, *options]

    def environment(self) -> dict[str, str]:
        """With bytecode written, whatever is set outside: else each job would compile the package anew."""
        return os.environ | {
            "PYTHONPATH": str(self.folder),
            "OMP_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "",
        }

    def snakemake(self, *options: str, check: bool = True, server: ForkServer | None = None) -> str:
        """Run Snakemake, by default as a fork of this process's server; return all it printed."""
        command = ["snakemake", *GIVEN, *options]
        status, out, err = (server or fork_server()).run(command, self.folder, self.environment())
        assert not check or status == 0, (out + err)[-6000:]
        return out + err

    def planned(self, *targets: str) -> set[str]:
        """Names of the rules that a dry run lists, by default that of the whole run."""
        return self.listed(self.snakemake("--dry-run", *targets))

    @staticmethod
    def listed(text: str) -> set[str]:
        """Names of the rules in what a dry run printed."""
        table = re.search(r"^Job stats:\njob +count\n[- ]+\n(.*?)^total ", text, re.M | re.S)
        assert table or "Nothing to be done" in text, text
        return {line.split()[0] for line in table[1].splitlines()} - {"all"} if table else set()

    def plans(
        self, configs: Sequence[dict[str, Any]], *targets: str, needed: bool = False
    ) -> list[list[Job]]:
        """The jobs of the DAG for each configuration (sections as of :meth:`configure`), in one process.

        With ``needed`` only those that Snakemake would run.
        """
        names = []
        for number, sections in enumerate(configs):
            self.configure(**sections)
            names.append(f"config/plan-{number}.yaml")
            (self.folder / "config/mini.yaml").rename(self.folder / names[-1])
        self.configure(**(configs[0] if configs else {}))
        command = [str(Path(__file__).parent / "dag_dump.py"), *(["--needed"] if needed else [])]
        status, out, err = fork_server().run(
            [*command, ",".join(names), *targets], self.folder, self.environment()
        )
        assert status == 0, err[-6000:]
        return [[Job(**job) for job in jobs] for jobs in json.loads(out)]

    def rules(self, *targets: str) -> dict[str, Rule]:
        """The rules of the whole DAG, by default that of the whole run, whatever is up to date."""
        (jobs,) = self.plans([yaml.safe_load((self.folder / "config/mini.yaml").read_text())], *targets)
        return as_rules(jobs)

    def pretend_finished(self) -> None:
        """Make every output of the configured run as an empty file or folder, with Snakemake's records of
        them.

        What is planned after an edit is then what it would be after a run, in seconds.
        """
        for rule in self.rules().values():
            for output in rule.outputs:
                path = self.folder / output
                if path.suffix and "/labels/" not in output:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.touch()
                else:
                    path.mkdir(parents=True, exist_ok=True)
        self.snakemake("--touch", "--forceall")


@dataclass(frozen=True)
class Job:
    """One job of a DAG; params as Python prints them."""

    rule: str
    wildcards: dict[str, str]
    inputs: list[str]
    outputs: list[str]
    params: dict[str, str]
    command: str
    parents: list[str]


@dataclass(frozen=True)
class Rule:
    """One rule of a DAG: its files, the rules that make its inputs, and all texts that its jobs are given."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parents: frozenset[str]
    texts: tuple[str, ...] = ()


def as_rules(jobs: Sequence[Job]) -> dict[str, Rule]:
    """The jobs put together by rule."""
    found: dict[str, Rule] = {}
    for job in jobs:
        before = found.get(job.rule, Rule((), (), frozenset()))
        found[job.rule] = Rule(
            (*before.inputs, *job.inputs),
            (*before.outputs, *job.outputs),
            before.parents | set(job.parents),
            (*before.texts, job.command, *job.params.values()),
        )
    return found


def make_project(folder: Path, **sections: Any) -> Project:
    """Copy the project's code and write the miniature configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            # with its bytecode, which is as old as its source, but none that is being written
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("*.pyc.*"))
        else:
            shutil.copy(source, folder / part)
    project = Project(folder)
    project.configure(**sections)
    return project


def at_work(folder: Path) -> dict[int, str]:
    """The processes in a folder and their names: forks are called ``snakemake`` or as their stage."""
    found = {}
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdecimal() and (process / "cwd").readlink() == folder.resolve():
                found[int(process.name)] = (process / "comm").read_text().strip()
    return found


def kill(running: subprocess.Popen[bytes], folder: Path) -> None:
    """SIGKILL a run that was started in a session of its own, and with it all its jobs; wait until they are
    gone.
    """
    with suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    deadline = time.monotonic() + 60
    while left := at_work(folder):
        assert time.monotonic() < deadline, left
        time.sleep(0.01)


def copy_project(project: Project, folder: Path) -> Project:
    """Copy a project with its results and Snakemake's records."""
    shutil.copytree(project.folder, folder, symlinks=True)
    return Project(folder)


def tree(folder: Path, patterns: Sequence[str]) -> dict[str, bytes]:
    """Relative path -> bytes of the files that match."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for pattern in patterns
        for file in sorted(folder.glob(pattern))
    }
