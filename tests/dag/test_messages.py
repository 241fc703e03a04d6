"""What a user sees when something is wrong: one message that names the thing and the remedy."""

import json
import re
import subprocess
import sys
from pathlib import Path

from dag_project import Project, make_project
from PIL import Image

from maskdistill.config import load_config
from maskdistill.product.finished_run import of_other_pictures
from maskdistill.runtime.files import write_json


def message(project: Project) -> str:
    output = project.snakemake(check=False)
    assert "Traceback" not in output
    return output


def test_missing_weights(tmp_path: Path) -> None:
    output = message(
        make_project(tmp_path, backbone={"arch": "vit_micro_patch8", "weights": "nowhere/dino.pth"})
    )
    assert "backbone.weights: nowhere/dino.pth: no such file" in output
    assert "docs/how-to/weights.md" in output


def test_missing_weights_of_a_frozen_backbone(tmp_path: Path) -> None:
    """A named checkpoint is found also where the command line lacks the word table2, as of a job on a
    cluster.
    """
    project = make_project(
        tmp_path, paper={"backbones": [{"name": "MoCo", "weights": "nowhere.pth"}], "crf_rounds": 0}
    )
    assert "paper.backbones MoCo.weights: nowhere.pth: no such file" in message(project)
    project.configure(paper={"backbones": [{"name": "MoCo", "weights": "moco_v2_800ep"}], "crf_rounds": 0})
    for target in ("table2", "results/mini/paper/table2.html"):
        planned = project.snakemake("--dry-run", target)
        assert "weights: moco_v2_800ep, moco_v2_800ep_pretrain.pth.tar" in planned, planned[-3000:]


def test_unknown_key(tmp_path: Path) -> None:
    output = message(make_project(tmp_path, masks={"top_k": 0.3}))
    assert "masks.top_k: unknown key" in output
    assert "config/mini.yaml" in output


def test_unknown_format_of_objects(tmp_path: Path) -> None:
    output = message(make_project(tmp_path, objects={"formats": ["coco:polygon"]}))
    assert "objects.formats coco:polygon: polygon: " in output and "(its options: polygons)" in output


