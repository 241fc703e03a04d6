"""What walks between rooms has a type: no public function takes or gives a nameless ``dict[str, Any]``."""

import ast
from pathlib import Path

import pytest

import maskdistill

PACKAGE = Path(maskdistill.__file__).parent
ROOMS = ("annotations", "detector", "evaluation", "pseudo_labels", "report")
NAMELESS = ("dict[str, Any]", "Mapping[str, Any]", "MutableMapping[str, Any]")
UNCHECKED = {"evaluation/ground_truth.py: parse_ground_truth"}
"""Functions that check JSON as it was read."""


def nameless(text: str) -> list[str]:
    """Public functions and methods with such a type in their signature."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            annotations = [one.annotation for one in given] + [node.returns]
            told = " ".join(ast.unparse(one) for one in annotations if one is not None)
            if any(name in told for name in NAMELESS):
                found.append(node.name)
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_records_are_named(room: str) -> None:
    for path in sorted((PACKAGE / room).rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        found = {f"{name}: {one}" for one in nameless(path.read_text(encoding="utf-8"))}
        assert found <= UNCHECKED, "give the record a TypedDict in its room's types.py"


def test_a_nameless_record_is_seen() -> None:
    text = (
        "class A:\n def f(self, x: list[Mapping[str, Any]]) -> int: ...\ndef g(*, a: int) -> dict[str, "
        "Any]: ...\n"
    )
    assert nameless(
        text + "def _h(x: dict[str, Any]): ...\ndef k(x: dict[str, int]) -> dict[str, object]: ..."
    ) == [
        "g",
        "f",
    ]


@pytest.mark.slow
def test_every_typed_dict_says_what_it_holds() -> None:
    """Fields are described below ``Attributes``, or in the one sentence of a record that needs no more."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and any(
                ast.unparse(base) == "TypedDict" for base in node.bases
            ):
                told = ast.get_docstring(node) or ""
                fields = [
                    one.target.id
                    for one in node.body
                    if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
                ]
                listed = told.partition("Attributes:")[2]
                assert told and (not listed or all(field in listed for field in fields)), (
                    f"{path.name}: {node.name}"
                )
