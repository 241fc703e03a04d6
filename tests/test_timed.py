"""What ``init`` timed stands for records until jobs have ended."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from miniature import SPEEDS

from maskdistill.config import Config, load_config
from maskdistill.product import records, timed
from maskdistill.product.costs import Cost, Sizes
from maskdistill.product.records import known_costs
from maskdistill.product.speeds import speedup
from maskdistill.product.timed import FILE, SOURCE, remember
from maskdistill.runtime.files import write_json

CONFIG: dict[str, Any] = {
    "run": "mine", "data": {"kind": "scenes"}, "backbone": {"weights": "random"},
    "detector": {"weights": "random", "batch_size": 4, "iters": 100, "steps": [], "workers": 0},
    "segmenter": {"weights": "random", "batch_size": 8, "epochs": 2, "workers": 0},
}  # fmt: skip
SIZES = Sizes(images=200, main=200, scored=200, shard_jobs=2, trained=200)


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (records, timed):
        monkeypatch.setattr(module, "machine", lambda: "a CPU, 2 cores")
    monkeypatch.setattr(records, "visible_gpus", list)


def config(**changes: Any) -> Config:
    return load_config(CONFIG | changes)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Folder of a run that has no other beside it."""
    return tmp_path / "results/mine"


def cost(rule: str, results: Path, given: Config | None = None) -> Cost | None:
    return known_costs(given or config(), lambda: SIZES, results)(rule)


def test_a_job_takes_what_was_timed(mine: Path) -> None:
    """By hand: 2 jobs of 100 pictures on 2 cores, a thread each; 5 s to load, or 1.5 s without networks."""
    remember(config(), SPEEDS, 2, 0, mine)
    expected = {
        "features": (5 + 100 * 0.5, 1),
        "embeddings": (5 + 100 * 0.25, 1),
        "candidates": (5 + 100 * 0.4, 1),
        "detector": (5 + 100 * 16 / 4 * (1 + 4 * 0.05), 2),
        "segmenter": (5 + 2 * 25 * (0.5 + 8 * 0.02), 2),
        "predictions": (5 + 100 * 0.1, 1),
        "manifest": (1.5 + 200 * 0.02 / 2, 2),
        "consistency": (5 + 64 * 2 * 0.5 / speedup(2), 2),
        "pseudo_labels": (1.5 + 100 * 0.01, 1),
        "masks": (1.5 + 100 * 1.08e-3 / 2, 2),
        "report": (5, 1),
        "annotations": (1.5, 1),
    }
    for rule, (seconds, cores) in expected.items():
        found = cost(rule, mine)
        assert found is not None, rule
        assert (found.device, found.source) == ("cpu", SOURCE)
        assert [found.wall, found.seconds] == pytest.approx([seconds, seconds * cores]), rule
    assert cost("evaluate_masks", mine) is None and cost("features", mine.with_name("another")) is None


def test_networks_are_those_of_the_gpus(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remember(config(), SPEEDS, 16, 1, mine)
    assert cost("features", mine) is None, "there is no GPU now"
    monkeypatch.setattr(records, "visible_gpus", lambda: ["GPU-1"])
    found = cost("features", mine)
    assert found == Cost("gpu", 5 + 100 * 0.5, SOURCE, 5 + 100 * 0.5)
    report = cost("report", mine)
    assert report is not None and report.device == "cpu"


def test_a_record_of_a_job_comes_first(mine: Path) -> None:
    remember(config(), SPEEDS, 2, 0, mine)
    record = {"machine": "a CPU, 2 cores", "gpus": [], "seconds": 25.0, "cpu_seconds": 50.0, "work": []}
    write_json(mine / "benchmarks/report.json", record | {"settings": {}})
    found = cost("report", mine)
    assert found is not None and found.wall == 25


def test_other_settings_machines_and_damage_tell_nothing(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remember(config(), SPEEDS, 2, 0, mine)
    other = config(segmenter=CONFIG["segmenter"] | {"size": 64})
    assert cost("segmenter", mine, other) is None and cost("detector", mine, other) is not None
    with monkeypatch.context() as patch:
        patch.setattr(timed, "machine", lambda: "a CPU, 4 cores")
        assert cost("detector", mine) is None
    (mine / FILE).write_text("{")
    assert cost("detector", mine) is None
    remember(config(), replace(SPEEDS, start=1), 2, 0, mine)
    found = cost("report", mine)
    assert found is not None and found.wall == 1
    (mine / "file").touch()
    remember(config(), SPEEDS, 2, 0, mine / "file")  # a folder that cannot be made
