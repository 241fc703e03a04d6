"""The report's rows for masks by other rules, and its pictures of several masks an image."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_run import Synthetic
from test_report import Page

from maskdistill.config import load_config
from maskdistill.formats import rle
from maskdistill.report import collect, scores
from maskdistill.runtime.files import read_json, write_json

pytestmark = pytest.mark.slow  # whole reports


def add_baseline(run: Synthetic, name: str, scores: dict[int, float]) -> None:
    """Evaluations of a baseline's masks, one a seed, where the workflow puts them."""
    for seed, miou in scores.items():
        path = run.root / name / "k-3" / f"seed-{seed}" / "evaluation" / "masks.json"
        record = {"stage": "masks", "miou": miou, "corloc": miou + 30, "ap": 5.0, "iou": {"disc": miou}}
        write_json(path, record | {"intervals": {"miou": [miou - 1, miou + 1]}})
        run.evaluations.append(str(path))


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, dict[str, Any], dict[str, Any]]:
    """The synthetic run's page and summary with two baselines, and the summary without them."""
    run = Synthetic(tmp_path_factory.mktemp("compared"))
    plain = run.build()[1]
    add_baseline(run, "lost-400", {11: 20.0, 12: 23.0})
    add_baseline(run, "attention-0.75-largest", {11: 12.5})
    text, summary = run.build()
    return Page(text), summary, plain


def test_baselines_have_rows_of_their_own(compared: tuple[Page, dict[str, Any], dict[str, Any]]) -> None:
    page = compared[0]
    row = page.row("masks: lost-400")
    assert row[1] == "21.5 ± 2.1" and row[6] == "51.5 ± 2.1"
    assert row[8:] == ["dino_vits16.pth", "—", "640", "—", "3", "—", "—", "—", "11, 12"]
    assert page.row("masks: attention-0.75-largest")[1] == "12.5[11.5, 13.5]"
    labels = [row[0] for row in page.rows if row]
    assert labels.index("segmenter") < labels.index("masks: attention-0.75-largest") < labels.index("otsu")


def test_the_summary_holds_them_and_its_stages_stay(
    compared: tuple[Page, dict[str, Any], dict[str, Any]],
) -> None:
    _, summary, plain = compared
    assert summary["stages"] == plain["stages"] and summary["sweep"] == []
    assert set(summary["baselines"]) == {"color_kmeans", "otsu", "lost-400", "attention-0.75-largest"}
    lost = summary["baselines"]["lost-400"]
    assert (lost["miou"], lost["corloc"], lost["ap"], lost["iou"]) == (21.5, 51.5, 5.0, {"disc": 21.5})
    assert [run["miou"] for run in lost["per_seed"]] == [20.0, 23.0]
    assert summary["baselines"]["otsu"] == plain["baselines"]["otsu"]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("results/a/lost-100/k-6/seed-1/evaluation/masks.json", "lost-100"),
        ("results/a/attention-0.75/k-6/seed-1/evaluation/masks.json", "attention-0.75"),
        ("results/a/topk-0.4/k-6/seed-1/evaluation/masks.json", None),
        ("results/lost-100/topk-0.4/k-6/seed-1/evaluation/masks.json", None),
        ("results/a/lost-100@b/k-6/seed-1/evaluation/masks.json", "lost-100@b"),
        ("results/a/topk-0.4@b/k-6/seed-1/evaluation/masks.json", "topk-0.4@b"),
    ],
)
def test_the_folder_says_whose_masks_they_are(path: str, name: str | None) -> None:
    assert scores.mask_rule(path) == name


def summed(benchmarks: Path, **changes: Any) -> dict[str, tuple[int, float]]:
    """Jobs and seconds by rule for a configuration of six clusters."""
    least: dict[str, Any] = {"run": "r", "data": {"kind": "scenes"}, "clusters": {"num_clusters": 6}}
    for stage in ("backbone", "detector", "segmenter"):
        least[stage] = {"weights": "random"}
    config = load_config(
        least | {"baselines": {"masks": ["lost-100", "lost-400"]}, "crf": {"rounds": 1}} | changes
    )
    return {time.rule: (time.jobs, time.seconds) for time in collect.read_benchmarks(benchmarks, config)}


def test_a_baselines_seconds_are_apart(tmp_path: Path) -> None:
    for place, seconds in {
        "masks/topk-0.4/0000": 1.0,
        "masks/lost-400/0000": 2.0,
        "masks/lost-100/0000": 4.0,
    }.items():
        file = tmp_path / f"{place}.tsv"
        file.parent.mkdir(parents=True)
        file.write_text(f"s\tmax_rss\n{seconds}\t-\n")
    assert summed(tmp_path) == {"masks": (1, 1.0), "masks (baselines)": (2, 6.0)}


