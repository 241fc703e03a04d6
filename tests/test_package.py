"""What an installed package holds, and that it works without a checkout."""

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from fork_server import fork_server
from PIL import Image

from maskdistill.backbones.registry import BACKBONES
from maskdistill.config import load_config
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.workflow import commands, needed_weights

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = (
    "config",
    "docs",
    "envs",
    "maskdistill",
    "tests",
    "workflow",
    "results/benchmarks",
    "results/report",
)
SHIPPED = "config/weights/vit_micro_patch8.safetensors"


def test_every_file_beside_the_code_is_installed() -> None:
    package = ROOT / "maskdistill"
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]["maskdistill"]
    installed = {path for pattern in patterns for path in package.glob(pattern)}
    there = {path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert there and installed == there


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the project lies beside an installed package; the current folder is an empty one."""
    share = tmp_path / "site/maskdistill/share"
    (share / "config/weights").mkdir(parents=True)
    shutil.copy(ROOT / SHIPPED, share / "config/weights")
    for module in (commands, needed_weights):
        monkeypatch.setattr(module, "CHECKOUT", share)
        monkeypatch.setattr(module, "INSTALLED", True)
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    return share


def test_an_installed_package_works_in_the_current_folder(installed: Path) -> None:
    assert commands.find_project(ROOT / "maskdistill") == ROOT and not (ROOT / "maskdistill/share").exists()
    assert commands.find_project(installed.parent) == installed
    assert commands.start_folder() == Path.cwd() and commands.enter() == []
    assert commands.program("snakemake", "-n").endswith(f"snakemake --snakefile {installed}/Snakefile -n")
    assert commands.program("maskdistill", "plan").endswith("maskdistill plan")
    assert commands.make("crf").endswith("pip install 'maskdistill[crf]'")
    extras = {"crf", "export", "docs", "names", "parquet", "remote", "tensorboard", "video"}
    assert extras == PYPROJECT["project"]["optional-dependencies"].keys()
    assert commands.seen_from_checkout(Path("config/mine.yaml")) == "config/mine.yaml"


def test_an_installed_package_brings_its_weights(installed: Path) -> None:
    values = {"run": "r", "data": {"kind": "folder", "root": "."}}
    values |= {"detector": {"weights": "none.pth"}, "segmenter": {"weights": "random"}}
    config = load_config(values | {"backbone": {"arch": "vit_micro_patch8", "weights": SHIPPED}})
    assert "vit_micro_patch8" in BACKBONES and needed_weights.rehearsal(config) == needed_weights.REHEARSAL
    assert needed_weights.weights_path(config, "backbone", config.backbone) == str(installed / SHIPPED)
    Path(SHIPPED).parent.mkdir(parents=True)
    shutil.copy(installed / SHIPPED, SHIPPED)
    assert needed_weights.weights_path(config, "backbone", config.backbone) == SHIPPED, (
        "a file here comes first"
    )
    with pytest.raises(MaskDistillError, match=r"^detector\.weights: none\.pth: no such file\. Fetch"):
        needed_weights.weights_path(config, "detector", config.detector)


@pytest.mark.slow  # builds, and times the networks on photographs
def test_the_wheel_works_without_a_checkout(tmp_path: Path) -> None:
    source, site, empty = tmp_path / "source", tmp_path / "site", tmp_path / "empty"
    cache = shutil.ignore_patterns("__pycache__", "*.pyc")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, source / folder, ignore=cache)
    for path in ROOT.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy(path, source)
    (source / "profiles").symlink_to("workflow/profiles")
    (source / "config/mine.yaml").write_text("run: mine\n")
    build = "from setuptools import build_meta as b; b.build_wheel('out'); b.build_sdist('out')"
    (source / "out").mkdir()
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    [wheel], [archive] = source.glob("out/*.whl"), source.glob("out/*.tar.gz")
    name = f"maskdistill-{PYPROJECT['project']['version']}"
    assert wheel.name == f"{name}-py3-none-any.whl" and archive.name == f"{name}.tar.gz"

    def files(*folders: str, skip: str = "config/mine.yaml") -> set[str]:
        found = (path for folder in folders for path in (source / folder).rglob("*") if path.is_file())
        return {path.relative_to(source).as_posix() for path in found} - {skip}

    shared = files("config", "envs", "workflow", "profiles") | {"Snakefile"}
    packed = set(zipfile.ZipFile(wheel).namelist())
    assert {entry for entry in packed if "/share/" in entry} == {
        f"maskdistill/share/{path}" for path in shared
    }
    assert packed >= files("maskdistill") and not any(
        entry.startswith(("tests/", "config/")) for entry in packed
    )
    with tarfile.open(archive) as tar:
        held = {entry.name.partition("/")[2] for entry in tar.getmembers() if entry.isfile()}
    wanted = {
        "setup.py",
        "requirements.lock",
        "CHANGELOG.md",
        "CITATION.cff",
        "LICENSE",
        "Makefile",
        "mkdocs.yml",
    }
    assert held >= shared | wanted | files(*FOLDERS) and "config/mine.yaml" not in held

    zipfile.ZipFile(wheel).extractall(site)
    (empty / "photos").mkdir(parents=True)
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(empty / f"photos/{number}.png")

    def command(*arguments: str) -> str:
        environment = os.environ | {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": ""}
        status, out, err = fork_server().run(["maskdistill", *arguments], empty, environment)
        assert status == 0, out + err
        return out

    measuring = site / "maskdistill/cli/measuring.py"
    assert measuring.read_text().count("REPEATS = 3") == 1
    measuring.write_text(measuring.read_text().replace("REPEATS = 3", "REPEATS = 1"))
    assert command("--version").strip() == PYPROJECT["project"]["version"]
    said = command("init", "photos", "--weights", "shipped")
    assert (
        "missing" not in said
        and f"--snakefile {site}/maskdistill/share/Snakefile" in said
        and "cd " not in said
    )
    assert sorted(path.name for path in empty.iterdir()) == ["config", "photos", "results"]
    plan = command("plan", "--config", "config/mine.yaml")
    assert "download: 0 B" in plan and "segmenter" in plan and "report" in plan
    assert sorted(path.name for path in (site / "maskdistill/share").iterdir()) == [
        "Snakefile", "config", "envs", "profiles", "workflow",
    ]  # fmt: skip
