"""How long a run takes, from seconds that were measured on this machine at some sides of the pictures.

Everything here is arithmetic; :mod:`maskdistill.cli.measuring` measures.
"""

import math
from dataclasses import dataclass, replace

from maskdistill.backbones.registry import BACKBONES
from maskdistill.config import Config
from maskdistill.data.listing import plan_shards
from maskdistill.product.costs import Sizes, cost_of
from maskdistill.product.suggestions import Found

ASPECT = 4 / 3
"""Of a photograph whose sides are not known."""
LOOKED_AT_AGAIN = 64
"""Photographs that the stage consistency sees twice more, once smaller."""
PARALLEL = 0.73
"""Share of a network's work that threads shorten, see :func:`speedup`."""
LIGHT = 0.3
"""Share of a job's start that one without networks takes."""


@dataclass(frozen=True)
class Speeds:
    """Seconds on this machine, on one core or one GPU, at a configuration's sizes.

    Attributes:
        start: until a job has loaded its libraries.
        look: to decode a photograph.
        features, embedding: a photograph's keys and the vector of its mask, decoding included.
        detector_load, segmenter_load: to prepare one training picture.
        detector_step, segmenter_step: a step of the configuration's batch without that, of all cores or GPUs
        together. candidates, prediction: a photograph through the trained networks, decoding and writing
        included. label: to write a photograph's label map.
    """

    start: float
    look: float
    features: float
    embedding: float
    detector_load: float
    detector_step: float
    candidates: float
    segmenter_load: float
    segmenter_step: float
    prediction: float
    label: float


def scaled(speeds: Speeds, of: Config, to: Config) -> Speeds:
    """Measurements at one configuration's sizes, scaled to another's with the same networks."""
    sides = {
        "features": (_vit_work(config.backbone.arch, config.features.short_side) for config in (of, to)),
        "detector_step": (_step_work(config) for config in (of, to)),
        "candidates": (_work(config.detector.arch, config.detector.min_size_test) for config in (of, to)),
        "segmenter_step": (
            _work(c.segmenter.arch, c.segmenter.size) * c.segmenter.batch_size for c in (of, to)
        ),
        "prediction": (_work(config.segmenter.arch, config.segmenter.size) for config in (of, to)),
    }
    ratios = {name: (pair := list(works))[1] / pair[0] for name, works in sides.items()}
    return replace(speeds, **{name: getattr(speeds, name) * ratio for name, ratio in ratios.items()})


def _step_work(config: Config) -> float:
    trained = config.detector.min_size_train
    return (
        config.detector.batch_size * sum(_work(config.detector.arch, side) for side in trained) / len(trained)
    )


def _work(arch: str, side: int) -> float:
    return _vit_work(arch, side) if arch in BACKBONES else float(side**2)


def _vit_work(arch: str, side: int) -> float:
    """Multiplications of a ViT's blocks for a picture of 4:3: 12 d^2 a token and 2 d a pair of tokens."""
    entry = BACKBONES[arch]
    tokens = ASPECT * (side / entry.patch_size) ** 2
    return entry.depth * (12 * entry.embed_dim**2 * tokens + 2 * entry.embed_dim * tokens**2)


def speedup(threads: int) -> float:
    """By how much threads shorten a network's work that one takes (Amdahl's law).

    The share that is parallel: of training steps, 2.96 a second by one thread, 4.61 to 4.69 by two
    (results/benchmarks/threads.md).
    """
    return 1 / (1 - PARALLEL + PARALLEL / threads)


def loaders(load: float, step: float, batch: int, cores: int) -> int:
    """Loading processes that keep up with the network; none on a single core."""
    return 0 if cores == 1 else max(1, min(8, cores - 1, math.ceil(load * batch / step)))


def step_seconds(load: float, step: float, batch: int, cores: int, workers: int) -> float:
    """Seconds of a training step while other processes prepare pictures on the same cores."""
    if workers == 0:
        return step + load * batch
    return max(step + load * batch / cores, load * batch / workers)


def training_seconds(config: Config, name: str, steps: float, speeds: Speeds, cores: int) -> float:
    """Seconds of a training, ``detector`` or ``segmenter``, loading of libraries included."""
    section = getattr(config, name)
    load, step = getattr(speeds, f"{name}_load"), getattr(speeds, f"{name}_step")
    return speeds.start + steps * step_seconds(load, step, section.batch_size, cores, section.workers)


def estimate(config: Config, found: Found, speeds: Speeds) -> dict[str, float]:
    """Seconds that each stage of a run without ground truth will take, in the order of the method."""
    count, cores, rounds = found.count, found.cores, config.crf.rounds
    shards, per_job = plan_shards(count, config.num_shards, config.shards_per_job)
    sizes, at_once = Sizes(count, count, 0, 1), found.gpus or cores
    jobs = shards // per_job
    waves, together = math.ceil(jobs / at_once), min(jobs, at_once)
    more = together if found.gpus else together * speedup(min(8, cores // together))
    light = LIGHT * speeds.start

    def training(name: str, steps: float) -> float:
        return training_seconds(config, name, steps, speeds, cores)

    def of_shards(each: float, start: float = speeds.start) -> float:
        return start * waves + count * each / more

    def cores_of(rule: str) -> float:
        return cost.seconds / min(8, cores) if (cost := cost_of(rule, config, sizes)) else 0.0

    detector, segmenter = config.detector, config.segmenter
    detector_steps = detector.iters * detector.reference_batch / detector.batch_size
    segmenter_steps = segmenter.epochs * max(1, count // segmenter.batch_size)
    rest = (
        light * math.ceil(5 / cores) + 2 * speeds.start
    )  # manifest to label summary; report and the page's pictures
    return {
        "photographs": count * speeds.look / cores,
        "features": of_shards(speeds.features),
        "masks": of_shards(0, light) + (cores_of("masks") if config.features.store else 0.0),
        "clusters": of_shards(config.masks.most * speeds.embedding) + 2 * light + cores_of("clusters"),
        "verdict": speeds.start + light + min(count, LOOKED_AT_AGAIN) * 2 * speeds.features / speedup(min(8,
        cores)),
        "detector": training("detector", detector_steps) + of_shards(speeds.candidates),
        "pseudo-labels": of_shards(0, light) + count * speeds.label / cores,
        "segmenter": (1 + rounds) * training("segmenter", segmenter_steps) + of_shards(speeds.prediction),
        **({"CRF rounds": rounds * cores_of("refined_labels")} if rounds else {}),
        "report and the rest": rest,
    }  # fmt: skip
