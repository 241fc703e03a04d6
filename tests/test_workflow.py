"""What the rules of the workflow are given: the run's shards and paths, its settings, its targets, its
refusals.
"""

import json
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake.exceptions import WorkflowError
from snakemake.io import AnnotatedString, is_flagged
from snakemake.iocontainers import Wildcards

from maskdistill.config import Config, load_config
from maskdistill.masks import folders
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.workflow import layout, mask_folders, targets
from maskdistill.workflow import settings as ways
from maskdistill.workflow.run import Run, plan_run
from maskdistill.workflow.settings import Settings
from maskdistill.workflow.snakemake_ways import find_commands, refusals, unformatted, with_environment

SCENES: dict[str, Any] = {
    "run": "x", "seeds": [1, 2], "data": {"kind": "scenes", "num_train": 30, "num_eval": 10},
    "backbone": {"arch": "vit_micro_patch8", "weights": "random"},
    "detector": {"weights": "random"}, "segmenter": {"weights": "random"}, "clusters": {"num_clusters": 5},
    "crf": {"rounds": 0},
}  # fmt: skip


def configured(**sections: Any) -> Config:
    return load_config(SCENES | sections)


def run_of(num_shards: int, per_job: int = 1, **sections: Any) -> Run:
    return Run(configured(**sections), 40, 30, num_shards, per_job)


def given(**values: Any) -> Wildcards:
    return Wildcards(fromdict={name: str(value) for name, value in values.items()})


@pytest.mark.parametrize(
    ("shards", "per_job", "part", "named", "each", "files", "braces"),
    [
        (3, 1, r"\d{4}", ["0000", "0001", "0002"], "0002", ["{part}"], "{0000..0002}"),
        (20, 10, r"\d{3}", ["0009", "0019"], "00020-00029", [f"{{part}}{n}" for n in range(10)],
        "{0000..0019}"),
        (20_000, 100, r"\d{3}", [f"{n:03d}99" for n in range(200)], "000200-000299",
         [f"{{part}}{n:02d}" for n in range(100)], "{00000..19999}"),
    ],
)  # fmt: skip
def test_shards(
    shards: int, per_job: int, part: str, named: list[str], each: str, files: list[str], braces: str
) -> None:
    """Jobs of 1, 10 and 100: their parts, what stands for all shards among inputs, and the commands' short
    forms.
    """
    run = run_of(shards, per_job)
    assert (run.part, run.last_of_jobs) == (part, named)
    assert run.all_shards("{k}/s-{shard}")(given(k=7)) == [f"7/s-{shard}" for shard in named]
    assert run.each_shard(given(part="0002")) == each
    assert run.of_part("a/{shard}.h5") == [f"a/{file}.h5" for file in files]
    assert run.braces("{k}/s-{shard}.{e}", e="h5")(given(k=7)) == f"7/s-{braces}.h5"


def test_threads_are_shared_by_the_jobs_of_shards() -> None:
    assert [run_of(3).shard_threads(cores) for cores in (None, 2, 9, 64)] == [8, 1, 3, 8]
    assert run_of(20, 10).shard_threads(8) == 4


def test_paths_at_the_main_values() -> None:
    run = run_of(2)
    path = f"{run}/{{masks}}/k-{{k}}/seed-{{seed}}/{{shard}}{{post}}"
    assert run.of_run(path) == [
        f"results/x/topk-0.4/k-5/seed-{seed}/000{s}" for seed in (1, 2) for s in (0, 1)
    ]
    assert run.of_run(path, seed=[3], shard="z", post="_crf", k=9) == ["results/x/topk-0.4/k-9/seed-3/z_crf"]
    assert run.of_oracle(f"{run}/{{masks}}/k-{{k}}/a.json") == "results/x/oracle/{case}/k-{k}/a.json"
    round_0, round_2 = (
        given(masks="m", k=5, seed=1, tau="0.9", hard="0.2", round=number, trained="") for number in (0, 2)
    )
    assert "/pseudo_labels/" in run.learnt_labels(round_0) and "/labels/" in run.learnt_labels(round_2)
    assert (
        run.model_before(round_2)
        == "results/x/m/k-5/seed-1/tau-0.9/hard-0.2/crf-1/segmenter/model.safetensors"
    )


