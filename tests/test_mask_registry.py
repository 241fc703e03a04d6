"""Mask rules by name: one file adds one, here or in an installed package, and everything that lists rules
knows it.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import mask_rules_page
import numpy as np
import pytest

from maskdistill.cli import main
from maskdistill.cli.config import render_schema
from maskdistill.config import Config, MasksConfig, load_config
from maskdistill.data.manifest import ImageRow
from maskdistill.features.store import ImageFeatures, write_features
from maskdistill.masks import registry, rules
from maskdistill.masks.records import shaping
from maskdistill.report import scores, tables
from maskdistill.runtime import provenance
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import read_json, write_json
from maskdistill.runtime.names import value_name
from maskdistill.workflow import layout
from maskdistill.workflow import mask_folders as folders

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "docs/how-to/add-a-mask-rule.md"


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Rules are looked for anew, and what a test adds is forgotten."""
    monkeypatch.setattr(registry, "_REGISTERED", registry.rules())
    before = set(sys.modules)
    registry._load.cache_clear()
    yield
    monkeypatch.undo()
    registry._load.cache_clear()
    for name in set(sys.modules) - before:
        del sys.modules[name]


def configured(**changes: Any) -> Config:
    weights = {name: {"weights": "random"} for name in ("backbone", "detector", "segmenter")}
    return load_config({"run": "r", "data": {"kind": "scenes"}} | weights | changes)


