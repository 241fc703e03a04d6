"""Rows of the table of ablations: their order, names and published counterparts [method §11-table1,
§11-tableS1].
"""

from pathlib import Path
from typing import Any

import pytest

from maskdistill.cli.ablations import setting_of_folder
from maskdistill.config import Config, load_config
from maskdistill.report import ablations, scores
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import write_json

VALUES: dict[str, Any] = {
    "run": "r",
    "data": {"kind": "scenes"},
    "backbone": {"weights": "random"},
    "detector": {"weights": "random"},
    "segmenter": {"weights": "random"},
}


@pytest.fixture
def config() -> Config:
    return load_config(VALUES)


def evaluation(folder: Path, place: str, stage: str, miou: float) -> scores.Evaluation:
    path = folder / place / "evaluation" / f"{stage}.json"
    write_json(path, {"stage": stage, "miou": miou, "iou": {}, "matching": {}})
    return scores.read_evaluation(path)


def test_rows_follow_the_method(tmp_path: Path, config: Config) -> None:
    seeds = [f"topk-0.4/k-20/seed-{seed}" for seed in (3, 1)]
    below = [
        ("tau-0.9/hard-0.2/crf-1", "segmenter_crf", 7.0),
        ("tau-0.9/hard-0.2/crf-1", "segmenter", 6.0),
        ("tau-0.9/hard-0.2/crf-0", "segmenter_crf", 5.0),
        ("tau-0.9/hard-0.2/crf-0", "segmenter", 4.5),
        ("tau-0.9/hard-1/crf-0", "segmenter", 4.0),
        ("tau-0.9", "detector", 3.0),
        ("tau-0.9-grabcut", "detector", 2.0),
        ("tau-0.9-bbox", "detector", 1.0),
        ("", "masks", 0.5),
    ]
    files = [
        evaluation(tmp_path, f"{seed}/{place}", stage, miou + shift)
        for shift, seed in enumerate(seeds)
        for place, stage, miou in below
    ]
    found = ablations.variants(scores.score_rows(files, config), config)
    assert [(item.name, item.published) for item in found] == [
        ("initial masks", 39.0),
        ("detector, boxes", 31.8),
        ("detector, boxes + GrabCut", 38.2),
        ("detector, masks", 42.0),
        ("segmenter, all pixels", 45.5),
        ("segmenter, hardest 20 % of the pixels", 45.8),
        ("segmenter + CRF", None),
        ("segmenter, CRF round 1", None),
        ("segmenter, CRF round 1 + CRF", None),
    ]
    records = ablations.records(found)
    assert [record["mean"]["miou"] for record in records] == [miou + 0.5 for _, _, miou in reversed(below)]
    assert records[0]["std"]["miou"] == pytest.approx(0.5**0.5)
    assert records[0]["per_seed"] == [{"seed": 1, "miou": 1.5}, {"seed": 3, "miou": 0.5}]


@pytest.mark.parametrize("folder", ["elsewhere", "tau-0.9/candidates", "predictions"])
def test_a_folder_that_is_no_variant_is_named(folder: str) -> None:
    with pytest.raises(MaskDistillError, match=f"--labels {folder}: expected"):
        setting_of_folder(folder)


def test_folders_tell_variants_apart() -> None:
    assert setting_of_folder("tau-0.9-bbox/pseudo_labels") == ("detector", "bbox", None, None)
    assert setting_of_folder("tau-0.9/hard-0.2/crf-1/predictions_crf") == ("segmenter_crf", "mask", 0.2, 1)
