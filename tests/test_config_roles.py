"""Which settings shape the training, the use of what was trained, or the scores alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from miniature import detector_config
from torch import Tensor

from maskdistill.backbones.resnet import build_resnet
from maskdistill.cli.predictions import chosen_rows
from maskdistill.config import CocoData, Config, DetectorConfig, VocData
from maskdistill.config.roles import (
    DETECTOR_PAIRS,
    DETECTOR_ROUND_FIELDS,
    DETECTOR_SHARED_FIELDS,
    DETECTOR_TEST_FIELDS,
    EVALUATION_SECTIONS,
    HANDED_OUT_SECTIONS,
    has_ground_truth,
    inference_settings,
    label_free,
    round_settings,
    training_settings,
)
from maskdistill.data.manifest import COLUMNS, write_manifest
from maskdistill.data.sources.registry import image_sources
from maskdistill.data.truth.registry import TRUTHS
from maskdistill.detector.model import build_detector
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.training.checkpoint import describe_model, training_provenance

LISTING = {
    "scenes": {"num_train", "num_eval", "size", "difficulty", "seed"},
    "folder": {"root"},
    "list": {"file", "root"},
    "coco": {"images"},
    "voc": {"root", "train_list", "segmenter_list"},
}
"""Settings of data that say which pictures there are and what is trained on them."""
TRAINING = {
    "arch", "weights", "freeze_at", "iters", "batch_size", "reference_batch", "lr", "optimizer",
    "backbone_lr",
    "steps", "gamma", "warmup_iters", "head_channels", "pyramid", "warmup_factor", "momentum", "weight_decay",
    "min_size_train",
    "flip", "aspect_grouping", "precise_bn", "anchor_sizes", "aspect_ratios", "rpn_batch", "roi_batch",
    "roi_positive", "roi_pool",
    "precision", "compile", "drop_loss", "copy_paste", "checkpoint_every", "log_every", "workers",
}  # fmt: skip
"""Settings of the detector that its training sees and no one may change afterwards."""


def test_every_setting_of_data_is_in_one_table() -> None:
    """A new one goes into LISTING above, or into its source's LABELS or SCORED: no label-free stage is given
    these.

    A source that is not in LISTING has no ground truth.
    """
    for kind, source in image_sources().items():
        fields = set(source.model_fields) - {"kind"}
        assert kind in LISTING or kind not in TRUTHS
        parts = [LISTING.get(kind, fields), source.LABELS, source.SCORED]
        assert set().union(*parts) == fields and sum(map(len, parts)) == len(fields), kind
    assert set(Config.model_fields) >= EVALUATION_SECTIONS | HANDED_OUT_SECTIONS
    assert not EVALUATION_SECTIONS & HANDED_OUT_SECTIONS


def test_every_setting_of_the_detector_is_in_one_table() -> None:
    parts: list[set[str]] = [
        TRAINING,
        *map(set, (DETECTOR_TEST_FIELDS, DETECTOR_PAIRS, DETECTOR_SHARED_FIELDS, DETECTOR_ROUND_FIELDS)),
    ]
    assert set().union(*parts) == set(DetectorConfig.model_fields)
    assert sum(map(len, parts)) == len(DetectorConfig.model_fields)


def test_a_stage_that_lists_pictures_is_told_nothing_of_ground_truth() -> None:
    coco = CocoData(kind="coco", images="im", annotations="truth.json", ignore_border=4)
    assert label_free(coco) == label_free(coco, pictures=False) == {"kind": "coco", "images": "im"}
    voc = VocData(kind="voc", root="r", eval_list="mine", instance_list="theirs")
    shaping = {"kind": "voc", "root": "r", "train_list": "Main/trainval", "segmenter_list": None}
    assert label_free(voc, pictures=False) == shaping
    assert label_free(voc) == shaping | {"eval_list": "mine"}
    assert (
        has_ground_truth(coco)
        and not has_ground_truth(CocoData(kind="coco", images="im"))
        and has_ground_truth(voc)
    )


DIFFERENT: dict[str, Any] = {
    "min_size_test": 32, "score_thresh": 0.5, "nms": 0.01, "max_dets": 1,
    "rpn_pre_nms": (100, 2), "rpn_post_nms": (20, 1),
}  # fmt: skip
TRAINED_OTHERWISE: dict[str, Any] = {
    "rpn_pre_nms": (3, 60), "rpn_post_nms": (2, 10), "min_size_train": [32], "rpn_batch": 4, "roi_batch": 2,
    "roi_positive": 0.001, "drop_loss": 0.1,
}  # fmt: skip


def results(**changes: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Losses of one batch in training, and detections in one picture, by the same small network."""
    torch.manual_seed(0)
    config = detector_config(**{"score_thresh": 0.0, "freeze_at": 5} | changes)
    model = build_detector(config, 2, build_resnet(config.arch))
    image = torch.from_numpy(np.random.default_rng(0).random((3, 48, 56), dtype=np.float32))
    masks = torch.zeros(1, 48, 56, dtype=torch.uint8)
    masks[:, 8:30, 10:40] = 1
    box, one = torch.tensor([[10.0, 8.0, 40.0, 30.0]]), torch.tensor([1])
    target = {"boxes": box, "labels": one, "masks": masks, "seed": torch.tensor(5)}
    with torch.no_grad():
        detections = list(model.eval()([image])[0].values())
        return list(model.train()([image], [target]).values()), detections


