"""Estimates that learn: records of jobs that ended, in this run and in those beside it."""

from pathlib import Path
from typing import Any

import pytest

from maskdistill.config import Config, load_config
from maskdistill.product import records as module
from maskdistill.product.costs import Sizes
from maskdistill.product.demands import DEMANDS
from maskdistill.product.plan import job_lines
from maskdistill.product.records import known_costs
from maskdistill.runtime.files import write_json
from maskdistill.workflow.commands import CHECKOUT

CONFIG = {
    "run": "mine", "data": {"kind": "scenes"}, "backbone": {"weights": "random"},
    "detector": {"weights": "random"},
    "segmenter": {"weights": "random"},
}  # fmt: skip
SIZES = Sizes(images=1000, main=1000, scored=100, shard_jobs=4, trained=900)


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "machine", lambda: "a CPU, 2 cores")
    monkeypatch.setattr(module, "visible_gpus", lambda: ["GPU-1"])


def config(**changes: Any) -> Config:
    return load_config(CONFIG | changes)


def write(file: Path, settings: dict[str, Any], unit: str = "img", count: int = 100, **changes: Any) -> None:
    """A record of 5 s of loading and 20 s of work, by two busy cores."""
    work = [{"unit": unit, "count": count, "seconds": 20.0}, {"unit": "K", "count": 9, "seconds": 1.0}]
    record = {"machine": "a CPU, 2 cores", "gpus": [], "seconds": 25.0, "cpu_seconds": 50.0, "work": work}
    write_json(file, record | {"settings": settings} | changes)


def features(config: Config) -> dict[str, Any]:
    return {"arch": config.backbone.arch, **config.features.model_dump(mode="json"), "workers": 9}


def test_seconds_are_in_proportion_to_images_but_for_the_loading(tmp_path: Path) -> None:
    """250 images a job: 5 s and 250 times 0.2 s on the clock, twice as much of a core."""
    write(tmp_path / "demo/benchmarks/features/0000.json", features(config()))
    write(tmp_path / "demo/benchmarks/features/0001.json", features(config()), count=300, cpu_seconds=0.0)
    known = known_costs(config(), lambda: SIZES, tmp_path / "mine")
    cost = known("features")
    assert cost is not None and cost.wall == pytest.approx(5 + 250 * 40 / 400)
    assert (cost.device, cost.seconds) == ("cpu", pytest.approx(cost.wall * 1.0))
    assert cost.source == f"from {tmp_path}/demo, 400 images: 25 s a job there"
    assert known("masks") is None and known("report") is None
    write(tmp_path / "mine/benchmarks/features/0000.json", features(config()), count=10)
    own = known_costs(config(), lambda: SIZES, tmp_path / "mine")("features")
    assert own is not None and own.wall == 5 + 250 * 2 and "mine, 10 images" in own.source, (
        "its own come first"
    )


def test_what_depends_on_other_settings_or_another_machine_tells_nothing(tmp_path: Path) -> None:
    mine = config()
    for number, (settings, changes) in enumerate(
        [
            (features(mine) | {"short_side": 123}, {}),
            (features(mine) | {"arch": "dino_vitb8"}, {}),
            (features(mine), {"machine": "a CPU, 4 cores"}),
            (features(mine), {"gpus": [{"uuid": "GPU-2"}]}),
            (features(mine), {"work": []}),
        ]
    ):
        write(tmp_path / f"other/benchmarks/features/{number}.json", settings, **changes)
    (tmp_path / "other/benchmarks/features/cut.json").write_text("{")
    write_json(tmp_path / "other/benchmarks/features/old.json", {"stage": "features", "gpus": []})
    assert known_costs(mine, lambda: SIZES, tmp_path / "mine")("features") is None


def test_a_gpu_that_is_here_counts(tmp_path: Path) -> None:
    """Steps of the detector: 25 s for 100 steps; 48,000 of half the batch, on one GPU."""
    mine = config(detector={"weights": "random", "batch_size": 8, "iters": 24_000})
    settings = mine.detector.model_dump(mode="json")
    for place in ("detector/topk-0.4/k-6/seed-0.json", "oracle/masks/detector/k-6/seed-0.json"):
        write(tmp_path / "x/benchmarks" / place, settings, "step", gpus=[{"uuid": "GPU-1"}])
    known = known_costs(mine, lambda: SIZES, tmp_path / "mine")
    cost = known("detector")
    assert cost is not None and (cost.device, cost.seconds) == ("gpu", pytest.approx(5 + 48_000 * 0.2))
    assert known("oracle_detector") == cost


def test_the_report_takes_as_long_as_it_took(tmp_path: Path) -> None:
    write(tmp_path / "x/benchmarks/report.json", {})
    cost = known_costs(config(), lambda: SIZES, tmp_path / "mine")("report")
    assert cost is not None and (cost.wall, cost.seconds) == (25, 50)
    assert cost.source == f"from {tmp_path}/x, 1 job: 25 s a job there"


def test_of_many_records_some_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_READ", 3)
    for number in range(10):
        write(tmp_path / f"x/benchmarks/features/{number}.json", features(config()))
    cost = known_costs(config(), lambda: SIZES, tmp_path / "mine")("features")
    assert cost is not None and "300 images" in cost.source


def test_the_plan_names_where_each_figure_is_from(tmp_path: Path) -> None:
    write(tmp_path / "demo/benchmarks/features/0000.json", features(config()))
    known = known_costs(config(), lambda: SIZES, tmp_path / "mine")
    lines = list(job_lines({"features": 4, "report": 1}, config(), SIZES, known, 2))
    assert "0.12 core-hours: from" in lines[1] and lines[2].split() == ["report", "1", "small"]
    assert lines[3] == "  sums: 0.0 GPU-hours, 0.1 core-hours (4 min with 2 busy)", (
        "4 x 2 x 55 s by two cores"
    )
    assert "for V100" in list(job_lines({"evaluate_masks": 1}, config(), SIZES, known, 2))[-2]


def test_rules_and_settings_that_are_asked_for_exist() -> None:
    """A setting that a stage is never told would let no record fit."""
    rules = "".join(path.read_text() for path in (CHECKOUT / "workflow/rules").glob("*.smk"))
    for name in DEMANDS:
        assert f"rule {name}:" in rules, name
    mine = config()
    sections = [mine.backbone, mine.features, mine.masks, mine.clusters, mine.detector, mine.pseudo_labels,
                mine.segmenter, mine.probe, mine.pretrain]  # fmt: skip
    told = {name for section in sections for name in type(section).model_fields} | {"features", "masks"}
    assert {name for demand in DEMANDS.values() for name in demand.settings(mine)} <= told
    assert all(count(mine, SIZES) > 0 for demand in DEMANDS.values() if (count := demand.count) is not None)
