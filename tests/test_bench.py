"""The bench on four scenes: two rules whose masks are the true objects moved by two and by five pixels."""

import csv
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from maskdistill.cli import main
from maskdistill.cli.bench import published
from maskdistill.cli.bench_pictures import folder_of
from maskdistill.clusters.assignments import write_assignments
from maskdistill.config import MasksConfig
from maskdistill.data.manifest import write_manifest
from maskdistill.data.scenes import generate_scene
from maskdistill.features.store import ImageFeatures
from maskdistill.formats import rle
from maskdistill.formats.label_png import write_label_png
from maskdistill.masks.registry import read
from maskdistill.masks.rules.maskdistill import distilled_masks
from maskdistill.report.bench_costs import read_cost
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import read_json, write_json

SIDE, K, SEEDS = 64, 6, (5, 9)
MOVED = {"topk-0.4": 2, "tokencut": 5}
NAMES = ("image_id", "key", "path", "width", "height", "mode", "sha256", "shard", "train", "eval", "status",
         "reason")  # fmt: skip
CONFIG: dict[str, Any] = {
    "run": "small", "seeds": list(SEEDS), "data": {"kind": "scenes", "num_train": 1, "num_eval": 4,
    "size": SIDE, "seed": 5}, "backbone": {"weights": "random"}, "detector": {"weights": "random"},
    "segmenter": {"weights": "random"}, "clusters": {"num_clusters": K}, "crf": {"rounds": 0},
    "evaluation": {"bootstrap": 40},
    "bench": {"rules": ["tokencut"], "stages": ["masks", "segmenter"], "examples": 2},
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with masks, clusters and label maps of two rules, scored; not to be written into."""
    run = tmp_path_factory.mktemp("bench") / "results/small"
    rows = []
    scenes = {number: generate_scene(5, number, SIDE, 0.5) for number in range(2, 6)}
    for number, scene in scenes.items():
        height, width = scene.semantic.shape
        file = run / f"data/scenes/{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene.image).save(file)
        rows.append((number, f"scene-{number:05d}", f"scenes/{number}.png", width, height, "RGB", "",
                     int(number > 3), False, True, "ok", ""))  # fmt: skip
    write_manifest(run / "data/manifest.csv", pd.DataFrame(rows, columns=list(NAMES)))
    truth = ["--manifest", f"{run}/data/manifest.csv", "--params", json.dumps(CONFIG["data"])]
    assert main(["ground_truth", *truth, "--output", f"{run}/data/groundtruth"]) == 0
    for rule, shift in MOVED.items():
        masks: dict[int, list[dict[str, Any]]] = {0: [], 1: []}
        below = run / rule / f"k-{K}"
        for number, scene in scenes.items():
            for mask in scene.masks:
                code = rle.encode(np.roll(mask, shift, axis=1))
                masks[int(number > 3)].append(
                    {"image_id": number, "key": f"scene-{number:05d}", "segmentation": code, "score": 1.0,
                     "bbox": rle.bbox(code)}
                )  # fmt: skip
            for seed in SEEDS:
                labels = np.roll(scene.semantic, shift + (seed == 9), axis=0)
                folder = below / f"seed-{seed}/tau-0.9/hard-0.2/crf-0/predictions/shard-{int(number > 3):04d}"
                write_label_png(folder / f"scene-{number:05d}.png", labels)
                write_json(folder / "summary.json", {"images": 2})
        for shard, found in masks.items():
            write_json(run / rule / f"masks/shard-{shard:04d}.json", {"masks": found})
        for seed in SEEDS:
            folder = below / f"seed-{seed}"
            with write_assignments(folder / "assignments.h5", sum(map(len, masks.values())), K, {}) as writer:
                for shard, found in masks.items():
                    count = len(found)
                    zeros = [0] * count
                    writer.append(shard, [one["image_id"] for one in found], range(count), zeros, zeros)
            for stage in ("masks", "segmenter"):
                evaluate(run, folder, stage, seed)
        record = {"seconds": 4.0, "cpu_seconds": 2.0, "peak_rss_mib": 256.0 * shift,
                  "work": [{"unit": "img", "count": 2, "seconds": 1.0}]}  # fmt: skip
        write_json(run / f"benchmarks/masks/{rule}/0000.json", record)
    return run


def evaluate(run: Path, folder: Path, stage: str, seed: int) -> None:
    if stage == "masks":
        place = folder
        given = ["--masks", str(run / folder.relative_to(run).parts[0] / "masks/shard-{0000..0001}.json"),
                 "--assignments", f"{folder}/assignments.h5"]  # fmt: skip
    else:
        place = folder / "tau-0.9/hard-0.2/crf-0"
        given = ["--label-dirs", f"{place}/predictions/shard-{{0000..0001}}"]
    common = ["--manifest", f"{run}/data/manifest.csv", "--num-clusters", str(K), "--seed", str(seed),
              "--ground-truth", f"{run}/data/groundtruth/instances.json",
              "--threads", "1", "--params", json.dumps(CONFIG["evaluation"])]  # fmt: skip
    output = f"{place}/evaluation/{stage}.json"
    assert main(["evaluation", "--stage", stage, *common, *given, "--output", output]) == 0


def bench(folder: Path, out: Path, *more: str, rules: Iterable[str] = MOVED, **config: Any) -> int:
    """Run the command on the folder as the workflow does."""
    first = [f"{folder}/{rule}/k-{K}/seed-{SEEDS[0]}" for rule in rules]
    below = "tau-0.9/hard-0.2/crf-0"
    return main(
        ["bench", "--config", json.dumps(CONFIG | config), "--manifest", f"{folder}/data/manifest.csv",
         "--ground-truth", f"{folder}/data/groundtruth/instances.json",
         "--evaluations", *map(str, sorted(folder.glob("*/k-*/**/evaluation/*.json"))),
         "--masks", *(f"{folder}/{rule}/masks/shard-{{0000..0001}}.json" for rule in rules),
         "--assignments", *(f"{one}/assignments.h5" for one in first),
         "--labels", *(f"{one}/{below}/predictions" for one in first),
         "--benchmarks", f"{folder}/benchmarks", "--output", f"{out}/bench.html",
         "--summary", f"{out}/bench.json",
         "--scores", f"{out}/bench.csv", "--pairs", f"{out}/pairs.csv", "--costs", f"{out}/costs.csv", *more]
    )  # fmt: skip


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def compared(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the bench writes of the two rules; not to be written into."""
    folder = tmp_path_factory.mktemp("compared")
    assert bench(made, folder) == 0
    return folder


@pytest.mark.slow
def test_two_rules_side_by_side(made: Path, compared: Path, tmp_path: Path) -> None:
    """Means, intervals and pairs are those of the evaluations; equal work gives equal bytes."""
    assert bench(made, tmp_path) == 0
    for name in ("bench.csv", "pairs.csv", "bench.json", "costs.csv", "bench.html"):
        assert (compared / name).read_bytes() == (tmp_path / name).read_bytes()
    rows = read_csv(tmp_path / "bench.csv")
    assert [(row["stage"], row["rule"]) for row in rows] == [
        ("masks", "topk-0.4"), ("masks", "tokencut"), ("segmenter", "topk-0.4"), ("segmenter", "tokencut"),
    ]  # fmt: skip
    files = {
        rule: [read_json(made / f"{rule}/k-{K}/seed-{seed}/evaluation/masks.json") for seed in SEEDS]
        for rule in MOVED
    }
    for row in rows[:2]:
        both = files[row["rule"]]
        for metric in ("ap", "ap50", "ap75", "ar_100", "corloc", "miou"):
            assert float(row[metric]) == pytest.approx(np.mean([one[metric] for one in both]), abs=1e-4)
            drawn = np.concatenate([np.array(one["resampled"][metric], float) for one in both])
            bounds = [float(row[f"{metric}_{end}"]) for end in ("low", "high")]
            assert bounds == pytest.approx(np.nanpercentile(drawn, [2.5, 97.5]).tolist(), abs=1e-4)
    assert rows[2]["ap"] == "" and float(rows[2]["miou_std"]) > 0
    pairs = {(row["stage"], row["metric"]): row for row in read_csv(tmp_path / "pairs.csv")}
    found = pairs["masks", "ap"]
    assert (found["first"], found["second"], found["resamples"]) == ("topk-0.4", "tokencut", "80")
    first, second = ([one["ap"] for one in files[rule]] for rule in MOVED)
    assert float(found["difference"]) == pytest.approx(np.mean(first) - np.mean(second), abs=1e-4)
    assert float(found["low"]) <= float(found["difference"]) <= float(found["high"])
    assert ("segmenter", "miou") in pairs and ("segmenter", "ap") not in pairs
    page = (tmp_path / "bench.html").read_text()
    assert page.count('src="data:image/jpeg') == 2 * 2 * (1 + len(MOVED) + 1)  # photo, rules, ground truth
    assert "TokenCut (arXiv 2202.11539)" in page
    costs = read_csv(tmp_path / "costs.csv")
    assert costs[1] == {"what": "tokencut", "seconds_per_image": "0.5", "cpu_seconds_per_image": "0.25",
                        "peak_gib": "1.25", "images": "2"}  # fmt: skip


@pytest.mark.slow
def test_backbones_side_by_side(made: Path, compared: Path, tmp_path: Path) -> None:
    """The second rule's files stand for the first's on a further backbone: the numbers are the same."""
    shutil.copytree(made, run := tmp_path / "results/small")
    own, further = "topk-0.4", "topk-0.4@vitb"
    for folder in (run, run / "benchmarks/masks"):
        (folder / "tokencut").rename(folder / further)
    shutil.copytree(run / f"benchmarks/masks/{own}", run / "benchmarks/features@vitb")
    network = {"arch": "vit_micro_patch8", "weights": "random"}
    asked = CONFIG["bench"] | {"rules": [], "backbones": {"vitb": network}, "examples": 1}
    assert bench(run, tmp_path, rules=(own, further), bench=asked) == 0
    for name in ("bench.csv", "pairs.csv"):
        expected, found = (read_csv(folder / name) for folder in (compared, tmp_path))
        for row, other in zip(expected, found, strict=True):
            renamed = {key: further if value == "tokencut" else value for key, value in row.items()}
            if renamed.get("rule") == further:
                renamed["backbone"] = "vit_micro_patch8, random (untrained)"
            assert renamed == other
    assert [row["what"] for row in read_csv(tmp_path / "costs.csv")] == [
        "features@vitb", own, further,
    ]  # fmt: skip
    page = (tmp_path / "bench.html").read_text()
    assert "<b>@vitb</b> is vit_micro_patch8, random (untrained)." in page
    assert "500.0 ms an image (250.0 of CPU) and 0.50 GiB for @vitb." in page
    assert f"</i>{further} <small>vit_micro_patch8, random (untrained)</small>" in page


@pytest.mark.slow
@pytest.mark.hostile("config: bench.beside of other images, or no bench.json", outcome="named and refused")
def test_other_runs_stand_beside_if_they_are_of_the_same_images(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few: dict[str, Any] = {"bench": CONFIG["bench"] | {"examples": 1}}
    assert bench(made, tmp_path / "other", run="vitb", **few) == 0
    beside = tmp_path / "other/bench.json"
    assert bench(made, tmp_path / "own", "--beside", str(beside), **few) == 0
    rows = read_csv(tmp_path / "own/bench.csv")
    assert [row["run"] for row in rows] == ["small"] * 4 + ["vitb"] * 4
    page = (tmp_path / "own/bench.html").read_text()
    assert "vitb: " in page
    both = ("--beside", str(beside), str(made / "../same/bench.json"))
    assert bench(made, made / "../same", **few) == 0
    assert bench(made, tmp_path / "own", *both, **few) == 0
    rows = read_csv(tmp_path / "own/bench.csv")
    assert [row["run"] for row in rows] == ["small"] * 4 + ["vitb"] * 4 + [f"small ({both[-1]})"] * 4
    again = (tmp_path / "own/bench.html").read_text()
    assert f"small ({both[-1]}): " in again, "the other checkout's rows are marked as another run's"
    assert again.count("500.0") == page.count("500.0") > 0, "and have no costs of this run's"
    content = read_json(beside)
    write_json(beside, content | {"images": "0"})
    assert bench(made, tmp_path / "own", "--beside", str(beside)) == 1
    assert f"{beside}: scored on other images" in capsys.readouterr().err
    write_json(beside, {"rows": []})
    assert bench(made, tmp_path / "own", "--beside", str(beside)) == 1
    assert "no bench.json" in capsys.readouterr().err


def test_costs_are_of_what_jobs_went_through(made: Path, tmp_path: Path) -> None:
    assert read_cost(tmp_path, "masks/lost-100") is None
    write_json(
        tmp_path / "features/0.json", {"seconds": 1.0, "cpu_seconds": 1.0, "peak_rss_mib": 1, "work": []}
    )
    assert read_cost(tmp_path, "features") is None
    cost = read_cost(made / "benchmarks", "masks/topk-0.4")
    assert cost is not None and (cost.seconds, cost.cpu_seconds, cost.gib) == (0.5, 0.25, 0.5)


def test_published_values_have_their_sources() -> None:
    found = published()
    assert {"LOST", "TokenCut", "CutLER", "MaskDistill detector"} <= {item.method for item in found}
    assert all(item.source and item.dataset and 0 < item.value < 100 for item in found)
    lost = next(item for item in found if (item.method, item.dataset) == ("LOST", "VOC2007 trainval"))
    assert (lost.score, lost.value) == ("CorLoc", 61.9)


def test_the_rule_is_the_last_folder_of_masks_in_a_path() -> None:
    assert folder_of("results/tokencut/lost-100/k-6/seed-1/assignments.h5") == "lost-100"
    with pytest.raises(MaskDistillError, match="a/b: expected a path through a folder of masks"):
        folder_of("a/b")


def test_the_papers_rule_by_name() -> None:
    rng = np.random.default_rng(3)
    keys = rng.normal(size=(48, 8)).astype(np.float32)
    image = ImageFeatures(keys[:2, :4], keys[:2, :4], keys, (6, 8), (48, 64))
    further = {"min_area": 0.02, "max_area": 0.9, "max_overlap": 0.8}
    config = MasksConfig.model_validate(
        {"topk": 0.3, "max_masks": 3, "affinity": {"center": True}, "further": further}
    )
    expected = distilled_masks(image, config)
    name = "affinity-topk0.3-masks3-center-min_area0.02-max_area0.9-max_overlap0.8"
    found = read(name).masks(image)
    assert len(expected) > 1 and [one.source for one in found] == [one.source for one in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.mask, other.mask)
    assert len(read("affinity").masks(image)) == 1
    with pytest.raises(MaskDistillError, match="no mask would be taken"):
        read("affinity-min_area0.6")
