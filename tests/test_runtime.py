"""Atomic files, canonical JSON, provenance hashes, and OpenCV's threads."""

import ast
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import torch

import maskdistill
from maskdistill.formats.label_png import read_label_png
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import atomic_directory, atomic_path, canonical_json, read_json, write_json
from maskdistill.runtime.loading import decoding_workers
from maskdistill.runtime.provenance import library_versions, make_provenance


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    write_json(target, {"b": 1})
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(target) == {"b": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_a_failed_folder_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "labels"
    with atomic_directory(target) as folder:
        (folder / "old.png").write_text("old")
    with pytest.raises(RuntimeError), atomic_directory(target) as folder:
        (folder / "new.png").write_text("new")
        raise RuntimeError
    assert [file.name for file in target.iterdir()] == ["old.png"]
    with atomic_directory(target) as folder:
        (folder / "new.png").write_text("new")
    assert [file.name for file in target.iterdir()] == ["new.png"]
    assert [file.name for file in tmp_path.iterdir()] == ["labels"]


def test_equal_values_give_equal_json_and_nan_is_refused() -> None:
    assert canonical_json({"b": [1, 2.5], "a": None}) == '{"a":null,"b":[1,2.5]}'
    with pytest.raises(ValueError):
        canonical_json(float("nan"))


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no such file"), ("{", "has no digest"), ('{"a":1}\n', "has no digest")]
)
def test_a_bad_json_file_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "x.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(MaskDistillError, match=message) as error:
        read_json(file)
    assert str(file) in str(error.value)


@pytest.mark.hostile(
    "hdf5: JSON or label map cut off in a folder that a stage made",
    outcome="the stage stops: --forcerun FOLDER",
)
def test_a_damaged_file_of_a_folder_that_a_rule_made(tmp_path: Path) -> None:
    """Snakemake would not miss the file alone."""
    made = tmp_path / "labels/shard-0000"
    (made / "below").mkdir(parents=True)
    (made / ".snakemake_timestamp").touch()
    (made / "below/x.json").write_text("{")
    (made / "below/x.png").write_text("{")
    for read, name in ((read_json, "x.json"), (read_label_png, "x.png")):
        with pytest.raises(MaskDistillError, match=rf"{name}: .*the same command with --forcerun {made}$"):
            read(made / "below" / name)


def test_provenance_holds_hashes_and_no_paths(tmp_path: Path) -> None:
    file = tmp_path / "input.txt"
    file.write_text("abc")
    record = make_provenance("masks", {"topk": 0.4}, {"input": file})
    assert record["inputs"]["input"] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert str(tmp_path) not in canonical_json(record)


@pytest.mark.slow
def test_provenance_names_every_library_that_is_imported_for_a_result() -> None:
    """Of the packages that the code imports all those that compute; the others read, write, draw and
    check.
    """
    imported = set()
    for file in Path(maskdistill.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            imported |= {name.partition(".")[0] for name in names}
    ours = set(sys.stdlib_module_names) | {"maskdistill"}
    no_results = {
        "tqdm",
        "yaml",
        "pydantic",
        "pydantic_core",
        "jinja2",
        "markupsafe",
        "matplotlib",
    }
    no_results |= {"packaging", "safetensors", "onnx", "onnxruntime", "onnxscript", "snakemake", "detectron2"}
    no_results |= {
        "requests",
        "requests_aws4auth",
        "urllib3",
        "google",
        "tensorboard",
        "open_clip",
        "huggingface_hub",
    }
    computing = imported - ours - no_results
    packages = packages_distributions()
    assert {"torch", "cv2", "faiss", "faster_coco_eval"} <= computing
    for name in computing & packages.keys():
        assert set(packages[name]) & library_versions().keys(), name


def test_opencv_makes_no_thread_pool() -> None:
    """A pool made before a fork hangs the data loading process that inherits it."""
    code = "import maskdistill, cv2; print(cv2.getNumThreads())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "1"


@pytest.mark.parametrize(
    ("workers", "device", "threads", "expected"),
    [(None, "cpu", 8, 0), (None, "cuda", 8, 7), (None, "cuda", 1, 1), (3, "cpu", 2, 3), (0, "cuda", 8, 0)],
)
def test_decoding_processes_are_for_gpus(
    workers: int | None, device: str, threads: int, expected: int
) -> None:
    assert decoding_workers(workers, torch.device(device), threads) == expected
