"""The table of metrics, in order, which all stages, pages, commands and files of scores use.

Each module beside this one defines a family of metrics, in its constant ``FAMILY``: what is counted in an
image, how the counts become numbers, and what tables say about them. It is listed nowhere else. Other
packages name theirs in the entry-point group ``maskdistill.metrics``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pkgutil import iter_modules
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from maskdistill.config import EvaluationConfig
from maskdistill.detector.types import Found
from maskdistill.evaluation import metrics as package
from maskdistill.evaluation.bootstrap import image_weights, interval
from maskdistill.evaluation.ground_truth import GroundTruth, TruthImage
from maskdistill.evaluation.localisation import largest_component_box
from maskdistill.evaluation.matching import Matching
from maskdistill.evaluation.stages import BASELINES, EVERY, LABELLING, Stage
from maskdistill.runtime.errors import MaskDistillError

GROUP = "maskdistill.metrics"
"""Entry-point group for other packages; each entry is a :class:`Family`."""
Labels = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]
Where = Literal["table", "card", "steps", "oracle", "detection", "bench"]
LAST = 1000


@dataclass(frozen=True)
class Metric:
    """A number that a stage is scored by.

    Attributes:
        name: key in evaluations, in ``summary.json`` and in CSV files.
        title: heading of its column.
        place: position among the columns, ascending; ties by name.
        shown: ``table`` in the report's and ``maskdistill show``'s tables, ``card`` in the model card,
            ``steps``: the report says so if a stage scores worse than the one before, ``oracle``: in the
            table of perfect stages, ``detection``: in the report's table of objects whatever their category,
            ``bench`` where rules are compared.
        higher_is_better: whether larger values are better.
        unit: follows the number in plots. With ``%`` a share of 1 is reported as 100.
        digits: decimal places.
        meaning: one plain sentence for readers who do not know the term; the report shows it at its first
            use.
    """

    name: str
    title: str
    place: int = LAST
    shown: tuple[Where, ...] = ("table",)
    higher_is_better: bool = True
    unit: str = "%"
    digits: int = 1
    meaning: str = ""

    @property
    def scale(self) -> float:
        """Factor that converts a family's number to the unit."""
        return 100.0 if self.unit == "%" else 1.0

    def text(self, value: float | None, none: str = "-") -> str:
        """A value as tables show it; the text ``none`` for None."""
        return none if value is None else f"{value:.{self.digits}f}"

    def worse(self, value: float, than: float) -> bool:
        """Whether a value is worse than another, both rounded as in the table."""
        here, there = round(value, self.digits), round(than, self.digits)
        return here < there if self.higher_is_better else here > there


@dataclass(frozen=True)
class Setting:
    """What all images of an evaluation have in common.

    Attributes:
        stage: whose output is scored.
        truth: evaluation images and the names of classes 0..C, background first.
        num_clusters: K.
        config: section ``evaluation`` of the configuration.
        seed: of the bootstrap.
    """

    stage: Stage
    truth: GroundTruth
    num_clusters: int
    config: EvaluationConfig
    seed: int

    @property
    def matching(self) -> Matching:
        """Mode by which labels are matched with classes."""
        return self.stage.matching or self.config.matching

    @property
    def shape(self) -> tuple[int, int]:
        """(P, G): numbers of label values and of classes, both with background."""
        classes = len(self.truth.class_names)
        return (classes if self.stage.learns_labels else self.num_clusters + 1, classes)


class View:
    """An image as metrics see it; a label map is read when a metric first uses it.

    Args:
        image: its size, its objects, and which truth it has.
        setting: of the evaluation.
        detections: masks or candidates in the order of the file; empty if the stage detects nothing, and for
            families that are scored after the matching.
        read_labels: reads the predicted map.
        read_target: reads the true map; called only for an image that has one.
        class_of: uint8 (P,) class of each label, G if it has none; None before the matching.
    """

    def __init__(
        self,
        image: TruthImage,
        setting: Setting,
        detections: Sequence[Found],
        read_labels: Callable[[], Labels],
        read_target: Callable[[], npt.NDArray[np.uint8]],
        class_of: npt.NDArray[np.uint8] | None = None,
    ) -> None:
        self.image, self.setting, self.detections = image, setting, detections
        self._read_labels, self._read_target, self._class_of = read_labels, read_target, class_of

    @cached_property
    def labels(self) -> Labels:
        """Predicted label map, integers (H, W) in 0..P-1."""
        return self._read_labels()

    @cached_property
    def target(self) -> npt.NDArray[np.uint8]:
        """True map uint8 (H, W): classes 0..G-1, 255 where nothing is scored.

        For images with ``has_semantic``.
        """
        return self._read_target()

    @cached_property
    def classes(self) -> npt.NDArray[np.uint8]:
        """Predicted classes uint8 (H, W) in 0..G-1, G for none; only for families with ``matched``."""
        assert self._class_of is not None, "a family that asks for classes has matched=True"
        return self._class_of[self.labels]

    @cached_property
    def box(self) -> npt.ArrayLike | None:
        """Box xywh that should locate an object; None if nothing was found, or the stage has no box."""
        if self.setting.stage.located_by == "detections" and self.detections:
            best: npt.ArrayLike = max(self.detections, key=lambda detection: float(detection["score"]))[
                "bbox"
            ]
            return best
        return largest_component_box(self.labels) if self.setting.stage.located_by == "labels" else None


