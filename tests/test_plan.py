"""``maskdistill plan``: sums by hand, and what it says of each full configuration where no data is
present.
"""

import re
from pathlib import Path
from typing import Any

import pytest

from maskdistill.backbones.registry import weights_bytes
from maskdistill.cli import main, plan
from maskdistill.cli.config import check_file
from maskdistill.config import Config
from maskdistill.product.costs import Sizes, cost_of, paper_bound
from maskdistill.product.plan import in_words, job_lines, parse_jobs
from maskdistill.runtime.errors import MaskDistillError

CONFIGS = Path(__file__).parents[1] / "config"
TABLE = """Building DAG of jobs...
Job stats:
job          count
---------  -------
features        35
detector         5
segmenter       10
all              1
total           51

"""


@pytest.fixture
def nothing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without data, weights or results; the dry run is tests/dag's matter."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan, "dry_run", lambda *_: TABLE)
    return tmp_path


def planned(capsys: pytest.CaptureFixture[str], name: str) -> str:
    assert main(["plan", "--config", str(CONFIGS / f"{name}.yaml")]) == 0
    return capsys.readouterr().out


def voc() -> Config:
    return check_file(CONFIGS / "voc.yaml")


def test_jobs_of_a_dry_run() -> None:
    assert parse_jobs(TABLE) == {"features": 35, "detector": 5, "segmenter": 10}
    assert (
        parse_jobs("Building DAG of jobs...\nNothing to be done (all requested files are present).\n") == {}
    )
    with pytest.raises(MaskDistillError, match=r"dry run failed(.|\n)*no such file: dino\.pth"):
        parse_jobs("WorkflowError:\nno such file: dino.pth")


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("dino_vits16", 21_665_664), ("dino_vitb16", 85_798_656), ("moco_v2_800ep", 23_508_032)],
)
def test_parameters(name: str, parameters: int) -> None:
    """The numbers that timm and torchvision give of these networks without a classifier."""
    assert weights_bytes(name) == 4 * parameters


def test_bytes_in_words() -> None:
    counts = [None, 0, 999, 1000, 1_999_639_040, 13e9, 2.5e12]
    assert [in_words(count) for count in counts] == [
        "unknown", "0 B", "999 B", "1.0 kB", "2.0 GB", "13.0 GB", "2.50 TB",
    ]  # fmt: skip


def test_costs_by_hand() -> None:
    config, sizes = voc(), Sizes(images=17_000, main=10_000, scored=1_449, shard_jobs=34)
    found = {
        rule: cost_of(rule, config, sizes) for rule in ("features", "detector", "candidates", "segmenter")
    }
    seconds = {rule: cost and cost.seconds for rule, cost in found.items()}
    # 500 images at 0.66 a second on two cores; 24,000 steps of 0.575 s on 8 GPUs; 10,000/34 images of 0.111 s
    assert seconds["features"] == pytest.approx(2 * 500 / 0.66)
    assert seconds["detector"] == pytest.approx(24_000 * 0.575 * 8)
    assert seconds["candidates"] == pytest.approx(10_000 / 34 * 0.111)
    assert seconds["segmenter"] is None  # nobody measured it
    half = config.model_copy(update={"detector": config.detector.model_copy(update={"batch_size": 8})})
    cost = cost_of("detector", half, sizes)
    assert cost is not None and cost.seconds == seconds["detector"]  # twice the steps of half the images
    clusters = cost_of("clusters", config, Sizes(1_000_000, 1_000_000, 0, 1))
    assert clusters is not None and clusters.seconds == pytest.approx(170 * 20 / 80 * 5 / 10)
    assert paper_bound(config) == 5 * 4 * 20
    text = "\n".join(
        job_lines(
            {"features": 34, "detector": 5, "segmenter": 10, "report": 1}, config, sizes, lambda _: None, 2
        )
    )
    assert (
        f"sums: {5 * 24_000 * 0.575 * 8 / 3600:.1f} GPU-hours" in text
        and "not in the sums: segmenter" in text
    )
    assert re.search(r"segmenter +10 +not measured", text) and re.search(r"report +1 +small", text)


def test_other_networks_than_the_papers_are_not_measured() -> None:
    demo, sizes = check_file(CONFIGS / "demo.yaml"), Sizes(400, 400, 100, 2)
    assert [cost_of(rule, demo, sizes) for rule in ("features", "detector", "candidates")] == [None] * 3
    assert paper_bound(demo) is None


def test_voc_with_nothing_present(nothing_here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = planned(capsys, "voc")
    assert "17,191 pictures (16,551 to train on, 1,449 to score)" in text
    archives = 1_999_639_040 + 460_032_000 + 1_400_000_000
    weights = 4 * (21_665_664 + 23_508_032)
    assert f"download: {(archives + weights) / 1e9:.1f} GB" in text
    assert "size: about, unconfirmed" in text and "CC-BY-NC-4.0" in text
    assert "compute: 50 jobs" in text
    keys = 40 * 53 * 384 * 4 * 17_191  # patches of 640 x 853 pixels, 384 float32 each
    assert f"store: {(archives + weights + keys + 2e9) / 1e9:.1f} GB" in text


def test_coco20k_with_nothing_present(nothing_here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = planned(capsys, "coco20k")
    assert "82,783 pictures (19,817 to train on, 19,817 to score)" in text
    assert re.search(
        r"annotations_trainval2014\.zip +241\.0 MB +size: about, unconfirmed; no checksum known", text
    )
    assert re.search(r"train2014\.zip +13\.0 GB", text) and "download: 13.4 GB" in text


def test_what_is_here_is_not_fetched(nothing_here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (
        "resources/datasets/voc2012/files/files.json",
        "resources/weights/dino_deitsmall16_pretrain.pth",
    ):
        (nothing_here / path).parent.mkdir(parents=True)
        (nothing_here / path).write_text("{}")
    part = nothing_here / "resources/downloads/benchmark.tgz.part"
    part.parent.mkdir()
    part.write_bytes(bytes(1000))
    text = planned(capsys, "voc")
    assert re.search(r"VOCtrainval_11-May-2012\.tar +0 B +here already", text)
    assert re.search(r"dino_deitsmall16_pretrain\.pth +0 B +here already", text)
    assert re.search(r"benchmark\.tgz +1\.4 GB +1,000 bytes of it are here", text)
    assert f"download: {(460_032_000 + 1_400_000_000 - 1000 + 4 * 23_508_032) / 1e9:.1f} GB" in text


def test_copies_are_linked(nothing_here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    datasets = "datasets:\n  voc2012: {path: /data/VOC2012}\n  voc2007: {path: /data/VOC2007}\n"
    text = (CONFIGS / "voc.yaml").read_text().replace("datasets:\n", datasets)
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert main(["plan", "--config", str(path)]) == 0
    told = capsys.readouterr().out
    assert "linked from /data/VOC2012" in told and "the copy stays where it is" in told
    assert f"download: {(1_400_000_000 + 4 * (21_665_664 + 23_508_032)) / 1e9:.1f} GB" in told


def test_without_a_workflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["plan", "--config", str(CONFIGS / "voc.yaml")]) == 1
    assert "no Snakefile here" in capsys.readouterr().err
