"""Read a run's artefacts and aggregate what the report shows."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from maskdistill.clusters.types import ClustersRecord
from maskdistill.config import Config, PseudoLabelsConfig
from maskdistill.data.dropped import DroppedRecord
from maskdistill.detector.types import Candidate
from maskdistill.evaluation.types import CandidateQuality
from maskdistill.masks.folders import backbone_of, is_folder
from maskdistill.masks.registry import is_chosen_folder
from maskdistill.pseudo_labels.confidence import passes
from maskdistill.pseudo_labels.summary import LabelSummary
from maskdistill.report.failures import Failures
from maskdistill.report.files import OwnFiles
from maskdistill.report.images import Images
from maskdistill.report.masks import Extremes, Masks
from maskdistill.report.rated import Rated, Ratings
from maskdistill.report.rounds import Learnt
from maskdistill.report.scores import ScoreRow, first_seed
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import check_seal, read_json
from maskdistill.runtime.types import Provenance
from maskdistill.trust.types import TrustRecord
from maskdistill.workflow.layout import main_values

_SETTING = re.compile(r"^(k|seed|round|tau|hard|crf)-\d")
_OTHER_TARGETS = ("report", "ablations", "oracle", "bench", "paper")
_WEIGHTS = re.compile(r"weights|checkpoint|backbone|^model$", re.IGNORECASE)


class ChainEntry(TypedDict):
    """A stage that a run's artefacts come from: its settings, and SHA-256 of its inputs by name."""

    stage: str
    params: dict[str, Any]
    inputs: dict[str, str]


@dataclass(frozen=True)
class RuleTime:
    """Compute time of one workflow rule, summed over its jobs."""

    rule: str
    jobs: int
    seconds: float
    peak_mb: float | None


@dataclass(frozen=True)
class Candidates:
    """What the report needs of the candidates: all scores, and the full records of a few images, best first.

    Attributes:
        scores: (n,) of all.
        images, images_above: images with a candidate, and with one that passes τ.
        by_image: the candidates of the images that are pictured.
        surest, least: the images with the highest and the lowest mean score, see
        :mod:`maskdistill.report.rated`.
    """

    scores: NDArray[np.float64]
    images: int
    images_above: int
    by_image: dict[int, list[Candidate]]
    surest: list[Rated]
    least: list[Rated]


@dataclass(frozen=True)
class Run:
    """All that the page and the summary are made from.

    Attributes:
        images: counts and samples of the manifest.
        rows: scores, averaged over seeds; empty without ground truth.
        clusters, members: content of ``clusters.json`` of the first seed, and the masks pictured with each
        cluster. choices: scores of several numbers of clusters, as :mod:`maskdistill.cli.choose_k` wrote
        them, or empty. pseudo_labels: see :func:`maskdistill.report.labels.sum_pseudo_labels`. trust: what
        the stage ``trust`` wrote; None if it was not told. files: the run's own objects for other tools; None
        if it was not told. thresholds: counts of pseudo-labels at other thresholds, of
        :mod:`maskdistill.pseudo_labels.summary`, or empty. quality: what ``maskdistill candidate_quality``
        wrote; None without ground truth. failures: what the failure gallery pictures. truth: counts, and what
        was dropped of the ground truth, as its stage wrote it; None without ground truth. names: cluster
        0..K-1 -> the name that it was given. unused_names: file of names that were given to other clusters;
        empty if none. metrics: name -> training table. chain, versions, weights: see
        :func:`merge_provenance`.
    """

    name: str
    config: Config
    images: Images
    rows: list[ScoreRow]
    baselines: dict[str, dict[str, float]]
    masks: Masks
    clusters: ClustersRecord
    members: list[Extremes]
    choices: pd.DataFrame
    candidates: Candidates
    pseudo_labels: LabelSummary
    trust: TrustRecord | None
    files: OwnFiles | None
    thresholds: pd.DataFrame
    quality: CandidateQuality | None
    failures: Failures
    rounds: list[Learnt]
    truth: DroppedRecord | None
    names: dict[int, str]
    unused_names: str
    metrics: dict[str, pd.DataFrame]
    times: list[RuleTime]
    chain: list[ChainEntry]
    versions: dict[str, str]
    weights: dict[str, str]

    @property
    def image_counts(self) -> dict[str, int]:
        """Usable images for training and for evaluation, and the quarantined ones."""
        found = self.images
        return {"train": found.train, "eval": found.eval, "quarantined": found.total - found.usable}

    @property
    def main_rows(self) -> list[ScoreRow]:
        """Rows at the configuration's own settings."""
        return [row for row in self.rows if row.main]

    @property
    def chain_rows(self) -> list[ScoreRow]:
        """The main rows and, before the segmenter, those of its earlier rounds."""
        return [row for row in self.rows if row.main or row.earlier]

    @property
    def baseline_rows(self) -> list[ScoreRow]:
        """Rows of masks by other rules."""
        return [row for row in self.rows if row.baseline]

    @property
    def swept_rows(self) -> list[ScoreRow]:
        """Rows at swept values of a setting."""
        return [row for row in self.rows if not row.main and not row.earlier and not row.baseline]

    @property
    def unmasked(self) -> int:
        """Usable images without a mask."""
        return self.images.usable - self.masks.images

    def matching(self, stage: str) -> dict[int, int]:
        """Label value -> class id of a stage for the first seed; empty without ground truth."""
        found = first_seed(self.rows, stage, self.config)
        return found.matching if found else {}

    def cluster_name(self, cluster: int) -> str:
        """What the page calls a cluster, 0..K-1."""
        return self.names.get(cluster, unnamed(cluster))


