"""Finished runs: their categories and scores, and their models for other pictures."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from maskdistill.api.backbones import Picture, checked
from maskdistill.config import Config
from maskdistill.data.images import load_rgb
from maskdistill.detector.inference import detect
from maskdistill.detector.trained import TrainedDetector, load_detector
from maskdistill.evaluation.metrics.registry import metrics
from maskdistill.formats import rle
from maskdistill.product.run_scores import score_rows_of
from maskdistill.product.trained_run import TrainedRun, find_models
from maskdistill.pseudo_labels.confidence import passes
from maskdistill.report.scores import finite
from maskdistill.runtime.devices import pick_device
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.segmenter.inference import segment
from maskdistill.segmenter.trained import TrainedSegmenter, load_segmenter


@dataclass(frozen=True)
class Category:
    """A discovered category.

    Attributes:
        id: 1..K, the value in label maps.
        name: the name given in the report, else ``cluster-00`` and so on, counted from 0.
    """

    id: int
    name: str


@dataclass(frozen=True)
class Verdict:
    """Whether a run's result can be trusted, by signals that need no label.

    Attributes:
        verdict: ``use``, ``look first`` or ``do not use``.
        reasons: what speaks against using it, in words.
        signals: values by name.
    """

    verdict: str
    reasons: tuple[str, ...]
    signals: Mapping[str, float | None]


@dataclass(frozen=True)
class FoundObject:
    """An object in a picture.

    Attributes:
        category: one of the run's.
        score: 0..1, the detector's confidence.
        mask: bool (H, W).
        box: x, y, width and height of the mask in pixels.
    """

    category: Category
    score: float
    mask: npt.NDArray[np.bool_]
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Prediction:
    """What a run's models find in a picture.

    Attributes:
        labels: uint8 (H, W), from the segmenter: 0 background, else the id of a category.
        objects: from the detector, the most confident first; their masks may overlap.
    """

    labels: npt.NDArray[np.uint8]
    objects: tuple[FoundObject, ...]


@dataclass(frozen=True)
class Run:
    """A finished run, as :func:`load_run` returns it.

    Attributes:
        path: its folder.
        config: its whole configuration.
        summary: content of its summary.json (docs/reference/files.md).
        categories: by id, 1..K.
        verdict: None if an earlier version made the run.
        scores: percent by stage or baseline (such as ``segmenter`` or ``segmenter, round 1``) and metric,
            means over seeds; empty without ground truth.
        device: the device of its models.
    """

    path: Path
    config: Config
    summary: Mapping[str, Any]
    categories: tuple[Category, ...]
    verdict: Verdict | None
    scores: Mapping[str, Mapping[str, float]]
    device: torch.device
    models: TrainedRun = field(repr=False)

    @cached_property
    def detector(self) -> TrainedDetector:
        """The detector; loaded at first use."""
        return load_detector(self.models.detector, self.models.test_settings, self.device)

    @cached_property
    def segmenter(self) -> TrainedSegmenter:
        """The segmenter; loaded at first use."""
        return load_segmenter(self.models.segmenter, self.device)

    def predict(self, image: Picture | str | Path, min_score: float | None = None) -> Prediction:
        """Labels and objects of a picture, as ``maskdistill predict`` writes them.

        Args:
            image: uint8 (H, W, 3), RGB, or the path of a picture, which is rotated upright.
            min_score: lowest score of an object; None: objects that pass the run's ``pseudo_labels.tau``.

        Raises:
            MaskDistillError: an array of another kind, a picture that cannot be read, or a damaged model.

        >>> found = run.predict("photo.jpg", min_score=0.02)
        >>> found.labels.shape, found.labels.dtype
        ((160, 128), dtype('uint8'))
        >>> best = found.objects[0]
        >>> best.mask.shape, best.category in run.categories
        ((160, 128), True)
        """
        pixels = np.asarray(load_rgb(image)) if isinstance(image, str | Path) else checked(image)
        tau, compare = self.config.pseudo_labels.tau, self.config.pseudo_labels.compare
        if min_score is not None:
            tau, compare = min_score, "ge"
        tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
        candidates = detect(self.detector.model, tensor, self.device)
        labels = segment(self.segmenter.model, [pixels], self.segmenter.config, self.device)[0]
        objects = [self._object(found) for found in candidates if passes(found["score"], tau, compare)]
        return Prediction(labels, tuple(objects))

    def _object(self, candidate: Mapping[str, Any]) -> FoundObject:
        x, y, width, height = rle.bbox(candidate["segmentation"])
        return FoundObject(
            category=self.categories[candidate["category_id"] - 1],
            score=candidate["score"],
            mask=rle.decode(candidate["segmentation"]),
            box=(x, y, width, height),
        )


def load_run(path: str | Path, seed: int | None = None, device: str = "cpu") -> Run:
    """Load a finished run.

    Args:
        path: its folder, e.g. ``results/demo``.
        seed: which models to take, if the run has several seeds.
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``auto``.

    Raises:
        MaskDistillError: not a finished run, several seeds and none chosen, or a model is missing.

    >>> from maskdistill import load_run
    >>> run = load_run("results/demo")
    >>> run.config.clusters.total, [category.name for category in run.categories]
    (3, ['cluster-00', 'cluster-01', 'cluster-02'])
    >>> run.verdict.verdict, run.verdict.reasons
    ('look first', ('edges are faint (1.30)',))
    """
    models = find_models(str(path), None, None, seed)
    if models.config is None:
        raise MaskDistillError(f"{path}: its summary.json holds no configuration; run the workflow again")
    categories = models.categories(models.config.clusters.total)
    told = models.trust
    return Run(
        path=Path(path),
        config=models.config,
        summary=models.summary,
        categories=tuple(Category(entry["id"], entry["name"]) for entry in categories),
        verdict=None if told is None else Verdict(told["verdict"], tuple(told["reasons"]), told["signals"]),
        scores={stage: finite(scores, metrics()) for stage, scores in score_rows_of(models.summary)},
        device=pick_device(device),
        models=models,
    )
