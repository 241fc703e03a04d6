"""The table docs/reference/bad-input.md, made from the marks ``@pytest.mark.hostile(input, outcome=...)`` of
the tests.

``python tests/hostile_table.py`` writes it. An input is named ``area: what is wrong with it``.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs/reference/bad-input.md"
AREAS = {
    "photo": "Photographs",
    "ground truth": "Ground truth",
    "corrected objects": "Corrected objects, for compare",
    "weights": "Weights",
    "archive": "Archives",
    "remote": "Object stores and web servers",
    "config": "Configuration",
    "hdf5": "HDF5 and other intermediate files",
    "files": "The machine: lock files, shared memory, downloads",
    "output": "What was made for others",
    "command line": "The command line",
    "api": "The Python API",
}
HEAD = """\
# Hostile and odd input

What happens to input that is not as it should be, and the test that shows it. This page is generated from the
marks `@pytest.mark.hostile` of the tests by `python tests/hostile_table.py`; a test compares it.

The rule: a photograph that cannot be used is quarantined. It is left out of everything and listed with its
reason in the report, in the log and in `data/manifest.quarantined.csv`. If their share exceeds
`max_quarantined` (default 0.05; a single one is always tolerated unless this is 0), the run stops before
anything is computed. Entries of the ground truth that are empty or fit no picture are dropped and listed
likewise (`max_dropped`, `data/groundtruth/dropped.json`); `doctor` and the start of a run check all of them
before any network is trained. Everything else that is wrong stops the stage that reads it, with one message
that names the cause and the remedy, and leaves no output. No remedy deletes a file that a run did not make.
"""


class Row(NamedTuple):
    """One kind of input."""

    area: str
    what: str
    outcome: str
    test: str


def rows(folder: Path = TESTS) -> Iterator[Row]:
    """The marks of all tests, in the order of the files."""
    for path in sorted(folder.rglob("test_*.py")):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef) and function.name.startswith("test_"):
                for mark in function.decorator_list:
                    if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.hostile":
                        named = {item.arg: ast.literal_eval(item.value) for item in mark.keywords}
                        area, _, what = ast.literal_eval(mark.args[0]).partition(": ")
                        test = f"{path.relative_to(folder.parent).as_posix()}::{function.name}"
                        yield Row(area, what, named["outcome"], test)


def render() -> str:
    """The page."""
    found = list(rows())
    assert {row.area for row in found} <= AREAS.keys(), sorted({row.area for row in found} - AREAS.keys())
    lines = [HEAD]
    for area, title in AREAS.items():
        lines += [f"## {title}", "", "| input | outcome | test |", "|---|---|---|"]
        lines += [f"| {row.what} | {row.outcome} | `{row.test}` |" for row in found if row.area == area]
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(render(), encoding="utf-8")
