"""Atomic files, canonical JSON, provenance hashes, and OpenCV's threads."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import atomic_directory, atomic_path, canonical_json, read_json, write_json
from maskdistill.runtime.loading import decoding_workers
from maskdistill.runtime.provenance import code_hash, make_provenance


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


@pytest.mark.parametrize(("content", "message"), [(None, "no such file"), ("{", "not valid JSON")])
def test_a_bad_json_file_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "x.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(MaskDistillError, match=message) as error:
        read_json(file)
    assert str(file) in str(error.value)


def test_code_hash_tells_modules_apart_and_refuses_unknown_ones() -> None:
    assert code_hash("masks.py") == code_hash("masks.py")
    assert code_hash("masks.py") != code_hash("clusters.py")
    with pytest.raises(FileNotFoundError):
        code_hash("no_such_module.py")


def test_provenance_holds_hashes_and_no_paths(tmp_path: Path) -> None:
    file = tmp_path / "input.txt"
    file.write_text("abc")
    record = make_provenance("masks", {"topk": 0.4}, {"input": file})
    assert record["inputs"]["input"] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert str(tmp_path) not in canonical_json(record)


def test_opencv_makes_no_thread_pool() -> None:
    """A pool made before a fork hangs the data loading process that inherits it."""
    code = "import maskdistill, cv2; print(cv2.getNumThreads())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "1"


@pytest.mark.parametrize(
    ("workers", "device", "threads", "expected"),
    [(None, "cpu", 8, 0), (None, "cuda", 8, 7), (None, "cuda", 1, 1), (3, "cpu", 2, 3), (0, "cuda", 8, 0)],
)
def test_decoding_processes_are_for_gpus(workers: int | None, device: str, threads: int, expected: int) -> None:
    assert decoding_workers(workers, torch.device(device), threads) == expected
