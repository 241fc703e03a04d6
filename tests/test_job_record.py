"""Devices and peak memory of a job, beside its benchmark."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from maskdistill.cli import main
from maskdistill.runtime import job_record as module
from maskdistill.runtime.files import read_json
from maskdistill.runtime.job_record import (
    add_of_child,
    add_work,
    begin,
    gpu_peaks,
    job_record,
    machine,
    note_settings,
    record_path,
    times_path,
)
from maskdistill.runtime.leases import HELD


def test_a_job_on_the_cpu_leaves_a_record(tmp_path: Path) -> None:
    log = tmp_path / "results/r/logs/masks/topk-0.4/0000.log"
    scenes = [
        "scenes",
        '--params={"kind": "scenes", "num_train": 1, "num_eval": 1, "size": 64}',
        "--threads=1",
    ]
    assert main([*scenes, f"--output={tmp_path}/scenes", f"--log={log}"]) == 0
    record = read_json(tmp_path / "results/r/benchmarks/masks/topk-0.4/0000.json")
    assert record["stage"] == "scenes" and 20 < record.pop("peak_rss_mib") < 100_000
    assert record.pop("machine") == machine() and 0 < record.pop("cpu_seconds") < 60
    (work,), seconds = record.pop("work"), record.pop("seconds")
    assert (work["unit"], work["count"]) == ("img", 2) and 0 < work["seconds"] <= seconds < 60
    settings = {"kind": "scenes", "num_train": 1, "num_eval": 1, "size": 64}
    assert record == {"stage": "scenes", "device": "cpu", "leased": [], "gpus": [], "settings": settings}


def test_a_job_that_fails_leaves_none(tmp_path: Path) -> None:
    log = tmp_path / "results/r/logs/scenes.log"
    assert main(["scenes", '--params={"kind": "video"}', f"--output={tmp_path}/scenes", f"--log={log}"]) == 1
    assert not (tmp_path / "results/r/benchmarks").exists()


@pytest.mark.parametrize(
    ("log", "path"),
    [
        ("results/r/logs/report.log", "results/r/benchmarks/report.json"),
        ("/logs/results/logs/logs/a/logs/0-lost.1.log", "/logs/results/logs/benchmarks/a/logs/0-lost.1.json"),
        ("/var/logs/mine.log", None),
        ("results/logs/mine.log", None),
        ("mine.log", None),
    ],
)
def test_where_it_goes(log: str, path: str | None) -> None:
    assert record_path(log) == (Path(path) if path else None)
    assert times_path(log) == (Path(path).with_suffix(".csv") if path else None)


def test_gpus_and_their_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two GPUs are visible, one was used here and one by a child process."""
    cuda = SimpleNamespace(
        is_initialized=lambda: True,
        device_count=lambda: 2,
        max_memory_reserved=lambda index: [3 * 2**20, 0][index],
        max_memory_allocated=lambda index: [2**20 + 2**19, 0][index],
        get_device_properties=lambda index: SimpleNamespace(uuid=f"aaaa-{index}", name="Fake"),
    )
    monkeypatch.setattr(torch, "cuda", cuda)
    monkeypatch.setattr(module, "_of_children", [])
    monkeypatch.setenv(HELD, "GPU-aaaa-0,GPU-aaaa-1")
    mine = {"uuid": "GPU-aaaa-0", "name": "Fake", "peak_allocated_mib": 1.5, "peak_reserved_mib": 3.0}
    assert gpu_peaks() == [mine]
    add_of_child([mine | {"uuid": "GPU-aaaa-1"}])
    since = begin()
    note_settings({"arch": "a"})
    add_work("step", 7, 2.0004)
    record = job_record("detector", since)
    assert record["work"] == [{"unit": "step", "count": 7, "seconds": 2.0}] and record["settings"] == {
        "arch": "a"
    }
    assert job_record("next", begin())["work"] == [] and job_record("next", begin())["settings"] == {}
    assert record["device"] == "cuda" and record["leased"] == ["GPU-aaaa-0", "GPU-aaaa-1"]
    assert record["gpus"] == [mine, mine | {"uuid": "GPU-aaaa-1"}]
