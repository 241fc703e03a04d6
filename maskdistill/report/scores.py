"""Scores of a run: evaluation files read, and averaged over seeds."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from maskdistill.config import Config
from maskdistill.evaluation.metrics.registry import metrics
from maskdistill.evaluation.stages import STAGES
from maskdistill.evaluation.types import WorstImage
from maskdistill.masks.folders import backbone_of, is_folder
from maskdistill.masks.registry import is_chosen_folder
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import read_json
from maskdistill.runtime.types import Provenance

_SWEPT = re.compile(r"^(topk|k|seed|round|tau|hard|crf)-(\d+(?:\.\d+)?)(?:-(bbox|grabcut))?$")


@dataclass(frozen=True)
class Evaluation:
    """Scores of one stage for one seed, in percent, and the settings they were made with.

    ``rule`` names the folder of the masks where it is not that of the paper's rule, ``label_type`` what was
    painted of candidates (``PseudoLabelsConfig.type``) where that is known.
    ``matching`` maps label values (0 background, 1..K clusters) to class ids (0 background; -1 for none).
    ``detector_round`` counts the rounds of self-training of the detector behind it, 0 for masks;
    ``hard_pixels`` and ``crf_round`` are of the segmenter alone. ``classes`` names the classes 0..C,
    ``confusion`` counts pixels by label 0..K and class, ``worst_images`` lists ``{image_id, iou}`` by class
    id; all are empty without semantic maps. ``resampled`` has by metric its value over each resample
    of the images, None for none.
    """

    stage: str
    seed: int | None
    topk: float | None
    num_clusters: int | None
    tau: float | None
    scores: dict[str, float]
    iou: dict[str, float]
    matching: dict[int, int]
    intervals: dict[str, tuple[float, float]]
    images: int | None = None
    provenance: Provenance | None = None
    rule: str | None = None
    hard_pixels: float | None = None
    crf_round: int | None = None
    detector_round: int = 0
    label_type: str | None = None
    classes: list[str] = field(default_factory=list)
    confusion: list[list[int]] = field(default_factory=list)
    worst_images: dict[int, list[WorstImage]] = field(default_factory=dict)
    resampled: dict[str, list[float | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoreRow:
    """One row of the score table: the same stage and settings over all seeds.

    ``std`` is the sample standard deviation (ddof 1) and lacks a metric scored with fewer than two seeds.
    ``main`` marks the settings of the configuration itself, as opposed to swept ones and to those of
    ``baseline``, a mask rule other than the configuration's and the paper's, or on another backbone;
    ``earlier`` marks them in a CRF round before the last, or of a detector in a round of self-training before
    the last.
    """

    stage: str
    topk: float | None
    num_clusters: int | None
    tau: float | None
    main: bool
    mean: dict[str, float]
    std: dict[str, float]
    iou: dict[str, float]
    runs: list[Evaluation]
    baseline: str | None = None
    hard_pixels: float | None = None
    crf_round: int | None = None
    detector_round: int = 0
    earlier: bool = False
    label_type: str | None = None

    @property
    def seeds(self) -> list[int]:
        """The seeds that the row is averaged over."""
        return [run.seed for run in self.runs if run.seed is not None]


def finite(values: Mapping[str, object], names: Iterable[str] | None = None) -> dict[str, float]:
    """The entries of ``values`` that are finite numbers, as floats, in the order of ``names`` if given."""
    chosen = values if names is None else [name for name in names if name in values]
    found = {name: value for name in chosen if isinstance(value := values[name], int | float)}
    return {
        name: float(value) for name, value in found.items() if type(value) is not bool and np.isfinite(value)
    }


def swept_values(path: str | Path) -> dict[str, str]:
    """Settings in a path: ``k-6/seed-1/tau-0.9`` -> ``{"k": "6", "seed": "1", "tau": "0.9"}``.

    The type of pseudo-labels stands behind tau: ``tau-0.9-bbox`` -> ``{"tau": "0.9", "label_type": "bbox"}``,
    and without one it is ``mask``.
    """
    found = {}
    for part in Path(path).parts:
        if match := _SWEPT.match(part):
            found[match[1]] = match[2]
            if match[1] == "tau":
                found["label_type"] = match[3] or "mask"
    return found


def mask_rule(path: str | Path) -> str | None:
    """``lost-400`` for ``lost-400/k-6/seed-1/evaluation/masks.json``; None for masks by the paper's rule on
    the run's backbone.
    """
    pairs = pairwise(Path(path).parts)
    names = (name for name, below in pairs if re.match(r"k-\d+$", below) and is_folder(name))
    return next((name for name in names if is_chosen_folder(name) or backbone_of(name)), None)


def read_evaluation(path: str | Path) -> Evaluation:
    """Read one evaluation JSON.

    The seed and the swept values are taken from the file's own keys ``seed``, ``topk``, ``num_clusters`` and
    ``tau``; where they lack from the path's components; where these lack from ``provenance.params``.

    Raises:
        MaskDistillError: no such file, not JSON, or no ``stage`` in it.
    """
    record = read_json(path)
    if not isinstance(record, dict) or "stage" not in record:
        raise MaskDistillError(f"{path}: no 'stage' in it; give files made by 'maskdistill evaluation'")
    places = swept_values(path)
    provenance = record.get("provenance")
    params = (provenance or {}).get("params") or {}

    def setting(key: str, part: str) -> float | None:
        for source, name in ((record, key), (places, part), (params, key)):
            if source.get(name) is not None:
                try:
                    return float(source[name])
                except (TypeError, ValueError):
                    raise MaskDistillError(f"{path}: {name} is {source[name]!r}, not a number") from None
        return None

    seed, clusters = setting("seed", "seed"), setting("num_clusters", "k")
    round_ = setting("crf_round", "crf")
    return Evaluation(
        stage=str(record["stage"]),
        seed=None if seed is None else int(seed),
        topk=setting("topk", "topk"),
        num_clusters=None if clusters is None else int(clusters),
        tau=setting("tau", "tau"),
        scores=finite(record, metrics()),
        iou=finite(record.get("iou") or {}),
        matching={
            int(label): -1 if category is None else int(category)
            for label, category in (record.get("matching") or {}).items()
        },
        intervals={
            name: (float(low), float(high)) for name, (low, high) in (record.get("intervals") or {}).items()
        },
        images=record.get("images"),
        provenance=provenance,
        rule=mask_rule(path),
        hard_pixels=setting("hard_pixels", "hard"),
        crf_round=None if round_ is None else int(round_),
        detector_round=int(setting("detector_round", "round") or 0),
        label_type=places.get("label_type"),
        classes=record.get("classes") or [],
        confusion=record.get("confusion") or [],
        worst_images={int(label): rows for label, rows in (record.get("worst_images") or {}).items()},
        resampled=record.get("resampled") or {},
    )


def first_seed(rows: Iterable[ScoreRow], stage: str, config: Config) -> Evaluation | None:
    """A stage's main evaluation of the configuration's first seed, else of the least one; None without."""
    runs = [run for row in rows if row.main and row.stage == stage for run in row.runs]
    return min(runs, key=lambda run: run.seed != config.seeds[0], default=None)


def score_rows(evaluations: Sequence[Evaluation], config: Config) -> list[ScoreRow]:
    """Average over seeds: one row per stage and settings, the configuration's own settings first.

    Raises:
        MaskDistillError: two evaluations of one stage have the same settings and seed.
    """
    groups: dict[tuple[Any, ...], list[Evaluation]] = {}
    for item in evaluations:
        settings = (
            item.topk,
            item.num_clusters,
            item.detector_round,
            item.tau,
            item.hard_pixels,
            item.crf_round,
        )
        group = groups.setdefault((item.stage, item.rule, item.label_type, *settings), [])
        if any(other.seed == item.seed for other in group):
            raise MaskDistillError(
                f"--evaluations: stage {item.stage} is given twice for seed {item.seed}, topk {item.topk}, "
                f"K {item.num_clusters}, round {item.detector_round}, tau {item.tau}, hard pixels "
                f"{item.hard_pixels}, CRF round {item.crf_round}; give each file once"
            )
        group.append(item)
    rows = [_score_row(runs, config) for runs in groups.values()]

    stages = list(STAGES)

    def order(row: ScoreRow) -> tuple[Any, ...]:
        own = row.main or row.earlier
        place = stages.index(row.stage) if row.stage in stages else len(stages)
        settings = (
            row.topk or 0.0,
            row.num_clusters or 0,
            row.detector_round,
            row.tau or 0.0,
            row.hard_pixels or 0.0,
        )
        chain = (row.stage not in stages, row.crf_round or 0, place, row.stage)
        return (
            not own,
            *(() if own else settings),
            *chain,
            *settings,
            row.baseline or "",
            row.label_type or "",
        )

    return sorted(rows, key=order)


def _score_row(runs: list[Evaluation], config: Config) -> ScoreRow:
    """Mean and deviation of one stage's scores at the same settings."""
    runs.sort(key=lambda run: -1 if run.seed is None else run.seed)
    first = runs[0]
    mean, std = _mean_std([run.scores for run in runs])
    iou, _ = _mean_std([run.iou for run in runs])
    settings = (first.topk, first.num_clusters, first.tau, first.hard_pixels)
    wanted = (
        config.masks.topk,
        config.clusters.total,
        config.pseudo_labels.tau,
        config.segmenter.hard_pixels,
    )
    own = all(value is None or np.isclose(value, aim) for value, aim in zip(settings, wanted, strict=True))
    own_rule = first.rule == (None if config.masks.by_paper else config.masks.rule)
    own &= own_rule and first.label_type in (None, config.pseudo_labels.type)
    rounds = config.detector.rounds
    if first.stage != "masks":
        own &= first.detector_round == rounds or (first.stage == "detector" and first.detector_round < rounds)
    last = first.crf_round in (None, config.crf.rounds)
    last &= first.stage == "masks" or first.detector_round == rounds
    return ScoreRow(
        stage=first.stage,
        topk=first.topk,
        num_clusters=first.num_clusters,
        tau=first.tau,
        main=own and last,
        mean=mean,
        std=std,
        iou=iou,
        runs=runs,
        baseline=None if own_rule else first.rule,
        hard_pixels=first.hard_pixels,
        crf_round=first.crf_round,
        detector_round=first.detector_round,
        earlier=own and not last,
        label_type=first.label_type,
    )


def read_baselines(path: str | Path) -> tuple[dict[str, dict[str, float]], Provenance | None]:
    """Scores by baseline with their ``num_clusters`` and ``seed``; the file's provenance."""
    record = read_json(path)
    provenance = record.get("provenance")
    params = finite((provenance or {}).get("params") or {}, ("num_clusters", "seed"))
    names = [name for name, value in record.items() if name != "provenance" and isinstance(value, dict)]
    return {name: finite(record[name], metrics()) | params for name in names}, provenance


def _mean_std(records: Sequence[Mapping[str, float]]) -> tuple[dict[str, float], dict[str, float]]:
    names = list(dict.fromkeys(name for record in records for name in record))
    columns = {name: [record[name] for record in records if name in record] for name in names}
    mean = {name: float(np.mean(column)) for name, column in columns.items()}
    return mean, {name: float(np.std(column, ddof=1)) for name, column in columns.items() if len(column) > 1}
