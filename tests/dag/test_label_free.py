"""No checkpoint, annotation or pseudo-label has a ground-truth file among its ancestors, but the linear probe's alone,
which is an ancestor of scores and of nothing else."""

import json
from pathlib import Path

import numpy as np
import pytest
from dag_project import Rule, make_project
from PIL import Image

PROBE = {"ground_truth_train", "probe", "probe_predictions", "evaluate_probe"}
FROZEN = {"frozen_probe", "frozen_predictions", "evaluate_frozen"}
PROBES = {"probe", "probe_predictions", "frozen_probe", "frozen_predictions"}
PAPER = {"paper", "qualitative", "table1", "table2", "table3", "tableS1", "tableS2", "figure3", "figure4", "figure5"}
READERS = {"ground_truth", "evaluate_masks", "evaluate_detector", "evaluate_segmenter", "baselines", "report", "all",
           "evaluate_frozen", "qualitative", "evaluate_candidates"}  # fmt: skip
TRAINED = ("model.safetensors", "/annotations.", "clusters.json", "assignments.h5", "choose_k",
           "/embeddings/", "/masks/shard-", "/candidates/shard-",
           "/pseudo_labels/shard-", "/labels/shard-", "/predictions", "/pretrain/", "/features/shard-")  # fmt: skip


def ancestors(rules: dict[str, Rule], name: str) -> set[str]:
    """The rule itself and all rules that its products are made by, directly or not."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            waiting.extend(rules[current].parents)
    return found


def is_ground_truth(path: str) -> bool:
    return "groundtruth" in path or path.endswith("instances.json")


def readers(rules: dict[str, Rule]) -> set[str]:
    """Rules with a ground-truth file among their inputs."""
    return {name for name, rule in rules.items() if any(map(is_ground_truth, rule.inputs))}


def check(rules: dict[str, Rule]) -> None:
    made = {name for name, rule in rules.items() if any(part in out for out in rule.outputs for part in TRAINED)}
    trained = made - PROBES
    assert trained >= {
        "masks",
        "clusters",
        "annotations",
        "detector",
        "pseudo_labels",
        "refined_labels",
        "segmenter",
        "predictions",
    }
    for name in trained:
        assert ancestors(rules, name) & (readers(rules) | {"ground_truth"} | PROBE | FROZEN | PAPER) == set(), name
    assert readers(rules) <= READERS | {"probe", "evaluate_probe", "frozen_probe"}
    labelled = {name for name in rules if "ground_truth_train" in ancestors(rules, name)}
    assert labelled <= PROBE | FROZEN | {"report", "all", "table2", "tableS2", "paper"}
    assert {name for name in labelled if any("safetensors" in out for out in rules[name].outputs)} <= PROBES


def test_scenes(tmp_path: Path) -> None:
    rules = make_project(tmp_path).rules()
    check(rules)
    assert readers(rules) >= {"evaluate_masks", "evaluate_detector", "evaluate_segmenter", "baselines"}


def test_pretraining_on_the_runs_own_images(tmp_path: Path) -> None:
    rules = make_project(tmp_path, backbone={"arch": "vit_micro_patch8", "weights": "pretrain"}).rules()
    check(rules)
    assert "pretrain" in ancestors(rules, "features")


def test_coco(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(4):
        Image.fromarray(np.full((40, 40, 3), number, np.uint8)).save(pictures / f"{number}.png")
    truth = tmp_path / "instances.json"
    truth.write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    data = {"kind": "coco", "images": str(pictures), "annotations": str(truth)}
    rules = make_project(tmp_path / "project", data=data).rules()
    check(rules)
    assert [name for name, rule in rules.items() if str(truth) in rule.inputs] == ["ground_truth"]


def test_the_probe_reaches_scores_alone(tmp_path: Path) -> None:
    rules = make_project(tmp_path, probe={"enabled": True}).rules()
    check(rules)
    assert ancestors(rules, "probe") >= {"ground_truth_train", "segmenter", "pseudo_labels"}
    assert "ground_truth" not in ancestors(rules, "probe_predictions")
    assert "evaluate_probe" in ancestors(rules, "report")


def test_the_papers_tables_and_figures(tmp_path: Path) -> None:
    backbone = {"name": "MoCo", "arch": "resnet_tiny", "weights": "random"}
    paper = {"seeds": [1], "overcluster": [1], "topk": [0.4], "tau": [0.9], "backbones": [backbone]}
    rules = make_project(tmp_path, paper=paper).rules("paper")
    check(rules)
    assert rules.keys() >= PAPER | PROBE | FROZEN | {"frozen"}
    assert "ground_truth_train" not in ancestors(rules, "frozen") and "frozen" in ancestors(rules, "table2")
    above = {"scenes", "manifest", "ground_truth", "features", "masks", "embeddings", "clusters", "evaluate_masks"}
    assert ancestors(rules, "figure3") == above | {"figure3"}


@pytest.mark.parametrize(
    ("name", "parent", "file"),
    [
        ("segmenter", "probe", "results/mini/probe/model.safetensors"),  # its checkpoint as initial weights
        ("predictions", "probe", "results/mini/probe/model.safetensors"),
        ("pseudo_labels", "probe_predictions", "results/mini/probe/predictions/shard-0000"),
        ("detector", "ground_truth_train", "results/mini/data/groundtruth-train"),
        ("evaluate_segmenter", "probe_predictions", "results/mini/probe/predictions/shard-0000"),
    ],
)
def test_the_walk_notices_what_the_probe_leaks(tmp_path: Path, name: str, parent: str, file: str) -> None:
    rules = make_project(tmp_path, probe={"enabled": True}).rules()
    leaking = rules[name]
    rules[name] = Rule((*leaking.inputs, file), leaking.outputs, leaking.parents | {parent})
    with pytest.raises(AssertionError):
        check(rules)


def test_a_probe_without_ground_truth_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "pictures/a.png")
    data = {"kind": "folder", "root": str(tmp_path / "pictures")}
    project = make_project(
        tmp_path / "project", data=data, num_shards=1, clusters={"num_clusters": 1}, probe={"enabled": True}
    )
    assert "probe.enabled: a probe learns from ground truth" in project.snakemake("--dry-run", check=False)


def test_the_walk_notices_a_leak(tmp_path: Path) -> None:
    rules = make_project(tmp_path).rules()
    leaking = rules["clusters"]
    rules["clusters"] = Rule((*leaking.inputs, "data/groundtruth"), leaking.outputs, leaking.parents)
    with pytest.raises(AssertionError):
        check(rules)
