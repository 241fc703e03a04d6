"""Read a run's artefacts and aggregate what the report shows; scores are averaged over seeds."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from maskdistill.config import MASK_BASELINE, Config, PseudoLabelsConfig
from maskdistill.pseudo_labels import passes
from maskdistill.report.masks import Extremes, Masks
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import read_json

STAGES = ("masks", "detector", "segmenter")
METRICS = ("miou", "pixel_accuracy", "ap50", "ap", "ap75", "corloc", "purity", "nmi", "ari")
_SWEPT = re.compile(r"^(topk|k|seed|tau)-(\d+(?:\.\d+)?)(?:-(bbox|grabcut))?$")
_PLACE = re.compile(r"^(topk|k|seed|tau|shard|lost|attention)-")
_WEIGHTS = re.compile(r"weights|checkpoint|backbone|^model$", re.IGNORECASE)


@dataclass(frozen=True)
class Evaluation:
    """Scores of one stage for one seed, in percent, and the settings they were made with.

    ``baseline`` names the rule that made the masks where it is not the method's own, ``label_type`` what was painted
    of candidates (``PseudoLabelsConfig.type``) where that is known.
    ``matching`` maps label values (0 background, 1..K clusters) to class ids (0 background; -1 for none).
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
    provenance: dict[str, Any] = field(default_factory=dict)
    baseline: str | None = None
    label_type: str | None = None


@dataclass(frozen=True)
class ScoreRow:
    """One row of the score table: the same stage and settings over all seeds.

    ``std`` is the sample standard deviation (ddof 1) and lacks a metric scored with fewer than two seeds.
    ``main`` marks the settings of the configuration itself, as opposed to swept ones and to mask baselines.
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
    label_type: str | None = None

    @property
    def seeds(self) -> list[int]:
        return [run.seed for run in self.runs if run.seed is not None]


@dataclass(frozen=True)
class RuleTime:
    """Compute time of one workflow rule, summed over its jobs."""

    rule: str
    jobs: int
    seconds: float
    peak_mb: float | None


@dataclass(frozen=True)
class Candidates:
    """What the report needs of the candidates: all scores, and the full records of a few images, best first."""

    scores: NDArray[np.float64]
    images_above: int
    by_image: dict[int, list[dict[str, Any]]]


@dataclass(frozen=True)
class Run:
    """All that the page and the summary are made from.

    Attributes:
        table, usable, examples: manifest rows; all, those with status ok, and those whose stages are pictured.
        rows: scores, averaged over seeds; empty without ground truth.
        clusters, members: content of ``clusters.json`` of the first seed, and the masks pictured with each cluster.
        choices: scores of several numbers of clusters, as :mod:`maskdistill.cli.choose_k` wrote them, or empty.
        pseudo_labels: see :func:`maskdistill.report.labels.sum_pseudo_labels`.
        thresholds: counts of pseudo-labels at other thresholds, of :mod:`maskdistill.label_summary`, or empty.
        metrics: name -> training table.
        chain, versions, weights: see :func:`merge_provenance`.
    """

    name: str
    config: Config
    table: pd.DataFrame
    usable: pd.DataFrame
    examples: pd.DataFrame
    rows: list[ScoreRow]
    baselines: dict[str, dict[str, float]]
    masks: Masks
    clusters: dict[str, Any]
    members: list[Extremes]
    choices: pd.DataFrame
    candidates: Candidates
    pseudo_labels: dict[str, Any]
    thresholds: pd.DataFrame
    metrics: dict[str, pd.DataFrame]
    times: list[RuleTime]
    chain: list[dict[str, Any]]
    versions: dict[str, str]
    weights: dict[str, str]

    @property
    def images(self) -> dict[str, int]:
        """Usable images for training and for evaluation, and the quarantined ones."""
        train, scored = int(self.usable["train"].sum()), int(self.usable["eval"].sum())
        return {"train": train, "eval": scored, "quarantined": len(self.table) - len(self.usable)}

    @property
    def main_rows(self) -> list[ScoreRow]:
        return [row for row in self.rows if row.main]

    @property
    def baseline_rows(self) -> list[ScoreRow]:
        return [row for row in self.rows if row.baseline]

    @property
    def swept_rows(self) -> list[ScoreRow]:
        return [row for row in self.rows if not row.main and not row.baseline]

    @property
    def unmasked(self) -> int:
        """Usable images without a mask."""
        return len(self.usable) - self.masks.images

    def matching(self, stage: str) -> dict[int, int]:
        """Label value -> class id of a stage for the first seed; empty without ground truth."""
        runs = [run for row in self.main_rows if row.stage == stage for run in row.runs]
        runs.sort(key=lambda run: run.seed != self.config.seeds[0])
        return runs[0].matching if runs else {}


def finite(values: Mapping[str, Any], names: Iterable[str] | None = None) -> dict[str, float]:
    """The entries of ``values`` that are finite numbers, as floats, in the order of ``names`` if given."""
    chosen = values if names is None else [name for name in names if name in values]
    return {
        name: float(values[name])
        for name in chosen
        if isinstance(values[name], int | float) and not isinstance(values[name], bool) and np.isfinite(values[name])
    }


def swept_values(path: str | Path) -> dict[str, str]:
    """Settings that stand in a path: ``topk-0.4/k-6/seed-1/tau-0.9`` -> ``{"topk": "0.4", ...}``.

    The type of pseudo-labels stands behind tau: ``tau-0.9-bbox`` -> ``{"tau": "0.9", "label_type": "bbox"}``, and
    without one it is ``mask``.
    """
    found = {}
    for part in Path(path).parts:
        if match := _SWEPT.match(part):
            found[match[1]] = match[2]
            if match[1] == "tau":
                found["label_type"] = match[3] or "mask"
    return found


def mask_baseline(path: str | Path) -> str | None:
    """``lost-400`` for ``lost-400/k-6/seed-1/evaluation/masks.json``; None for the method's own masks."""
    pairs = pairwise(Path(path).parts)
    return next((name for name, below in pairs if re.match(MASK_BASELINE, name) and re.match(r"k-\d+$", below)), None)


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
    provenance = record.get("provenance") or {}
    params = provenance.get("params") or {}

    def setting(key: str, part: str) -> float | None:
        for source, name in ((record, key), (places, part), (params, key)):
            if source.get(name) is not None:
                try:
                    return float(source[name])
                except (TypeError, ValueError):
                    raise MaskDistillError(f"{path}: {name} is {source[name]!r}, not a number") from None
        return None

    seed, clusters = setting("seed", "seed"), setting("num_clusters", "k")
    return Evaluation(
        stage=str(record["stage"]),
        seed=None if seed is None else int(seed),
        topk=setting("topk", "topk"),
        num_clusters=None if clusters is None else int(clusters),
        tau=setting("tau", "tau"),
        scores=finite(record, METRICS),
        iou=finite(record.get("iou") or {}),
        matching={
            int(label): -1 if category is None else int(category)
            for label, category in (record.get("matching") or {}).items()
        },
        intervals={name: (float(low), float(high)) for name, (low, high) in (record.get("intervals") or {}).items()},
        images=record.get("images"),
        provenance=provenance,
        baseline=mask_baseline(path),
        label_type=places.get("label_type"),
    )


