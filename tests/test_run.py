"""maskdistill run: what it shows of Snakemake's events, how it ends, and that an interruption reaches every
job.
"""

import io
import json
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from maskdistill.cli import main
from maskdistill.cli import run as stage
from maskdistill.config import load_config
from maskdistill.product.costs import Sizes
from maskdistill.product.run_progress import Progress
from maskdistill.product.usual import OF_A_SMALL_JOB, usual_seconds
from maskdistill.runtime.files import write_json
from maskdistill.runtime.job_record import machine
from maskdistill.runtime.logs import last_lines
from maskdistill.runtime.progress import seconds_left
from maskdistill.runtime.run_lock import hold_run, release_run

CONFIG = {
    "run": "r", "data": {"kind": "scenes"}, "backbone": {"weights": "random"},
    "detector": {"weights": "random"},
    "segmenter": {"weights": "random"},
}  # fmt: skip
SNAKEFILE = """
RUN = f"results/{config['run']}"
rule all:
    input: f"{RUN}/report.html"
rule masks:
    output: f"{RUN}/masks-{{n}}"
    log: f"{RUN}/logs/masks/{{n}}.log"
    message: "masks: {wildcards.n}"
    shell: "touch {output}"
rule report:
    input: expand(f"{RUN}/masks-{{n}}", n=[1, 2])
    output: f"{RUN}/report.html"
    log: f"{RUN}/logs/report.log"
    shell: "echo 'maskdistill report: no ink; buy some' > {log}; mv ink {output}"
"""


def begun(**counts: int) -> Progress:
    """A run whose jobs usually take 40 s, those of ``odd`` nobody knows, and whose logs say nothing."""
    progress = Progress(lambda name: None if name == "odd" else 40.0, lambda log: None)
    progress.take(
        {"event": "run_info", "time": 1000.0, "stats": {**counts, "all": 1, "total": sum(counts.values())}}
    )
    return progress


def started(number: int, rule: str, time: float) -> Mapping[str, Any]:
    return {"event": "job_info", "time": time, "jobid": number, "rule_name": rule, "log": [f"{rule}.log"]}


def finished(number: int, time: float) -> Mapping[str, Any]:
    return {"event": "job_finished", "time": time, "job_id": number}


def test_stages_are_counted_and_what_remains_is_estimated() -> None:
    progress = begun(masks=4, detector=1)
    assert (progress.total, progress.estimate(1000.0)) == (5, "about 3 min left")  # 5 x 40 s
    assert progress.take(started(1, "masks", 1000.0)) is None
    assert progress.take(started(2, "masks", 1000.0)) is None
    assert progress.take(finished(1, 1010.0)) is None
    assert progress.take(started(3, "masks", 1010.0)) is None
    masks = progress.stages["masks"]
    # One took 10 s: of two that run, one is due and one has 5 s; one waits.
    assert progress.left(masks, 1015.0) == 0 + 5 + 10
    # 15 s of masks and 40 s of the detector, at (10 + 15 + 5) / 15 = 2 jobs side by side.
    assert [line.split() for line in progress.lines(1015.0)] == [
        ["masks", "1/4", "15", "s", "about", "15", "s", "left"],
        ["together", "1/5", "15", "s", "about", "28", "s", "left"],
    ]
    assert progress.one_line(1015.0) == "1/5 jobs in 15 s; about 28 s left; masks 1/4"
    for number, ended in ((2, 1016.0), (3, 1020.0)):
        assert progress.take(finished(number, ended)) is None
    progress.take(started(4, "masks", 1020.0))
    assert str(progress.take(finished(4, 1032.0))).split() == ["masks", "4/4", "32", "s"], "a line that stays"
    assert [line.split()[0] for line in progress.lines(1040.0)] == ["together"]


def test_a_stage_that_nobody_knows_makes_it_at_least() -> None:
    progress = begun(odd=2, masks=1)
    assert progress.estimate(1000.0) == "at least 40 s left"
    progress.told = {"odd.log": 7.0}.get
    progress.take(started(1, "odd", 1000.0))
    assert progress.left(progress.stages["odd"], 1003.0) is None, "another one waits"
    progress.take(finished(1, 1006.0))
    progress.take(started(2, "odd", 1006.0))
    assert progress.left(progress.stages["odd"], 1007.0) == 7.0, "a job's own account comes first"
    assert progress.estimate(1007.0) == "about 47 s left"


