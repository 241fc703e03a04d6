"""maskdistill curves: what it says of trainings, and TensorBoard's files, read by TensorBoard's own
reader.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from maskdistill.cli import curves as stage
from maskdistill.cli import main
from maskdistill.product.curves import Found, places, read, unchanged
from maskdistill.training.curves import LIVE, Curve, MetricRow, Written, keep_times, write_metrics

SEED = "topk-0.4/k-6/seed-0"
ROUND = f"{SEED}/tau-0.9/hard-0.2/crf-0"


def rows_of(*steps: int, shift: float = 0.0) -> list[MetricRow]:
    return [{"step": float(step), "lr": 0.1, "loss": shift + 1 / step, "loss_mask": 0.3} for step in steps]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose detector has ended, in 3 s a row, and whose segmenter trains."""
    folder = tmp_path / "results/r"
    now = iter([0.0, *np.arange(3.0, 100.0, 3.0).tolist()])
    ended = Curve(folder / SEED / "detector.state" / LIVE, 4, clock=lambda: next(now))
    for row in rows_of(20, 40, 60):
        ended.add(row)
    write_metrics(folder / SEED / "detector/metrics.csv", ended.rows)
    keep_times(folder / SEED / "detector.state" / LIVE, folder / f"benchmarks/detector/{SEED}.csv")
    (folder / SEED / "detector.state" / LIVE).unlink()
    add(folder, rows_of(10, 20))
    return folder


def add(folder: Path, rows: list[MetricRow]) -> None:
    """The segmenter's rows, a second each."""
    curve = Curve(folder / ROUND / "segmenter.state" / LIVE, 2, clock=iter(range(100)).__next__)
    for row in rows:
        curve.add(row)


def test_a_line_a_training(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_metrics(run / "pretrain/backbone.csv", rows_of(5))
    assert main(["curves", str(run)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{SEED}/detector: ended: step 60, lr 0.1, loss 0.01667, loss_mask 0.3, 26.7 images/s, 9 s",
        f"{ROUND}/segmenter: step 20, lr 0.1, loss 0.05, loss_mask 0.3, 20 images/s, 2 s",
        "pretrain/backbone: ended: step 5, lr 0.1, loss 0.2, loss_mask 0.3",
    ]


def test_a_training_that_runs_again_comes_before_what_is_left(run: Path) -> None:
    """And the times of another training are not taken for those of an ended one."""
    (detector, *_) = places(run)
    times = detector.times.read_text()
    detector.times.write_text(times.replace("0.3", "0.4"))
    found = read(detector)
    assert (
        found is not None
        and not found.training
        and found.written.times == []
        and len(found.wall_times()) == 3
    )
    detector.live.parent.mkdir(exist_ok=True)
    detector.live.write_text("step,seconds,images_per_second,lr\n5.0,1.0,2.0,0.1\n")
    again = read(detector)
    assert again is not None and again.training and again.written.rows == [{"step": 5, "lr": 0.1}]


def test_the_oracles_times_lie_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "oracle/masks/k-6/seed-0").mkdir(parents=True)
    (place,) = places(tmp_path)
    assert place.name == "oracle/masks/k-6/seed-0/detector"
    assert place.times == tmp_path / "benchmarks/oracle/masks/detector/k-6/seed-0.csv"


@pytest.mark.hostile("command line: no training in the run's folder", outcome="refused")
def test_nothing_to_show_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["curves", str(tmp_path / "none")]) == main(["curves", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "no such folder; give the folder of a run" in said and "no training has written a row yet" in said


@pytest.mark.hostile("hdf5: metrics of a training, one value changed", outcome="refused")
def test_a_changed_table_is_seen(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = run / SEED / "detector/metrics.csv"
    file.write_text(file.read_text().replace("0.05", "0.06"))
    assert main(["curves", str(run)]) == 1
    assert "metrics.csv: damaged: its content is not what its digest says" in capsys.readouterr().err


def test_how_many_rows_are_the_same() -> None:
    three = rows_of(1, 2, 3)
    assert [unchanged(three, now) for now in (three, rows_of(1, 2), rows_of(1, 2, 4), rows_of(1, shift=1),
    [])] == [
        3, 2, 2, 0, 0,
    ]  # fmt: skip


def scalars(folder: Path) -> dict[str, list[tuple[float, int, float]]]:
    """Wall time, step and value by tag, as TensorBoard's own reader gives them."""
    accumulators = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="the extra tensorboard is not installed",
    )
    reader = accumulators.EventAccumulator(str(folder))
    reader.Reload()
    return {
        tag: [(event.wall_time, event.step, event.value) for event in reader.Scalars(tag)]
        for tag in reader.Tags()["scalars"]
    }


def test_tensorboards_reader_gives_the_rows(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    events = tmp_path / "events"
    for _ in range(2):  # a second call repeats nothing
        assert main(["curves", str(run), "--tensorboard", str(events)]) == 0
    found = scalars(events / SEED / "detector")
    assert set(found) == {"lr", "loss", "loss_mask", "images_per_second"}
    for name in ("lr", "loss", "loss_mask"):
        expected = [(row["step"], float(np.float32(row[name]))) for row in rows_of(20, 40, 60)]
        assert [(step, value) for _, step, value in found[name]] == expected
    times = [time for time, _, _ in found["loss"]]
    assert np.diff(times).tolist() == pytest.approx([3, 3]), "as the rows came"
    assert times[-1] == pytest.approx((run / SEED / "detector/metrics.csv").stat().st_mtime)
    assert [step for _, step, _ in scalars(events / ROUND / "segmenter")["loss"]] == [10, 20]


def test_it_follows_a_training_that_goes_back_and_ends(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the rows that a resumed training took back none is left."""
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")

    def happens() -> Iterator[None]:
        add(run, rows_of(10, 20, 30))
        yield
        add(run, [*rows_of(10), *rows_of(20, shift=2.0)])
        yield
        write_metrics(
            run / ROUND / "segmenter/metrics.csv", [*rows_of(10), *rows_of(20, shift=2.0), *rows_of(25)]
        )
        (run / ROUND / "segmenter.state" / LIVE).unlink()
        yield
        raise KeyboardInterrupt

    events = happens()
    monkeypatch.setattr(stage, "time", SimpleNamespace(sleep=lambda _: next(events)))
    assert main(["curves", str(run), "--tensorboard", str(tmp_path / "events"), "--follow"]) == 130
    found = scalars(tmp_path / "events" / ROUND / "segmenter")
    values = [(step, value) for _, step, value in found["loss"]]
    assert values == [
        (10, float(np.float32(0.1))),
        (20, float(np.float32(2.05))),
        (25, float(np.float32(0.04))),
    ]
    lines = [line for line in capsys.readouterr().out.splitlines() if "segmenter" in line]
    assert [line.partition("step ")[2][:2] for line in lines] == [
        "20",
        "30",
        "20",
        "25",
    ] and "ended" in lines[-1]


def test_without_tensorboard_it_says_what_to_install(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto", None)
    assert main(["curves", str(run), "--tensorboard", "events"]) == 1
    assert "install it: pip install 'maskdistill[tensorboard]' (in a checkout: make tensorboard)" in (
        capsys.readouterr().err
    )


def test_without_times_all_rows_are_of_the_last_ones_time() -> None:
    assert Found("x", Written(rows_of(1, 2), []), False, 7.0).wall_times() == [7, 7]
