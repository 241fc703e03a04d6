"""Formats of objects: how they are found and asked for; another package adds one, as the documentation
shows.
"""

import re
from pathlib import Path

import pytest
from exported import sample, write

from maskdistill.cli.object_options import add_object_options
from maskdistill.formats import export
from maskdistill.formats.export import registry
from maskdistill.formats.export.registry import NoOptions, export_formats, parse_formats
from maskdistill.runtime.errors import MaskDistillError

DOCS = Path(__file__).parents[1] / "docs/how-to"
OURS = sorted(
    path.stem for path in Path(export.__path__[0]).glob("*.py") if "\nFORMAT = " in path.read_text()
)
NAMED = ", ".join(OURS)


@pytest.fixture(autouse=True)
def fresh() -> None:
    export_formats.cache_clear()


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str, entry: str) -> None:
    """Another package on the path, as pip leaves one."""
    (folder / "other_format.py").write_text(code, encoding="utf-8")
    info = folder / "other_format-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-format\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{entry}\n")
    monkeypatch.syspath_prepend(str(folder))


def test_the_recipe_adds_a_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of docs/how-to/add-an-export-format.md, installed as another package, writes what the page
    says.
    """
    page = (DOCS / "add-an-export-format.md").read_text(encoding="utf-8")
    blocks = dict(re.findall(r"```(\w+)\n(.*?)```", page, re.DOTALL))
    entry = re.search(r'^(boxes) = "(other_format:FORMAT)"', blocks["toml"], re.MULTILINE)
    assert entry is not None
    install(tmp_path, monkeypatch, blocks["python"], f"{entry[1]} = {entry[2]}")
    assert list(export_formats()) == [*OURS, "boxes"]
    out = write(tmp_path / "out", "boxes:header", sample(tmp_path / "photos"))
    assert (out / "boxes.csv").read_text().splitlines()[:2] == blocks["text"].splitlines()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("FORMAT = 3", "it is no ExportFormat"),
        ("import nothing_of_that_name", "cannot be loaded: ModuleNotFoundError"),
        ("from maskdistill.formats.export.coco import FORMAT", "its name is taken"),
    ],
)
def test_a_bad_format_of_another_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, said: str
) -> None:
    monkeypatch.delitem(__import__("sys").modules, "other_format", raising=False)
    install(tmp_path, monkeypatch, code, "mine = other_format:FORMAT")
    with pytest.raises(MaskDistillError, match=rf"the format mine \(other_format:FORMAT\):? ?.*{said}"):
        export_formats()


def test_formats_are_asked_for_with_options() -> None:
    coco, studio = parse_formats(" coco:polygons , label_studio:brush=yes:prefix=https://host:80/a:b/")
    assert coco.options.model_dump() == {"polygons": True}
    assert studio.options.model_dump() == {"brush": True, "prefix": "https://host:80/a:b/"}
    assert parse_formats("yolo")[0].options == NoOptions()


@pytest.mark.hostile(
    "config: a --format that is unknown, named twice, or has unknown options",
    outcome="refused, what there is is listed",
)
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("coca", f"--format coca: unknown; there are {NAMED}"),
        ("coco,coco:polygons", "coco twice"),
        ("coco:polygon", r"polygon: Extra inputs are not permitted \(its options: polygons\)"),
        ("coco:polygons=7", r"polygons: Input should be a valid boolean.*\(its options: polygons\)"),
        ("yolo:polygons", r"\(its options: none\)"),
        (" ,", f"name at least one of {NAMED}"),
    ],
)  # fmt: skip
def test_what_is_asked_for_wrongly_is_explained(text: str, said: str) -> None:
    with pytest.raises(MaskDistillError, match=said):
        parse_formats(text)


def test_help_and_documentation_name_every_format() -> None:
    import argparse

    parser = argparse.ArgumentParser()
    add_object_options(parser, "coco")
    shown, page = (
        " ".join(parser.format_help().split()),
        (DOCS / "use-the-objects.md").read_text(encoding="utf-8"),
    )
    for name, found in export_formats().items():
        assert re.search(rf"\b{name}\b", shown), name
        assert f"| `{name}` |" in page, name
        for option in found.options.model_fields:
            assert f"`{name}:{option}" in page, f"{name}:{option}"