def test_no_images(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    data = {"kind": "folder", "root": str(tmp_path / "empty")}
    assert "data.root: no picture" in message(make_project(tmp_path / "project", data=data))


def test_absent_annotations(tmp_path: Path) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    data = {"kind": "coco", "images": str(tmp_path), "annotations": "/nope/x.json"}
    output = message(make_project(tmp_path / "project", data=data, clusters={"num_clusters": 1}))
    assert "data.annotations: /nope/x.json: no such file; correct the path" in output


def test_a_bad_annotation_file_stops_the_run_before_its_first_job(tmp_path: Path) -> None:
    """A run that does not come to the ground truth has no use for it, and a dry run does not read it."""
    (tmp_path / "photos").mkdir()
    for number in range(3):
        Image.new("RGB", (40, 40)).save(tmp_path / f"photos/{number}.png")
    images = [{"id": number, "file_name": f"{number}.png"} for number in range(3)]
    mask = [[0, 0, 1e9, 0, 1e9, 1e9]]
    content = {
        "images": images, "categories": [{"id": 1, "name": "a"}],
        "annotations": [{"id": 7, "image_id": 2, "category_id": 1, "segmentation": mask}],
    }  # fmt: skip
    (tmp_path / "truth.json").write_text(json.dumps(content))
    data = {"kind": "coco", "images": str(tmp_path / "photos"), "annotations": str(tmp_path / "truth.json")}
    project = make_project(tmp_path / "project", data=data, clusters={"num_clusters": 1})
    output = message(project)
    assert "truth.json: annotations[0] (id 7): segmentation[0] holds 1000000000.0, outside of" in output
    assert not (project.results / "data").exists()
    project.snakemake("results/mini/data/manifest.csv")
    assert {"manifest", "ground_truth", "detector"} & project.planned() == {"ground_truth", "detector"}


def test_more_clusters_than_training_images(tmp_path: Path) -> None:
    output = message(make_project(tmp_path, clusters={"num_clusters": 100}))
    assert "clusters.num_clusters: 100 clusters" in output and "write `num_clusters: 16`" in output


def test_a_source_on_the_command_line_replaces_that_of_the_file(tmp_path: Path) -> None:
    """The line for millions of pictures, over a file with another kind of data; the jobs see the same."""
    project = make_project(
        tmp_path, clusters={"num_clusters": 1}, support={"kind": "list", "file": "names.txt"}
    )
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    (tmp_path / "names.txt").write_text("a.png\n")
    given = ("--config", "data={kind: list, file: names.txt}")
    manifest = "results/mini/data/manifest.csv"
    output = project.snakemake(manifest, *given)
    assert "manifest: decode 2 pictures" in output and "a.png" in (tmp_path / manifest).read_text()
    output = project.snakemake("--dry-run", *given, "support={kind: folder, root: config}", check=False)
    assert f"no picture below {tmp_path}/config" in output, output[-3000:]


def test_null_on_the_command_line(tmp_path: Path) -> None:
    project = make_project(tmp_path, num_shards=3, clusters={"short_side": 96})
    given = ("num_shards=null", "clusters={short_side: null, backbone: null}", "datasets={build: null}")
    planned = project.snakemake("--dry-run", "--printshellcmds", "--config", *given)
    assert "--num-shards 1 " in planned and '"short_side":null' in planned, planned[-3000:]


def test_crf_rounds_without_the_crf(tmp_path: Path) -> None:
    project = make_project(tmp_path, crf={"rounds": 2})
    hidden = "import importlib.util as u\nfind = u.find_spec\n"
    hidden += "u.find_spec = lambda name, *rest: None if name == 'pydensecrf' else find(name, *rest)\n"
    (project.folder / "sitecustomize.py").write_text(hidden)
    output = message(project)
    assert "crf.rounds: CRF rounds need pydensecrf2" in output and "make crf" in output
    project.configure(crf={"rounds": 0})
    assert "report" in project.planned()
    output = project.snakemake("ablations", check=False)
    assert "ablations.crf_rounds: CRF rounds need pydensecrf2" in output and "Traceback" not in output
    assert not project.results.exists()


def test_targets_that_need_ground_truth(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "pictures/a.png")
    data = {"kind": "folder", "root": str(tmp_path / "pictures")}
    project = make_project(tmp_path / "project", data=data, num_shards=1, clusters={"num_clusters": 1})
    for target in ("ablations", "oracle", "bench"):
        output = project.snakemake(target, check=False)
        assert f"{target}: scores need ground truth, and data.kind folder has none" in output


def test_a_list_of_shards_is_one_argument(tmp_path: Path) -> None:
    """As bash would expand it, 20,000 shards are more than the system takes."""
    commands = make_project(tmp_path).snakemake("--dry-run", "--printshellcmds", "all", "ablations", "table2")
    lists = re.findall(r"\S*\{0000\.\.0001\}\S*", commands)
    assert len(lists) > 20
    assert all(text.startswith("'") and text.endswith("'") for text in lists), set(lists)


def test_braces_in_the_checkouts_path(tmp_path: Path) -> None:
    """Snakemake formats the command's prefix and the environments' paths, which begin with it."""
    project = make_project(tmp_path / "{x} {{y}} {z d'e")
    (project.folder / ".venv").symlink_to(Path(sys.prefix), target_is_directory=True)
    python = str(project.folder / ".venv/bin/python")
    command = [python, *project.command("results/mini/data/scenes")[1:]]
    done = subprocess.run(
        command, cwd=project.folder, env=project.environment(), text=True, capture_output=True
    )
    assert done.returncode == 0 and (project.results / "data/scenes").is_dir(), done.stderr[-3000:]
    assert "report" in project.planned()


def test_a_run_that_would_replace_one_on_other_pictures_says_so(editable: Project) -> None:
    warning = "results/mini holds a run on other pictures (scenes); all of it is made anew from yours."
    assert warning not in editable.snakemake("--dry-run")
    (editable.folder / "photos").mkdir()
    for number in range(4):
        Image.new("RGB", (40, 30), (number, 0, 0)).save(editable.folder / f"photos/{number}.png")
    editable.configure(data={"kind": "folder", "root": "photos"})
    said = editable.snakemake("--dry-run")
    assert f"{warning} To keep it, give this run a name of its own: --config run=NAME" in said
    assert "other pictures" not in editable.snakemake("--dry-run", "--config", "run=another")


def test_the_same_folder_in_another_spelling_is_no_other_pictures(tmp_path: Path) -> None:
    """Of a finished run that named its folder relative to where it began."""
    weights = {"weights": "random"}
    values = {"run": "r", "backbone": weights, "detector": weights, "segmenter": weights}
    configs = [
        load_config(values | {"data": {"kind": "folder", "root": root}})
        for root in ("photos", str(Path("photos").absolute()), "photos/", "others")
    ]
    write_json(tmp_path / "summary.json", {"provenance": {"config": configs[0].model_dump(mode="json")}})
    said = [of_other_pictures(tmp_path, config) for config in configs]
    assert said[:3] == [None] * 3 and f"({configs[0].data.kind} {Path('photos').absolute()})" in str(said[3])
