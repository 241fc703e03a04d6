"""What a run is planned to do after its photographs or weights were replaced, copied or touched."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from dag_project import Project, make_project
from PIL import Image

from maskdistill.backbones import vit
from maskdistill.backbones.weights import save_weights
from maskdistill.data.scenes import generate_scene

TARGET = "results/mini/features/shard-0000.h5"
ARCH = "vit_micro_patch8"


def write_weights(path: Path, scale: float) -> None:
    state = vit.load_vit(ARCH, "random", torch.device("cpu"), "float32").state_dict()
    save_weights({name: value * scale for name, value in state.items()}, path, {"arch": ARCH})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Features of six photographs, by weights that lie outside of the run."""
    folder = tmp_path_factory.mktemp("content") / "project"
    (folder / "photos").mkdir(parents=True)
    for number in range(6):
        Image.fromarray(generate_scene(0, number, 64, 0.3).image).save(folder / f"photos/{number}.bmp")
    write_weights(folder / "weights.safetensors", 1)
    project = make_project(
        folder, num_shards=1, data={"kind": "folder", "root": "photos"}, baselines={"masks": []},
        backbone={"arch": ARCH, "weights": "weights.safetensors"}, crf={"rounds": 0},
        probe={"enabled": False},
    )  # fmt: skip
    project.snakemake(TARGET)
    return project


def test_content_decides_and_times_do_not(made: Project) -> None:
    for path in (made.folder / "photos").iterdir():
        shutil.copyfile(path, path.with_suffix(".copy"))
        path.with_suffix(".copy").replace(path)
    assert made.planned(TARGET) == set(), "the same photographs, restored from a copy"

    weights = made.folder / "weights.safetensors"
    write_weights(weights, 2)
    os.utime(weights, ns=(10**18, 10**18))
    assert made.planned(TARGET) == {"features"}, "other weights, older than the features"

    photo = made.folder / "photos/3.bmp"
    stat, content = photo.stat(), photo.read_bytes()
    photo.write_bytes(content[:-3] + bytes(255 - value for value in content[-3:]))
    os.utime(photo, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert made.planned(TARGET) == {"manifest", "features"}, "another picture of equal size and time"


def test_copied_results_are_taken_up_by_a_touch(made: Project, tmp_path: Path) -> None:
    """As the documentation says: ``cp -r`` gives new times in any order."""
    shutil.copytree(made.folder, tmp_path / "copy", copy_function=shutil.copyfile)
    copy = Project(tmp_path / "copy")
    for number, path in enumerate(
        sorted(copy.results.rglob("*.h5")) + sorted(copy.results.rglob("manifest.*"))
    ):
        os.utime(path, (1_700_000_000 + number,) * 2)
    shutil.copyfile(made.folder / "photos/2.bmp", copy.folder / "photos/2.bmp")
    copy.snakemake("--touch", TARGET)
    assert copy.planned(TARGET) == set()
