"""Ctrl-C, SIGTERM, a reader that leaves: one line, the exit status of shells, nothing half-written, no child
left.
"""

import multiprocessing
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from maskdistill import cli
from maskdistill.cli import main
from maskdistill.runtime import interruption
from maskdistill.runtime.processes import in_forks

ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
SCENES = ["scenes", "--params", '{"kind": "scenes", "num_train": 900000}', "--threads", "2", "--output"]


def send(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(5)
    raise AssertionError("the signal did not arrive")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_any_stage_ends_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
    status: int,
) -> None:
    before = [signal.getsignal(one) for one in interruption.SIGNALS]
    monkeypatch.setattr(cli, "run_stage", lambda *given: send(number))
    log = tmp_path / "x.log"
    assert main(["predict", "--log", str(log)]) == status
    said = capsys.readouterr().err
    assert said.startswith("maskdistill predict: interrupted;") and said.count("\n") == 1
    assert log.read_text() == said
    assert [signal.getsignal(one) for one in interruption.SIGNALS] == before


@pytest.mark.parametrize(
    ("error", "status"),
    [(KeyboardInterrupt(), 130), (type("SignalException", (Exception,), {"sigval": signal.SIGTERM})(), 143)],
)
def test_what_libraries_raise_for_a_signal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, status: int
) -> None:
    def stage(*given: Any) -> None:
        raise error

    monkeypatch.setattr(cli, "run_stage", stage)
    assert main(["show"]) == status
    assert "Traceback" not in capsys.readouterr().err


def test_an_error_that_follows_a_signal_is_no_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A loader finds its workers ended, and says so."""

    def stage(*given: Any) -> None:
        try:
            send(signal.SIGINT)
        except KeyboardInterrupt:
            raise RuntimeError("DataLoader worker (pid 5) is killed by signal: Terminated.") from None

    monkeypatch.setattr(cli, "run_stage", stage)
    assert main(["segmenter"]) == 130
    assert "interrupted" in capsys.readouterr().err


def wait_in_child(item: int) -> int:
    if item == 0:
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN, (
            "a terminal sends Ctrl-C to all; the parent ends them"
        )
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        os.kill(os.getppid(), signal.SIGINT)
    time.sleep(60)
    return item


def test_forks_end_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "run_stage", lambda *given: list(in_forks(wait_in_child, [0, 1, 2, 3], 2)))
    begun = time.monotonic()
    assert main(["masks"]) == 130
    assert time.monotonic() - begun < 30 and not multiprocessing.active_children()


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruption.in_order() as found:
            os.kill(os.getpid(), signal.SIGINT)
        assert found.signal is None and signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def processes_of(group: int) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = entry.read_text().rpartition(") ")
        except OSError:
            continue
        if int(rest.split()[2]) == group and rest[0] != "Z":
            found.append(name)
    return found


@pytest.mark.slow
def test_ctrl_c_in_a_terminal(tmp_path: Path) -> None:
    """The whole group gets it, the two forks in the midst of their pictures too."""
    out = tmp_path / "scenes"
    running = subprocess.Popen(
        [sys.executable, "-m", "maskdistill", *SCENES, str(out)],
        stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, start_new_session=True, cwd=tmp_path,
    )  # fmt: skip
    end = time.monotonic() + 120
    while not list(tmp_path.glob(".scenes*/*.jpg")):
        assert time.monotonic() < end and running.poll() is None
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGINT)
    said = running.communicate(timeout=60)[1]
    assert running.returncode == 130
    assert "Traceback" not in said and said.splitlines()[-1].startswith("maskdistill scenes: interrupted;")
    assert list(tmp_path.iterdir()) == [] and processes_of(running.pid) == []


@pytest.mark.parametrize("command", [["--help"], ["weights", "--list"]])
def test_a_reader_that_leaves(command: list[str]) -> None:
    """``| head -1``: no traceback of a broken pipe."""
    program = shlex.join([sys.executable, "-m", "maskdistill", *command])
    script = f"set -o pipefail; {program} | (exec 0<&-; sleep 0.1)"
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, env=ENVIRONMENT, check=False
    )
    assert done.stderr == "" and done.returncode in (0, 141)


@pytest.mark.slow
def test_python_m_is_the_program(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "maskdistill", "show", "--help"], capture_output=True, text=True,
        env=ENVIRONMENT,
        cwd=tmp_path, check=True,
    )  # fmt: skip
    assert done.stdout.startswith("usage: maskdistill show")