def test_paths_of_rounds_of_self_training() -> None:
    run = run_of(2, detector={"weights": "random", "rounds": 2})
    pattern = f"{run}/{layout.CANDIDATES}"
    below = "results/x/topk-0.4/k-5/seed-1{}/candidates/shard-0000.json"
    assert run.of_run(pattern, seed=1, shard="0000", trained=run.trainings) == [
        below.format(trained) for trained in ("", "/round-1", "/round-2")
    ]
    assert run.of_run(pattern, seed=1, shard="0000") == [below.format("/round-2")]
    at = {"masks": "topk-0.4", "k": 5, "seed": 1}
    for trained, before in (("/round-1", ""), ("/round-10", "/round-9")):
        wildcards = given(**at, trained=trained)
        assert run.of_round_before(pattern)(wildcards)[0] == below.format(before)
        assert run.braces_before(pattern)(wildcards) == below.format(before).replace("0000", "{0000..0001}")
    start = run.of_round_before_if_any(f"{run}/{layout.DETECTOR}")
    model = "results/x/topk-0.4/k-5/seed-1{}/detector/model.safetensors"
    found = [start(given(**at, trained=trained)) for trained in run.trainings]
    assert found == [[], [model.format("")], [model.format("/round-1")]]


def test_a_modules_prefix_is_put_once() -> None:
    """As Snakemake does in input and output; what it has put there already comes back from
    ``rules.NAME.output``.
    """
    run = Run(
        configured(), 40, 30, 2, place=lambda path: path if path.startswith("mine/") else f"mine/{path}"
    )
    assert run.at(f"{run}/a.json") == run.at(run.at(f"{run}/a.json")) == "mine/results/x/a.json"
    assert run.braces(f"{run}/{{shard}}")(given()) == "mine/results/x/{0000..0001}"
    oracle = "results/x/oracle/{case}/a.json"
    assert (
        run.of_oracle(f"{run}/{{masks}}/a.json") == run.of_oracle("mine/results/x/{masks}/a.json") == oracle
    )


