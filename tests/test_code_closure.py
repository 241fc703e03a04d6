"""Which edits make which stages anew: followed through the imports of the sources, without running
anything.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from maskdistill.cli import STAGES
from maskdistill.runtime import code_closure, provenance
from maskdistill.runtime.code_closure import NO_RESULT, REGISTRIES, ROOT, closure, imported
from maskdistill.runtime.provenance import code_hash, stage_code

RULES = Path(__file__).parents[1] / "workflow/rules"
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))
SCORING = {"evaluation", "candidate_quality", "baselines"}
PAGES = {"report", "ablations", "oracle", "bench", "paper", "qualitative"}
OBJECTS = {"thumbnails", "gallery"}
"""They show, and read no label."""
PERFECT = {"oracle_manifest", "oracle_masks", "oracle_categories"}
PRETRAINED = {"pretrain", "features", "distil", "embeddings", "consistency", "detector", "candidates",
"segmenter",
              "predictions", "frozen", "probe"}  # fmt: skip
CODE = r'\b(?:source_)?code\(\s*"(\w+)"'
IN_RULES = sorted({name for path in RULES.glob("*.smk") for name in re.findall(CODE, path.read_text())})
"""Stages whose code the workflow follows."""


def affected(file: str) -> set[str]:
    """Stages of the workflow that an edit of a file makes anew, by themselves."""
    return {stage for stage in IN_RULES if file in closure([f"cli/{stage}.py"])}


@pytest.mark.parametrize(
    ("edited", "stages"),
    [
        ("backbones/weights.py", PRETRAINED),
        ("backbones/vit.py", PRETRAINED),
        ("backbones/resnet.py", PRETRAINED - {"features", "distil", "embeddings", "consistency"}),
        ("masks/records.py", {"masks", "distil", "consistency"}),
        ("masks/rules/lost.py", set()),
        ("masks/rules/maskdistill.py", {"pretrain"}),
        ("segmenter/crf.py", {"predictions"}),
        ("detector/proposals.py", {"detector", "candidates"}),
        ("detector/inference.py", {"candidates"}),
        ("detector/train.py", {"detector"}),
        ("segmenter/train.py", {"segmenter"}),
        ("training/loop.py", {"pretrain", "detector", "segmenter", "probe"}),
        ("annotations/coco.py", {"annotations", "self_annotations", "own_objects", "report", "gallery"}),
        ("clusters/choose_k.py", {"choose_k"}),
        ("data/ground_truth.py", {"ground_truth"}),
        ("data/truth/voc.py", {"ground_truth"}),
        ("data/sources/folder.py", {"manifest", "ground_truth"}),
        ("data/tar_index.py", {"manifest", "ground_truth"}),
        ("data/sources/video.py", {"manifest", "ground_truth"}),
        ("evaluation/instances.py", SCORING | PAGES),
        ("evaluation/metrics/boundaries.py", {"evaluation", "baselines"} | PAGES),
        ("evaluation/frozen.py", {"frozen"}),
        ("report/page.py", {"report"}),
        ("report/templates/run.js", PAGES | OBJECTS),
        ("report/templates/sections/tau.html.j2", PAGES | OBJECTS),
        ("paper/cited.csv", {"bench", "paper", "qualitative"}),
        ("annotations/names.py", {"own_objects", "report", "gallery"}),
        ("formats/export/yolo.py", {"own_objects", "thumbnails"}),
        ("product/objects.py", {"own_objects", "thumbnails"}),
        ("cli/extraction.py", {"features", "distil"}),
        *((name, set()) for name in ("runtime/progress.py", "runtime/leases.py", "runtime/download.py",
        "cli/plan.py",
                                     "config/detector.py", "product/card.py",
                                     "detector/detectron2_parity.py")),
    ],
)  # fmt: skip
def test_what_an_edit_makes_anew(edited: str, stages: set[str]) -> None:
    assert affected(edited) == stages


def test_the_detectron2_engine_is_left_out_where_it_does_no_work() -> None:
    module = "detector/detectron2_engine.py"
    assert module in closure(["cli/detector.py"]) and module not in closure(["cli/detector.py"], [module])
    assert stage_code("detector") != stage_code("detector", module)
    names = closure(["cli/detector.py"], ["detector/detectron2_engine.py"])
    assert "detector/detectron2_names.py" not in names  # what it alone imports goes with it


def test_what_trains_follows_no_code_that_scores_or_shows() -> None:
    labelled = {
        "ground_truth",
        "evaluation",
        "candidate_quality",
        "baselines",
        "frozen",
        "probe",
        *PERFECT,
        *PAGES,
    }
    own = {"product/objects.py", "product/own_objects.py"}
    for stage in set(IN_RULES) - labelled:
        rooms = "evaluation/|paper/" if stage in OBJECTS else "evaluation/|report/|paper/|product/"
        shown = [file for file in closure([f"cli/{stage}.py"]) if re.match(rooms, file)]
        if stage == "own_objects":  # nothing learns from what it hands out
            shown = [file for file in shown if file not in own | {"product/__init__.py"}]
        assert not shown and not {"data/ground_truth.py", "data/truth/base.py"} & closure(
            [f"cli/{stage}.py"]
        ), stage


def test_every_rule_follows_the_code_of_its_own_command() -> None:
    """Of rules that name their code by a variable or function the stage stands here."""
    named = {"predictions_code": "predictions", "PROBE_CODE": "probe"}
    seen = set()
    for path in RULES.glob("*.smk"):
        for block in re.split(r"\n *(?:use )?rule[ :]", path.read_text())[1:]:
            commands = set(re.findall(r'"maskdistill (\w+)', block))
            codes = re.findall(
                r'\bcode=(?:lambda wildcards: )?(?:\(\s*)?(?:(?:source_)?code\(\s*"(\w+)"|(\w+))', block
            )
            if commands and codes:
                seen |= commands
                assert {stage or named[name] for stage, name in codes} == commands, block[:40]
    assert seen == set(IN_RULES)


def test_reasons_are_given_for_modules_that_exist() -> None:
    assert all(NO_RESULT.values()) and set(MODULES) >= NO_RESULT.keys()
    assert set(STAGES) >= set(IN_RULES) and len(IN_RULES) == 37


def walked(module: str) -> set[str]:
    """The package's files that a module's syntax tree imports: slow, and by another way than ``imported``."""

    def names(node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)

    found = set()
    for name in [name for node in ast.walk(ast.parse((ROOT / module).read_text())) for name in names(node)]:
        place = ROOT.parent / name.replace(".", "/")
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            if name.startswith("maskdistill") and path.is_file():
                found.add(path)
                inside = path.parents[: len(path.relative_to(ROOT).parts)]
                found |= {folder / "__init__.py" for folder in inside}
    return {path.relative_to(ROOT).as_posix() for path in found} - {module, "__init__.py"}


@pytest.mark.slow
def test_the_imports_of_every_module_are_seen() -> None:
    assert len(MODULES) > 150
    for module in MODULES:
        beside = {path.relative_to(ROOT).as_posix() for path in (ROOT / module).parent.glob("*.py")} - {
            module
        }
        assert set(imported(module)) - {"__init__.py"} == walked(module) | (
            beside if module in REGISTRIES else set()
        )


def test_imports_of_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In functions, over lines, relative, renamed; of names that are no modules; in a docstring, where it is
    none.
    """
    texts = {
        "cli/a.py": '"""Like\nfrom maskdistill import nothing, at all\n"""\nimport os\nimport maskdistill.b '
        "as c\n",
        "b.py": "def f():\n    from maskdistill.sub import (\n        e,  # or (in brackets)\n    )\n    "
        "return e\n",
        "sub/__init__.py": "from . import g\n",
        "sub/e.py": "if True:\n    from ..h import THING\n",
        "sub/g.py": "from maskdistill.runtime import logs; x = 1\n",
        "sub/table.csv": "1",
        "h.py": "from maskdistill import __version__, i\n",
        "i.py": "import maskdistill.cli.a\nfrom maskdistill.plug import ins as "
        "them\niter_modules(them.__path__)\n",
        "plug/__init__.py": "",
        "plug/ins/__init__.py": "",
        "plug/ins/one.py": "import maskdistill.plug.two\n",
        "plug/two.py": "",
        "unused.py": "import maskdistill.b\n",
        "runtime/__init__.py": "",
        "runtime/logs.py": "import maskdistill.unused\n",
        "cli/__init__.py": "import maskdistill.unused\n",
        "sub/__pycache__/e.cpython-311.pyc.1234": "",  # being written
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(code_closure, "ROOT", tmp_path)
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    caches = (
        code_closure.imported,
        code_closure.looked_through,
        code_closure._data_files,
        provenance._file_hash,
        stage_code,
        code_hash,
    )
    try:
        for cached in caches:
            cached.cache_clear()
        expected = {
            "cli/a.py",
            "b.py",
            "sub/__init__.py",
            "sub/e.py",
            "sub/g.py",
            "sub/table.csv",
            "h.py",
            "i.py",
        }
        plugged = {f"plug/{name}.py" for name in ("__init__", "two", "ins/__init__", "ins/one")}
        assert closure(["cli/a.py"]) == expected | plugged | {"runtime/__init__.py"}
        assert closure(["cli/a.py"], ["h.py"]) == expected - {"h.py", "i.py"} | {"runtime/__init__.py"}
        with pytest.raises(FileNotFoundError, match=r"unused\.py: not imported by cli/a\.py"):
            closure(["cli/a.py"], ["unused.py"])
        with pytest.raises(FileNotFoundError):
            stage_code("none")
        before = stage_code("a"), code_hash()
        for name, changes in {
            "unused.py": False,
            "runtime/logs.py": False,
            "sub/table.csv": True,
            "i.py": True,
        }.items():
            (tmp_path / name).write_text(texts[name] + "# edited\n")
            for cached in caches:
                cached.cache_clear()
            assert (stage_code("a") != before[0]) == changes, name
            before = stage_code("a"), code_hash()
    finally:
        monkeypatch.undo()
        for cached in caches:
            cached.cache_clear()