@pytest.fixture(scope="module")
def usual() -> tuple[list[Tensor], list[Tensor]]:
    return results()


def equal(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(map(torch.equal, first, second))


@pytest.mark.parametrize("name", sorted(DIFFERENT))
def test_what_is_called_a_setting_of_test_time_is_one(
    name: str, usual: tuple[list[Tensor], list[Tensor]]
) -> None:
    losses, detections = results(**{name: DIFFERENT[name]})
    assert equal(losses, usual[0]) and not equal(detections, usual[1])
    base = detector_config()
    changed = base.model_copy(update={name: DIFFERENT[name]})
    assert training_settings(changed) == training_settings(base)
    assert inference_settings(changed) != inference_settings(base)


@pytest.mark.parametrize("name", sorted(TRAINED_OTHERWISE))
def test_what_is_called_a_setting_of_training_is_one(
    name: str, usual: tuple[list[Tensor], list[Tensor]]
) -> None:
    losses, detections = results(**{name: TRAINED_OTHERWISE[name]})
    assert not equal(losses, usual[0]) and equal(detections, usual[1])
    base = detector_config()
    changed = base.model_copy(update={name: TRAINED_OTHERWISE[name]})
    assert training_settings(changed) != training_settings(base)
    assert inference_settings(changed) == inference_settings(base)


def test_rounds_of_self_training_shape_no_training_by_themselves() -> None:
    base = detector_config()
    changed = base.model_copy(update={"rounds": 2, "round_score": 0.5, "round_overlap": 0.3})
    assert training_settings(changed) == training_settings(base)
    assert inference_settings(changed) == inference_settings(base)
    assert round_settings(changed) == {"round_score": 0.5, "round_overlap": 0.3}


def test_a_model_says_nothing_of_test_time_that_its_training_was_not_told() -> None:
    told = detector_config(score_thresh=0.3, max_dets=7)
    untold = DetectorConfig.model_validate(training_settings(told))
    provenance = training_provenance("detector", untold, 1, {})
    assert not DETECTOR_TEST_FIELDS & json.loads(describe_model(untold, 2, provenance)["params"]).keys()
    assert not DETECTOR_TEST_FIELDS & provenance["params"].keys()
    assert training_provenance("detector", told, 1, {}) == provenance
    assert json.loads(describe_model(told, 2, provenance)["params"])["max_dets"] == 7


def test_which_pictures_are_predicted(tmp_path: Path) -> None:
    """Those of a role, or those that a list of VOC's form names; of the support set none."""
    ids = np.arange(1, 6)
    table = pd.DataFrame(
        {
            "image_id": ids, "key": [*"abcd", "support/a"], "path": "p.png", "width": 20, "height": 20,
            "mode": "RGB", "sha256": "", "shard": 0, "train": ids < 4, "eval": ids == 4, "status": "ok",
            "reason": "",
        }
    )  # fmt: skip
    write_manifest(tmp_path / "m.csv", table[list(COLUMNS)])
    (tmp_path / "val.txt").write_text("b  1\nd -1\n\nsupport/a\nelsewhere\n")
    which = {"eval": "d", "train": "abc", "all": "abcd", str(tmp_path / "val.txt"): "bd"}
    for name, keys in which.items():
        assert [row.key for row in chosen_rows(str(tmp_path / "m.csv"), 0, name)] == list(keys), name
    with pytest.raises(
        MaskDistillError, match=r"--images evil: no such list .*give eval, train, all or a text file"
    ):
        chosen_rows(str(tmp_path / "m.csv"), 0, "evil")
