"""Timing the stages' own code on a few photographs."""

import math
from pathlib import Path

import torch
import yaml
from miniature import scenes
from PIL import Image

from maskdistill.cli.measuring import measure
from maskdistill.config import load_config

CONFIGS = Path(__file__).parents[1] / "config"


def test_every_stage_is_timed_without_weights_and_leaves_threads_as_they_were(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.png" for number in range(2)]
    for file, scene in zip(files, scenes(2), strict=True):
        Image.fromarray(scene.image).save(file)
    values = yaml.safe_load((CONFIGS / "folder.yaml").read_text())
    values["features"]["short_side"] = values["clusters"]["short_side"] = values["segmenter"]["size"] = 32
    sides = {"min_size_train": [32], "min_size_test": 32, "max_size": 64, "batch_size": 2, "anchor_sizes": [16]}
    values["detector"] |= sides | {"weights": "nowhere.safetensors"}
    threads = torch.get_num_threads()
    speeds = vars(measure(load_config(values), files, torch.device("cpu"), 7.5, 2))
    assert speeds.pop("start") == 7.5 and len(speeds) == 10
    assert all(0 < seconds < 60 and math.isfinite(seconds) for seconds in speeds.values()), speeds
    assert torch.get_num_threads() == threads