def blocks(page: Path) -> list[str]:
    """The Python of a page."""
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def add(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file in the package of rules."""
    (folder / "norm.py").write_text(text)
    monkeypatch.setattr(rules, "__path__", [*rules.__path__, str(folder)])
    registry._load.cache_clear()


def test_the_recipe_works_and_one_file_is_enough(
    fresh: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, test = blocks(RECIPE)
    assert not re.fullmatch(registry.folders_pattern(), "norm-0.2")
    add(tmp_path, module, monkeypatch)
    scope: dict[str, Any] = {}
    exec(compile(test, "recipe", "exec"), scope)
    tests = [scope[name] for name in scope if name.startswith("test_")]
    assert len(tests) == 1
    tests[0]()
    # the configuration and its schema, paths, the report's row, the page of rules, the code that masks follow
    config = configured(masks={"rule": "norm-0.2"}, baselines={"masks": ["norm-0.5", "lost-3"]})
    values = {"masks": {"rule": "norm-0.2"}, "baselines": {"masks": ["norm-0.5"]}}
    properties = json.loads(render_schema())
    validator = jsonschema.Draft202012Validator(properties | {"required": []})
    assert validator.is_valid(values) and not validator.is_valid({"masks": {"rule": "morn-0.2"}})
    assert layout.main_values(config)["masks"] == "norm-0.2"
    assert re.fullmatch(registry.folders_pattern(), "norm-0.2")
    assert scores.mask_rule("results/r/norm-0.5/k-3/seed-1/evaluation/masks.json") == "norm-0.5"
    assert "| `norm-SHARE` | The largest component of the SHARE of patches" in mask_rules_page.render()
    before = folders.rule_code("norm-0.2"), folders.rule_code("lost-3")
    (tmp_path / "norm.py").write_text(f"{module}# edited\n")
    provenance.module_code.cache_clear()
    assert folders.rule_code("norm-0.2") != before[0] and folders.rule_code("lost-3") == before[1]
    provenance.module_code.cache_clear()


CORNER = '''
import numpy as np
from maskdistill.config.types import Positive, Section
from maskdistill.masks.patches import PatchMask
from maskdistill.masks.registry import mask_rule

class CornerParams(Section):
    side: Positive
    far: bool = False

@mask_rule("corner", CornerParams)
def corner_masks(image, params):
    """The upper left corner."""
    mask = np.zeros(image.grid, bool)
    mask[: params.side, : params.side] = True
    return [PatchMask(mask[::-1, ::-1] if params.far else mask, (0, 0))]
'''


def install(site: Path, entry: str, text: str) -> None:
    """An installed distribution with one module and one entry point."""
    (site / "their_rules.py").write_text(text)
    info = site / "their_rules-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-rules\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text(f"[maskdistill.mask_rules]\n{entry}\n")


def test_an_installed_package_adds_a_rule(
    fresh: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "corner = their_rules", CORNER)
    monkeypatch.syspath_prepend(str(tmp_path))
    rng = np.random.default_rng(0)
    features = tmp_path / "f.h5"
    with write_features(
        features, [ImageRow(1, "a", "a.png", 32, 24, 0)], [(3, 4)], 8, {"inputs": {}}
    ) as writer:
        writer.create(4, 2, "float32")
        query, key = rng.normal(size=(2, 2, 2)).astype(np.float32)
        writer.put(
            0, ImageFeatures(query, key, rng.normal(size=(12, 4)).astype(np.float32), (3, 4), (24, 32))
        )
    boxes = {"corner-2": [0, 0, 16, 16], "corner-1-far": [24, 16, 8, 8]}
    for name, box in boxes.items():
        assert configured(masks={"rule": name}).masks.rule == name
        output = ["--output", str(tmp_path / "m.json"), "--params", json.dumps({"rule": name})]
        assert main(["masks", "--features", str(features), *output]) == 0
        made = read_json(tmp_path / "m.json")
        assert [record["bbox"] for record in made["masks"]] == [box]
        assert made["provenance"]["params"] == {
            "baseline": name, "resize_mask": "nearest", "from": "their-rules 1.5"
        }  # fmt: skip
    assert folders.rule_code("corner-2") == provenance.sha256_text(
        provenance.sha256_file(tmp_path / "their_rules.py")
    )


@pytest.mark.hostile(
    "config: a mask rule of one's own that returns arrays, or masks of another shape or type",
    outcome="refused; the message names the rule and what it must return",
)
@pytest.mark.parametrize("mask", ["mask", "PatchMask(mask[:1], (0, 0))", "PatchMask(1 * mask, (0, 0))"])
def test_what_a_rule_must_return(
    fresh: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mask: str
) -> None:
    text, _, _ = CORNER.partition("    return")
    add(tmp_path, f"{text}    return [{mask}]\n", monkeypatch)
    cls = np.zeros((1, 2), np.float32)
    image = ImageFeatures(cls, cls, np.ones((12, 2), np.float32), (3, 4), (24, 32))
    with pytest.raises(
        MaskDistillError, match=r"corner \(maskdistill\.masks\.rules\.norm\): return a list .*\(3, 4\)"
    ):
        registry.read("corner-2").masks(image)


@pytest.mark.hostile(
    "config: an installed package whose mask rule cannot be imported, is not in it, or has the name of "
    "another",
    outcome="refused; the message names the package or both modules",
)
@pytest.mark.parametrize(
    ("entry", "text", "message"),
    [
        (
            "corner = their_rules",
            "import no_such_module_at_all",
            r"corner of their-rules 1\.5 cannot be loaded: No mod",
        ),
        ("edge = their_rules", CORNER, r"their_rules of their-rules 1\.5 registers no mask rule edge"),
        ("lost = their_rules", CORNER, r"their_rules of their-rules 1\.5 registers no mask rule lost"),
        (
            "lost = their_rules",
            CORNER.replace('"corner"', '"lost"'),
            r"called lost, in maskdistill\.masks.* their_rul",
        ),
        (
            "tau = their_rules",
            CORNER.replace('"corner"', '"tau"'),
            r"their_rules: a mask rule cannot be called 'tau'",
        ),
        ("A-b = their_rules", CORNER.replace('"corner"', '"A-b"'), r"their_rules: .* cannot be called 'A-b'"),
    ],
)
def test_packages_that_do_not_fit_are_refused(
    fresh: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str, text: str, message: str
) -> None:
    install(tmp_path, entry, text)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MaskDistillError, match=message):
        registry.rules()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lost", "write lost-K$"),
        ("lost-0", "k: Input should be greater than or equal to 1; write lost-K$"),
        ("lost-1.5", "write lost-K$"),
        ("lost-010", "write lost-10, the one name"),
        ("lost-10-largest", "write lost-K$"),
        ("attention-1", "mass: Input should be less than 1"),
        ("attention-0.0", "mass: Input should be greater than 0"),
        ("attention-0.750", "write attention-0.75, the one name"),
        ("tokencut-tau0.2", "write tokencut, the one name"),
        ("tokencut-0.3", r"write tokencut\[-tauTAU\]$"),
        (
            "topk-0.4",
            r"not chosen by name; write affinity.* or attention-MASS\[-largest\] or .*lost-K or .*maskcut.*"
            r" or tokencut\[-tauTAU\]",
        ),
        ("maskdistill", "no mask rule is called 'maskdistill'"),
    ],
)
def test_other_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        registry.check_name(name)
    if name.startswith("t"):
        with pytest.raises(MaskDistillError, match=rf"masks\.rule: mask rule '{name}'.*\(got '{name}'\)"):
            configured(masks={"rule": name})


def test_folders_of_rules_are_told_from_others() -> None:
    for name in ("topk-0.4", "topk-1", "lost-400", "attention-0.75-largest", "tokencut", "tokencut-tau0.3"):
        assert registry.is_folder(name) and registry.is_chosen_folder(name) == (not name.startswith("topk"))
        rule, settings = registry.read(name)
        assert rule.folder(settings) == name
    for name in (
        "features",
        "k-6",
        "seed-1",
        "masks",
        "tau-0.9-bbox",
        "lost",
        "attention-0.75-tau0.3",
        "topk-0.4-x",
    ):
        assert not registry.is_folder(name)
    kept = {path.split("/")[0] for path in re.findall(r"\{RUN\}/(\w+)", "".join(_workflow()))}
    assert kept - registry.TAKEN <= {"summary", "report", "ablations"}  # the last are files


def _workflow() -> list[str]:
    return [path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk")]


def test_the_page_of_rules_is_current() -> None:
    assert mask_rules_page.PAGE.read_text() == mask_rules_page.render(), (
        "run: python tests/mask_rules_page.py"
    )


def test_a_rule_of_ones_own_is_the_runs() -> None:
    """Its folder stands where the paper's stood, and its jobs are told what they make use of."""
    paper, other = MasksConfig(topk=0.3, refine="grabcut"), MasksConfig(rule="tokencut", refine="grabcut")
    assert (layout.mask_name(paper), layout.mask_name(other)) == ("topk-0.3", "tokencut")
    used = {"rule": "tokencut", "resize_mask": "nearest"}
    assert folders.settings("tokencut", other) == used | {"refine": "grabcut"}
    assert folders.settings("tokencut", paper) == used  # a baseline: its outlines stay those of patches
    swept = folders.settings("topk-0.2", paper)
    assert MasksConfig(**swept) == paper.model_copy(update={"topk": 0.2}) and "rule" not in swept
    assert [folders.is_refined(name, paper) for name in ("topk-0.9", "tokencut")] == [True, False]
    assert [folders.is_refined(name, other) for name in ("topk-0.4", "tokencut", "tokencut-tau0.3")] == [
        0,
        1,
        0,
    ]
    assert shaping(paper) == paper.model_dump(mode="json", exclude={"rule"})
    assert shaping(other) == {"baseline": "tokencut", "resize_mask": "nearest", "refine": "grabcut"}


def test_rows_of_a_run_by_another_rule(tmp_path: Path) -> None:
    config = configured(masks={"rule": "tokencut"}, clusters={"num_clusters": 3})
    found = []
    for place, miou in {"tokencut": 30.0, "lost-400": 20.0, "topk-0.4": 25.0}.items():
        path = tmp_path / place / "k-3/seed-1234/evaluation/masks.json"
        write_json(path, {"stage": "masks", "miou": miou})
        found.append(scores.read_evaluation(path))
    rows = {row.mean["miou"]: row for row in scores.score_rows(found, config)}
    assert {miou: (row.main, row.baseline) for miou, row in rows.items()} == {
        30.0: (True, None), 20.0: (False, "lost-400"), 25.0: (False, None)
    }  # fmt: skip
    assert [tables.row_name(rows[miou]) for miou in (30.0, 20.0)] == ["masks", "masks: lost-400"]
    assert [tables.protocol(rows[miou], config)["topk"] for miou in (30.0, 20.0, 25.0)] == ["—", "—", "0.4"]


def test_a_sweep_of_topk_needs_the_papers_rule() -> None:
    with pytest.raises(
        MaskDistillError, match=r"sweep\.topk: masks\.rule tokencut has no topk; write `topk: \[\]`"
    ):
        configured(masks={"rule": "tokencut"}, sweep={"topk": [0.2]})


@pytest.mark.parametrize("value", [0.4, 1.0, 100.0, 1e-5, 0.1 + 0.2, 123456.789, 1e20, 400, 0])
def test_numbers_in_paths(value: float) -> None:
    assert value_name(value) == np.format_float_positional(value, trim="-")