def test_a_failed_job_is_said_once_and_forgotten_where_it_succeeds_after_all() -> None:
    progress = begun(masks=2)
    error = {"event": "job_error", "time": 1005.0, "jobid": 1, "rule_name": "masks", "log": ["m.log"]}
    progress.take(started(1, "masks", 1000.0))
    assert progress.take(error) == "  masks failed (m.log); what does not need it goes on"
    assert progress.take(error) is None and progress.left(progress.stages["masks"], 1006.0) == 40
    progress.take(started(1, "masks", 1010.0))
    progress.take(finished(1, 1013.0))
    assert not progress.failed and (progress.done, progress.stages["masks"].spent) == (1, 3)


def test_what_a_log_says_of_the_time_that_remains(tmp_path: Path) -> None:
    log = tmp_path / "detector.log"
    said = [
        "10:00:05 INFO detector: 10/40 step, 2.0 step/s, 15 s left",
        "10:00:06 INFO a state is saved",
        "",
        "",
    ]
    log.write_text("x" * 9000 + "\n" + "\n".join(said))
    assert last_lines(log, 2) == said[:2] and last_lines(log, 9, 20) == ["INFO a state is saved"[-18:]]
    assert seconds_left(last_lines(log, 3, 4096)) == 15 and seconds_left(said[1:]) is None
    assert last_lines(tmp_path / "none.log", 3) == []


