"""Generated scenes whose exact ground truth stands in for pseudo-annotations and pseudo-labels, and small
settings.

For tests of the training alone: no rule hands ground truth to a training.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from maskdistill.annotations.index import IndexBuilder
from maskdistill.config import DetectorConfig, SegmenterConfig
from maskdistill.data.manifest import write_manifest
from maskdistill.data.scenes import CATEGORIES, Scene, generate_scene
from maskdistill.detector.data import Example, example_of
from maskdistill.formats import rle
from maskdistill.formats.label_png import write_label_png
from maskdistill.product.speeds import Speeds
from maskdistill.runtime.json_stream import write_json_object

NUM_CLUSTERS = len(CATEGORIES)
SPEEDS = Speeds(
    start=5, look=0.02, features=0.5, embedding=0.25, detector_load=0.05, detector_step=1, candidates=0.4,
    segmenter_load=0.02, segmenter_step=0.5, prediction=0.1, label=0.01,
)  # fmt: skip
"""What a machine may take: not this one, nothing is measured."""


def scenes(count: int, size: int = 64, square: bool = False) -> list[Scene]:
    """The first plain scenes of a collection; with ``square`` those of one shape."""
    found: list[Scene] = []
    index = 0
    while len(found) < count:
        index += 1
        scene = generate_scene(11, index, size, 0.0)
        if not square or scene.image.shape[0] == scene.image.shape[1]:
            found.append(scene)
    return found


def annotations(scene: Scene, image_id: int) -> list[dict[str, Any]]:
    """One COCO annotation an object; ids count from 1 within the image."""
    coded = [rle.encode(mask) for mask in scene.masks]
    return [
        {"id": number, "image_id": image_id, "category_id": int(label), "bbox": rle.bbox(code),
        "area": rle.area(code),
         "segmentation": code, "iscrowd": 0, "score": 1.0}
        for number, (code, label) in enumerate(zip(coded, scene.labels, strict=True), 1)
    ]  # fmt: skip


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """Write the lines of a CSV, the header first, as a manifest with its index."""
    names = {"key": str, "path": str}
    write_manifest(path, pd.read_csv(io.StringIO("\n".join(lines)), na_filter=False, dtype=names))


def write_run(folder: Path, drawn: list[Scene]) -> None:
    """Pictures and ``manifest.csv``, ``annotations.json`` with its index, label maps in ``labels/``."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["image_id,key,path,width,height,mode,sha256,shard,train,eval,status,reason"]
    index = IndexBuilder()
    with write_json_object(folder / "annotations.json") as stream, stream.array("annotations") as append:
        for number, scene in enumerate(drawn, 1):
            height, width = scene.image.shape[:2]
            Image.fromarray(scene.image).save(folder / f"{number}.png")
            write_label_png(folder / f"labels/{number}.png", scene.semantic)
            lines.append(f"{number},{number},{number}.png,{width},{height},RGB,x,0,True,True,ok,")
            for item in annotations(scene, number):
                index.add(number, *append(item))
    index.write(folder / "annotations.h5", NUM_CLUSTERS)
    write_lines(folder / "manifest.csv", lines)


def examples(folder: Path, drawn: list[Scene]) -> list[Example]:
    """Training images of the detector in a folder of :func:`write_run`."""
    return [
        example_of(annotations(scene, number), folder / f"{number}.png", NUM_CLUSTERS)
        for number, scene in enumerate(drawn, 1)
    ]


def label_files(folder: Path, count: int) -> list[tuple[Path, Path]]:
    """Pictures and label maps for the segmenter in a folder of :func:`write_run`."""
    return [(folder / f"{number}.png", folder / f"labels/{number}.png") for number in range(1, count + 1)]


def detector_config(**changes: Any) -> DetectorConfig:
    """A small network that takes some 50 ms a step."""
    values: dict[str, Any] = {
        "arch": "resnet_tiny", "weights": "random", "freeze_at": 2, "iters": 12, "steps": [9],
        "batch_size": 2,
        "reference_batch": 2, "lr": 0.01, "warmup_iters": 3, "min_size_train": [48, 64], "min_size_test": 64,
        "max_size": 96, "anchor_sizes": [16, 32], "rpn_pre_nms": (100, 60), "rpn_post_nms": (20, 10),
        "rpn_batch": 32,
        "roi_batch": 8, "roi_pool": 4, "max_dets": 10, "precise_bn": 0, "checkpoint_every": 2, "log_every": 3,
        "workers": 0,
    }  # fmt: skip
    return DetectorConfig(**(values | changes))


def segmenter_config(**changes: Any) -> SegmenterConfig:
    """A small network that takes some 50 ms a step."""
    values: dict[str, Any] = {
        "arch": "resnet_tiny", "weights": "random", "freeze_at": 3, "head_channels": 16, "atrous_rates": (2,
        4, 6),
        "epochs": 3, "drop_after": 2, "batch_size": 2, "reference_batch": 2, "lr": 0.02, "size": 48,
        "checkpoint_every": 2, "log_every": 3, "workers": 0,
    }  # fmt: skip
    return SegmenterConfig(**(values | changes))
