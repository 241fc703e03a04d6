"""The configuration's generated files, and the messages for configurations that are not valid."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.io import contains_wildcard  # type: ignore[import-untyped]
from snakemake.utils import update_config  # type: ignore[import-untyped]

from maskdistill.cli import main
from maskdistill.cli.config import check_file, render_defaults, render_schema
from maskdistill.config import Config, load_config
from maskdistill.config.given import with_given
from maskdistill.runtime.errors import MaskDistillError

jsonschema = pytest.importorskip("jsonschema")
COMMITTED = Path(__file__).parents[1] / "config"


def minimal(**changes: Any) -> dict[str, Any]:
    """The least that a configuration must say."""
    weights = {"weights": "random"}
    return {
        "run": "r",
        "data": {"kind": "scenes"},
        "backbone": weights,
        "detector": weights,
        "segmenter": weights,
    } | changes


@pytest.mark.parametrize(
    ("name", "render"), [("schema.json", render_schema), ("defaults.yaml", render_defaults)]
)
def test_committed_files_are_current(name: str, render: Any) -> None:
    path = COMMITTED / name
    assert path.is_file(), "run: maskdistill config --write config/"
    assert path.read_text(encoding="utf-8") == render(), (
        f"{name} has drifted; run: maskdistill config --write config/"
    )


def test_write_makes_both_files(tmp_path: Path) -> None:
    assert main(["config", "--write", str(tmp_path / "new")]) == 0
    assert (tmp_path / "new/schema.json").read_text(encoding="utf-8") == render_schema()
    assert (tmp_path / "new/defaults.yaml").read_text(encoding="utf-8") == render_defaults()
    assert len(list((tmp_path / "new").iterdir())) == 2


def test_defaults_are_the_defaults() -> None:
    values = yaml.safe_load(render_defaults())
    for section in ("backbone", "detector", "segmenter"):
        values[section]["weights"] = "random"
    shown = load_config({"run": "r"} | values).model_dump()
    assert shown == load_config(minimal()).model_dump()
    # and nothing is hidden: every key of every section stands in the file as it is
    full = load_config(minimal()).model_dump(mode="json")
    for section, keys in full.items():
        if section == "run":
            continue
        assert values[section] == keys, section


def test_every_key_stands_in_the_defaults_with_its_description() -> None:
    text = render_defaults()
    flat = re.sub(r"\s+", " ", re.sub(r"\n\s*# ?(# )?", " ", text))

    def walk(model: Any) -> int:
        count = 0
        for name, field in model.model_fields.items():
            assert re.search(rf"^[ #]*{name}:", text, re.MULTILINE), name
            if field.description:
                assert field.description in flat, name
            count += 1 + (walk(field.annotation) if hasattr(field.annotation, "model_fields") else 0)
        return count

    assert walk(Config) > 80
    for kind in ("scenes", "folder", "coco", "voc"):
        assert f"kind: {kind}" in text
    assert max(len(line) for line in text.splitlines()) <= 120


def test_required_keys_are_marked() -> None:
    lines = render_defaults().splitlines()
    marked = [line.strip() for line in lines if re.fullmatch(r" *# \w+:", line)]
    assert marked.count("# weights:") == 3 and "# run:" in marked


@pytest.mark.slow
def test_schema_accepts_and_refuses_like_the_code() -> None:
    schema = json.loads(render_schema())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid(minimal())
    for wrong in (
        minimal(rnu="x"),
        minimal(seeds="x"),
        minimal(seeds=[]),
        minimal(masks={"topk": 1.5}),
        {"run": "r"},
    ):
        assert not validator.is_valid(wrong)
        with pytest.raises(MaskDistillError):
            load_config(wrong)


@pytest.mark.hostile(
    "config: unknown key, wrong type, value out of range, missing key",
    outcome="refused before anything is computed; the message prints the corrected line",
)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rnu": "x"}, r"rnu: unknown key; write `run: x`"),
        ({"masks": {"topkk": 0.4}}, r"masks\.topkk: unknown key; write `topk: 0\.4` .*defaults\.yaml"),
        (
            {"masks": {"affinity": {"centre": True}}},
            r"masks\.affinity\.centre: unknown key; write `center: true`",
        ),
        ({"backbone": {}}, r"backbone\.weights: missing; add `weights: <path of a checkpoint"),
        ({"masks": {"topk": "many"}}, r"masks\.topk: .*number.*'many'\); write `topk: 0\.4`"),
        (
            {"clusters": {"num_clusters": 0}},
            r"clusters\.num_clusters: .*greater than or equal to 1.*0\); write `num_clusters: 20`",
        ),
        ({"pseudo_labels": {"tau": 1.2}}, r"pseudo_labels\.tau: .*less than or equal to 1.*1\.2"),
        (
            {"pseudo_labels": {"overlap": "first"}},
            r"pseudo_labels\.overlap: .*'drop', 'pixel' or 'legacy' .*write `overlap: (drop|pixel|legacy)`",
        ),
        (
            {"pseudo_labels": {"overlap": "legacy", "unsure": 0.5}},
            r"overlap legacy paints worse candidates over better ones",
        ),
        (
            {"data": {"kind": "zip"}},
            r"data: .*'scenes', 'coco', 'folder', .*'list', .*'parquet', .*'tar', .*'video', .*"
            "'voc'",
        ),
        ({"data": {}}, r"data: .*; add `kind:`"),
        ({"data": {"kind": "fodler"}}, r"data: .*; write `kind: folder`"),
        ({"masks": 3}, r"masks: .*; write `masks: {topk: 0\.4}`"),
        ({"detector": None}, r"detector: .*; write `detector: {weights: <"),
        ({"seeds": ["a"]}, r"seeds\.0: .*; write `seeds: \[1234\]`"),
        (
            {"clusters": {"backbone": {"weights": "random", "arc": "x"}}},
            r"clusters\.backbone\.arc: .*write `arch: dino_vits16`",
        ),
        ({"nothing_like_it": 1}, r"nothing_like_it: unknown key; remove the line `nothing_like_it: 1`"),
        (
            {"data": {"kind": "folder"}},
            r"data\.folder\.root: missing; add `root: <folder that holds the pictures",
        ),
        (
            {"detector": {"weights": "random", "arch": "resnet101"}},
            r"detector\.arch: .*write `arch: resnet50`",
        ),
        (
            {"segmenter": {"weights": "random", "arch": "resnet18"}},
            r"segmenter\.arch: .*write `arch: resnet50`",
        ),
        (
            {"paper": {"backbones": [{"name": "a", "weights": "random", "arch": "resnet101"}]}},
            r"paper\.backbones\.0\.arch: .*'resnet50' or 'resnet_tiny'",
        ),
        ({"sweep": {"tau": [9]}}, r"sweep\.tau\.0: .*less than or equal to 1"),
        ({"sweep": {"topk": [40]}}, r"sweep\.topk\.0: .*less than or equal to 1"),
        ({"sweep": {"hard_pixels": [0.5, 0]}}, r"sweep\.hard_pixels\.1: .*greater than 0"),
        ({"sweep": {"num_clusters": [0]}}, r"sweep\.num_clusters\.0: .*greater than or equal to 1"),
        ({"ablations": {"hard_pixels": [20]}}, r"ablations\.hard_pixels\.0: .*less than or equal to 1"),
        (
            {"masks": {"cls_heads": 7}},
            r"  masks\.cls_heads: 7 heads, and backbone\.arch dino_vits16 has 6; .*`cls_heads: 6`",
        ),
        ({"seeds": [-1]}, r"seeds\.0: .*greater than or equal to 0"),
        ({"paper": {"seeds": [2**31]}}, r"paper\.seeds\.0: .*less than 2147483648"),
        ({"ablations": {"seeds": [-1]}}, r"ablations\.seeds\.0: .*greater than or equal to 0"),
        ({"run": "a/b"}, r"run: .*pattern.*'a/b'\); write `run: <name of the folder"),
    ],
)
def test_wrong_configurations_are_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], message: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(minimal(**changes)))
    assert main(["config", "--check", str(path)]) == 1
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert "mine.yaml: the configuration is not valid" in error


def test_values_of_the_command_line() -> None:
    """Snakemake merges them, and hands on null as a word."""
    file = {
        "data": {"kind": "folder", "root": "p"},
        "num_shards": 2,
        "clusters": {"short_side": 9, "niter": 5},
    }
    given = {"num_shards": "null", "clusters": {"short_side": "null"}, "data": {"kind": "list", "file": "n"}}
    merged: dict[str, Any] = {}
    update_config(merged, file)
    update_config(merged, given)
    changed = {"data": given["data"], "num_shards": None, "clusters": {"short_side": None, "niter": 5}}
    assert with_given(merged, given) == changed
    assert with_given(file, {}) == file
    update_config(file, {"data": {"root": "q"}, "seeds": ["null"]})
    assert with_given(file, {"data": {"root": "q"}})["data"] == {"kind": "folder", "root": "q"}
    assert with_given(file, {"seeds": ["null"]})["seeds"] == [None]


@pytest.mark.hostile(
    "config: a path with braces that Snakemake takes for a wildcard, `odd {x}/w.pth`",
    outcome="refused before anything is computed; the message names the key. Other braces are taken as they "
    "are",
)
def test_paths_that_snakemake_takes_for_patterns() -> None:
    backbone = {"arch": "vit_micro_patch8", "weights": "/tmp/odd {x}/w.pth"}
    rows = [{"name": "a", "weights": "ok"}, {"name": "b", "weights": "{seed,1,2}.pth"}]
    with pytest.raises(MaskDistillError) as caught:
        load_config(
            minimal(backbone=backbone, data={"kind": "folder", "root": "{ 0 }"}, paper={"backbones": rows}),
            "f",
        )
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("f: ") and "give a link to it" in lines[-1]
    assert [line.split(":")[0].strip() for line in lines[1:-1]] == [
        "data.root", "backbone.weights", "paper.backbones.1.weights"
    ]  # fmt: skip
    for root in ("{", "a}b{", "{}", "{a b}", "{a-b}", "{a, b"):
        config = load_config(minimal(data={"kind": "folder", "root": root}))
        assert not contains_wildcard(root) and config.data.model_dump()["root"] == root


def test_every_mistake_is_listed_at_once() -> None:
    with pytest.raises(MaskDistillError) as caught:
        load_config(minimal(rnu="x", masks={"topk": -1}, seeds=["a"]))
    assert all(part in str(caught.value) for part in ("rnu", "masks.topk", "seeds.0"))


@pytest.mark.hostile("config: not YAML, empty, missing", outcome="refused; the message names the file")
def test_valid_file_and_broken_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "ok.yaml"
    path.write_text(yaml.safe_dump(minimal()))
    assert main(["config", "--check", str(path)]) == 0
    assert "valid (run 'r', data of kind 'scenes')" in capsys.readouterr().out
    assert check_file(path) == load_config(minimal())
    for text, message in [("a: [1", "not valid YAML"), ("- a\n", "is a mapping"), ("", "is a mapping")]:
        path.write_text(text)
        with pytest.raises(MaskDistillError, match=rf"ok\.yaml: .*{message}"):
            check_file(path)
    with pytest.raises(MaskDistillError, match=r"none\.yaml: cannot be read \(No such file"):
        check_file(tmp_path / "none.yaml")