def test_only_what_the_run_makes_gets_a_prefix(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    file.write_bytes(b"1")
    backbone = {"arch": "vit_micro_patch8", "weights": str(file)}
    run = run_of(2, backbone=backbone, segmenter={"arch": "vit_micro_patch8", "weights": "pretrain"})
    assert run.weights["backbone"] == [str(file)] and is_flagged(run.weights["backbone"][0], "local")
    assert run.weights["segmenter"] == ["results/x/pretrain/segmenter.safetensors"]
    assert not isinstance(run.weights["segmenter"][0], AnnotatedString)
    assert run.weights["detector"] == [] and run.weights_option([]) == "random"
    (found,) = run.contents([*run.weights["backbone"], *run.weights["segmenter"], "resources/data/voc/x"])
    assert found == "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"


def test_a_run_is_planned_after_looking_at_what_it_needs() -> None:
    run = plan_run(configured(num_shards=7))
    assert (run.num_images, run.num_fitted, run.num_shards, run.per_job) == (40, 30, 7, 1)
    assert run.has_ground_truth and not run.annotations and not run.names
    with pytest.raises(MaskDistillError, match="31 clusters"):
        plan_run(configured(clusters={"num_clusters": 31}))


def test_how_a_stage_works_is_handed_over_and_not_compared() -> None:
    text = json.dumps({"a": {"workers": 3, "lr": 1}, "log_every": 2})
    assert ways.shaping(text)(given()) == ways.shaping(lambda _: text)(given()) == '{"a":{"lr":1}}'
    assert ways.in_full(text)(given(), 1) == text and ways.untracked(0.5)(given(), 1) == 0.5


def test_settings_at_swept_values() -> None:
    made = Settings(configured(masks={"resize_mask": "nearest"}, crf={"rounds": 1, "iters": 3}))
    assert json.loads(made.masks("topk-0.25"))["topk"] == 0.25
    assert json.loads(made.masks("lost-100")) == {"rule": "lost-100", "resize_mask": "nearest"}
    labels = json.loads(made.labels(given(tau="0.8-bbox")))
    assert (labels["tau"], labels["type"]) == (0.8, "bbox")
    assert json.loads(made.labels(given(tau="0.8")))["type"] == "mask"
    clusters, embeddings = json.loads(made.clusters(40)), json.loads(made.embeddings())
    assert clusters["num_clusters"] == 40 and not clusters.keys() & (
        embeddings.keys() | {"overcluster", "names"}
    )
    again = json.loads(made.consistency(given(masks="topk-0.25", k=40)))
    assert (again["masks"]["topk"], again["clusters"]) == (0.25, clusters)
    assert '"iters":3' in made.crf_option(given(post="_crf")) and made.crf_option(given(post="")) == ""
    objects = json.loads(made.own_objects)
    assert objects["objects"]["formats"] == ["coco"] and objects["pseudo_labels"] == {
        "tau": 0.9,
        "compare": "gt",
    }
    assert json.loads(Settings(configured(objects={"min_score": 0.4})).own_objects)["pseudo_labels"] == {}
    assert json.loads(made.sections_but("masks", "data")).keys() == Config.model_fields.keys() - {
        "masks",
        "data",
    }


def test_targets_of_a_sweep() -> None:
    assert targets.sweep_targets(run_of(2)) == []
    run = run_of(2, sweep={"tau": [0.5], "label_types": ["bbox"]}, seeds=[1])
    below = "results/x/topk-0.4/k-5/seed-1/tau-{}/hard-0.2/crf-0/evaluation/segmenter.json"
    swept = [below.format(tau) for tau in ("0.9", "0.9-bbox", "0.5", "0.5-bbox")]
    assert targets.sweep_targets(run) == swept
    folder = "results/x/{masks}/k-{k}/seed-{seed}/tau-{tau}/hard-{hard}/crf-{round}"
    pattern = f"{folder}/evaluation/segmenter{{post}}.json"
    assert targets.beside_main(run, pattern) == swept[1:]
    rounds = run_of(2, sweep={"rounds": [0, 1]}, seeds=[1], detector={"weights": "random", "rounds": 2})
    assert targets.sweep_targets(rounds) == [
        below.replace("seed-1", f"seed-1{trained}").format("0.9") for trained in ("/round-2", "", "/round-1")
    ]


def test_targets_of_ablations_and_oracle() -> None:
    asked = {"label_types": ["bbox"], "hard_pixels": [0.7], "crf_rounds": 1}
    run = run_of(2, ablations=asked, oracle={"cases": ["objects", "labels"]}, seeds=[1])
    found = targets.ablated(run, "{tau}", "{tau} {hard} {round}{post}", [1])
    assert found == ["0.9-bbox", "0.9 0.7 0", "0.9 0.2 0", "0.9 0.2 1", "0.9 0.2 0_crf", "0.9 0.2 1_crf"]
    scores = targets.oracle_scores(run, "m {case} {k}", "d {case}", "s {case} {round}")
    assert scores == ["m objects 5", "d objects", "s objects 0", "s labels 0"]


def test_targets_of_the_bench() -> None:
    asked = {"rules": ["lost-9"], "stages": ["detector", "masks"], "rounds": [2]}
    run = run_of(2, bench=asked, seeds=[1])
    assert layout.benched_folders(run.config) == ["topk-0.4", "lost-9"]
    found = targets.benched(
        run, ("masks", "m {masks}"), ("detector", "d {masks}{trained}"), ("segmenter", "s")
    )
    assert sorted(found) == [
        "d lost-9", "d lost-9/round-2", "d topk-0.4", "d topk-0.4/round-2", "m lost-9", "m topk-0.4",
    ]  # fmt: skip
    assert targets.benched(run, ("detector", "{masks}{trained}"), trained="") == ["topk-0.4", "lost-9"]
    assert targets.benched(run_of(2, bench={"stages": ["masks"]}), ("segmenter", "s {masks}")) == []


def test_backbones_of_the_bench(tmp_path: Path) -> None:
    """They stand in the folders of their features and masks, of which the rule's settings are the same."""
    file = tmp_path / "b.pth"
    file.write_bytes(b"1")
    further = {name: {"arch": "vit_micro_patch8", "weights": str(file)} for name in ("b", "c-8")}
    run = run_of(2, bench={"rules": ["lost-9"], "backbones": further}, masks={"refine": "grabcut"})
    assert layout.benched_folders(run.config) == [
        "topk-0.4", "lost-9", "topk-0.4@b", "lost-9@b", "topk-0.4@c-8", "lost-9@c-8",
    ]  # fmt: skip
    masks = folders.pattern(layout.benched_suffixes(run.config))
    for name, found in {"lost-9@b": True, "topk-0.4": True, "lost-9@d": False, "lost-9@": False}.items():
        assert bool(re.fullmatch(masks, name)) == found
        assert folders.is_folder(name) == (not name.endswith("@")) and folders.rule_of(
            name
        ) in layout.benched_folders(run.config)
    inputs = run.features_behind(f"{run}/{layout.FEATURES}")
    for name, at in (("lost-9@c-8", "@c-8"), ("topk-0.4", "")):
        assert inputs(given(masks=name, part="0001")) == [f"results/x/features{at}/shard-0001.h5"]
        assert folders.suffix_of(name) == at and bool(run.backbone_weights[at]) == bool(at)
    assert run.shared.count(str(file)) == 1 and run.backbones[""] == run.config.backbone
    own, same = (json.loads(Settings(run.config).masks(name)) for name in ("topk-0.4", "topk-0.4@b"))
    assert own == same and own["refine"] == "grabcut"
    assert json.loads(Settings(run.config).masks("lost-9@b"))["rule"] == "lost-9"
    assert mask_folders.rule_code("lost-9@b") == mask_folders.rule_code("lost-9")


@pytest.mark.hostile(
    "config: bench.backbones with a name that is none, weights: pretrain, fewer heads than masks.cls_heads, "
    "or features.store: false",
    outcome="refused before anything is planned; the message names the backbone",
)
@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"bench": {"backbones": {"a/b": {"weights": "random"}}}}, r"backbones\.a/b"),
        ({"bench": {"backbones": {"a": {"weights": "pretrain"}}}}, r"a\.weights: the bench trains no backb"),
        ({"bench": {"backbones": {"a": {"weight": "random"}}}}, r"backbones\.a\.weight: .*`weights: random`"),
        ({"bench": {"backbones": {"a": SCENES["backbone"]}}, "masks": {"cls_heads": 6},
          "backbone": {"arch": "dino_vits16", "weights": "random"}}, r"bench\.backbones\.a\.arch .* has 4"),
        ({"bench": {"backbones": {"a": {"weights": "random"}}}, "features": {"store": False}},
         r"bench\.backbones work on stored keys"),
    ],
)  # fmt: skip
def test_backbones_that_cannot_be_compared(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(MaskDistillError, match=message):
        configured(**sections)


def test_targets_that_cannot_be_made(tmp_path: Path) -> None:
    bare = run_of(2, data={"kind": "folder", "root": str(tmp_path)})
    targets.need_ground_truth(set(), bare.config)
    with pytest.raises(
        MaskDistillError, match=r"oracle, table1: scores need ground truth, and data\.kind folder"
    ):
        targets.need_ground_truth({"table1", "oracle"}, bare.config)
    with pytest.raises(MaskDistillError, match="a probe learns from ground truth"):
        targets.check_probe(
            Run(bare.config.model_copy(update={"probe": SimpleNamespace(enabled=True)}), 1, 1, 1)
        )
    unstored = run_of(2, features={"store": False})
    targets.check_paper(unstored, {"table1"}, with_conda=True)
    with pytest.raises(MaskDistillError, match=r"set features\.store to true"):
        targets.check_paper(unstored, {"figure4"}, with_conda=True)
    targets.check_bench(unstored, {"all"})
    with pytest.raises(MaskDistillError, match=r"bench: .* set features\.store to true"):
        targets.check_bench(unstored, {"bench"})


def test_errors_are_snakemakes_own() -> None:
    with pytest.raises(WorkflowError, match="told"), refusals():
        raise MaskDistillError("told")
    with pytest.raises(KeyError), refusals():
        raise KeyError


def test_commands_are_found_after_those_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/a:/b")
    find_commands(Path("/c"))
    find_commands(Path("/c"))
    assert os.environ["PATH"] == "/a:/b:/c"


def test_a_rule_without_an_environment_gets_the_default() -> None:
    """Snakemake would format the checkout's braces."""
    folder = SimpleNamespace(
        is_local=True,
        join=lambda path: SimpleNamespace(get_path_or_uri=lambda secret_free: f"/{{x}}/w/{path}"),
    )
    for own, expected in ((None, "/{{x}}/envs/m.yaml"), ("../envs/d.yaml", "/{{x}}/envs/d.yaml")):
        rule = SimpleNamespace(basedir=folder, conda_env=own, ruleinfo=SimpleNamespace(conda_env=own))
        with_environment(rule, "../envs/m.yaml")
        assert rule.conda_env == rule.ruleinfo.conda_env == expected
    assert unformatted("{a}") == "{{a}}"
