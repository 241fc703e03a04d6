"""Published values beside a run's own: the data file against the sums of [method §11], rows, pages, plots."""

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskdistill.cli import main
from maskdistill.config import Config, load_config
from maskdistill.data.truth.voc import VOC_CLASSES
from maskdistill.paper.cited import Cited, cited_values
from maskdistill.paper.grid import agreement
from maskdistill.paper.page import cell, number
from maskdistill.paper.plan import FIGURES, TABLES, TARGETS, evaluations, places
from maskdistill.paper.plots import encode, sweep_plot, swept_axis
from maskdistill.paper.rows import Entry, entries
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import write_json

VALUES: dict[str, Any] = {
    "run": "r",
    "data": {"kind": "voc", "root": "VOCdevkit/VOC2012"},
    "backbone": {"weights": "random"},
    "detector": {"weights": "random"},
    "segmenter": {"weights": "random"},
    "paper": {
        "seeds": [1, 2],
        "backbones": [{"name": "MoCo", "weights": "moco.pth"}, {"name": "supervised", "weights": "s.pth"}],
    },
}
MINUS = "\N{MINUS SIGN}"
CLASSES = ("background", *VOC_CLASSES)


def config_of(**changes: Any) -> Config:
    return load_config(VALUES | changes)


def record(value: float, classes: Sequence[str] = CLASSES) -> dict[str, Any]:
    """An evaluation whose scores all are ``value``, its intervals one to either side."""
    interval = [value - 1, value + 1]
    protocol = dict.fromkeys(("ap", "ap50", "ap75"), value) | {
        "images": 7,
        "intervals": dict.fromkeys(("ap", "ap50", "ap75"), interval),
    }
    names = ("agnostic_multi", "semantic_multi", "semantic_single", "semantic_single_strict")
    return {
        "miou": value,
        "iou": dict.fromkeys(classes, value),
        "class_intervals": dict.fromkeys(classes, interval),
        "cluster_accuracy": value,
        "intervals": {"miou": interval},
        "protocols": dict.fromkeys(names, protocol),
        "images": 9,
        "counts": {"semantic": 8},
    }


def records(target: str, config: Config, **changes: Any) -> dict[str, Any]:
    """Evaluations of a target: seed 1 scores 40, seed 2 scores 44."""
    return {
        path: record(40.0 if "seed-1/" in path else 44.0) | changes for path in evaluations(target, config)
    }


def by_row(cited: Sequence[Cited], row: str) -> dict[str, float]:
    return {item.column: item.value for item in cited if item.row == row}


def test_published_class_values_average_to_the_published_means() -> None:
    """Means of the rows of Table S2 [method §11-tableS2], and of the README's [method §11-readme]."""
    means = {
        "MaskContrast": 34.98,
        "MaskDistill": 45.90,
        "MaskDistill + CRF": 48.85,
        "MaskDistill, linear": 58.68,
        "MaskDistill + CRF, linear": 62.77,
        "MaskDistill, released model": 48.46,
        "MaskDistill + CRF, linear, released model": 62.77,
    }
    cited = cited_values("tableS2")
    assert set(means) == {item.row for item in cited}
    for row, mean in means.items():
        values = by_row(cited, row)
        assert tuple(values) == (*CLASSES, "mIoU")
        assert sum(values[name] for name in CLASSES) / 21 == pytest.approx(mean, abs=0.006), row


def test_published_values_agree_between_tables() -> None:
    """45.8, 48.9, 58.7 and 62.8 stand in several tables; Table 3 has 6 settings of 4 methods, 3 numbers
    each.
    """
    chain = {item.row: item.value for item in cited_values("table1")}
    second = (
        by_row(cited_values("table2"), "MaskDistill"),
        by_row(cited_values("table2"), "MaskDistill + CRF"),
    )
    last = {item.row: item.value for item in cited_values("tableS1") if item.group == "from masks"}
    assert second == ({"linear": 58.7, "clustering": 45.8}, {"linear": 62.8, "clustering": 48.9})
    assert (chain["+ segmentation model"], last["+ DeepLab"], last["+ CRF"]) == (45.8, 45.8, 48.9)
    assert (
        chain["ViT masks"] == last["ViT masks"] == 39.0
        and chain["+ Mask R-CNN"] == last["+ Mask R-CNN, masks"]
    )
    third = [item for item in cited_values("table3") if item.source == "paper, Table 3"]
    assert len(third) == 6 * 4 * 3
    values = {(item.group[:3], item.row, item.column): item.value for item in third}
    assert (
        values["(c)", "MaskDistill detector", "AP50"] == 32.8 and values["(f)", "DINO masks", "AP75"] == 0.4
    )
    assert cited_values("table9") == ()