def score_rows(evaluations: Sequence[Evaluation], config: Config) -> list[ScoreRow]:
    """Average over seeds: one row per stage and settings, the configuration's own settings first.

    Raises:
        MaskDistillError: two evaluations of one stage have the same settings and seed.
    """
    groups: dict[tuple[Any, ...], list[Evaluation]] = {}
    for item in evaluations:
        key = (item.stage, item.baseline, item.label_type, item.topk, item.num_clusters, item.tau)
        group = groups.setdefault(key, [])
        if any(other.seed == item.seed for other in group):
            raise MaskDistillError(
                f"--evaluations: stage {item.stage} is given twice for seed {item.seed}, topk {item.topk}, "
                f"K {item.num_clusters}, tau {item.tau}; give each file once"
            )
        group.append(item)
    wanted = (config.masks.topk, config.clusters.total, config.pseudo_labels.tau)
    rows = []
    for (stage, baseline, label_type, *settings), runs in groups.items():
        runs.sort(key=lambda run: -1 if run.seed is None else run.seed)
        mean, std = _mean_std([run.scores for run in runs])
        own = all(value is None or np.isclose(value, aim) for value, aim in zip(settings, wanted, strict=True))
        main = own and baseline is None and label_type in (None, config.pseudo_labels.type)
        iou, _ = _mean_std([run.iou for run in runs])
        values = (settings[0], runs[0].num_clusters, settings[2])
        rows.append(ScoreRow(stage, *values, main, mean, std, iou, runs, baseline, label_type))

    def order(row: ScoreRow) -> tuple[Any, ...]:
        place = STAGES.index(row.stage) if row.stage in STAGES else len(STAGES)
        settings = (row.topk or 0.0, row.num_clusters or 0, row.tau or 0.0)
        return (
            not row.main,
            *(() if row.main else settings),
            place,
            row.stage,
            *settings,
            row.baseline or "",
            row.label_type or "",
        )

    return sorted(rows, key=order)


def read_baselines(path: str | Path) -> tuple[dict[str, dict[str, float]], dict[str, Any]]:
    """Scores by baseline, with ``num_clusters`` and ``seed`` they were made with, and the file's provenance record."""
    record = read_json(path)
    provenance = record.get("provenance") or {}
    params = finite(provenance.get("params") or {}, ("num_clusters", "seed"))
    names = [name for name, value in record.items() if name != "provenance" and isinstance(value, dict)]
    return {name: finite(record[name], METRICS) | params for name in names}, provenance


def _mean_std(records: Sequence[Mapping[str, float]]) -> tuple[dict[str, float], dict[str, float]]:
    names = list(dict.fromkeys(name for record in records for name in record))
    columns = {name: [record[name] for record in records if name in record] for name in names}
    mean = {name: float(np.mean(column)) for name, column in columns.items()}
    return mean, {name: float(np.std(column, ddof=1)) for name, column in columns.items() if len(column) > 1}


