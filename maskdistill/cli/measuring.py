"""Seconds a photograph or a step of each stage, measured with the stages' own code.

Networks have random weights of the structures that a configuration names: nothing needs to be downloaded to
be timed.
"""

import io
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import numpy as np
import torch
from torch import nn
from torchvision.transforms.functional import pil_to_tensor

from maskdistill.backbones.registry import find_backbone
from maskdistill.backbones.students import build_student
from maskdistill.backbones.vit import load_vit
from maskdistill.cli.embeddings import MaskedViews
from maskdistill.cli.extraction import Pictures
from maskdistill.config import Config, DetectorConfig, SegmenterConfig
from maskdistill.data.images import load_rgb
from maskdistill.data.manifest import ImageRow
from maskdistill.detector.data import AnnotatedImages, Example
from maskdistill.detector.inference import detect
from maskdistill.detector.model import build_detector
from maskdistill.detector.train import train_detector
from maskdistill.features import extraction
from maskdistill.formats import rle
from maskdistill.formats.label_png import write_label_png
from maskdistill.product.speeds import Speeds, speedup
from maskdistill.segmenter.build import build_segmenter
from maskdistill.segmenter.data import LabelledImages
from maskdistill.segmenter.inference import segment
from maskdistill.segmenter.train import train_segmenter
from maskdistill.training.loop import LoopSettings

S = TypeVar("S", DetectorConfig, SegmenterConfig)
REPEATS = 3
ENOUGH = 1.0
"""Seconds after which a measurement is not repeated."""
NEVER = 10**9


def measure(
    config: Config, files: Sequence[Path], device: torch.device, start: float, workers: int
) -> Speeds:
    """Time the stages' inner loops on ``device``.

    Args:
        config: what is to be run; weights and steps do not matter.
        files: photographs of the run, readable, at least one; they are taken in turn.
        start: seconds that loading the libraries took.
        workers: threads of a training, or GPUs, among which its batches will be divided.
    """
    parts = {
        "detector": _on_one(config.detector, device, workers),
        "segmenter": _on_one(config.segmenter, device, workers),
    }
    config = config.model_copy(update=parts)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder, redirect_stderr(io.StringIO()):
        sample = _Sample(files, Path(folder))
        label = _seconds(
            lambda: write_label_png(Path(folder) / "timed.png", sample.inside(0).astype(np.uint8))
        )
        keys, embedding = _transformer(config, sample, device)
        detector_load, detector_step, candidates = _detector(config, sample, device, workers)
        segmenter_load, segmenter_step, prediction = _segmenter(config, sample, device, workers)
        look = _seconds(lambda: load_rgb(sample.next()))
    torch.set_num_threads(before)
    return Speeds(
        start, look, keys, embedding, detector_load, detector_step, candidates, segmenter_load,
        segmenter_step,
        prediction + label, label,
    )  # fmt: skip


