"""Commands to print: they work when typed in the user's current folder."""

import shlex
import sys
from pathlib import Path

import maskdistill
from maskdistill.runtime.errors import MaskDistillError

PACKAGE = Path(maskdistill.__file__).parent


def find_project(package: Path) -> Path:
    """The checkout that contains the package; for an installed package, the copy in its ``share``
    (setup.py).
    """
    return package.parent if (package.parent / "Snakefile").is_file() else package / "share"


CHECKOUT = find_project(PACKAGE)
"""Folder of the project, with its Snakefile, configurations and shipped weights; a checkout also has a
Makefile.
"""
INSTALLED = CHECKOUT.parent == PACKAGE
"""Whether there is no checkout; runs then start in the current folder and keep their results there."""


def start_folder() -> Path:
    """Where runs start; relative paths of a configuration begin there."""
    return Path.cwd() if INSTALLED else CHECKOUT


def enter() -> list[str]:
    """The command that changes to :func:`start_folder`, if that is not the current folder."""
    return [] if Path.cwd() == start_folder() else [f"cd {shlex.quote(str(CHECKOUT))}"]


def snakefile() -> list[str]:
    """Snakemake's option that names the workflow, if that does not lie in :func:`start_folder`."""
    return ["--snakefile", str(CHECKOUT / "Snakefile")] if INSTALLED else []


def program(name: str, *arguments: str) -> str:
    """A command that runs a program beside this interpreter, for typing in :func:`start_folder`."""
    place = Path(sys.executable).parent
    if place.is_relative_to(CHECKOUT):
        place = place.relative_to(CHECKOUT)
    given = snakefile() if name == "snakemake" else []
    return shlex.join([str(place / name), *given, *arguments])


def make(target: str) -> str:
    """The command that makes a target of the Makefile; without a checkout, one that installs the same."""
    if INSTALLED:
        return program("pip", "install", "maskdistill" if target == "install" else f"maskdistill[{target}]")
    there = [] if Path.cwd() == CHECKOUT else ["-C", str(CHECKOUT)]
    return shlex.join(["make", *there, target])


def seen_from_checkout(path: Path) -> str:
    """A path as seen from where runs start."""
    return str(path) if Path.cwd() == start_folder() else str(path.absolute())


def need_workflow(*command: str) -> None:
    """Refuse a command that works only in a folder with a Snakefile, and say what to type.

    Args:
        command: the command of ``maskdistill``, as typed in the checkout.

    Raises:
        MaskDistillError: there is no workflow in this folder.
    """
    if not INSTALLED and not Path("Snakefile").is_file():
        there = " && ".join([*enter(), program("maskdistill", *command)])
        raise MaskDistillError(f"no Snakefile here; type: {there}")


def after_a_run(results: str) -> list[str]:
    """What to type after a run: to predict on other photographs, and to use the models elsewhere."""
    extra = make("export") if INSTALLED else "make export"
    return [
        program("maskdistill", "predict", "--run", results, "OTHER_PHOTOS/", "--out", "predictions"),
        f"{extra} && {program('maskdistill', 'export', '--run', results, '--out', 'exported')}",
    ]
