"""Targets beside the main run (sweep, ablations, oracle, bench) and what they require."""

from collections.abc import Collection, Sequence
from importlib.util import find_spec

from snakemake.io import expand

from maskdistill.config import BenchStage, Config
from maskdistill.config.limits import refuse_more_clusters
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.workflow import layout
from maskdistill.workflow.layout import tau_name, value_name
from maskdistill.workflow.run import Run, Value, Values

CLUSTERED = ["masks", "objects"]
"""Cases of the oracle whose categories still have to be discovered."""


def need_crf(setting: str) -> None:
    """Refuse, before anything starts, a run whose dense CRF is not installed.

    Raises:
        MaskDistillError: it is not installed; the message names the setting that requires it.
    """
    if find_spec("pydensecrf") is None:
        raise MaskDistillError(
            f"{setting}: CRF rounds need pydensecrf2, which is compiled when it is installed: "
            f"run `make crf` (it requires g++ and Python's headers), or set {setting} to 0"
        )


def need_ground_truth(targets: Collection[str], config: Config) -> None:
    """Refuse targets that consist of scores; call it if there is no ground truth.

    Raises:
        MaskDistillError: such a target was asked for.
    """
    if targets:
        raise MaskDistillError(
            f"{', '.join(sorted(targets))}: scores need ground truth, and data.kind {config.data.kind} has "
            "none; give data.kind coco its annotations, or use voc or scenes"
        )


def check_probe(run: Run) -> None:
    """Refuse a probe if there is no ground truth to learn from.

    Raises:
        MaskDistillError: there is none.
    """
    if run.config.probe.enabled and not run.has_ground_truth:
        raise MaskDistillError(
            "probe.enabled: a probe learns from ground truth, and data has none; set it to false"
        )


def check_paper(run: Run, asked: Collection[str], with_conda: bool) -> None:
    """Refuse targets of the paper that the configuration rules out.

    Args:
        run: the run, which has ground truth.
        asked: words of the command line.
        with_conda: whether jobs run in conda environments, which contain the dense CRF.

    Raises:
        MaskDistillError: the dense CRF, stored keys or pictures are missing.
    """
    wanted = set(asked)
    if run.config.paper.crf_rounds and wanted & {"table2", "tableS1", "tableS2", "paper"} and not with_conda:
        need_crf("paper.crf_rounds")
    if not run.config.features.store and wanted & {"table3", "figure4", "paper"}:
        raise MaskDistillError(
            "table3, figure4: other masks need the stored keys; set features.store to true"
        )
    if wanted & {"figure3", "paper"}:
        refuse_more_clusters(run.config, run.num_fitted, figure3=True)


def check_bench(run: Run, asked: Collection[str]) -> None:
    """Refuse the bench if no features are stored, on which its rules work.

    Args:
        run: the run.
        asked: words of the command line.

    Raises:
        MaskDistillError: none are stored.
    """
    if "bench" in asked and not run.config.features.store:
        raise MaskDistillError("bench: its rules work on stored keys; set features.store to true")


def swept_values(run: Run) -> dict[str, list[Value]]:
    """Values of the wildcards for the sweep, including the main run's; empty without a sweep."""
    config, main = run.config, run.main
    sweep = config.sweep
    if not any(sweep.model_dump().values()):
        return {}
    values: dict[str, list[Value]] = {
        "masks": [main["masks"], *(layout.topk_name(value) for value in sweep.topk)],
        "k": [main["k"], *(config.clusters.overcluster * value for value in sweep.num_clusters)],
        "trained": [main["trained"], *map(layout.trained_name, sweep.rounds)],
        "tau": [
            tau_name(tau, label_type)
            for tau in [config.pseudo_labels.tau, *sweep.tau]
            for label_type in [config.pseudo_labels.type, *sweep.label_types]
        ],
        "hard": [main["hard"], *(value_name(value) for value in sweep.hard_pixels)],
        "seed": list(config.seeds),
        "round": [config.crf.rounds],
    }
    return {name: list(dict.fromkeys(found)) for name, found in values.items()}


def swept(run: Run, *patterns: str) -> list[str]:
    """The patterns' paths at each combination of the sweep's values."""
    values = swept_values(run)
    paths = [
        path
        for pattern in patterns
        if values
        for path in expand(pattern, post=["", *run.sharpened], **values)
    ]
    return list(dict.fromkeys(paths))


def sweep_targets(run: Run) -> list[str]:
    """Results of the sweep beside the main run: the last stage's, at each combination of values."""
    last = "evaluation/segmenter{post}.json" if run.has_ground_truth else "segmenter/model.safetensors"
    return swept(run, f"{run}/{layout.ROUND}/{last}")


def beside_main(run: Run, *patterns: str) -> list[str]:
    """The patterns' paths at the sweep's values, except those of the main run."""
    own = [path for pattern in patterns for path in run.of_run(pattern, post=["", *run.sharpened])]
    return [path for path in swept(run, *patterns) if path not in own]


def ablated(run: Run, detector: str, segmenter: str, seeds: Sequence[int]) -> list[str]:
    """The paths of all variants, from the patterns of the detector's and the segmenter's results."""
    asked = run.config.ablations
    types = [tau_name(run.config.pseudo_labels.tau, kind) for kind in asked.label_types]
    hard = [value_name(share) for share in asked.hard_pixels]
    rounds = range(asked.crf_rounds + 1) if asked.crf_rounds else []
    paths = run.of_run(detector, seed=seeds, tau=types)
    paths += run.of_run(segmenter, seed=seeds, hard=hard, round=0)
    paths += run.of_run(segmenter, seed=seeds, round=rounds, post=["", "_crf"])
    return list(dict.fromkeys(paths))


def oracle_scores(run: Run, masks: str, detector: str, segmenter: str) -> list[str]:
    """Evaluations of all cases: of the stages that follow the perfect one, without CRF rounds.

    Args:
        run: the run.
        masks: pattern of the evaluation of masks.
        detector: that of the detector's.
        segmenter: that of the segmenter's.
    """
    from maskdistill.data.truth_check import count_classes  # jobs do not need what it imports

    found = []
    for case in run.config.oracle.cases:
        stages = [segmenter] if case == "labels" else [masks, detector, segmenter]
        k = run.main["k"] if case in CLUSTERED else count_classes(run.config)
        for stage in stages:
            found += run.of_run(stage, case=case, k=k, round=0)
    return found


def benched(run: Run, *of_stages: tuple[BenchStage, str], **chosen: Values) -> list[str]:
    """Paths of the stages that the bench scores, for every rule, backbone and number of rounds of
    self-training; segmenters have no CRF rounds.

    Args:
        run: the run.
        of_stages: stages with the patterns of their results.
        chosen: values of other wildcards.
    """
    asked = run.config.bench.stages
    patterns = [pattern for stage, pattern in of_stages if stage in asked]
    trained = [run.main["trained"], *map(layout.trained_name, run.config.bench.rounds)]
    every: dict[str, Values] = {
        "masks": layout.benched_folders(run.config),
        "trained": list(dict.fromkeys(trained)),
        "round": 0,
    }
    return [path for pattern in patterns for path in run.of_run(pattern, **(every | chosen))]