def _on_one(section: S, device: torch.device, workers: int) -> S:
    """A student's settings as one of several GPUs has them, without what would take longer to start."""
    batch = max(2, section.batch_size // workers) if device.type == "cuda" else section.batch_size
    changes = {"batch_size": batch, "weights": "random", "workers": 0, "compile": False}
    return section.model_copy(
        update=changes | ({"precise_bn": 0} if isinstance(section, DetectorConfig) else {})
    )


def _seconds(call: Callable[[], object]) -> float:
    """Median seconds of a call after a first one, which pays for what is made once.

    Of one thread on a CPU those that it computed: beside other processes the clock would count theirs too.
    """
    alone = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    clock = time.process_time if alone else time.perf_counter
    call()
    taken: list[float] = []
    while len(taken) < REPEATS and sum(taken) < ENOUGH:
        before = clock()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        taken.append(clock() - before)
    return float(np.median(taken))


def _step(call: Callable[[], object], loading: float, device: torch.device, threads: int) -> float:
    """Seconds of a training step without those of loading its pictures.

    With several threads: as measured, or on a busy machine as one thread's tell.
    """
    one = _seconds(call)
    alone = max(one - loading, 0.1 * one)
    if device.type == "cuda" or threads == 1:
        return alone
    torch.set_num_threads(threads)
    several = _seconds(call)
    torch.set_num_threads(1)
    return min(max(several - loading, 0.1 * several), alone / speedup(threads))


class _Sample:
    """Photographs with a made-up object in the middle of each.

    Args:
        files: photographs.
        folder: for label maps.
    """

    def __init__(self, files: Sequence[Path], folder: Path) -> None:
        sizes = [load_rgb(file).size for file in files]
        self.rows = [
            ImageRow(number, str(number), str(file), *size, 0)
            for number, (file, size) in enumerate(zip(files, sizes, strict=True))
        ]
        self.folder, self.place = folder, 0

    def next(self) -> str:
        """Name of the next photograph; after the last comes the first."""
        self.place += 1
        return self.rows[self.place % len(self.rows)].file

    def box(self, number: int) -> tuple[float, float, float, float]:
        """x, y, width, height."""
        row = self.rows[number]
        return row.width // 4, row.height // 4, max(1, row.width // 2), max(1, row.height // 2)

    def inside(self, number: int) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
        """The middle of a photograph as a mask, bool (H, W)."""
        row, (x, y, width, height) = self.rows[number], (round(side) for side in self.box(number))
        mask = np.zeros((row.height, row.width), np.bool_)
        mask[y : y + height, x : x + width] = True
        return mask

    def masks(self) -> list[dict[str, object]]:
        """One mask record a photograph, as far as embeddings read it."""
        return [
            {"image_id": n, "bbox": self.box(n), "segmentation": rle.encode(self.inside(n))}
            for n in range(len(self.rows))
        ]

    def examples(self, least: int) -> list[Example]:
        """At least so many training images of a detector, each with its middle as the one object."""
        found = [
            Example(row.file, (self.box(n),), (1,), (rle.encode(self.inside(n)),))
            for n, row in self._turn(least)
        ]
        return found

    def labelled(self, least: int) -> list[tuple[str, Path]]:
        """At least so many photographs with label maps, which are written, for a segmenter."""
        for number, _ in enumerate(self.rows):
            write_label_png(self.folder / f"{number}.png", self.inside(number).astype(np.uint8))
        return [(row.file, self.folder / f"{number}.png") for number, row in self._turn(least)]

    def _turn(self, least: int) -> list[tuple[int, ImageRow]]:
        count = len(self.rows)
        return [(n % count, self.rows[n % count]) for n in range(max(least, count))]


def _transformer(config: Config, sample: _Sample, device: torch.device) -> tuple[float, float]:
    """Seconds of a photograph's keys, and of the vector of its mask."""
    entry = find_backbone(config.backbone.arch)
    model = load_vit(config.backbone.arch, "random", device, config.features.precision)
    pictures, place = Pictures(sample.rows, config.features.short_side), iter(range(NEVER))

    def keys() -> None:
        image = pictures[next(place) % len(pictures)].image
        extraction.extract(model, entry, [image], device, config.features.precision).get()

    clusters = config.clusters.backbone or config.backbone
    other = find_backbone(clusters.arch)
    embedder = model if clusters.arch == config.backbone.arch else load_vit(clusters.arch, "random", device)
    views = MaskedViews(
        sample.masks(), {row.image_id: row.file for row in sample.rows}, other, config.clusters
    )

    def embed() -> None:
        view = views[next(place) % len(views)].image
        extraction.embed(embedder, other.patch_size, [view], device, config.clusters.precision)

    return _seconds(keys), _seconds(embed)


def _loop(folder: Path) -> LoopSettings:
    return LoopSettings(1, folder / "state", "measured", checkpoint_every=NEVER, log_every=NEVER)


def _detector(
    config: Config, sample: _Sample, device: torch.device, threads: int
) -> tuple[float, float, float]:
    """Seconds to load a training picture, of a step, and of a photograph's candidates."""
    settings, batch = config.detector, config.detector.batch_size
    model: nn.Module = build_detector(settings, config.clusters.total, build_student(settings.arch))
    dataset = AnnotatedImages(sample.examples(batch), settings.flip, 0)
    place = iter(range(NEVER))
    load = _seconds(lambda: dataset[(next(place) % len(dataset), 0)])
    one = partial(train_detector, model, dataset, settings, _loop(sample.folder), device)
    step = _step(one, batch * load, device, threads)
    model.eval()
    candidates = _seconds(lambda: detect(model, pil_to_tensor(load_rgb(sample.next())), device))
    return load, step, candidates


def _segmenter(
    config: Config, sample: _Sample, device: torch.device, threads: int
) -> tuple[float, float, float]:
    """Seconds to load a training picture, of a step, and of a photograph's label map."""
    settings, batch = config.segmenter, config.segmenter.batch_size
    model: nn.Module = build_segmenter(settings, config.clusters.total)
    dataset = LabelledImages(sample.labelled(batch), config.clusters.total, settings, 0)
    place = iter(range(NEVER))
    load = _seconds(lambda: dataset[(next(place) % len(dataset), 0)])
    one = partial(train_segmenter, model, dataset, settings, _loop(sample.folder), device)
    step = _step(one, batch * load, device, threads)
    model.eval()
    prediction = _seconds(lambda: segment(model, [np.asarray(load_rgb(sample.next()))], settings, device))
    return load, step, prediction
