"""What goes wrong with a run: processes killed, folders and disks that refuse, files cut off."""

from __future__ import annotations

import os
import random
import re
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from dag_project import Project, at_work, kill

from maskdistill.cli import STAGES

KINDS = ("kill_all", "kill_one", "read_only", "disk_full", "truncate")
NOT_INTERMEDIATE = {
    "logs",
    "benchmarks",
    "report.html",
    "summary.json",
    "scenes",
    "metrics.csv",
    "choose_k.csv",
}
NOT_INTERMEDIATE |= {"clusters.npz"}
"""Results, photographs that came in, tables that only the report shows, and centroids, which no stage reads.
"""
STEPS = re.compile(r"^(\d+) of (\d+) steps", re.M)
TOTAL = re.compile(r"^total +(\d+)", re.M)


@dataclass
class Running:
    """A run under way.

    Args:
        project: where.
        options: further ones of the command line.
        largest_file: bytes; a write beyond it fails, as on a full disk.
    """

    project: Project
    options: tuple[str, ...] = ()
    largest_file: int | None = None
    output: Path = field(init=False)
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.output = self.project.folder / "output.txt"
        with open(self.output, "wb") as stream:
            self.process = subprocess.Popen(
                self.project.command(*self.options), cwd=self.project.folder, stderr=subprocess.STDOUT,
                env=self.project.environment(), start_new_session=True, stdout=stream,
                preexec_fn=_limit(self.largest_file),
            )  # fmt: skip

    def said(self) -> str:
        return self.output.read_text(errors="replace")

    def alive(self) -> bool:
        return self.process.poll() is None

    def wait_for_step(self, share: float) -> int:
        """Wait until this share of the jobs, the last one left out, has finished, or the run has ended."""
        step = 0
        while self.alive():
            total = TOTAL.search(self.said())
            step = int(share * max(1, int(total[1]) - 2)) if total else 0  # the rule all is a job too
            if total and max((int(done) for done, _ in STEPS.findall(self.said())), default=0) >= step:
                break
            time.sleep(0.02)
        return step

    def pause(self, seconds: float) -> None:
        """Wait, unless the run ends."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)

    def kill_all(self) -> None:
        kill(self.process, self.project.folder)

    def kill_one(self, rng: random.Random) -> str:
        """Kill one entry point as soon as there is one; its stage, or nothing where the run ended before."""
        while self.alive():
            jobs = {process: name for process, name in at_work(self.project.folder).items() if name in STAGES}
            if jobs:
                process = rng.choice(sorted(jobs))
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
                    return jobs[process]
            time.sleep(0.02)
        return ""


def _limit(largest_file: int | None) -> Callable[[], None] | None:
    if largest_file is None:
        return None

    def apply() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    return apply


def disturb(
    project: Project,
    kind: str,
    rng: random.Random,
    options: tuple[str, ...] = (),
    longest: float = 3.0,
    among: Sequence[str] = ("**/*",),
) -> str:
    """Start the run, do it harm some time after one of its jobs, and wait until it has ended.

    Args:
        kind: one of :data:`KINDS`.
        options: further ones of the command line.
        longest: seconds that the harm may come after the job.
        among: patterns below the results folder: files that may be truncated, folders that may refuse.

    Returns:
        What was done, and the exit status. What the run said is in ``output.txt`` of the project.
    """
    share, delay = rng.random(), rng.uniform(0, longest)
    if kind == "disk_full":
        size = int(2 ** rng.uniform(8, 19))
        running = Running(project, options, largest_file=size)
        running.process.wait()
        return f"no file above {size} bytes; exit {running.process.returncode}"
    running = Running(project, options)
    step = running.wait_for_step(share)
    running.pause(delay)
    moment = f"after {step} jobs and {delay:.1f} s"
    if not running.alive():
        return f"{kind} {moment}: the run had ended"
    if kind == "kill_one":
        stage = running.kill_one(rng)
        running.process.wait()
        return f"killed {stage or 'nothing'} {moment}; exit {running.process.returncode}"
    if kind == "read_only":
        folder = rng.choice(_folders(project.results, among))
        mode = folder.stat().st_mode
        folder.chmod(0o555)
        try:
            running.process.wait()
        finally:
            with suppress(FileNotFoundError):  # of a job that failed Snakemake removes the folder too
                folder.chmod(mode)
        return f"{folder.relative_to(project.results)}/ read-only {moment}; exit {running.process.returncode}"
    running.kill_all()
    if kind == "kill_all":
        return f"killed all {moment}"
    files = intermediate_files(project.results, among)
    if not files:
        return f"killed all {moment}; nothing to truncate"
    path = rng.choice(files)
    size = int(rng.random() * path.stat().st_size)
    os.truncate(path, size)
    return f"killed all {moment}, {path.relative_to(project.results)} cut to {size} bytes"


def _folders(top: Path, patterns: Sequence[str]) -> list[Path]:
    """Folders below the results folder, but logs and benchmarks; some may vanish while one looks."""
    every = {Path(folder) for folder, _, _ in os.walk(top)}
    wanted = {path for path in every for pattern in patterns if pattern == "**/*" or path.match(pattern)}
    return sorted(
        path for path in wanted if not {"logs", "benchmarks"} & set(path.relative_to(top).parts)
    ) or [top]


def intermediate_files(results: Path, patterns: Sequence[str]) -> list[Path]:
    """Files that later stages read."""
    found = {
        path
        for pattern in patterns
        for path in results.glob(pattern)
        if path.is_file() and path.stat().st_size
    }
    return sorted(path for path in found if _is_intermediate(path.relative_to(results)))


def _is_intermediate(name: Path) -> bool:
    hidden = any(part.startswith(".") or part.endswith(".state") for part in name.parts)
    return not hidden and NOT_INTERMEDIATE.isdisjoint(name.parts)


def resume(project: Project, options: tuple[str, ...] = (), tries: int = 6) -> list[str]:
    """Go on as the documentation says, and return what had to be done.

    ``snakemake --unlock`` where a lock was left, then the same command; where a message names a damaged or
    missing file and ``--forcerun``, the command is given again with that.

    Raises:
        AssertionError: there is no way on, or a message is a traceback.
    """
    done: list[str] = []
    said, given = "", options
    for _ in range(tries):
        running = Running(project, options)
        running.process.wait()
        said = running.said()
        if running.process.returncode == 0:
            return done
        if "LockException" in said or "Directory cannot be locked" in said:
            unlock = Running(project, (*options, "--unlock"))
            unlock.process.wait()
            assert unlock.process.returncode == 0, unlock.said()[-3000:]
            done.append("--unlock")
            continue
        assert "Traceback (most recent call last)" not in said, f"a traceback:\n{said[-6000:]}"
        lost = list(dict.fromkeys(re.findall(r"the same command with --forcerun ([^\s)]+)", said)))
        assert lost, f"no way on:\n{said[-6000:]}"
        options = (*given, "--forcerun", *lost)
        done += [f"--forcerun {path}" for path in lost]
    raise AssertionError(f"{tries} tries were not enough: {done}\n{said[-6000:]}")