def test_seconds_of_other_settings_are_left_out(tmp_path: Path) -> None:
    round_ = "topk-0.4/k-6/seed-1/tau-0.9-bbox/hard-0.2"
    own = ["features/0000", "weights/seed.pth", "masks/topk-0.4/0000", "masks/lost-400/0000", "baselines/k-6"]
    own += ["choose_k/topk-0.4", "clusters/topk-0.4/k-6/seed-1", "clusters/topk-0.4/k-6/seed-2"]
    own += [f"segmenter/{round_}/crf-0", f"segmenter/{round_}/crf-1", f"predictions_crf/{round_}/crf-1/0001"]
    own += ["detector/topk-0.4/k-6/seed-1", "detector/topk-0.4/k-6/seed-1/round-1"]
    others = [
        "features@b/0000",
        "masks/topk-0.4@b/0000",
        "clusters/lost-400@b/k-6/seed-1",
        "detector/topk-0.4/k-6/seed-1/round-2",
        "masks/topk-0.5/0000",
        "masks/lost-200/0000",
        "masks/attention-0.6-largest/0000",
        "baselines/k-7",
    ]
    others += ["choose_k/topk-0.45", "clusters/topk-0.4/k-6/seed-3", "clusters/topk-0.4/k-12/seed-1"]
    others += [
        f"segmenter/{round_.replace('-bbox', '')}/crf-0",
        f"segmenter/{round_.replace('0.2', '0.3')}/crf-0",
    ]
    others += [
        f"segmenter/{round_}/crf-2",
        "ablations",
        "paper/table1",
        "paper/backbones/dino/seed-1/frozen",
        "report",
    ]
    for place in [*own, *others]:
        file = tmp_path / f"{place}.tsv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"s\tmax_rss\n{1.0 if place in own else 1000.0}\t-\n")
    found = summed(
        tmp_path, seeds=[1, 2], pseudo_labels={"type": "bbox", "tau": 0.9}, segmenter={"weights": "random"},
        detector={"weights": "random", "rounds": 1},
    )  # fmt: skip
    assert sum(seconds for _, seconds in found.values()) == len(own), found
    assert found["clusters"] == found["segmenter"] == (2, 2.0)


def test_all_masks_of_an_image_are_drawn(tmp_path: Path) -> None:
    run = Synthetic(tmp_path)
    alone = Page(run.build()[0])
    shard = run.root / "topk-0.4/masks/shard-0000.json"
    content = read_json(shard)
    second = np.zeros((48, 64), bool)
    second[30:44, 44:60] = True
    code = rle.encode(second)
    first = next(record for record in content["masks"] if record["image_id"] == 3)
    share = float(second.mean())
    content["masks"].append({**first, "segmentation": code, "bbox": rle.bbox(code), "coverage": share})
    write_json(shard, content)
    run.config["masks"] = {"max_masks": 2}
    text, _ = run.build()
    page = Page(text)

    def tile(images: dict[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        (found,) = [
            image
            for alt, image in images.items()
            if alt.startswith("Mask of sub/photo-3, ") and "clus" in alt
        ]
        return found.astype(int)

    both = f"cluster 01, no cluster, {100 * (first['coverage'] + share):.0f}"
    assert both in page.text and "Up to 2 object masks an image" in page.text
    assert "One object mask an image" in alone.text
    changed = np.abs(tile(page.images()) - tile(alone.images())).sum(axis=2) > 20
    scale = changed.shape[0] / 48
    inside = np.zeros_like(changed)
    inside[int(29 * scale) : int(45 * scale), int(43 * scale) : int(61 * scale)] = True
    assert changed[inside].mean() > 0.5 and changed[~inside].mean() < 0.01


def test_the_share_of_ties_is_a_fact_of_the_masks(tmp_path: Path) -> None:
    run = Synthetic(tmp_path)
    for share, shard in enumerate(sorted(run.root.glob("topk-0.4/masks/*.json"))):
        content = read_json(shard)
        for record in content["masks"]:
            record["tied"] = 0.25 + 0.5 * (share % 2)
        write_json(shard, content)
    masks = [
        record for shard in run.root.glob("topk-0.4/masks/*.json") for record in read_json(shard)["masks"]
    ]
    expected = f"{100 * np.mean([record['tied'] for record in masks]):.0f} %"
    assert re.search(
        rf"of the candidate patches are ties \(cls_mass\)[^%]*{expected}", Page(run.build()[0]).text
    )


def test_a_baseline_in_the_configuration_is_checked() -> None:
    values = {"run": "r", "data": {"kind": "scenes"}} | {
        name: {"weights": "random"} for name in ("backbone", "detector", "segmenter")
    }
    names = ["lost-400", "attention-0.75-largest"]
    assert load_config(values | {"baselines": {"masks": names}}).baselines.masks == names
    assert load_config(values).baselines.masks == []
    with pytest.raises(Exception, match=r"baselines\.masks\.0: mask rule 'lost': write lost-K"):
        load_config(values | {"baselines": {"masks": ["lost"]}})
    assert json.loads(load_config(values).model_dump_json())["baselines"] == {"masks": []}
