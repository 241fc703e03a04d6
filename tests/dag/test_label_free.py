"""No checkpoint, annotation or pseudo-label has a ground-truth file among its ancestors."""

import json
from pathlib import Path

import numpy as np
import pytest
from dag_project import Job, Project, make_project, parse_jobs
from PIL import Image

READERS = {"ground_truth", "evaluate_masks", "evaluate_detector", "evaluate_segmenter", "baselines", "report", "all"}
TRAINED = ("model.safetensors", "annotations.json", "clusters.json", "/masks/shard-", "/candidates/shard-",
           "/pseudo_labels/shard-", "/predictions/shard-", "/pretrain/", "/features/shard-")  # fmt: skip


def ancestors(jobs: list[Job], path: str) -> set[str]:
    """All files that ``path`` is made from, directly or not."""
    maker = {output: job for job in jobs for output in job.outputs}
    found: set[str] = set()
    waiting = [path]
    while waiting:
        job = maker.get(waiting.pop())
        for name in job.inputs if job else ():
            if name not in found:
                found.add(name)
                waiting.append(name)
    return found


def is_ground_truth(path: str) -> bool:
    return "groundtruth" in path or path.endswith("instances.json")


def dag(project: Project) -> list[Job]:
    return parse_jobs(project.snakemake("--dry-run", "--forceall"))


def check(jobs: list[Job]) -> None:
    products = [name for job in jobs for name in job.outputs if any(part in name for part in TRAINED)]
    assert len(products) >= 15
    for product in products:
        assert [name for name in ancestors(jobs, product) if is_ground_truth(name)] == [], product
    assert {job.rule for job in jobs if any(map(is_ground_truth, job.inputs))} <= READERS


def test_scenes(tmp_path: Path) -> None:
    jobs = dag(make_project(tmp_path))
    check(jobs)
    assert any(is_ground_truth(name) for job in jobs for name in job.inputs), "evaluation must read ground truth"


def test_pretraining_on_the_runs_own_images(tmp_path: Path) -> None:
    project = make_project(tmp_path, backbone={"arch": "vit_micro_patch8", "weights": "pretrain"})
    jobs = dag(project)
    check(jobs)
    assert any(job.rule == "pretrain" for job in jobs)


def test_coco(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(4):
        Image.fromarray(np.full((40, 40, 3), number, np.uint8)).save(pictures / f"{number}.png")
    truth = tmp_path / "instances.json"
    truth.write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    data = {"kind": "coco", "images": str(pictures), "annotations": str(truth)}
    jobs = dag(make_project(tmp_path / "project", data=data))
    check(jobs)
    assert [job.rule for job in jobs if str(truth) in job.inputs] == ["ground_truth"]


def test_the_walk_notices_a_leak() -> None:
    leak = [
        Job("ground_truth", (), ("data/groundtruth",)),
        Job("detector", ("data/groundtruth",), ("detector/model.safetensors",)),
    ]
    with pytest.raises(AssertionError):
        check(leak * 8)
    assert ancestors(leak, "detector/model.safetensors") == {"data/groundtruth"}