def unnamed(cluster: int) -> str:
    """What the page calls a cluster, 0..K-1, that has no name."""
    return f"cluster {cluster:02d}"


def is_confident(score: float, settings: PseudoLabelsConfig) -> bool:
    """Whether a candidate passes the threshold, as the pseudo-labels see it."""
    return passes(score, settings.tau, settings.compare)


def read_candidates(
    paths: Sequence[str], config: Config, keep: set[int]
) -> tuple[Candidates, list[Provenance]]:
    """Read candidate shards one at a time; full records are kept for the image ids in ``keep`` only.

    Returns:
        The candidates and the shards' provenance records.
    """
    scores: list[NDArray[np.float64]] = []
    by_image: dict[int, list[Candidate]] = {}
    chain: list[Provenance] = []
    above: set[int] = set()
    ratings = Ratings(config.pseudo_labels)
    for path in paths:
        content = read_json(path)
        chain += [content["provenance"]] if content.get("provenance") else []
        rows = content["candidates"]
        scores.append(np.array([row["score"] for row in rows], dtype=np.float64))
        ratings.add(rows)
        above.update(row["image_id"] for row in rows if is_confident(row["score"], config.pseudo_labels))
        for row in rows:
            if row["image_id"] in keep:
                by_image.setdefault(row["image_id"], []).append(row)
    for rows in by_image.values():
        rows.sort(key=lambda row: -row["score"])
    every = np.concatenate([np.zeros(0), *scores])
    return Candidates(every, ratings.images, len(above), by_image, ratings.best, ratings.worst), chain


def read_sealed_csv(path: str | Path) -> pd.DataFrame:
    """Read a CSV whose last line is its seal.

    Raises:
        MaskDistillError: it is damaged.
    """
    check_seal(path)
    try:
        return pd.read_csv(path, comment="#")
    except pd.errors.EmptyDataError:
        return pd.DataFrame()


def read_metrics(path: str | Path) -> pd.DataFrame:
    """Numeric columns of a metrics CSV; a column without a single finite value is left out.

    Raises:
        MaskDistillError: it is damaged.
    """
    frame = read_sealed_csv(path)
    numeric = frame.select_dtypes("number").replace([np.inf, -np.inf], np.nan)
    return numeric.dropna(axis="columns", how="all")


def read_benchmarks(folder: str | Path, config: Config) -> list[RuleTime]:
    """Sum Snakemake's benchmark TSVs (columns ``s`` and, optionally, ``max_rss``) by rule, slowest first.

    A rule is the first component of a file's path below ``folder``: ``features/0000.tsv`` and
    ``masks/topk-0.4/0001.tsv`` are ``features`` and ``masks``. Below ``lost-400`` and the like, where these
    are not the run's own, it is ``masks (baselines)``. Left out are jobs at other settings than the run's own
    (sweeps, variants, what was configured earlier), other targets than the report, and the rule ``report``
    itself, which has not ended yet.
    """
    folder = Path(folder)
    main = main_values(config)
    own = {
        str(main["masks"]),
        *config.baselines.masks,
        *(f"{name}-{main[name]}" for name in ("k", "tau", "hard")),
    }
    own |= {f"seed-{seed}" for seed in config.seeds}
    own |= {f"crf-{number}" for number in range(config.crf.rounds + 1)}
    own |= {f"round-{number}" for number in range(1, config.detector.rounds + 1)}
    found: dict[str, list[pd.DataFrame]] = {}
    for file in sorted(folder.rglob("*.tsv")):
        parts = file.relative_to(folder).with_suffix("").parts
        rule, *places = parts
        masks = [place for place in places if is_folder(place)]
        settings = masks + [place for place in places if _SETTING.match(place)]
        if rule in _OTHER_TARGETS or backbone_of(rule) or not own.issuperset(settings):
            continue
        if any(is_chosen_folder(place) and place != main["masks"] for place in masks):
            rule += " (baselines)"
        try:
            frame = pd.read_csv(file, sep="\t")
            frame["s"] = pd.to_numeric(frame["s"])
        except (pd.errors.EmptyDataError, pd.errors.ParserError, KeyError, ValueError):
            raise MaskDistillError(
                f"{file}: not a Snakemake benchmark (no numeric column 's'); delete it"
            ) from None
        found.setdefault(rule, []).append(frame)
    times = []
    for rule, frames in found.items():
        table = pd.concat(frames)
        peak = pd.to_numeric(table["max_rss"], errors="coerce").max() if "max_rss" in table else np.nan
        times.append(
            RuleTime(rule, len(table), float(table["s"].sum()), float(peak) if np.isfinite(peak) else None)
        )
    return sorted(times, key=lambda time: (-time.seconds, time.rule))


def merge_provenance(
    records: Iterable[Provenance],
) -> tuple[list[ChainEntry], dict[str, str], dict[str, str]]:
    """Chain of stages, library versions and hashes of weights found in artefacts' provenance records.

    Returns:
        An entry a stage (of its first record), versions by library
        (several, if artefacts disagree, joined by a comma) and SHA-256 by name of every input that holds
        weights.
    """
    chain: dict[str, ChainEntry] = {}
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
