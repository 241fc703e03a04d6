"""The walks of an image and of τ through the rooms: every name exists, and each room is passed once."""

import ast
import re
from pathlib import Path

import pytest
from test_rooms import LAYERS

import maskdistill

PACKAGE = Path(maskdistill.__file__).parent
PAGE = (Path(__file__).parents[1] / "docs/explanation/walks.md").read_text(encoding="utf-8")


def resolves(name: str) -> bool:
    """Whether a dotted name below the package is a module, or something that a module defines."""
    *folders, last = name.split(".")
    place = PACKAGE.joinpath(*folders)
    if (place / f"{last}.py").is_file() or (place / last / "__init__.py").is_file():
        return True
    if not (module := place.with_suffix(".py")).is_file():
        return False
    defined = ast.parse(module.read_text(encoding="utf-8")).body
    return last in {one.name for one in defined if isinstance(one, ast.ClassDef | ast.FunctionDef)}


def test_every_name_of_the_walks_resolves() -> None:
    names = re.findall(rf"`((?:{'|'.join(LAYERS)})\.[\w.]+)`", PAGE)
    assert len(names) > 30 and [name for name in names if not resolves(name)] == []
    assert not resolves("masks.records.Nothing") and not resolves("masks.nothing.refine")


@pytest.mark.parametrize("walk", PAGE.split("\n## ")[1:], ids=["image", "tau"])
def test_a_walk_passes_each_room_once(walk: str) -> None:
    rooms = re.findall(r"^\| `(\w+)` \|", walk, re.MULTILINE)
    assert len(rooms) >= 5 and len(rooms) == len(set(rooms)) and set(rooms) <= set(LAYERS)
    assert not walk.startswith("An image") or rooms == sorted(rooms, key=LAYERS.index)
    for row in re.findall(r"^\| `\w+` \|.*$", walk, re.MULTILINE):
        room, *names = re.findall(r"`([\w.]+)`", row)
        assert all(name.startswith(f"{room}.") for name in names if "." in name), (
            "a row names its own room alone"
        )
