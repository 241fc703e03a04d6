"""Settings fitted to photographs and machine: networks, sizes, batch, steps, and their cost.

Everything here is arithmetic on figures that were measured elsewhere (:mod:`maskdistill.cli.measuring`).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from maskdistill.backbones.registry import BACKBONES
from maskdistill.config import Config
from maskdistill.product.checks import RESERVE, disk_need
from maskdistill.product.plan import about
from maskdistill.product.speeds import Speeds, estimate, loaders, scaled
from maskdistill.product.suggestions import MAX_CLUSTERS, Changes, Found, suggest_clusters
from maskdistill.runtime.errors import MaskDistillError

Weights = Literal["dino", "shipped"]
SEEN = 10
"""Times that detector and segmenter see each photograph, at least, where no time is asked for."""
MOST_SEEN = 100
"""Times beyond which they would learn photographs by heart."""
WAIT = 60.0
"""Minutes that a run may take for larger sides to be chosen, where no time is asked for."""
LEAST_SHARE, LEAST_STEPS = 0.05, 50
SMALL_PICTURE = 200
"""Pixels of the shorter side below which patches of 16 pixels are too coarse."""
THREADS = 16
"""Of a training, at most."""


@dataclass(frozen=True)
class Level:
    """Sides in pixels that belong together.

    Attributes:
        features: shortest side for the keys.
        detector: shortest side for the detector at test time, the largest in training.
        segmenter: side of the segmenter's squares.
    """

    features: int
    detector: int
    segmenter: int


LEVELS: Mapping[str, Sequence[Level]] = {
    "cpu": (Level(320, 224, 224), Level(480, 320, 320), Level(640, 480, 448)),
    "gpu": (Level(480, 480, 384), Level(640, 800, 512)),
}
"""For DINO's weights, cheapest first; the last one for GPUs is the paper's.

The shipped ones have their template's.
"""
LEAST_IMAGES: Mapping[str, tuple[int, int]] = {"cpu": (2400, 1800), "gpu": (24_000, 16_000)}
"""Photographs that detector and segmenter see in all, each counted as often as it is seen, however few there
are.
"""


def template(found: Found, weights: Weights) -> str:
    """Name of the configuration that the settings begin with."""
    return "folder.yaml" if weights == "shipped" else "config.yaml" if found.gpus else "photos.yaml"


def levels(found: Found, weights: Weights) -> Sequence[Level | None]:
    """What there is to choose from, cheapest first; None: the template's own sides."""
    return [None] if weights == "shipped" else list(LEVELS["gpu" if found.gpus else "cpu"])


