"""What doctor and init say of the machine and of what lies beside the pictures."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from maskdistill.cli import init, main
from maskdistill.config import Config, load_config
from maskdistill.data.picture_names import left_out_words
from maskdistill.product import inspection
from maskdistill.product.checks import Check, left_out_check, locks_check, shared_memory_check, uses_workers
from maskdistill.report.images import read_images
from maskdistill.runtime import shared_memory

MIB = 2**20


def config(**changes: object) -> Config:
    weights = {"weights": "random"}
    least = {
        "run": "r",
        "data": {"kind": "scenes"},
        "backbone": weights,
        "detector": weights,
        "segmenter": weights,
    }
    return load_config(least | changes)


@pytest.mark.parametrize(
    ("found", "used", "state", "said"),
    [
        ((MIB, MIB), True, "wrong", "1 of 1 MiB free in /dev/shm"),
        ((MIB, MIB), False, "note", "1 of 1 MiB"),
        ((64 * MIB, 64 * MIB), True, "note", "64 of 64 MiB"),
        ((64 * MIB, 10 * MIB), True, "wrong", "10 of 64 MiB"),
        ((8192 * MIB, 8000 * MIB), True, "ok", "8000 of 8192 MiB"),
        (None, True, "wrong", "no /dev/shm"),
    ],
)
def test_shared_memory_is_judged(found: tuple[int, int] | None, used: bool, state: str, said: str) -> None:
    check = shared_memory_check(found, used)
    assert check.state == state and said in check.found
    assert (state == "ok") == (check.remedy == "")
    assert state == "ok" or ("--shm-size=2g" in check.remedy and "`workers: 0`" in check.remedy)


def test_which_configurations_have_loading_processes() -> None:
    weights = {"weights": "random", "workers": 0}
    alone = {"detector": weights, "segmenter": weights}
    assert uses_workers(config()) and not uses_workers(config(**alone))
    assert uses_workers(config(**alone, features={"workers": 1}))


def test_the_room_there_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path)
    size, free = shared_memory.room() or (0, 0)
    assert size >= free > 0
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path / "absent")
    assert shared_memory.room() is None and "no such folder" in shared_memory.no_room()


def test_locks_and_other_pictures() -> None:
    assert locks_check("/data", True) == Check("file locks", "ok", "/data")
    without = locks_check("/data", False)
    assert (
        without.state == "note"
        and "none in /data" in without.found
        and "one machine at a time" in without.remedy
    )
    assert "2 .dng, 1 .psd" in left_out_check(Counter({".psd": 1, ".dng": 2})).found
    assert left_out_words({}) == ""


def test_doctor_and_init_say_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(inspection, "visible_gpus", list)
    monkeypatch.setattr(init, "visible_gpus", list)
    monkeypatch.setattr(inspection, "room", lambda: (MIB, MIB))
    monkeypatch.setattr(inspection, "has_locks", lambda folder: False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for number in range(3):
        Image.new("RGB", (40, 30), (number, 0, 0)).save(tmp_path / f"photos/{number}.png")
    (tmp_path / "photos/a.dng").touch()
    weights = {"weights": "random"}
    sections = {"backbone": weights, "detector": weights, "segmenter": weights, "crf": {"rounds": 0}}
    data = {"kind": "folder", "root": "photos"}
    given = {"run": "r", "data": data, "clusters": {"num_clusters": 2}, **sections}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(given))
    assert main(["doctor", "--config", "c.yaml"]) == 1
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert any(line.startswith("wrong shared memory") and "1 of 1 MiB" in line for line in lines)
    assert sum(line.startswith("note  file locks") for line in lines) == 1
    assert any(line.startswith("note  other pictures") and "left out: 1 .dng" in line for line in lines)
    assert "shared memory" in printed.err
    assert main(["init", "photos", "--output", "mine.yaml", "--settings", "paper"]) == 0
    assert "left out because they cannot be decoded: 1 .dng" in capsys.readouterr().out
    params = json.dumps(data)
    assert main(["manifest", f"--params={params}", "--output=m.csv", "--log=log"]) == 0
    assert "left out because they cannot be decoded: 1 .dng" in (tmp_path / "log").read_text()
    assert read_images("m.csv", 1, np.zeros(0, np.int64)).left_out == {".dng": 1}
