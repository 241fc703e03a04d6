"""Commands as they are printed: they work when they are typed in the folder where the user is."""

import shlex
import sys
from pathlib import Path

import maskdistill
from maskdistill.runtime.errors import MaskDistillError

CHECKOUT = Path(maskdistill.__file__).parents[1]
"""The project: its Snakefile, its Makefile, and the weights that ship with it."""


def enter() -> list[str]:
    """The command that leads into the checkout, where it is not the current folder."""
    return [] if Path.cwd() == CHECKOUT else [f"cd {shlex.quote(str(CHECKOUT))}"]


def program(name: str, *arguments: str) -> str:
    """A command of a program beside this interpreter, for the checkout as the current folder."""
    place = Path(sys.executable).parent
    if place.is_relative_to(CHECKOUT):
        place = place.relative_to(CHECKOUT)
    return shlex.join([str(place / name), *arguments])


def make(target: str) -> str:
    """The command that makes a target of the Makefile."""
    there = [] if Path.cwd() == CHECKOUT else ["-C", str(CHECKOUT)]
    return shlex.join(["make", *there, target])


def seen_from_checkout(path: Path) -> str:
    """A path as it is given in the checkout."""
    return str(path) if Path.cwd() == CHECKOUT else str(path.absolute())


def need_workflow(*command: str) -> None:
    """Refuse a command that works in a folder with a Snakefile alone, and say what to type.

    Args:
        command: the command of ``maskdistill`` as it is typed in the checkout.

    Raises:
        MaskDistillError: there is no workflow in this folder.
    """
    if not Path("Snakefile").is_file():
        there = " && ".join([*enter(), program("maskdistill", *command)])
        raise MaskDistillError(f"no Snakefile here; type: {there}")


def after_a_run(results: str) -> list[str]:
    """What to type when a run is finished: for other photographs, and for use elsewhere."""
    return [
        program("maskdistill", "predict", "--run", results, "OTHER_PHOTOS/", "--out", "predictions"),
        f"make export && {program('maskdistill', 'export', '--run', results, '--out', 'exported')}",
    ]