def test_what_is_usual_is_remembered_or_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks of 100 pictures a job took 2 s, and 8 s more for loading them; there are 400 pictures in 4
    jobs.
    """
    monkeypatch.setattr("maskdistill.product.records.visible_gpus", list)
    record: dict[str, Any] = {"machine": machine(), "gpus": [], "seconds": 10.0, "cpu_seconds": 20.0}
    record |= {
        "work": [{"unit": "img", "count": 50, "seconds": 2.0}],
        "settings": {"refine": "none", "max_masks": 1},
    }
    for part in ("a", "b"):
        write_json(tmp_path / f"benchmarks/masks/topk-0.2/{part}.json", record)
    monkeypatch.setattr("maskdistill.product.usual.sizes_of", lambda config: Sizes(400, 400, 1449, 4))
    of_rule = usual_seconds(load_config(CONFIG), tmp_path, cores=4, gpus=0)
    assert of_rule("masks") == 8 + 100 * 2 / 50
    assert of_rule("report") == OF_A_SMALL_JOB
    assert of_rule("evaluate_segmenter") == pytest.approx(10.4 / 4), "as measured, on four cores"
    assert of_rule("detector") is None and of_rule("embeddings") is None, "of GPUs there is none"


@pytest.mark.parametrize(
    ("given", "gpus", "expected"),
    [
        ([], 0, ["--cores", "3", "--nocolor"]),
        (["x.html", "--config", "run=b"], 2, ["--resources", "gpu=2", "--cores", "3", "--nocolor"]),
        (["--resources", "gpu=1"], 2, ["--cores", "3", "--nocolor"]),
        (["--profile=slurm"], 2, ["--nocolor"]),
        (["-j8"], 0, ["--nocolor"]),
    ],
)
def test_what_snakemake_is_told(given: list[str], gpus: int, expected: list[str]) -> None:
    options = stage.argparse.Namespace(config="c.yaml", snakemake=given)
    assert stage.snakemake_options(options, 3, gpus) == ["--configfile", "c.yaml", *expected, *given]
    assert stage.run_name(given, "a") == ("b" if "run=b" in given else "a")


def test_a_terminal_draws_again_and_a_log_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(stage.time, "time", lambda: 1015.0)
    monkeypatch.setenv("COLUMNS", "31")
    progress = begun(masks=1)
    for stream in (Terminal(), io.StringIO()):
        screen = stage.Screen(stream)
        screen.show(progress)
        screen.keep("done")
        screen.show(progress)
        screen.clear()
        line = next(progress.lines(1015.0))[:30] + "\n"
        drawn = f"{line}\x1b[1F\x1b[Jdone\n{line}\x1b[1F\x1b[J"
        assert stream.getvalue() == (drawn if stream.isatty() else "done\n")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a configuration and a workflow of three jobs, the last of which fails without ``ink``."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "c.yaml").write_text(json.dumps(CONFIG))
    monkeypatch.setenv("PYTHONPATH", str(Path(stage.__file__).parents[2]))
    monkeypatch.setattr(stage, "visible_gpus", list)
    monkeypatch.setattr(stage, "LOOK", 0.05)
    monkeypatch.setattr(stage, "EVERY", 3600)
    return tmp_path


@pytest.mark.slow
def test_a_run_that_fails_and_then_succeeds(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "c.yaml", "--cores", "2"]) == 1
    said = capsys.readouterr()
    assert [line.split()[:2] for line in said.out.splitlines()[1:]] == [
        ["masks", "2/2"],
        ["report", "failed"],
    ]
    [output] = (project / "results/r/logs/snakemake").iterdir()
    assert said.err == (
        "maskdistill run: 1 of 3 jobs failed: report\n"
        "report, the end of results/r/logs/report.log:\n"
        "    maskdistill report: no ink; buy some\n"
        f"all that Snakemake said: {output.relative_to(project)}\n"
        "once the cause is fixed, the same command continues from what is finished\n"
    )
    assert "Error in rule report" in output.read_text() or "CalledProcessError" in output.read_text()
    (project / "ink").touch()
    folder = {"reader": "", "pictures": 2, "objects": 3, "current": True, "changed": False}
    there = {
        "formats": ["coco"],
        "folders": {"coco": folder},
        "pictures": 2,
        "objects": {"a": 3},
        "provenance": {},
    }
    write_json(project / "results/r/objects/objects.json", there)
    (project / "results/r/objects.html").touch()
    assert main(["run", "c.yaml"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:2] == ["report", "1/1"] and lines[2].startswith("finished: 1 job in ")
    assert lines[3:6] == [
        "  report   results/r/report.html",
        "  gallery  results/r/objects.html",
        "  objects  results/r/objects/coco (3 objects, 2 pictures)",
    ]
    assert any(f"predict --run {project}/results/r" in line for line in lines)


@pytest.mark.parametrize("ignored", [False, True])
def test_an_interruption_reaches_every_job_and_is_waited_for(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ignored: bool
) -> None:
    """Snakemake is played by a program that has a job, and that notes how the job ended when itself is told
    to end.

    Where Ctrl-C is ignored, as in the background of a script, SIGTERM goes on instead.
    """
    engine = (
        "import os, pathlib, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.default_int_handler)\n"
        "job = subprocess.Popen(['sleep', '60'])\n"
        "pathlib.Path('job').write_text(str(job.pid))\n"
        "try:\n"
        "    os.kill(os.getppid(), signal.SIGTERM)\n"
        "    time.sleep(60)\n"
        "except KeyboardInterrupt:\n"
        "    pathlib.Path('told').write_text(str(job.wait()))\n"
    )
    monkeypatch.setattr(stage, "ENGINE", [sys.executable, "-c", engine])
    before = signal.getsignal(signal.SIGHUP)
    usual = signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler)
    try:
        assert main(["run", "c.yaml"]) == 128 + signal.SIGTERM
    finally:
        signal.signal(signal.SIGINT, usual)
    assert (project / "told").read_text() == str(-signal.SIGTERM if ignored else -signal.SIGINT)
    with pytest.raises(ProcessLookupError):
        os.kill(int((project / "job").read_text()), 0)
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("ending:") and said[1].startswith("maskdistill run: interrupted")
    assert signal.getsignal(signal.SIGHUP) is before


def test_what_snakemake_refuses_is_shown(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stage, "ENGINE", [sys.executable, "-c", "print('it is locked'); raise SystemExit(1)"])
    assert main(["run", "c.yaml"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[:3] == [
        "maskdistill run: Snakemake ended with 1",
        "the end of what Snakemake said:",
        "    it is locked",
    ]
    (project / ".snakemake/locks").mkdir(parents=True)
    (project / ".snakemake/locks/0.output.lock").write_text("results/r/a.h5\n")
    hold_run("results/r")
    assert main(["run", "c.yaml"]) == 1
    release_run("results/r")
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith(
        f"maskdistill run: results/r: another run is at work here (process {os.getpid()}"
    )
    assert len(said) == 2 and said[1].startswith("all that Snakemake said: results/r/logs/snakemake/")
    (project / "results/r/.lock").write_text("process 1 on there")
    assert main(["run", "c.yaml", "--", "--forcerun", "masks"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert "results/r: a run was killed" in said[0] and "locked" not in said
    assert "    maskdistill run c.yaml -- --unlock --forcerun masks" in said
    shutil.rmtree(project / ".snakemake")
    monkeypatch.setattr(stage, "ENGINE", [sys.executable, "-c", "import sys; print(*sys.argv[4:])"])
    assert main(["run", "c.yaml", "x.h5", "--cores", "1", "--", "--unlock", "--", "y"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["--cores 1 --nocolor x.h5 --unlock -- y"]