@dataclass(frozen=True)
class Scores:
    """A family's scores of one stage.

    Attributes:
        values: by metric, in its unit; None if there is nothing to score.
        intervals: 95 %, by metric.
        details: further content of the evaluation's file, by key.
        drawn: float64 (resamples,) by metric, in its unit: its value in each resample of the images by
            :func:`~maskdistill.evaluation.bootstrap.image_weights`; NaN where undefined.
    """

    values: Mapping[str, float | None]
    intervals: Mapping[str, list[float]] = field(default_factory=dict)
    details: Mapping[str, object] = field(default_factory=dict)
    drawn: Mapping[str, Floats] = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """Metrics that are computed from the same counts.

    Attributes:
        metrics: the numbers.
        note: what they are, for the line below a table; without a full stop.
        of_image: gives what an image contributes, small and picklable; None if it does not count.
        scores: turns the contributions, by image id, into scores.
        stages: stages whose output is scored; for others the numbers are null.
        matched: whether it needs the classes that labels were matched with, which takes a second pass over
            the images.
        counted: key below ``counts`` for the number of images that counted; empty: not reported.
    """

    metrics: tuple[Metric, ...]
    note: str
    of_image: Callable[[View], Any]
    scores: Callable[[Mapping[int, Any], Setting], Scores]
    stages: tuple[str, ...] = LABELLING
    matched: bool = False
    counted: str = ""

    def __post_init__(self) -> None:
        """Refuse a family that no evaluation could score.

        Raises:
            ValueError: no metric, an unknown stage, or a baseline after the matching.
        """
        if not self.metrics:
            raise ValueError("a family has at least one metric")
        if unknown := set(self.stages) - set(EVERY):
            raise ValueError(f"{self.metrics[0].name}: no stage is called {', '.join(sorted(unknown))}")
        if self.matched and (walked := set(self.stages) & set(BASELINES)):
            raise ValueError(
                f"{self.metrics[0].name}: {', '.join(sorted(walked))}: baselines are walked only once"
            )


def summed(
    metrics: Sequence[Metric], shares: Callable[[Floats], Sequence[float]], intervals: bool = True
) -> Callable[[Mapping[int, Any], Setting], Scores]:
    """``Family.scores`` for metrics whose counts are summed over images.

    Args:
        metrics: those of the family.
        shares: turns the sum of all images' counts, float64 of their shape, into one number per metric; NaN
            if undefined.
        intervals: whether to compute intervals, from sums over resampled images.
    """

    def scores(found: Mapping[int, Any], setting: Setting) -> Scores:
        counts = np.array([np.asarray(count) for count in found.values()], np.float64)
        numbers = shares(counts.sum(axis=0)) if found else [np.nan] * len(metrics)
        values = {
            m.name: m.scale * float(n) if np.isfinite(n) else None
            for m, n in zip(metrics, numbers, strict=True)
        }
        if not (intervals and found and setting.config.bootstrap):
            return Scores(values)
        weights = image_weights(len(found), setting.config.bootstrap, setting.seed)
        columns = np.array([shares(np.tensordot(row, counts, 1)) for row in weights], np.float64).T
        drawn = {
            metric.name: metric.scale * column
            for metric, column in zip(metrics, columns, strict=True)
            if values[metric.name] is not None and np.isfinite(column).any()
        }
        return Scores(values, {name: list(interval(column)) for name, column in drawn.items()}, {}, drawn)

    return scores


@cache
def families() -> tuple[Family, ...]:
    """All families, by the place of their first metric.

    Raises:
        MaskDistillError: a package's entry point cannot be used, or two families use the same name.
    """
    found = {f"{package.__name__}.{name}": _own(name) for name in _modules()}
    found |= {
        f"{entry.value} (entry point {GROUP}: {entry.name})": _given(entry)
        for entry in entry_points(group=GROUP)
    }
    claimed: dict[str, str] = {}
    for place, family in found.items():
        for one in family.metrics:
            if one.name in claimed:
                raise MaskDistillError(
                    f"metric {one.name!r} is defined in {claimed[one.name]} and in {place}; rename one"
                )
            claimed[one.name] = place
    return tuple(sorted(found.values(), key=lambda family: min(_order(one) for one in family.metrics)))


@cache
def metrics(where: Where | None = None, stage: str | None = None) -> dict[str, Metric]:
    """The table, in order: name -> metric.

    Args:
        where: only metrics shown there.
        stage: only metrics that score this stage.
    """
    found = [
        one
        for family in families()
        if stage is None or stage in family.stages
        for one in family.metrics
        if where is None or where in one.shown
    ]
    return {one.name: one for one in sorted(found, key=_order)}


def images_behind(name: str) -> str:
    """Key below ``counts`` for the number of images behind a metric; empty if it is the number of all
    images.
    """
    return next((family.counted for family in families() for one in family.metrics if one.name == name), "")


def forget() -> None:
    """Look for families again, e.g. after a package was installed."""
    families.cache_clear()
    metrics.cache_clear()


def _modules() -> list[str]:
    return [
        found.name for found in iter_modules(package.__path__) if found.name != __name__.rpartition(".")[2]
    ]


def _own(module: str) -> Family:
    found: Family = import_module(f"{package.__name__}.{module}").FAMILY
    return found


def _given(entry: EntryPoint) -> Family:
    try:
        found = entry.load()
    except Exception as error:
        raise MaskDistillError(
            f"entry point {GROUP}: {entry.name} = {entry.value} does not load: {error}"
        ) from error
    if not isinstance(found, Family):
        raise MaskDistillError(
            f"entry point {GROUP}: {entry.name} = {entry.value} is {type(found).__name__}, not a Family; see"
            " docs/how-to/add-a-metric.md"
        )
    return found


def _order(metric: Metric) -> tuple[int, str]:
    return metric.place, metric.name