def is_confident(score: float, settings: PseudoLabelsConfig) -> bool:
    """Whether a candidate passes the threshold, as the pseudo-labels see it."""
    return passes(score, settings.tau, settings.compare)


def read_candidates(paths: Sequence[str], config: Config, keep: set[int]) -> tuple[Candidates, list[dict[str, Any]]]:
    """Read candidate shards one at a time; full records are kept for the image ids in ``keep`` only.

    Returns:
        The candidates and the shards' provenance records.
    """
    scores: list[NDArray[np.float64]] = []
    by_image: dict[int, list[dict[str, Any]]] = {}
    chain: list[dict[str, Any]] = []
    above: set[int] = set()
    for path in paths:
        content = read_json(path)
        chain.append(content.get("provenance") or {})
        rows = content["candidates"]
        scores.append(np.array([row["score"] for row in rows], dtype=np.float64))
        above.update(row["image_id"] for row in rows if is_confident(row["score"], config.pseudo_labels))
        for row in rows:
            if row["image_id"] in keep:
                by_image.setdefault(row["image_id"], []).append(row)
    for rows in by_image.values():
        rows.sort(key=lambda row: -row["score"])
    return Candidates(np.concatenate([np.zeros(0), *scores]), len(above), by_image), chain


def read_metrics(path: str | Path) -> pd.DataFrame:
    """Numeric columns of a metrics CSV; a column without a single finite value is left out.

    Raises:
        MaskDistillError: not a CSV.
    """
    try:
        frame = pd.read_csv(path)
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise MaskDistillError(f"{path}: not a CSV ({error}); delete it and run the training again") from None
    numeric = frame.select_dtypes("number").replace([np.inf, -np.inf], np.nan)
    return numeric.dropna(axis="columns", how="all")


def read_benchmarks(folder: str | Path) -> list[RuleTime]:
    """Sum Snakemake's benchmark TSVs (columns ``s`` and, optionally, ``max_rss``) by rule, slowest first.

    A rule is the first component of a file's path below ``folder`` that is no wildcard such as ``topk-0.4`` or
    ``shard-0000``: ``features/shard-0000.tsv`` and ``topk-0.4/masks/shard-0001.tsv`` are ``features`` and ``masks``.
    Below ``lost-400`` and the like it is ``masks (baselines)``. The rule ``report`` itself is left out, for it has not
    ended yet.
    """
    folder = Path(folder)
    found: dict[str, list[pd.DataFrame]] = {}
    for file in sorted(folder.rglob("*.tsv")):
        parts = file.relative_to(folder).with_suffix("").parts
        rule = next((part for part in parts if not _PLACE.match(part)), parts[-1])
        if rule == "report":
            continue
        if any(re.match(MASK_BASELINE, part) for part in parts):
            rule += " (baselines)"
        try:
            frame = pd.read_csv(file, sep="\t")
            frame["s"] = pd.to_numeric(frame["s"])
        except (pd.errors.EmptyDataError, pd.errors.ParserError, KeyError, ValueError):
            raise MaskDistillError(f"{file}: not a Snakemake benchmark (no numeric column 's'); delete it") from None
        found.setdefault(rule, []).append(frame)
    times = []
    for rule, frames in found.items():
        table = pd.concat(frames)
        peak = pd.to_numeric(table["max_rss"], errors="coerce").max() if "max_rss" in table else np.nan
        times.append(RuleTime(rule, len(table), float(table["s"].sum()), float(peak) if np.isfinite(peak) else None))
    return sorted(times, key=lambda time: (-time.seconds, time.rule))


def merge_provenance(
    records: Iterable[Mapping[str, Any]],
) -> tuple[list[dict[str, Any]], dict[str, str], dict[str, str]]:
    """Chain of stages, library versions and hashes of weights found in artefacts' provenance records.

    Returns:
        One ``{"stage", "params", "inputs"}`` a stage (the first record of each), versions by library
        (several, if artefacts disagree, joined by a comma) and SHA-256 by name of every input that holds weights.
    """
    chain: dict[str, dict[str, Any]] = {}
    versions: dict[str, set[str]] = {}
    weights: dict[str, str] = {}
    for record in records:
        stage = str(record.get("stage", "?"))
        inputs = dict(record.get("inputs") or {})
        params = dict(record.get("params") or {})
        chain.setdefault(stage, {"stage": stage, "params": params, "inputs": inputs})
        named = [("maskdistill", record.get("version")), *(record.get("libraries") or {}).items()]
        for name, value in named:
            if value:
                versions.setdefault(name, set()).add(str(value))
        for name, value in [*inputs.items(), *params.items()]:
            if _WEIGHTS.search(name) and isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value):
                weights.setdefault(f"{stage}: {name}", value)
    return list(chain.values()), {name: ", ".join(sorted(found)) for name, found in versions.items()}, weights
