"""No checkpoint, annotation or pseudo-label has a ground-truth file among its ancestors, but the linear
probe's alone, which is an ancestor of scores and of nothing else, and the oracle's, which stay in a folder of
their own. No job that makes one is given a setting that evaluation reads.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dag_project import MINIATURE, Job, Project, Rule, as_rules, make_project
from PIL import Image

from maskdistill.config import load_config
from maskdistill.config.roles import EVALUATION_SECTIONS
from maskdistill.data.sources.registry import image_sources

PROBE = {"ground_truth_train", "probe", "probe_predictions", "evaluate_probe"}
FROZEN = {"frozen_probe", "frozen_predictions", "evaluate_frozen"}
PROBES = {"probe", "probe_predictions", "frozen_probe", "frozen_predictions"}
ORACLE = {
    "oracle_truth", "oracle_manifest", "oracle_masks", "oracle_categories", "oracle_embeddings",
    "oracle_clusters",
    "oracle_annotations", "oracle_self_annotations",
    "oracle_detector", "oracle_candidates", "oracle_pseudo_labels", "oracle_segmenter",
    "oracle_predictions", "oracle_evaluate_masks", "oracle_evaluate_detector", "oracle_evaluate_segmenter",
    "oracle",
}  # fmt: skip
PAPER = {
    "paper",
    "qualitative",
    "table1",
    "table2",
    "table3",
    "tableS1",
    "tableS2",
    "figure3",
    "figure4",
    "figure5",
}
READERS = {"ground_truth", "evaluate_masks", "evaluate_detector", "evaluate_segmenter", "baselines", "report",
"all",
           "evaluate_frozen", "qualitative", "evaluate_candidates", "bench"}  # fmt: skip
TRAINED = ("model.safetensors", "/annotations.", "clusters.json", "assignments.h5", "choose_k",
           "/consistency.json", "/trust.json", "/objects/objects.json", "/objects_page", "/objects.html",
           "/embeddings/", "/masks/shard-", "/candidates/shard-",
           "/pseudo_labels/shard-", "/labels/shard-", "/predictions", "/pretrain/",
           "/features/shard-", "/features@")  # fmt: skip
FURTHER = {"further": {"arch": "vit_micro_patch8", "weights": "config/weights/vit_micro_patch8.safetensors"}}
"""A further backbone of the bench."""
LEARNT_FROM_FURTHER = "results/mini/topk-0.4@further/k-3/seed-1234/detector/model.safetensors"


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


def is_oracles(path: str) -> bool:
    return path.startswith("results/mini/oracle")


def readers(rules: dict[str, Rule]) -> set[str]:
    """Rules with a ground-truth file among their inputs."""
    return {name for name, rule in rules.items() if any(map(is_ground_truth, rule.inputs))}


def check(rules: dict[str, Rule]) -> None:
    made = {
        name for name, rule in rules.items() if any(part in out for out in rule.outputs for part in TRAINED)
    }
    trained = made - PROBES - ORACLE
    assert trained >= {
        "masks", "clusters", "annotations", "detector", "pseudo_labels", "refined_labels", "segmenter",
        "predictions",
    }  # fmt: skip
    assert ("report" not in rules) or trained >= {"objects", "thumbnails", "gallery"}
    for name in trained:
        assert (
            ancestors(rules, name) & (readers(rules) | {"ground_truth"} | PROBE | FROZEN | PAPER | ORACLE)
            == set()
        ), name
    assert readers(rules) - ORACLE <= READERS | {"probe", "evaluate_probe", "frozen_probe"}
    for name, rule in rules.items():
        assert (
            (name in ORACLE)
            == any(map(is_oracles, rule.outputs))
            == all(map(is_oracles, rule.outputs or [name]))
        )
        assert name in ORACLE or not (rule.parents & ORACLE or any(map(is_oracles, rule.inputs))), name
    labelled = {name for name in rules if "ground_truth_train" in ancestors(rules, name)}
    assert labelled <= PROBE | FROZEN | {"report", "all", "table2", "tableS2", "paper"}
    assert {name for name in labelled if any("safetensors" in out for out in rules[name].outputs)} <= PROBES


TOLD = (
    READERS
    | PROBE
    | ORACLE
    | FROZEN - {"frozen"}
    | PROBES
    | PAPER
    | {"ablations", "build_truth", "thumbnails"}
)
"""Rules that may be given what evaluation alone reads; of thumbnails it is how many are shown, section
report.
"""
TOLD_WHICH_PICTURES = TOLD | {"manifest", "predictions"}
"""And those that may be given which pictures are scored: the others are no different for it."""
OTHERWISE: dict[str, dict[str, Any]] = {
    "evaluation": {"matching": "bg_fixed", "bootstrap": 7, "protocols": ["agnostic_multi"]},
    "probe": {
        "enabled": True, "epochs": 3, "batch_size": 5, "lr": 0.2, "drop_after": 2, "gamma": 0.3,
        "momentum": 0.8,
        "weight_decay": 0.2, "init_std": 0.02, "checkpoint_every": 3, "log_every": 3, "workers": 1,
    },
    "report": {"examples": 2, "per_cluster": 1, "objects": 3, "object_side": 64, "detection": True},
    "ablations": {
        "seeds": [5], "label_types": ["mask"], "hard_pixels": [0.7], "crf_rounds": 1, "examples": 2,
    },
    "oracle": {"cases": ["labels"]},
    "bench": {
        "rules": ["lost-9"], "stages": ["masks"], "rounds": [2], "examples": 2,
        "beside": ["SECRET-bench.json"],
        "backbones": FURTHER | {"other": {"arch": "vit_micro_patch8", "weights": "random"}},
    },
    "paper": {
        "seeds": [6], "overcluster": [1], "topk": [0.3], "tau": [0.7], "hard_pixels": 0.3, "crf_rounds": 1,
        "label_types": ["mask"], "examples": 2, "dino_masks": "attention-0.5", "lost_masks": "lost-3",
        "backbones": [{"name": "R", "arch": "resnet_tiny", "weights": "random"}],
    },
    "coco": {"annotations": "SECRET-other.json", "ignore_border": 3},
    "voc": {"instance_list": "SECRET-other"},
}  # fmt: skip
"""Another value for every setting that evaluation alone reads."""
CONFIG = load_config(MINIATURE)


def coco_project(folder: Path) -> tuple[Project, dict[str, Any]]:
    """A project of four pictures with two files of ground truth, and its section ``data``."""
    pictures = folder / "pictures"
    pictures.mkdir()
    for number in range(4):
        Image.fromarray(np.full((40, 40, 3), number, np.uint8)).save(pictures / f"{number}.png")
    data = {"kind": "coco", "images": str(pictures), "annotations": "SECRET.json"}
    project = make_project(folder / "project", data=data)
    for name in (data["annotations"], OTHERWISE["coco"]["annotations"]):
        (project.folder / name).write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    return project, data


def voc_project(folder: Path) -> tuple[Project, dict[str, Any]]:
    """A project of four pictures in VOC's layout, and its section ``data``."""
    root = folder / "voc"
    (root / "JPEGImages").mkdir(parents=True)
    (root / "ImageSets").mkdir()
    for number in range(4):
        Image.fromarray(np.full((40, 40, 3), number, np.uint8)).save(root / f"JPEGImages/{number}.jpg")
    lists = {"all": "0123", "three": "123", "some": "12", "others": "13", "SECRET": "12", "SECRET-other": "2"}
    for name, keys in lists.items():
        (root / f"ImageSets/{name}.txt").write_text("\n".join(keys))
    data = {
        "kind": "voc",
        "root": str(root),
        "train_list": "all",
        "eval_list": "some",
        "instance_list": "SECRET",
    }
    return make_project(folder / "project", data=data), data


