"""Training of the detector: the torchvision engine beside detectron2, images a second.

    python tests/benchmarks/engines.py [--rounds 3] [--steps 4] [--side 320] [--regions 64] [--threads 1]

Mask R-CNN with a ResNet-50-C4 and random weights, the paper's settings but for the pictures' shortest side
and fewer regions an image than 512, of which a step takes minutes on a core; batches of two generated scenes
with their exact masks, wide ones and others apart. Three ways take turns in every round, so that a drift
of the machine's speed meets all alike: this project's training with its own engine, the same with
``detector.engine: detectron2``, and detectron2's own loader and ``SimpleTrainer``. A first round is not
counted. Printed are images a second of each way (median over the rounds, least and most) and the median of
the rounds' ratios to detectron2's own trainer.

detectron2 has to be installed (see envs/detectron2.yaml).
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import detectron2
import numpy as np
import torch
import torchvision
from detectron2.data import DatasetMapper, build_detection_train_loader
from detectron2.engine import SimpleTrainer
from detectron2.modeling import build_model
from detectron2.solver import build_optimizer
from detectron2.structures import BoxMode
from detectron2.utils.events import EventStorage
from miniature import NUM_CLUSTERS, annotations, examples, write_run

from maskdistill.backbones.resnet import build_resnet
from maskdistill.config import DetectorConfig
from maskdistill.data.scenes import Scene, generate_scene
from maskdistill.detector.data import AnnotatedImages
from maskdistill.detector.detectron2_engine import detectron2_config
from maskdistill.detector.engines import with_engine
from maskdistill.detector.model import build_detector
from maskdistill.detector.train import train_detector
from maskdistill.training.loop import LoopSettings

BATCH = 2
CPU = torch.device("cpu")
Way = Callable[[int], float]
"""Makes so many training steps; returns their seconds."""


class Watched(AnnotatedImages):
    """Notes when each picture is asked for."""

    asked: list[float]

    def __getitem__(self, index: Any) -> Any:
        self.asked.append(time.perf_counter())
        return super().__getitem__(index)


def settings(args: argparse.Namespace, engine: str) -> DetectorConfig:
    """The paper's detector on smaller pictures; what is frozen and normalised is as published."""
    return DetectorConfig(
        weights="random", engine=engine, batch_size=BATCH, reference_batch=BATCH, lr=1e-4, warmup_iters=0,
        min_size_train=[args.side], max_size=2 * args.side, roi_batch=args.regions, precise_bn=0, workers=0,
    )  # fmt: skip


def ours(folder: Path, drawn: list[Scene], config: DetectorConfig) -> Way:
    """This project's data, loop and optimiser, with one of the two engines."""
    torch.manual_seed(0)
    detector = build_detector(config, NUM_CLUSTERS, build_resnet(config.arch))
    model = with_engine(detector, config, NUM_CLUSTERS)
    portrait = np.array([scene.image.shape[0] >= scene.image.shape[1] for scene in drawn], np.int8)
    data = Watched(examples(folder, drawn), config.flip, 7, portrait)

    def steps(count: int) -> float:
        """From the first batch to the one after the last: without the state that a training ends with."""
        data.asked = []
        with tempfile.TemporaryDirectory() as state:
            loop = LoopSettings(count + 1, Path(state), "f", checkpoint_every=1000, log_every=1000)
            train_detector(model, data, config, loop, CPU)
        return data.asked[BATCH * count] - data.asked[0]

    return steps


def detectron2s_own(folder: Path, drawn: list[Scene], config: DetectorConfig) -> Way:
    """detectron2's loader, mapper, trainer and optimiser at the same settings; normalised pixels are its
    own work too."""
    cfg = detectron2_config(config, NUM_CLUSTERS)
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN = config.min_size_train, config.max_size
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR = BATCH, config.lr
    torch.manual_seed(0)
    model = build_model(cfg)
    model.train()
    records = [record(folder, scene, number) for number, scene in enumerate(drawn, 1)]
    loader = build_detection_train_loader(
        records, mapper=DatasetMapper(cfg, is_train=True), total_batch_size=BATCH, num_workers=0
    )
    trainer = SimpleTrainer(model, loader, build_optimizer(cfg, model))

    def steps(count: int) -> float:
        began = time.perf_counter()
        with EventStorage() as trainer.storage:
            for trainer.iter in range(count):
                trainer.run_step()
        return time.perf_counter() - began

    return steps


def record(folder: Path, scene: Scene, number: int) -> dict[str, Any]:
    """An image in detectron2's format, its categories numbered from 0."""
    height, width = scene.image.shape[:2]
    objects = [
        {
            "bbox": one["bbox"],
            "bbox_mode": BoxMode.XYWH_ABS,
            "category_id": one["category_id"] - 1,
            "segmentation": {
                "size": one["segmentation"]["size"],
                "counts": one["segmentation"]["counts"].encode(),
            },
            "iscrowd": 0,
        }
        for one in annotations(scene, number)
    ]
    return {
        "file_name": str(folder / f"{number}.png"), "image_id": number, "height": height, "width": width,
        "annotations": objects,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--side", type=int, default=320)
    parser.add_argument("--regions", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    drawn = [generate_scene(11, index, args.side, 0.0) for index in range(1, 2 * BATCH + 1)]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_run(folder, drawn)
        ways: dict[str, Way] = {
            "detectron2's own trainer": detectron2s_own(folder, drawn, settings(args, "detectron2")),
            "engine: torchvision": ours(folder, drawn, settings(args, "torchvision")),
            "engine: detectron2": ours(folder, drawn, settings(args, "detectron2")),
        }
        speeds: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(args.rounds + 1):
            for name, steps in ways.items():
                seconds = steps(args.steps)
                if number:
                    speeds[name].append(BATCH * args.steps / seconds)
    versions = f"torch {torch.__version__}, torchvision {torchvision.__version__}, detectron2 "
    print(f"{versions}{detectron2.__version__}, {args.threads} thread(s), "
          f"shortest side {args.side}, {args.regions} regions")  # fmt: skip
    reference = next(iter(speeds))
    for name, found in speeds.items():
        ratio = statistics.median(one / other for one, other in zip(found, speeds[reference], strict=True))
        print(f"{name:26s} {statistics.median(found):.2f} images/s ({min(found):.2f} to {max(found):.2f}), "
              f"{ratio:.2f}x")  # fmt: skip


if __name__ == "__main__":
    main()
