"""``summary.json``: a run's numbers for other programs."""

from collections.abc import Mapping
from typing import TypedDict

from maskdistill.evaluation.metrics.registry import metrics
from maskdistill.report.collect import Run
from maskdistill.report.scores import ScoreRow
from maskdistill.report.steps import worse_steps
from maskdistill.report.tables import protocol
from maskdistill.trust.types import TrustRecord, VerdictRecord


class ClusterSummary(TypedDict):
    """Masks of each cluster, and the names that clusters were given, by number."""

    sizes: list[int]
    names: dict[str, str]


class RunSummary(TypedDict):
    """``summary.json``; scores in percent.

    Attributes:
        run: its name.
        images: usable ones for training and evaluation, and quarantined ones.
        dropped: counts of what was dropped of the ground truth.
        clusters: of the first seed.
        stages: by name, at the configuration's own settings: a metric's mean over seeds, ``<metric>_std``,
            its sample standard deviation (null for one seed), ``iou`` by class, ``per_seed``, and the
            ``protocol`` in words.
        rounds: the same of rounds before the last, of the detector's self-training and of the segmenter's
            CRF.
        sweep: of other settings.
        baselines: of colour clustering and, in full, of masks by other rules.
        trust: the verdict; None if there is none.
        worse_steps: stages that made scores worse, in words.
        pseudo_labels: their settings, counts, and counts at other thresholds.
        seconds: by rule, and their ``total``.
        provenance: the whole ``config``, ``versions`` of libraries and hashes of ``weights``.
    """

    run: str
    images: dict[str, int]
    dropped: dict[str, int]
    clusters: ClusterSummary
    stages: dict[str, dict[str, object]]
    rounds: list[dict[str, object]]
    sweep: list[dict[str, object]]
    baselines: Mapping[str, Mapping[str, object]]
    trust: VerdictRecord | None
    worse_steps: list[str]
    pseudo_labels: dict[str, object]
    seconds: dict[str, float]
    provenance: dict[str, object]


def _verdict(record: TrustRecord) -> VerdictRecord:
    return {"verdict": record["verdict"], "reasons": record["reasons"], "signals": record["signals"]}


def summary(run: Run) -> RunSummary:
    """The content of ``summary.json``."""

    def entry(row: ScoreRow) -> dict[str, object]:
        scores: dict[str, object] = {}
        for name in metrics():
            if name in row.mean:
                scores |= {name: row.mean[name], f"{name}_std": row.std.get(name)}
        per_seed = [
            {
                "seed": run.seed,
                **run.scores,
                "intervals": {name: list(pair) for name, pair in run.intervals.items()},
            }
            for run in row.runs
        ]
        round_ = {} if row.crf_round is None else {"crf_round": row.crf_round}
        round_ |= {} if row.stage == "masks" else {"detector_round": row.detector_round}
        return scores | round_ | {"iou": row.iou, "per_seed": per_seed, "protocol": protocol(row, run.config)}

    seconds = {time.rule: time.seconds for time in run.times}
    return {
        "run": run.name,
        "images": run.image_counts,
        "dropped": run.truth["counts"] if run.truth else {},
        "clusters": {
            "sizes": run.clusters["sizes"],
            "names": {str(cluster): name for cluster, name in run.names.items()},
        },
        "stages": {row.stage: entry(row) for row in run.main_rows},
        "rounds": [{"stage": row.stage, **entry(row)} for row in run.chain_rows if row.earlier],
        "sweep": [{"stage": row.stage, **entry(row)} for row in run.swept_rows],
        "baselines": {**run.baselines, **{str(row.baseline): entry(row) for row in run.baseline_rows}},
        "trust": _verdict(run.trust) if run.trust else None,
        "worse_steps": worse_steps(run.chain_rows, run.baselines),
        "pseudo_labels": {
            **run.config.pseudo_labels.model_dump(mode="json"),
            **run.pseudo_labels,
            "by_tau": run.thresholds.to_dict("records"),
        },
        "seconds": {"total": sum(seconds.values()), **seconds},
        "provenance": {
            "config": run.config.model_dump(mode="json"),
            "versions": run.versions,
            "weights": run.weights,
        },
    }