def networks_and_sides(found: Found, level: Level | None) -> Changes:
    """Settings of a level, without steps.

    Sides are at most 3 (features) and 1.5 times (students) those of the photographs: to enlarge more shows
    nothing new.
    """
    batch = batch_size(found)
    trained: dict[str, Any] = {"batch_size": batch, "workers": 0 if found.cores == 1 else 1}
    changes: Changes = {"detector": dict(trained), "segmenter": dict(trained)}
    if level is None:
        return changes
    short = sorted(min(size) for size in found.sizes)[len(found.sizes) // 2] if found.sizes else SMALL_PICTURE
    vit = "dino_vits8" if short < SMALL_PICTURE else "dino_vits16"
    finer = 16 // BACKBONES[vit].patch_size
    changes["backbone"] = {"arch": vit, "weights": "official"}
    changes["features"] = {"short_side": min(level.features // finer, _whole(3 * short, 16))}
    most = max(96, _whole(1.5 * short, 32))
    changes["detector"] |= _detector_sides(min(level.detector, most), bool(found.gpus))
    changes["segmenter"] |= {"size": min(level.segmenter, most)}
    for student in ("detector", "segmenter"):
        start = (
            {"arch": "resnet50", "weights": "dino_resnet50"}
            if found.gpus
            else {"arch": vit, "weights": "official"}
        )
        changes[student] |= start
    return changes


def _detector_sides(side: int, gpu: bool) -> dict[str, Any]:
    """Sides and anchors for pictures of shortest side ``side``; on a GPU in the paper's ratios."""
    low, step, longest = (0.6, 32, 5 / 3) if gpu else (6 / 7, _whole(side / 7, 32), 10 / 7)
    parts = [1 / 25, 2 / 25, 4 / 25, 8 / 25, 16 / 25] if gpu else [1 / 7, 2 / 7, 4 / 7, 6 / 7]
    return {
        "min_size_train": [*range(_whole(low * side, 32), side, step), side],
        "min_size_test": side,
        "max_size": int(longest * side),
        "anchor_sizes": sorted({_whole(part * side, 8) for part in parts}),
    }


def _whole(value: float, multiple: int) -> int:
    """The nearest multiple, at least one."""
    return max(1, round(value / multiple)) * multiple


def batch_size(found: Found) -> int:
    """Images a step: four a GPU, as the paper; 4 on a CPU, 8 where more than 4 cores want to be busy."""
    wanted = min(16, 4 * found.gpus) if found.gpus else 8 if found.cores > 4 else 4
    return max(2, min(wanted, found.count))


@dataclass(frozen=True)
class Steps:
    """How long is trained.

    Attributes:
        iters: of the detector, for its ``reference_batch``.
        epochs: of the segmenter.
        share: of the training that lets each photograph be seen :data:`SEEN` times, or of the least.
        bound: what stopped it: ``""``, ``least`` or ``most``, where the time asked for is too short or not
            needed.
    """

    iters: int
    epochs: int
    share: float = 1.0
    bound: str = ""

    def changes(self) -> Changes:
        """Settings of both students' schedules."""
        drop = max(1, round(0.8 * self.iters))
        return {
            "detector": {
                "iters": self.iters,
                "steps": [drop] if drop < self.iters else [],
                "warmup_iters": min(100, self.iters // 10),
            },
            "segmenter": {"epochs": self.epochs, "drop_after": max(1, round(0.8 * self.epochs))},
        }


def full_steps(config: Config, found: Found, share: float = 1.0, bound: str = "") -> Steps:
    """Steps, times ``share``, for :data:`SEEN` views of each photograph and a least total."""
    least = LEAST_IMAGES["gpu" if found.gpus else "cpu"]
    shown = [share * max(SEEN * found.count, most) for most in least]
    batch = config.segmenter.batch_size
    an_epoch = max(1, found.count // batch) * batch
    iters = math.ceil(shown[0] / config.detector.reference_batch)
    return Steps(max(LEAST_STEPS, iters), max(2, math.ceil(shown[1] / an_epoch)), share, bound)


def steps_in(config: Config, found: Found, speeds: Speeds, minutes: float) -> Steps:
    """Steps that use the time asked for.

    Args:
        config: with the steps of :func:`full_steps`.
    """
    least = LEAST_IMAGES["gpu" if found.gpus else "cpu"]

    def took(iters: int, epochs: int) -> float:
        return sum(estimate(_with_steps(config, Steps(iters, epochs)), found, speeds).values())

    fixed, whole = took(0, 0), took(config.detector.iters, config.segmenter.epochs)
    share = (60 * minutes - fixed) / max(1e-9, whole - fixed)
    most = max(1.0, MOST_SEEN * found.count / max(SEEN * found.count, *least))
    if share < LEAST_SHARE:
        return full_steps(config, found, LEAST_SHARE, "least")
    if share > most:
        return full_steps(config, found, most, "most")
    steps = full_steps(config, found, share)
    left = 60 * minutes - took(0, steps.epochs)  # epochs are whole; steps make up for it
    return replace(steps, iters=max(LEAST_STEPS, int(left / (took(1, 0) - fixed))))


def _with_steps(config: Config, steps: Steps) -> Config:
    return config.model_copy(
        update={
            "detector": config.detector.model_copy(update={"iters": steps.iters}),
            "segmenter": config.segmenter.model_copy(update={"epochs": steps.epochs}),
        }
    )


def keeps_keys(config: Config, found: Found) -> bool:
    """Whether the keys fit on the disk beside all else, with as much again left free."""
    return 2 * (disk_need(config, found.count) - RESERVE) + RESERVE < found.free


def best_level(seconds: Sequence[float], minutes: float | None) -> int:
    """The last of several levels whose run ends in time; the first where none does.

    Args:
        seconds: estimate of each, ascending.
        minutes: asked for; None: :data:`WAIT`.
    """
    return max([0, *(place for place, time in enumerate(seconds) if time <= 60 * (minutes or WAIT))])


@dataclass(frozen=True)
class Choice:
    """What is written.

    Attributes:
        changes: of the template.
        notes: ``section.key`` -> why.
        config: all of it.
        machine: lines on the machine and on what was taken.
        seconds: of each stage; empty where nothing was measured.
        bound: see :class:`Steps`.
        speeds: what was timed for this configuration; None where nothing was.
    """

    changes: Changes
    notes: Mapping[str, str]
    config: Config
    machine: Sequence[str]
    seconds: Mapping[str, float]
    bound: str = ""
    speeds: Speeds | None = None

    def estimate(self, minutes: float | None) -> list[str]:
        """Lines on the time that the run will take."""
        if not self.seconds:
            return ["How long it will take was not measured: see `maskdistill plan --config`."]
        whole = sum(self.seconds.values())
        parts = (f"{about(time)} {stage}" for stage, time in self.seconds.items() if time >= 0.01 * whole)
        lines = [f"It will take about {about(whole)} here with nothing beside it: {', '.join(parts)}."]
        if minutes and self.bound == "least":
            lines.append(
                f"In {minutes:.0f} minute{'s' * (round(minutes) != 1)} it cannot be done: this is the least."
            )
        if minutes and self.bound == "most":
            lines.append(f"More of the {minutes:.0f} minutes would only teach these photographs by heart.")
        return lines


def choose(
    found: Found,
    weights: Weights,
    minutes: float | None,
    config_of: Callable[[Changes], Config],
    timed: Callable[[Config], Speeds | None],
    more: Changes,
) -> Choice:
    """Networks, sides, batch and steps.

    Args:
        found: what was found.
        weights: whose the networks begin with.
        minutes: that the run may take; None: as long as every photograph is seen :data:`SEEN` times.
        config_of: configuration of the template with changes.
        timed: what the machine takes for a configuration; None where that cannot be measured.
        more: changes that nothing here decides on.

    Raises:
        MaskDistillError: a time is asked for, and nothing can be measured.
    """
    common = merged({"clusters": {"num_clusters": suggest_clusters(found.count)}}, more)
    tried: list[tuple[Changes, Config]] = []
    for level in levels(found, weights):
        changes = merged(common, networks_and_sides(found, level))
        config = config_of(changes)
        changes = merged(changes, full_steps(config, found).changes())
        tried.append((changes, config_of(changes)))
    speeds, place = timed(tried[0][1]), len(tried) - 1
    steps = full_steps(tried[place][1], found)
    if speeds is not None:
        guessed = [scaled(speeds, tried[0][1], config) for _, config in tried]
        totals = [
            sum(estimate(config, found, one).values())
            for (_, config), one in zip(tried, guessed, strict=True)
        ]
        place = best_level(totals, minutes)
        speeds = timed(tried[place][1]) if place else speeds
    changes, config = tried[place]
    if speeds is not None:
        changes = merged(changes, _loading(config, found, speeds))
        config = config_of(changes)
        steps = steps_in(config, found, speeds, minutes) if minutes else full_steps(config, found)
    elif minutes:
        raise MaskDistillError(
            f"--minutes {minutes}: {_why_not(found)}, so nothing can be timed; leave the option out"
        )
    changes = merged(changes, steps.changes())
    if not keeps_keys(config, found):
        changes = merged(changes, {"features": {"store": False}})
    config = config_of(changes)
    seconds = estimate(config, found, speeds) if speeds else {}
    return Choice(
        changes, _notes(config, found), config, _machine(config, found), seconds, steps.bound, speeds
    )


def papers(found: Found, config_of: Callable[[Changes], Config]) -> Choice:
    """The paper's settings as they are, with K for the photographs."""
    changes: Changes = {"clusters": {"num_clusters": suggest_clusters(found.count)}}
    config = config_of(changes)
    notes = {"clusters.num_clusters": _notes(config, found)["clusters.num_clusters"]}
    return Choice(
        changes, notes, config, ["The paper's settings (config/config.yaml), one seed, for GPUs."], {}
    )


def merged(first: Changes, second: Changes) -> Changes:
    """The changes of both; the second's where they differ."""
    return {
        name: first.get(name, {}) | second.get(name, {})
        for name in [*first, *(n for n in second if n not in first)]
    }


def _loading(config: Config, found: Found, speeds: Speeds) -> Changes:
    detector, segmenter = config.detector, config.segmenter
    each = {
        "detector": loaders(speeds.detector_load, speeds.detector_step, detector.batch_size, found.cores),
        "segmenter": loaders(speeds.segmenter_load, speeds.segmenter_step, segmenter.batch_size, found.cores),
    }
    return {name: {"workers": workers} for name, workers in each.items()}


def _why_not(found: Found) -> str:
    return (
        "torch cannot use this machine's GPUs (maskdistill doctor says why)"
        if found.sample
        else "no usable picture"
    )


def _machine(config: Config, found: Found) -> list[str]:
    machine = (
        f"{found.gpus} GPU{'s' if found.gpus > 1 else ''}"
        if found.gpus
        else f"{found.cores} CPU cores, no GPU"
    )
    detector, segmenter = config.detector, config.segmenter
    return [
        f"{machine}: features of {config.backbone.arch} at {config.features.short_side} pixels (shortest "
        f"side), detector on {detector.arch} at {detector.min_size_test}, segmenter on {segmenter.arch} at "
        f"{segmenter.size} x {segmenter.size}.",
        f"The detector sees every photograph about {_often(_visits(config, found))}, the segmenter"
        f" {_often(segmenter.epochs)}.",
    ]


def _often(number: float) -> str:
    """How often, in words."""
    return {1: "once", 2: "twice"}.get(round(number), f"{number:.0f} times")


def _visits(config: Config, found: Found) -> float:
    return config.detector.iters * config.detector.reference_batch / found.count


def _notes(config: Config, found: Found) -> dict[str, str]:
    detector, segmenter = config.detector, config.segmenter
    steps = segmenter.epochs * max(1, found.count // segmenter.batch_size)
    notes = {
        "clusters.num_clusters": f"root of half the number of pictures, 2 to {MAX_CLUSTERS}: write what you "
        "expect",
        "detector.iters": f"of {detector.reference_batch}: every photograph is seen "
        f"{_often(_visits(config, found))}",
        "segmenter.epochs": f"{steps:,} steps of {segmenter.batch_size}",
    }
    if not config.features.store:
        notes["features.store"] = "keys of all photographs would fill the disk"
    return notes
