"""A few seconds of every stage with the shipped weights, in numbers that hardly depend on the processor.

    PYTHONPATH=tests python -m yardstick         # print them, as JSON

``tests/test_machines.py`` compares them with those in ``machines.json``, which
``tests/benchmarks/machines.py`` writes: measured with one thread and two and with several instruction sets.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from miniature import (
    NUM_CLUSTERS,
    detector_config,
    examples,
    label_files,
    scenes,
    segmenter_config,
    write_run,
)
from PIL import Image

from maskdistill.backbones.registry import find_backbone
from maskdistill.backbones.resnet import initial_resnet
from maskdistill.backbones.vit import load_vit, normalize
from maskdistill.clusters.kmeans import assign, fit_kmeans, normalise
from maskdistill.config import MasksConfig
from maskdistill.detector.data import AnnotatedImages
from maskdistill.detector.model import build_detector
from maskdistill.detector.train import train_detector
from maskdistill.features import extraction
from maskdistill.formats.label_png import write_label_png
from maskdistill.masks.rules import maskdistill as rule
from maskdistill.masks.upsample import upsample
from maskdistill.segmenter.data import LabelledImages
from maskdistill.segmenter.inference import segment
from maskdistill.segmenter.model import OUTPUT_STRIDE, DeepLab, steps_per_epoch
from maskdistill.segmenter.train import train_segmenter
from maskdistill.training.loop import LoopSettings

CPU = torch.device("cpu")
WEIGHTS = Path(__file__).parents[1] / "config/weights"
ARCH = "vit_micro_patch8"
COUNT, SIZE = 12, 96
Numbers = dict[str, float]


def measure(precision: str = "float32", topk: float = 0.4, rate: float = 0.02) -> Numbers:
    """The numbers; the arguments are what a test changes to see that they would be noticed.

    Args:
        precision: of all networks.
        topk: of the masks.
        rate: learning rate of both trainings.
    """
    drawn = scenes(COUNT, SIZE)
    pictures = [scene.image for scene in drawn]
    truth = [scene.semantic > 0 for scene in drawn]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_run(folder, drawn)
        keys, found = distilled(pictures, precision, topk)
        numbers = {
            "keys": projected(keys),
            "masks: IoU with objects": mean_iou(found, truth),
            "masks: coverage": 100 * float(np.mean([mask.mean() for mask in found])),
            "clusters: inertia": inertia(pictures, found, precision),
        }
        detector = detector_config(
            weights=str(WEIGHTS / "resnet_tiny.safetensors"), freeze_at=0, iters=6, steps=[5], warmup_iters=0,
            log_every=1, checkpoint_every=100, lr=rate, precision=precision,
        )  # fmt: skip
        torch.manual_seed(0)
        network = build_detector(detector, NUM_CLUSTERS, initial_resnet(detector.arch, detector.weights))
        data = AnnotatedImages(examples(folder, drawn), 0.5, 7)
        _, rows = train_detector(network, data, detector, loop(folder, detector.iters), CPU)
        numbers |= {f"detector: loss of step {rows[at]['step']:.0f}": rows[at]["loss"] for at in (0, -1)}

        for number, mask in enumerate(found, 1):
            write_label_png(folder / f"labels/{number}.png", mask.astype(np.uint8))
        segmenter = segmenter_config(
            weights=detector.weights, freeze_at=0, epochs=8, drop_after=6, batch_size=4, size=64,
            hard_pixels=1.0,
            log_every=1, checkpoint_every=100, lr=rate, precision=precision,
        )  # fmt: skip
        torch.manual_seed(0)
        deeplab = DeepLab(segmenter, 1, initial_resnet(segmenter.arch, segmenter.weights, OUTPUT_STRIDE))
        labelled = LabelledImages(label_files(folder, COUNT), 1, segmenter, 7)
        steps = segmenter.epochs * steps_per_epoch(COUNT, segmenter.batch_size)
        trained, rows = train_segmenter(deeplab, labelled, segmenter, loop(folder, steps), CPU)
        numbers |= {f"segmenter: loss of step {rows[at]['step']:.0f}": rows[at]["loss"] for at in (0, -1)}
        maps = segment(trained, pictures, segmenter, CPU)
    return numbers | {"segmenter: IoU with objects": mean_iou([labels > 0 for labels in maps], truth)}


def distilled(pictures: list[np.ndarray], precision: str, topk: float) -> tuple[np.ndarray, list[np.ndarray]]:
    """Keys of all pictures, (N, D), and a mask of each at full size."""
    backbone, model = find_backbone(ARCH), load_vit(ARCH, str(WEIGHTS / f"{ARCH}.safetensors"))
    config, every, found = MasksConfig(topk=topk), [], []
    for picture in pictures:
        resized = extraction.resize(Image.fromarray(picture), SIZE)
        (image,) = extraction.extract(model, backbone, [resized], CPU, precision).get()
        patches = rule.distil(image.keys, image.cls_query, image.grid, config)
        hw = (picture.shape[0], picture.shape[1])
        found.append(upsample(patches.mask, backbone.patch_size, image.resized_hw, hw))
        every.append(image.keys)
    return np.concatenate(every), found


def projected(values: np.ndarray) -> float:
    """Product with random numbers, of the size of one value: every value counts, and errors do not cancel."""
    directions = np.random.default_rng(0).normal(size=values.shape)
    return float(np.vdot(values.astype(np.float64), directions) / np.sqrt(values.size))


def inertia(pictures: list[np.ndarray], found: list[np.ndarray], precision: str) -> float:
    """Of three clusters of the masked pictures' embeddings, whitened and of unit length."""
    model = load_vit(ARCH, str(WEIGHTS / f"{ARCH}_colorblind.safetensors"))
    rows = []
    for picture, mask in zip(pictures, found, strict=True):
        image = normalize(torch.from_numpy(picture).permute(2, 0, 1))
        seen = extraction.cluster_input(image, mask, (0, 0, 0, 0), "masked_image")
        rows.append(extraction.embed(model, 8, [seen], CPU, precision))
    vectors = np.concatenate(rows)
    ready = normalise(vectors, vectors.std(axis=0), True)
    return float(assign(ready, fit_kmeans(ready, 3, 1234)).inertia)


def mean_iou(found: list[np.ndarray], truth: list[np.ndarray]) -> float:
    """Of bool maps, over pictures, in percent."""
    return 100 * float(np.mean([(a & b).sum() / (a | b).sum() for a, b in zip(found, truth, strict=True)]))


def loop(folder: Path, steps: int) -> LoopSettings:
    """Every step a row, no state."""
    return LoopSettings(steps, folder / "state", "f", checkpoint_every=1000, log_every=1)


if __name__ == "__main__":
    print(json.dumps(measure(), indent=1))