def leaks(plans: Sequence[Sequence[Job]], told: set[str] = TOLD) -> set[str]:
    """Rules outside of ``told`` with a job that is given ground truth's name, or other texts in another plan.

    Args:
        plans: of configurations that differ in what evaluation reads alone.
    """
    texts = [
        {(job.rule, *sorted(job.wildcards.items())): (job.command, *job.params.values()) for job in plan}
        for plan in plans
    ]
    shared = set.intersection(*map(set, texts))
    differing = {job[0] for job in shared if len({plan[job] for plan in texts}) > 1}
    naming = {job[0] for plan in texts for job, given in plan.items() if "SECRET" in " ".join(given)}
    return {str(name) for name in differing | naming} - told


def labels_changed(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Configurations that differ in every setting that evaluation reads alone, or have no ground truth; all
    have :data:`FURTHER`, of which masks are made if asked for.
    """
    bench = {"backbones": FURTHER}
    changed = {name: OTHERWISE[name] for name in EVALUATION_SECTIONS} | {
        "data": data | OTHERWISE[data["kind"]]
    }
    without = {key: value for key, value in data.items() if key not in image_sources()[data["kind"]].LABELS}
    return [{"data": data, "bench": bench}, changed, {"data": without, "bench": bench}]


def test_every_setting_that_evaluation_reads_is_tried() -> None:
    for name in EVALUATION_SECTIONS:
        assert OTHERWISE[name].keys() == set(type(getattr(CONFIG, name)).model_fields), name
    for kind, source in image_sources().items():
        assert set(OTHERWISE.get(kind, ())) == source.LABELS, kind


@pytest.mark.parametrize("make", [coco_project, voc_project])
def test_no_param_of_a_label_free_stage_follows_from_label_settings(tmp_path: Path, make: Any) -> None:
    project, data = make(tmp_path)
    plans = project.plans(labels_changed(data), "all", LEARNT_FROM_FURTHER)
    assert {job.rule for job in plans[1]} >= PROBE and leaks(plans) == set()
    assert all(any("/features@further/" in job.outputs[0] for job in plan if job.outputs) for plan in plans)


def test_which_pictures_are_scored_reaches_their_predictions_alone(tmp_path: Path) -> None:
    project, data = voc_project(tmp_path)
    assert {*image_sources()["voc"].SCORED} == {"eval_list"}
    plans = project.plans([{"data": data}, {"data": data | {"eval_list": "others"}}])
    assert leaks(plans, TOLD_WHICH_PICTURES) == set() and "predictions" in leaks(plans)


def test_the_walk_notices_what_params_leak(tmp_path: Path) -> None:
    """Planted: the faults that there were, whole sections, single values, and in a command alone."""
    project, data = coco_project(tmp_path)
    planted = {
        "data": ("untracked(canonical_json(label_free(CONFIG.data)))", 'SETTINGS.section("data")'),
        "features": (
            "settings=in_full(",
            'scores=SETTINGS.section("evaluation"),\n        settings=in_full(',
        ),
        "detector": ("settings=in_full(", "border=CONFIG.data.ignore_border,\n        settings=in_full("),
        "segmenter": ("images=PREDICTED", 'images="eval" if RUN.has_ground_truth else "all"'),
        "pseudo_labels": (
            "maskdistill label_summary",
            "BORDER={CONFIG.data.ignore_border} maskdistill label_summary",
        ),
        "clusters": ("seed=CONFIG.seeds[0]", "seed=CONFIG.seeds[0],\n        truth=CONFIG.data.annotations"),
    }
    for name, (text, leaking) in planted.items():
        file = project.folder / f"workflow/rules/{name}.smk"
        assert text in file.read_text(), name
        file.write_text(file.read_text().replace(text, leaking, 1))
    assert leaks(project.plans(labels_changed(data))) == {
        "manifest", "features", "detector", "predictions", "label_summary", "choose_k",
    }  # fmt: skip


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> list[list[Job]]:
    """The jobs of the miniature with a further backbone in its bench, and of one with a probe."""
    bench = {"rules": ["lost-100"], "backbones": FURTHER}
    return make_project(tmp_path_factory.mktemp("planned")).plans(
        [{"detector": {"rounds": 2}, "bench": bench}, {"probe": {"enabled": True}}], "all", "bench"
    )


@pytest.fixture(scope="module")
def planned(plans: list[list[Job]]) -> tuple[dict[str, Rule], dict[str, Rule]]:
    """The rules of both. Do not edit them: take a copy."""
    return as_rules(plans[0]), as_rules(plans[1])


def test_scenes(planned: tuple[dict[str, Rule], dict[str, Rule]]) -> None:
    rules = planned[0]
    check(rules)
    assert readers(rules) >= {"evaluate_masks", "evaluate_detector", "evaluate_segmenter", "baselines"}
    assert ancestors(rules, "segmenter") >= {"self_annotations", "annotations"}
    assert ancestors(rules, "bench") >= {
        "ground_truth",
        "self_annotations",
        "segmenter",
        "evaluate_segmenter",
    }
    assert ancestors(rules, "all") >= {"thumbnails", "gallery"}  # which check() finds no label behind


def test_further_backbones_reach_the_bench_alone(plans: list[list[Job]]) -> None:
    """Their features are computed once for all rules, no file of the run follows from them, and the run's own
    jobs are as they are without them.
    """
    jobs, without = plans
    further = [job for job in jobs if any("@further/" in path for path in job.outputs)]
    for job in jobs:
        assert job in further or job.rule == "bench" or not any("@" in path for path in job.inputs), job
    counts = {rule: sum(job.rule == rule for job in further) for rule in ("features", "masks", "detector")}
    assert counts == {"features": 2, "masks": 2 * 2, "detector": 3 * 2}  # shards x rules, rounds x rules
    for job in further:
        if job.rule == "masks":
            shard = job.outputs[0].rpartition("/")[2].removesuffix(".json")
            assert job.inputs == [f"results/mini/features@further/{shard}.h5"]
        weights = [path for path in job.inputs if path.startswith("config/weights")]
        assert weights == ([FURTHER["further"]["weights"]] if job.rule == "features" else []), job
    early = ("features", "masks", "embeddings", "clusters", "evaluate_masks")
    own, alone = (
        {tuple(job.outputs): (job.inputs, job.params, job.command) for job in plan if job.rule in early}
        for plan in ([job for job in jobs if job not in further], without)
    )
    shared = own.keys() & alone.keys()
    assert {path.split("/")[2] for outputs in shared for path in outputs} == {
        "features", "topk-0.4", "lost-100",
    }  # fmt: skip
    assert own.keys() <= alone.keys() and all(own[outputs] == alone[outputs] for outputs in shared)
    embedded = {
        job.command.partition(" --arch ")[2].split(" --params")[0] for job in jobs if job.rule == "embeddings"
    }
    assert embedded == {"vit_micro_patch8 --weights random"}


def test_pretraining_on_the_runs_own_images(tmp_path: Path) -> None:
    rules = make_project(tmp_path, backbone={"arch": "vit_micro_patch8", "weights": "pretrain"}).rules()
    check(rules)
    assert "pretrain" in ancestors(rules, "features")


def test_coco(tmp_path: Path) -> None:
    project, data = coco_project(tmp_path)
    rules = project.rules()
    check(rules)
    assert [name for name, rule in rules.items() if data["annotations"] in rule.inputs] == ["ground_truth"]


def test_the_probe_reaches_scores_alone(planned: tuple[dict[str, Rule], dict[str, Rule]]) -> None:
    rules = planned[1]
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
    above = {
        "scenes",
        "manifest",
        "ground_truth",
        "features",
        "masks",
        "embeddings",
        "clusters",
        "evaluate_masks",
    }
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
def test_the_walk_notices_what_the_probe_leaks(
    planned: tuple[dict[str, Rule], dict[str, Rule]], name: str, parent: str, file: str
) -> None:
    rules = planned[1]
    leaking = Rule((*rules[name].inputs, file), rules[name].outputs, rules[name].parents | {parent})
    with pytest.raises(AssertionError):
        check(rules | {name: leaking})


def test_the_oracle_stays_in_a_folder_of_its_own(tmp_path: Path) -> None:
    """Every stage on perfect input: evaluation, all of it, and what is planted into a stage of the run is
    found.
    """
    rules = make_project(tmp_path, detector={"rounds": 1}).rules("oracle", "all")
    check(rules)
    assert rules.keys() >= ORACLE
    for name in ("oracle_segmenter", "oracle_detector", "oracle_clusters"):
        assert "oracle_truth" in ancestors(rules, name) and "ground_truth" not in ancestors(rules, name)
    for name, parent in (
        ("segmenter", "oracle_pseudo_labels"),
        ("segmenter", "oracle_truth"),
        ("segmenter", "oracle_segmenter"),  # its checkpoint as initial weights
        ("embeddings", "oracle_masks"),
        ("annotations", "oracle_categories"),
        ("self_annotations", "oracle_self_annotations"),
        ("self_annotations", "oracle_candidates"),
        ("detector", "oracle_annotations"),
        ("predictions", "oracle_segmenter"),
        ("evaluate_segmenter", "oracle_predictions"),
        ("manifest", "oracle_manifest"),
        ("report", "oracle"),
    ):
        own = rules[name]
        for inputs, parents in (
            ((rules[parent].outputs[0],), {parent}),
            ((rules[parent].outputs[0],), set()),
        ):
            leaking = Rule((*own.inputs, *inputs), own.outputs, own.parents | parents)
            with pytest.raises(AssertionError):
                check(rules | {name: leaking})


def test_a_probe_without_ground_truth_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "pictures/a.png")
    data = {"kind": "folder", "root": str(tmp_path / "pictures")}
    project = make_project(
        tmp_path / "project", data=data, num_shards=1, clusters={"num_clusters": 1}, probe={"enabled": True}
    )
    assert "probe.enabled: a probe learns from ground truth" in project.snakemake("--dry-run", check=False)


def test_the_walk_notices_a_leak(planned: tuple[dict[str, Rule], dict[str, Rule]]) -> None:
    rules = planned[0]
    clusters = rules["clusters"]
    leaking = Rule((*clusters.inputs, "data/groundtruth"), clusters.outputs, clusters.parents)
    with pytest.raises(AssertionError):
        check(rules | {"clusters": leaking})
