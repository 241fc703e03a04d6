"""The two engines: the same network to rounding, the same files; detectron2 is not part of the project, nor
of CI.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from miniature import write_lines
from PIL import Image

from maskdistill import cli
from maskdistill.annotations.index import IndexBuilder
from maskdistill.config import DetectorConfig
from maskdistill.detector import heads, model, proposals
from maskdistill.formats import rle
from maskdistill.runtime.json_stream import write_json_object

pytest.importorskip("detectron2", reason="detectron2 is not installed (envs/detectron2.yaml)")


def test_every_part_losses_gradients_and_detections_agree() -> None:
    from detectron2_parity import measure

    figures = list(measure())
    assert len(figures) >= 30
    assert [figure for figure in figures if not figure.difference <= figure.tolerance] == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures with a rectangle each, their manifest and annotations."""
    path = tmp_path_factory.mktemp("data")
    lines = ["image_id,key,path,width,height,mode,sha256,shard,train,eval,status,reason"]
    index = IndexBuilder()
    with write_json_object(path / "annotations.json") as stream, stream.array("annotations") as append:
        for number in range(3):
            mask = np.zeros((64, 80), dtype=bool)
            mask[10 + 4 * number : 50, 12 : 60 - 6 * number] = True
            image = np.where(mask[..., None], (200, 60, 40), (90, 120, 110)).astype(np.uint8)
            Image.fromarray(image).save(path / f"{number}.png")
            lines.append(f"{number},{number},{number}.png,80,64,RGB,x,0,True,False,ok,")
            code = rle.encode(mask)
            item = {
                "id": number, "image_id": number, "category_id": 1 + number % 2, "bbox": list(rle.bbox(code)),
                "segmentation": code, "area": rle.area(code), "iscrowd": 0, "score": 1.0,
            }  # fmt: skip
            index.add(number, *append(item))
    index.write(path / "annotations.h5", 2)
    write_lines(path / "manifest.csv", lines)
    return path


def call(folder: Path, output: Path, engine: str) -> tuple[Path, list[dict[str, Any]]]:
    """Train a step, then detect with the same engine: the model and the candidates."""
    params = DetectorConfig(
        engine=engine, weights="random", iters=1, batch_size=3, reference_batch=3, min_size_train=[48, 64],
        min_size_test=64, roi_positive=0.75,
        rpn_pre_nms=(200, 100), rpn_post_nms=(40, 20), rpn_batch=32, roi_batch=8, score_thresh=0.0,
        max_dets=5,
        warmup_iters=0, lr=1e-3, workers=0, checkpoint_every=1, precise_bn=0,
    ).model_dump_json()  # fmt: skip
    common = [
        "--device",
        "cpu",
        "--threads",
        "1",
        "--manifest",
        str(folder / "manifest.csv"),
        "--params",
        params,
    ]
    inputs = ["--annotations", str(folder / "annotations.json"), "--index", str(folder / "annotations.h5")]
    outputs = ["--output", str(output / "model.safetensors"), "--metrics", str(output / "metrics.csv")]
    assert (
        cli.main(["detector", *common, *inputs, *outputs, "--state", str(output / "state"), "--seed", "3"])
        == 0
    )
    found = [
        "--model",
        str(output / "model.safetensors"),
        "--shard",
        "0",
        "--output",
        str(output / "found.json"),
    ]
    assert cli.main(["candidates", *common, *found]) == 0
    return output / "model.safetensors", json.loads((output / "found.json").read_text())["candidates"]


def test_entry_points_give_the_same_model_and_candidates_with_either_engine(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With equal draws: detectron2 samples by torch's own generator, and this project by one an image."""
    from detectron2_parity import gap
    from safetensors.torch import load_file

    for user in (heads, model, proposals):
        monkeypatch.setattr(user, "random_stream", lambda *given: None)
    deterministic = torch.are_deterministic_algorithms_enabled()
    (ours, candidates), (theirs, their_candidates) = (
        call(folder, tmp_path / engine, engine) for engine in ("torchvision", "detectron2")
    )
    torch.use_deterministic_algorithms(deterministic)
    weights, their_weights = load_file(ours), load_file(theirs)
    assert weights.keys() == their_weights.keys()
    for name, value in weights.items():
        # Norms over a few pixels amplify rounding: 1e-7 added to our own image moves our gradients by a
        # hundredth.
        assert gap(value.float(), their_weights[name].float()) < 0.02, name
    rows, their_rows = (
        np.genfromtxt(path.with_name("metrics.csv"), delimiter=",", names=True) for path in (ours, theirs)
    )
    assert rows.dtype == their_rows.dtype
    assert float(rows["loss"]) == pytest.approx(float(their_rows["loss"]), rel=1e-4)
    assert [one.keys() for one in candidates] == [one.keys() for one in their_candidates]
    assert [one["image_id"] for one in candidates] == [one["image_id"] for one in their_candidates]
    assert candidates
    scores, their_scores = ([one["score"] for one in found] for found in (candidates, their_candidates))
    assert scores == pytest.approx(their_scores, abs=1e-3)
