"""What lies beside the page in the run's folder, and what to type next."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from maskdistill.config import Config
from maskdistill.trust.signals import USE
from maskdistill.workflow import layout
from maskdistill.workflow.commands import program, start_folder


@dataclass(frozen=True)
class Beside:
    """A file or folder of the run: its address from the page, its name, and what it is for."""

    href: str
    name: str
    use: str


@dataclass(frozen=True)
class Step:
    """What one may do next, and the command that does it (empty: a click on ``anchor``)."""

    what: str
    command: str = ""
    anchor: str = ""


def files_beside(folder: Path, config: Config, quarantined: int) -> list[Beside]:
    """What a user takes from a run, as far as it is there when the page is made.

    Args:
        folder: of the page.
        config: of the run, whose settings name the folders.
        quarantined: photographs that could not be read.
    """
    values = {**layout.main_values(config), "seed": config.seeds[0]}
    places = {
        "objects.html": "all objects of these photographs, to browse",
        "objects": "the same in formats of other tools",
        str(
            Path(layout.PREDICTIONS.format(**values, post="", shard="*")).parent
        ): "a label map of each photograph",
        layout.DETECTOR.format(**values): "the trained detector",
        layout.SEGMENTER.format(**values): "the trained segmenter",
        "data/manifest.csv": "the photographs, one per line, with numbers and sizes",
        **({"data/manifest.quarantined.csv": "those that could not be read, and why"} if quarantined else {}),
    }
    there = [Beside(_href(folder, place), _name(folder, place), use) for place, use in places.items()]
    found = [item for item, place in zip(there, places, strict=True) if (folder / place).exists()]
    return [
        *found,
        Beside("summary.json", "summary.json", "verdict, scores, settings and times for programs"),
    ]


def _href(folder: Path, place: str) -> str:
    return quote(place) + ("/" if (folder / place).is_dir() else "")


def _name(folder: Path, place: str) -> str:
    """The last two parts of a path, enough to know it by."""
    return "/".join(Path(place).parts[-2:]) + ("/" if (folder / place).is_dir() else "")


def next_steps(folder: Path, verdict: str | None, named: bool) -> list[Step]:
    """What to do with a finished run, in the order in which one does it.

    Args:
        folder: of the run.
        verdict: None without one.
        named: whether clusters have names.
    """
    run = str(folder)
    if folder.absolute().is_relative_to(start_folder()):
        run = os.path.relpath(folder, start_folder())
    steps = []
    if verdict not in (None, USE):
        steps.append(
            Step("See what speaks against this result in the pictures above, then why", anchor="verdict")
        )
    if not named:
        steps.append(Step("Give the categories names", anchor="categories"))
    return [
        *steps,
        Step(
            "Take the objects of these photographs to other tools",
            _typed("objects", run, "--format", "coco,yolo"),
        ),
        Step(
            "Find the same objects in other photographs",
            _typed("predict", "--run", run, "OTHER_PHOTOS/", "--out", "predictions"),
        ),
        Step(
            "Use the models elsewhere (once before: make export)",
            _typed("export", "--run", run, "--out", "exported"),
        ),
        Step("See what would pass another τ", anchor="tau"),
    ]


def _typed(*arguments: str) -> str:
    """A command of maskdistill.

    Where the program lies outside the checkout its folder is left out: pages are sent.
    """
    words = shlex.split(program("maskdistill", *arguments))
    return shlex.join([Path(words[0]).name if Path(words[0]).is_absolute() else words[0], *words[1:]])
