"""Imports between the packages of maskdistill go one way: a room uses those below it, never one above it."""

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import maskdistill

PACKAGE = Path(maskdistill.__file__).parent
LAYERS = (
    "runtime", "formats", "backbones", "config", "data", "training", "features", "masks", "clusters",
    "annotations",
    "detector", "pseudo_labels", "segmenter", "evaluation", "trust", "pretrain", "workflow", "report",
    "product",
    "paper", "api", "cli",
)  # fmt: skip
"""From the bottom to the top; data flows through the stages in this order."""
LOOSE = {"__init__.py", "__main__.py"}
UNDER_CONFIG = {"runtime", "backbones.registry", "masks.registry", "data.sources"}
"""All that the configuration may use: names of networks and of mask rules, and no code that runs them; and
the sources of pictures, each of which states its settings where it works with them, so that one file adds
one.
"""
LOW = {"masks.registry"}
"""Modules that every room may use, since at run time they use ``runtime`` alone."""
UNDER_SOURCES = {
    "runtime", "config.types", "config.paths", "data.sources", "data.listed", "data.keys",
    "data.picture_names",
    "data.picture_refs", "data.containers", "data.tar_index", "data.video", "data.tables",
    "data.object_index",
}  # fmt: skip
"""All that the sources may use in turn: nothing that opens a picture or reads ground truth, and no heavy
library.
"""
HEAVY = {"torch", "numpy", "pandas", "scipy", "cv2", "PIL"}
"""What the configuration, and every start of Snakemake, does without."""


def imported(text: str) -> Iterator[str]:
    """Dotted names below maskdistill that a module's text may import, in functions too; of the package itself
    none.
    """
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
    rooms = (*LAYERS[: LAYERS.index(room) + 1], "__version__")
    low = (*LOW, *(UNDER_CONFIG if room == "config" else ()))
    return [
        name for name in imported(text) if name.partition(".")[0] not in rooms and not is_below(name, low)
    ]


def is_below(name: str, allowed: Iterable[str]) -> bool:
    """Whether a dotted name is one of these or below one."""
    return any(f"{name}.".startswith(f"{one}.") for one in allowed)


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


def test_the_configuration_uses_names_of_networks_and_rules_alone() -> None:
    for path in (PACKAGE / "config").glob("*.py"):
        for name in imported(path.read_text(encoding="utf-8")):
            assert is_below(name, (*UNDER_CONFIG, "config")), f"{path.name}: {name}"


def test_what_every_room_may_use_uses_next_to_nothing() -> None:
    """What stands below ``if TYPE_CHECKING`` is never run; rules are imported when they are asked for."""
    for module in LOW:
        tree = ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
        tree.body = [
            node for node in tree.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node))
        ]
        names = list(imported(ast.unparse(tree)))
        assert names and all(name.startswith("runtime.") for name in names), module


def test_the_sources_use_next_to_nothing() -> None:
    modules = [*(PACKAGE / "data/sources").glob("*.py"), *PACKAGE.glob("data/*_index.py")]
    for path in modules:
        for name in imported(path.read_text(encoding="utf-8")):
            whole = (path.name, name) in {("__init__.py", "config"), ("registry.py", "data.sources")}
            assert whole or is_below(name, UNDER_SOURCES), f"{path.name}: {name}"
    code = f"import sys, maskdistill.data.sources.registry; print(sorted({HEAVY!r} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_packages_offer_nothing_but_their_modules() -> None:
    """Only ``config`` and ``cli`` have an ``__init__`` with more than a docstring: others cost nothing to
    enter.
    """
    for path in PACKAGE.glob("*/__init__.py"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        assert (path.parent.name in ("config", "cli")) == (len(body) > 1), path


def test_an_import_that_goes_back_is_seen() -> None:
    text = "import numpy\nfrom maskdistill import __version__, cli\nfrom maskdistill.config import Config\n"
    text += "def f():\n    import maskdistill.masks.refine\n    from maskdistill.report.html import render\n"
    assert list(imported(text)) == [
        "__version__",
        "cli",
        "config.Config",
        "masks.refine",
        "report.html.render",
    ]
    assert backward(text, "masks") == ["cli", "report.html.render"]
    assert backward(text, "config") == ["cli", "masks.refine", "report.html.render"]
    assert backward(text, "cli") == []
