"""Timing the stages' own code on a few photographs."""

import math
from pathlib import Path

import pytest
import torch
import yaml
from miniature import scenes
from PIL import Image

from maskdistill.cli import measuring
from maskdistill.config import load_config

CONFIGS = Path(__file__).parents[1] / "config"


@pytest.mark.slow
def test_every_stage_is_timed_without_weights_and_leaves_threads_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / f"{number}.png" for number in range(2)]
    for file, scene in zip(files, scenes(2), strict=True):
        Image.fromarray(scene.image).save(file)
    values = yaml.safe_load((CONFIGS / "folder.yaml").read_text())
    values["features"]["short_side"] = values["clusters"]["short_side"] = values["segmenter"]["size"] = 32
    sides = {
        "min_size_train": [32],
        "min_size_test": 32,
        "max_size": 64,
        "batch_size": 2,
        "anchor_sizes": [16],
    }
    small = {"rpn_pre_nms": [50, 50], "rpn_post_nms": [20, 20], "rpn_batch": 8, "roi_batch": 4, "roi_pool": 4}
    values["detector"] |= sides | small | {"weights": "nowhere.safetensors"}
    monkeypatch.setattr(measuring, "REPEATS", 1)
    threads = torch.get_num_threads()
    speeds = vars(measuring.measure(load_config(values), files, torch.device("cpu"), 7.5, 2))
    assert speeds.pop("start") == 7.5 and len(speeds) == 10
    assert all(0 < seconds < 60 and math.isfinite(seconds) for seconds in speeds.values()), speeds
    assert torch.get_num_threads() == threads
