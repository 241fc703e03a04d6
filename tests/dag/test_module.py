"""The workflow as a module of another one, in whose folder it then works."""

import ast
import re
from pathlib import Path

from dag_project import MINIATURE, ROOT, Project, make_project

PARENT = """
module maskdistill:
    snakefile: "workflow/Snakefile"
    config: config["objects"]
    {prefix}

use rule * from maskdistill as maskdistill_*
"""
CHANGED = """
use rule manifest from maskdistill as maskdistill_manifest with:
    message: "another message"

use rule detector from maskdistill as maskdistill_detector with:
    log: "own/{masks}/{k}/{seed}{trained}.log"
"""
TARGETS = ("all", "ablations", "oracle", "bench", "paper")
OWN_DETECTOR = """
module maskdistill:
    snakefile: "workflow/Snakefile"
    config: config["objects"]
    prefix: "mine"

use rule * from maskdistill exclude detector as maskdistill_*

rule own:
    output: multiext("mine/results/mini/topk-0.4/k-3/seed-1234/detector/", "model.safetensors", "metrics.csv")
    shell: "cp given/* mine"
"""
CONFIG = MINIATURE | {"num_shards": 20, "shards_per_job": 10, "data": MINIATURE["data"] | {"num_train": 20},
          "paper": {"overcluster": [1]}}  # fmt: skip


def jobs(project: Project, sections: dict[str, object], prefix: str = "") -> set[str]:
    """The texts of all jobs: rule, files, params and command."""
    (plan,) = project.plans([sections], *(f"{prefix}{target}" for target in TARGETS))
    return {
        repr((job.rule.removeprefix(prefix), sorted(job.inputs), job.outputs, job.params, job.command))
        for job in plan
    }


def test_with_a_prefix_and_with_changed_rules(tmp_path: Path) -> None:
    """The same jobs: all results in the prefix's folder, nothing else in it; and all but the changed ones.

    A rule of the parent's can take the place of an excluded one, whose heirs in the oracle are then left out.
    """
    project = make_project(tmp_path)
    own = jobs(project, CONFIG)
    snakefile = project.folder / "Snakefile"
    snakefile.write_text(PARENT.format(prefix="") + CHANGED)
    changed = jobs(project, {"objects": CONFIG}, "maskdistill_")
    assert len(changed) == len(own) and {text.split("'")[1] for text in changed ^ own} == {"detector"}
    assert all("own/" in text for text in changed - own)
    snakefile.write_text(PARENT.format(prefix='prefix: "mine"'))
    placed = jobs(project, {"objects": CONFIG}, "maskdistill_")
    assert {text.replace("mine/results/", "results/") for text in placed} == own
    assert not any(re.search(r"(?<!mine/)results/mini|mine/(?!results/mini)", text) for text in placed)
    snakefile.write_text(OWN_DETECTOR)
    rules = {job.rule: job for job in project.plans([{"objects": MINIATURE}])[0]}
    assert set(rules["own"].outputs) & set(rules["maskdistill_candidates"].inputs)
    assert "maskdistill_report" in rules and "maskdistill_detector" not in rules


def test_all_rules_that_others_inherit_from_are_named() -> None:
    """Those of the oracle and of frozen backbones, which are left out where one of these is excluded."""
    for name, condition in (("oracle", r"INHERITED = ({[^}]*})"), ("frozen", r"not ({[^}]*}) & EXCLUDED")):
        text = (ROOT / "workflow/rules" / f"{name}.smk").read_text()
        (named,) = re.findall(condition, text)
        assert ast.literal_eval(named) == set(re.findall(r"use rule (\w+) as", text))


def test_its_first_stages_run_beside_a_rule_of_the_parents(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    parent = (
        'rule own:\n    input: "mine/results/mini/data/manifest.csv"\n    output: "own"\n    shell: '
        '"cp {input} own"\n'
    )
    (project.folder / "Snakefile").write_text(parent + PARENT.format(prefix='prefix: "mine"'))
    project.configure(objects=CONFIG)
    project.snakemake("--config", "other=1")
    assert len((project.folder / "own").read_text().splitlines()) == 29
    assert (project.folder / "mine/results/mini/logs/manifest.log").is_file()
    assert not (project.folder / "results").exists()