@pytest.mark.parametrize("target", TARGETS)
def test_every_place_is_filled_once_with_mean_spread_and_difference(target: str) -> None:
    config = config_of()
    found = entries(target, config, records(target, config))
    computed = [entry for entry in found if entry.scores]
    assert len({entry.key for entry in found}) == len(found)
    assert len(computed) == sum(21 if not place.column else 1 for place in places(target, config))
    for entry in computed:
        assert (entry.ours, entry.seeds) == (42.0, (1, 2)) and entry.std == pytest.approx(math.sqrt(8))
        assert entry.interval in ((41.0, 43.0), None) and entry.images in (7, 8, 9)
        assert entry.difference == (None if entry.paper is None else pytest.approx(42.0 - entry.paper))
        assert entry.protocol
    assert all(entry.interval for entry in computed if entry.column != "accuracy")


def test_what_the_paper_has_and_the_run_lacks_stands_as_quoted() -> None:
    config = config_of()
    second = entries("table2", config, records("table2", config))
    quoted = {entry.row for entry in second if not entry.scores}
    assert quoted == {
        "Co-occurrence", "CMP", "Colorization", "IIC", "Instance discrimination", "InfoMin", "SwAV",
        "SegSort",
        "Hierarchical grouping", "MaskContrast", "MaskContrast + CRF",
    }  # fmt: skip
    rows = [entry.row for entry in second]
    assert rows.index("MoCo") < rows.index("MaskDistill") < rows.index("supervised")
    third = entries("table3", config, records("table3", config))
    assert {entry.group for entry in third if entry.scores and entry.paper is not None} == {
        "(a) class-agnostic multi, VOC", "(c) semantic single, VOC", "(e) semantic multi, VOC",
    }  # fmt: skip
    assert {entry.group for entry in third if entry.scores and entry.paper is None} == {
        "semantic single, strict, VOC"
    }
    coco = config_of(data={"kind": "coco", "images": "i", "annotations": "a.json"})
    third = entries("table3", coco, records("table3", coco))
    assert {entry.group[:3] for entry in third if entry.scores and entry.paper is not None} == {
        "(b)",
        "(d)",
        "(f)",
    }


def test_swept_values_share_all_above_them() -> None:
    """Figure 3 differs below masks, Figure 4 in the masks, Figure 5 below the candidates."""
    config = config_of(paper={"seeds": [5], "overcluster": [1, 3], "topk": [0.2, 1.0], "tau": [0.0, 0.75]})
    assert evaluations("figure3", config) == [
        f"topk-0.4/k-{k}/seed-5/evaluation/masks.json" for k in (20, 60)
    ]
    assert evaluations("figure4", config) == [
        f"topk-{t}/k-20/seed-5/evaluation/masks.json" for t in ("0.2", "1")
    ]
    assert evaluations("figure5", config) == [
        f"topk-0.4/k-20/seed-5/tau-{tau}/evaluation/detector.json" for tau in ("0", "0.75")
    ]


def test_without_crf_rounds_their_rows_are_left_out() -> None:
    config = config_of(paper={"seeds": [5], "crf_rounds": 0})
    assert not any("crf.json" in path for target in TARGETS for path in evaluations(target, config))
    assert any("crf.json" in path for path in evaluations("tableS2", config_of()))


def test_a_score_that_a_seed_lacks_counts_for_the_others() -> None:
    config = config_of()
    given = records("figure5", config)
    first = evaluations("figure5", config)[0]
    given[first] = given[first] | {"miou": None}
    entry = next(entry for entry in entries("figure5", config, given) if entry.scores)
    assert (entry.scores, entry.seeds, entry.std) == ((44.0,), (2,), None)


