"""What a changed setting or an edited module makes again in a finished run; its outputs are empty, its
records true.
"""

from pathlib import Path
from typing import Any

from dag_project import MINIATURE, Project
from test_label_free import coco_project, voc_project

SCORING = {"ground_truth", "evaluate_masks", "evaluate_detector", "evaluate_segmenter", "evaluate_candidates",
           "baselines", "report", "all"}  # fmt: skip
AFTER_CANDIDATES = {"candidates", "pseudo_labels", "label_summary", "trust", "objects", "segmenter",
"refined_labels",
                    "predictions", "evaluate_detector", "evaluate_segmenter", "evaluate_candidates", "report",
                    "thumbnails", "gallery", "all"}  # fmt: skip
HANDED_OUT = {"objects", "thumbnails", "gallery", "report", "all"}
COPY = "SECRET-other.json"
CHANGES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "annotations under another name": ({"data": {"annotations": COPY}}, SCORING),
    "ignored borders": ({"data": {"ignore_border": 4}}, SCORING),
    "both": ({"data": {"annotations": COPY, "ignore_border": 4}}, SCORING),
    "no annotations": ({"data": {"annotations": None}}, {"report", "all"}),
    "matching": ({"evaluation": {"matching": "bg_fixed"}}, SCORING - {"ground_truth"}),
    "a tolerance that was not reached": ({"max_quarantined": 0.5}, {"report", "all"}),
    "score_thresh": ({"detector": {"score_thresh": 0.02}}, AFTER_CANDIDATES),
    "nms": ({"detector": {"nms": 0.4}}, AFTER_CANDIDATES),
    "max_dets": ({"detector": {"max_dets": 6}}, AFTER_CANDIDATES),
    "min_size_test": ({"detector": {"min_size_test": 80}}, AFTER_CANDIDATES),
    "proposals before NMS, test": ({"detector": {"rpn_pre_nms": [50, 40]}}, AFTER_CANDIDATES),
    "proposals after NMS, test": ({"detector": {"rpn_post_nms": [20, 10]}}, AFTER_CANDIDATES),
    "proposals after NMS, training": (
        {"detector": {"rpn_post_nms": [30, 20]}},
        AFTER_CANDIDATES | {"detector"},
    ),
    "max_size": ({"detector": {"max_size": 120}}, AFTER_CANDIDATES | {"detector"}),
    "files for other tools": (
        {"objects": {"formats": ["yolo"], "simplify": 4, "min_score": 0.5}},
        HANDED_OUT,
    ),
    "a first round of self-training": (
        {"detector": {"rounds": 1}},
        AFTER_CANDIDATES | {"self_annotations", "detector"},
    ),
    "training rate": ({"detector": {"lr": 0.1}}, AFTER_CANDIDATES | {"detector"}),
}
EDITS = {
    "backbones/weights.py": {
        "features", "masks", "embeddings", "clusters", "choose_k", "consistency", "annotations", "detector",
        "evaluate_masks",
    } | AFTER_CANDIDATES,
    "runtime/progress.py": set(),
    "report/page.py": {"report", "all"},
}  # fmt: skip
"""An edit of the module that reads the weights of a ViT makes all that follows from them; of a log line,
nothing.
"""


def merged(data: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {"data": data} | {
        name: {**(data if name == "data" else MINIATURE.get(name, {})), **value}
        if isinstance(value, dict)
        else value
        for name, value in changes.items()
    }


def planned(project: Project, data: dict[str, Any], changes: list[dict[str, Any]]) -> list[set[str]]:
    """For each change the rules that would run."""
    plans = project.plans([merged(data, change) for change in [{}, *changes]], needed=True)
    assert plans[0] == []
    return [{job.rule for job in plan} for plan in plans[1:]]


def test_after_a_changed_setting(tmp_path: Path) -> None:
    project, data = coco_project(tmp_path)
    project.pretend_finished()
    found = planned(project, data, [change for change, _ in CHANGES.values()])
    assert dict(zip(CHANGES, found, strict=True)) == {name: rules for name, (_, rules) in CHANGES.items()}
    for name, rules in EDITS.items():
        module = project.folder / "maskdistill" / name
        before = module.read_text()
        module.write_text(before + "# edited\n")
        (plan,) = project.plans([{"data": data}], needed=True)
        module.write_text(before)
        assert {job.rule for job in plan} == rules, name


def test_one_round_of_self_training_more_trains_one_detector_more(tmp_path: Path) -> None:
    """And other confidence that of the rounds, not the first one."""
    project, data = coco_project(tmp_path)
    settings = {"data": data, "detector": MINIATURE["detector"] | {"rounds": 1}}
    project.configure(**settings)
    project.pretend_finished()
    plans = project.plans(
        [settings | {"detector": settings["detector"] | change} for change in ({"rounds": 2}, {"rounds": 0},
        {"round_score": 0.5})],
        needed=True,
    )  # fmt: skip
    trained = [
        {job.wildcards["trained"] for job in plan if job.rule in ("detector", "candidates", "annotations")}
        for plan in plans
    ]
    assert trained == [{"/round-2"}, set(), {"/round-1"}]
    (second,) = [job for job in plans[0] if job.rule == "detector"]
    assert [path for path in second.inputs if path.endswith("detector/model.safetensors")] == [
        path.replace("round-2", "round-1") for path in second.outputs if path.endswith("model.safetensors")
    ]
    assert {job.wildcards["trained"] for job in plans[1] if job.rule == "segmenter"} == {""}


def test_annotations_in_a_run_without(tmp_path: Path) -> None:
    """Scores come to a run that had none.

    What else is made is there to be scored: baselines, and the earlier round.
    """
    project, data = coco_project(tmp_path)
    bare = {"kind": "coco", "images": data["images"]}
    project.configure(data=bare)
    project.pretend_finished()
    (jobs,) = project.plans([{"data": data}], needed=True)
    baseline = {"masks", "embeddings", "clusters"}
    assert {job.rule for job in jobs} == SCORING | baseline | {"predictions"}
    assert {job.wildcards["masks"] for job in jobs if job.rule in baseline} == {"lost-100"}
    assert {job.wildcards["round"] for job in jobs if job.rule == "predictions"} == {"0"}


def test_after_other_lists_of_voc(tmp_path: Path) -> None:
    """Another list of pictures that are there anyway, or an edited one, is a matter of scores."""
    project, data = voc_project(tmp_path)
    project.pretend_finished()
    changes = [
        {"instance_list": "SECRET-other"},
        {"eval_list": "others"},
        {"train_list": "three", "eval_list": "all"},
    ]
    instances, scored, trained = planned(project, data, [{"data": change} for change in changes])
    assert instances == SCORING
    assert scored == SCORING | {"predictions"}
    assert trained >= {"manifest", "features", "detector", "segmenter"}
    edited = []
    for name in ("some", "all"):
        (tmp_path / f"voc/ImageSets/{name}.txt").write_text("1\n2\n3\n")
        edited.append({job.rule for job in project.plans([{"data": data}], needed=True)[0]})
    assert edited[0] == SCORING | {"predictions"}
    assert edited[1] >= {"manifest", "features", "detector", "segmenter"}
