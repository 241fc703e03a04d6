"""Imports between the packages of maskdistill go one way: a room uses those below it, never one above it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import maskdistill

PACKAGE = Path(maskdistill.__file__).parent
LAYERS = (
    "runtime", "formats", "backbones", "config", "data", "training", "features", "masks", "clusters",
    "annotations", "detector", "pseudo_labels", "segmenter", "evaluation", "trust", "pretrain", "workflow", "report",
    "product", "paper", "cli",
)  # fmt: skip
"""From the bottom to the top; data flows through the stages in this order."""
LOOSE = {"__init__.py", "__main__.py"}
UNDER_CONFIG = {"runtime", "backbones.registry"}
"""All that the configuration may use: names of networks, and no code that runs them."""


def imported(text: str) -> Iterator[str]:
    """Dotted names below maskdistill that a module's text may import, in functions too; of the package itself none."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, "imports name the whole path"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.partition(".")[2] for name in names if name.startswith("maskdistill."))


def backward(text: str, room: str) -> list[str]:
    """Imports of a module that do not lead to its own room or to one below it."""
    own = LAYERS.index(room)
    return [name for name in imported(text) if name.partition(".")[0] not in (*LAYERS[: own + 1], "__version__")]


def test_every_module_is_in_a_room_and_every_room_in_a_layer() -> None:
    assert {path.name for path in PACKAGE.glob("*.py")} == LOOSE
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == set(LAYERS)


def test_imports_go_one_way() -> None:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE)
        if len(name.parts) > 1 and (names := backward(path.read_text(encoding="utf-8"), name.parts[0])):
            found[name.as_posix()] = names
    assert not found, "move what is needed to the lower room, or hand it over as an argument"


def test_the_configuration_uses_names_of_networks_alone() -> None:
    for path in (PACKAGE / "config").glob("*.py"):
        for name in imported(path.read_text(encoding="utf-8")):
            assert any(name.startswith(f"{allowed}.") for allowed in (*UNDER_CONFIG, "config")), f"{path.name}: {name}"


def test_packages_offer_nothing_but_their_modules() -> None:
    """Only ``config`` and ``cli`` have an ``__init__`` with more than a docstring: others cost nothing to enter."""
    for path in PACKAGE.glob("*/__init__.py"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        assert (path.parent.name in ("config", "cli")) == (len(body) > 1), path


def test_an_import_that_goes_back_is_seen() -> None:
    text = "import numpy\nfrom maskdistill import __version__, cli\nfrom maskdistill.config import Config\n"
    text += "def f():\n    import maskdistill.masks.rule\n    from maskdistill.report.html import render\n"
    assert list(imported(text)) == ["__version__", "cli", "config.Config", "masks.rule", "report.html.render"]
    assert backward(text, "masks") == ["cli", "report.html.render"]
    assert backward(text, "config") == ["cli", "masks.rule", "report.html.render"]
    assert backward(text, "cli") == []