def test_two_places_that_are_one_are_refused() -> None:
    config = config_of(paper={"seeds": [1], "backbones": [{"name": "MaskDistill", "weights": "x"}]})
    with pytest.raises(MaskDistillError, match=r"table2: .*MaskDistill.* is computed twice"):
        entries("table2", config, records("table2", config))
    with pytest.raises(MaskDistillError, match=r"paper\.tau: give each value once"):
        config_of(paper={"tau": [0.5, 0.5]})
    with pytest.raises(MaskDistillError, match=r"paper\.backbones: .*same name"):
        config_of(paper={"backbones": [{"name": "a b", "weights": "x"}, {"name": "a-b", "weights": "y"}]})


def test_texts_of_a_cell() -> None:
    entry = Entry("", "r", "mIoU", paper=45.8, scores=(40.0, 44.0), seeds=(1, 2), interval=(-1.0, 43.0))
    assert cell(entry) == {
        "paper": "45.8",
        "ours": "42.0 ± 2.8",
        "interval": f"[{MINUS}1.0, 43.0]",
        "difference": f"{MINUS}3.8",
    }
    assert cell(Entry("", "r", "mIoU", paper=45.8)) == {
        "paper": "45.8",
        "ours": "—",
        "interval": "",
        "difference": "—",
    }
    assert number(3.0, signed=True) == "+3.0"


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_the_entry_point_writes_page_table_and_plots(tmp_path: Path, target: str) -> None:
    config = config_of()
    for path, values in records(target, config).items():
        write_json(tmp_path / path, values)
    plots = [str(tmp_path / f"{target}.{kind}") for kind in ("svg", "png")] if target in FIGURES else []
    command = ["paper", "--target", target, "--config", json.dumps(VALUES), "--results", str(tmp_path)]
    command += ["--output", str(tmp_path / "t.html"), "--csv", str(tmp_path / "t.csv"), "--plots", *plots]
    assert main(command) == 0
    with open(tmp_path / "t.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    computed = [row for row in rows if row["ours"]]
    assert computed and all(row["num_seeds"] == "2" and row["per_seed"] == "40.0 44.0" for row in computed)
    assert all(row["protocol"] and row["data"] == "VOC2012 Segmentation/val" for row in computed)
    assert {row["paper_source"] for row in rows if row["paper"]} <= {
        item.source for item in cited_values(target)
    }
    page = (tmp_path / "t.html").read_text()
    assert "42.0 ± 2.8" in page and "[41.0, 43.0]" in page
    assert target not in TABLES or f"{float(rows[0]['paper']):.1f}" in page
    for plot in plots:
        assert Path(plot).stat().st_size > 1000
    if plots:
        with Image.open(plots[1]) as picture:
            assert picture.width > picture.height


def test_an_evaluation_that_is_missing_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["paper", "--target", "table1", "--config", json.dumps(VALUES), "--results", str(tmp_path)]
    assert main([*command, "--output", str(tmp_path / "t.html"), "--csv", str(tmp_path / "t.csv")]) == 1
    assert "evaluation/masks.json: no such file; run the stage that makes it first" in capsys.readouterr().err


def test_plots_are_the_same_bytes_each_time_and_hold_what_is_plotted() -> None:
    config = config_of()
    found = entries("figure5", config, records("figure5", config))
    axis, cited = swept_axis("figure5", config), cited_values("figure5")
    first, second = (encode(sweep_plot(found, axis, cited), "svg") for _ in range(2))
    assert first == second and b"threshold" in first and b"plateau from: 0.75" in first
    (panel,) = sweep_plot(found, axis, cited).axes
    assert panel.lines[0].get_xdata().tolist() == config.paper.tau  # type: ignore[union-attr]
    png = Image.open(io.BytesIO(encode(sweep_plot(found, axis, cited), "png")))
    assert png.size == (585, 450)


def test_agreement_of_one_image() -> None:
    labels = np.array([[0, 1, 2, 3]], np.uint8)
    target = np.array([[0, 2, 255, 1]], np.uint8)
    found = agreement(labels, target, {0: 0, 1: 2, 2: 1, 3: -1}, ("background", "cat", "dog"))
    assert found == {"pixel_accuracy": pytest.approx(200 / 3), "coverage": 75.0, "classes": "cat, dog"}
    assert agreement(labels, np.full((1, 4), 255, np.uint8), {}, ("background",))["pixel_accuracy"] is None
