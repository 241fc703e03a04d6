"""Commands that are printed work when they are typed in the folder where they were printed."""

import importlib
import re
import shlex
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path

import pytest
from miniature import SPEEDS
from PIL import Image
from snakemake.cli import get_argument_parser  # type: ignore[import-untyped]

from maskdistill.cli import STAGES, main
from maskdistill.cli import init as init_stage
from maskdistill.cli.config import check_file
from maskdistill.config import load_config
from maskdistill.product import inspection
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.run_lock import explain_lock, hold_run, release_run
from maskdistill.workflow.commands import CHECKOUT, make
from maskdistill.workflow.needed_weights import networks, weights_path


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose name has blanks and a quote, with photographs, as the current one."""
    folder = tmp_path / "Anna's new work"
    (folder / "my photos").mkdir(parents=True)
    for number in range(4):
        Image.new("RGB", (64, 48), (50 * number, 30, 30)).save(folder / f"my photos/{number}.jpg")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(init_stage, "visible_gpus", list)
    monkeypatch.setattr(init_stage, "which", lambda program: None)
    monkeypatch.setattr(init_stage, "timed", lambda found, config: SPEEDS)
    monkeypatch.setattr(init_stage, "RESULTS", tmp_path / "results")
    return folder


def typed(line: str) -> tuple[Path, list[list[str]]]:
    """Where a printed line leads, and its commands, as a shell splits them."""
    words = shlex.split(line, comments=True)
    place, commands = Path.cwd(), [[]]
    for word in words:
        commands.append([]) if word == "&&" else commands[-1].append(word)
    if commands[0][0] == "cd":
        place = Path(commands.pop(0)[1])
    return place, commands


def check(command: list[str], place: Path) -> None:
    """That the program is there and takes the options, and that files it reads are there."""
    if command[0] == "make":
        folder = Path(command[command.index("-C") + 1]) if "-C" in command else place
        assert re.search(rf"^{command[-1]}:", (folder / "Makefile").read_text(), re.MULTILINE)
        return
    program = place / command[0]
    assert program.is_file() or Path(sys.executable).parent.joinpath(program.name).is_file(), program
    if program.name == "snakemake":
        given = get_argument_parser().parse_args(command[1:])
        assert all((place / file).is_file() for file in given.configfile or [])
        return
    parser = ArgumentParser(exit_on_error=False)
    importlib.import_module(f"maskdistill.cli.{command[1]}").add_arguments(parser)
    options = parser.parse_args(command[2:])
    if getattr(options, "config", None):
        assert (place / options.config).is_file()


@pytest.mark.parametrize(
    ("output", "cluster"),
    [("config/mine.yaml", False), ("config/mine.yaml", True), ("a folder/holiday & more.yaml", False)],
)
def test_init_in_another_folder(
    elsewhere: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    output: str,
    cluster: bool,
) -> None:
    monkeypatch.setattr(init_stage, "which", lambda program: f"/usr/bin/{program}" if cluster else None)
    assert main(["init", "my photos", "--output", output, "--weights", "shipped"]) == 0
    printed = capsys.readouterr().out
    assert "missing" not in printed and "Fetch" not in printed, "its weights ship"
    lines = [line.strip() for line in printed.splitlines() if line.startswith("  ")]
    again = [lines.pop(0) for _ in range(1 + cluster)]
    enter, *commands = lines
    for line, settings in zip(again, ["dino", "paper"], strict=False):
        place, [command] = typed(line)
        assert place == CHECKOUT
        check(command, place)
        assert command[1:3] == ["init", str(elsewhere / "my photos")] and settings in command
    assert typed(f"{enter} && true")[0] == CHECKOUT, "first into the project, where its Snakefile is"
    assert len(commands) == 5
    for line in commands:
        for command in typed(line)[1]:
            check(command, CHECKOUT)
    run = check_file(output).run
    assert run == ("mine" if "mine" in output else "holiday-more")
    assert (
        f"maskdistill run {shlex.quote(str(elsewhere / output))}  # makes results/{run}/report.html"
        in printed
    )


def test_init_in_the_project(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(CHECKOUT)
    output = str(elsewhere / "mine.yaml")
    assert main(["init", str(elsewhere / "my photos"), "--output", output, "--weights", "shipped"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert not any("cd " in line for line in lines) and len(lines) == 6
    for line in lines:
        for command in typed(line)[1]:
            check(command, CHECKOUT)


def test_plan_and_doctor_elsewhere(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "my photos", "--output", "mine.yaml", "--weights", "shipped"]) == 0
    capsys.readouterr()
    assert main(["plan", "--config", "mine.yaml", "--", "all"]) == 1
    place, [command] = typed(capsys.readouterr().err.strip().partition("type: ")[2])
    assert place == CHECKOUT and command[1:] == ["plan", "--config", str(elsewhere / "mine.yaml"), "all"]
    check(command, place)
    assert main(["doctor", "--config", "mine.yaml"]) == 1
    said = capsys.readouterr().out
    assert f"it is in {CHECKOUT}, where runs are started (cd " in said, "weights are relative to the project"
    for name in ("crf", "export"):
        check(shlex.split(make(name)), elsewhere)
        assert inspection.EXTRAS[name][2].startswith("{make}")


def test_weights_that_ship_are_not_to_be_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = next((CHECKOUT / "config/weights").glob("*.safetensors")).relative_to(CHECKOUT)
    values = {"run": "r", "data": {"kind": "scenes"}, "backbone": {"weights": "random"}}
    config = load_config(
        values | {"detector": {"weights": str(shipped)}, "segmenter": {"weights": "none.pth"}}
    )
    with pytest.raises(MaskDistillError, match=r"^detector\.weights: .*it is in .*cd ") as caught:
        weights_path(config, "detector", networks(config)["detector"])
    assert "Fetch" not in str(caught.value)
    with pytest.raises(MaskDistillError, match=r"^segmenter\.weights: none\.pth: no such file\. Fetch"):
        weights_path(config, "segmenter", networks(config)["segmenter"])


def test_the_command_that_unlocks_is_one(tmp_path: Path) -> None:
    """As workflow/rules/lock.smk makes it of the command that was given."""
    given = [
        "snakemake",
        "results/a b/report.html",
        "--cores",
        "1",
        "--config",
        "run=a b",
        "data={root: 'x y'}",
    ]
    command = shlex.join([given[0], "--unlock", *given[1:]])
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks/0.output.lock").write_text(f"{tmp_path}/run/x\n")
    hold_run(tmp_path / "run")
    release_run(tmp_path / "run")
    (tmp_path / "run/.lock").write_text("process 1 on here")
    said = explain_lock(tmp_path / "run", tmp_path / "locks", command)
    assert said is not None
    line = next(line.strip() for line in said.splitlines() if line.startswith("    "))
    options = get_argument_parser().parse_args(shlex.split(line)[1:])
    assert options.unlock and options.targets == [given[1]] and options.config == given[5:]


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_help(stage: str) -> None:
    parser = ArgumentParser()
    importlib.import_module(f"maskdistill.cli.{stage}").add_arguments(parser)
    assert parser.format_help()


def test_no_option_takes_any_number() -> None:
    """Threads of -1 and scores of NaN are refused where they are read."""
    free = {("pseudo_labels", "tau")}  # which its section checks
    for stage in STAGES:
        parser = ArgumentParser()
        importlib.import_module(f"maskdistill.cli.{stage}").add_arguments(parser)
        for action in parser._actions:
            assert action.type not in (int, float) or (stage, action.dest) in free, (stage, action.dest)


def test_make_names_targets_that_there_are() -> None:
    for target in ("crf", "export", "install"):
        assert (
            subprocess.run(["make", "-n", "-C", str(CHECKOUT), target], capture_output=True).returncode == 0
        )
