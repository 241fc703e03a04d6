"""Official datasets as rules: from copies to manifest and ground truth, and dry runs where nothing is
present.
"""

import re
import sys
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

import official_miniature as official
from dag_project import ROOT, Project, make_project
from fork_server import fork_server

from maskdistill.data.manifest import read_manifest
from maskdistill.runtime.files import read_json

CONFIGS = ROOT / "config"


def plan(project: Project, config: str) -> str:
    """What ``maskdistill plan`` prints in a project's folder."""
    command = ["maskdistill", "plan", "--config", config]
    status, out, err = fork_server().run(command, project.folder, project.environment())
    assert status == 0, out + err
    return out


def jobs(text: str) -> dict[str, int]:
    return {
        name: int(count.replace(",", "")) for name, count in re.findall(r"^  (\w+) +([\d,]+)  ", text, re.M)
    }


def test_full_configurations_can_be_planned_with_no_data_present(tmp_path: Path) -> None:
    """35 shards of 500 images for VOC, 166 for all of train2014; five seeds, and four baselines beside the
    masks.

    The command without a configuration file is VOC's. COCO's jobs are counted for one of its seeds.
    """
    project = make_project(tmp_path)
    of_coco = project.folder / "config/coco20k.yaml"
    seeds = yaml.safe_load((CONFIGS / "voc.yaml").read_text())["seeds"]
    line = f"seeds: {seeds}\n"
    assert len(seeds) == 5 and of_coco.read_text().count(line) == 1
    of_coco.write_text(of_coco.read_text().replace(line, f"seeds: {seeds[:1]}\n"))
    voc, coco = (jobs(plan(project, f"config/{name}.yaml")) for name in ("voc", "coco20k"))
    assert {name: voc[name] for name in ("dataset", "weights", "build_data", "features", "masks",
    "detector")} == {
        "dataset": 3, "weights": 2, "build_data": 1, "features": 35, "masks": 5 * 35, "detector": 5,
    }  # fmt: skip
    assert {name: coco[name] for name in ("dataset", "build_data", "features", "candidates", "detector")} == {
        "dataset": 2, "build_data": 1, "features": 166, "candidates": 166, "detector": 1,
    }  # fmt: skip
    command = [
        "snakemake",
        "results/voc/data/manifest.csv",
        "--cores",
        "all",
        "--dry-run",
        "--quiet",
        "rules",
    ]
    status, out, err = fork_server().run(command, project.folder, project.environment())
    bare = {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", out + err, re.M)}
    assert status == 0 and bare == {name: voc[name] for name in ("dataset", "build_data", "manifest")} | {
        "total": 5
    }
    assert yaml.safe_load((CONFIGS / "config.yaml").read_text()) == yaml.safe_load(
        (CONFIGS / "voc.yaml").read_text()
    )
    assert not (project.folder / "resources").exists() and not (project.folder / "results").exists()


def test_from_copies_to_ground_truth(tmp_path: Path) -> None:
    names = {"voc2007": official.voc2007(), "voc2012": official.voc2012(), "sbd": official.sbd()}
    copies = {name: {"path": str(official.unpack(files, tmp_path / name))} for name, files in names.items()}
    data = {"kind": "voc", "root": "resources/data/voc", "segmenter_list": "Segmentation/train_aug"}
    datasets = {"build": "voc", "check_lists": False, "num_images": 11} | copies
    project = make_project(tmp_path / "project", data=data, datasets=datasets)
    assert {"dataset", "build_data", "build_truth", "manifest"} <= project.planned()
    rules = project.rules()
    assert "build_truth" in rules["ground_truth"].parents
    assert rules["manifest"].parents == {"build_data"} and rules["build_data"].parents == {"dataset"}
    project.snakemake("--until", "ground_truth")
    table = read_manifest(project.results / "data/manifest.csv")
    assert len(table) == 11 and (table["status"] == "ok").all()
    trained = {*official.VOC2007, *official.MAIN2012, *official.TRAIN_AUG}
    assert set(table["key"][table["eval"]]) == set(official.SEG_VAL) - trained
    truth = read_json(project.results / "data/groundtruth/instances.json")
    assert [item["category_id"] for item in truth["annotations"]] == [12, 12]
    left = project.planned()
    assert "features" in left and not {"dataset", "build_data", "manifest", "ground_truth"} & left
    project.configure(data=data, datasets=datasets | {"keep_archives": True})
    assert not {"dataset", "build_data", "manifest"} & project.planned()
