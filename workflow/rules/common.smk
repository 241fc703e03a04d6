"""What all rules share: the validated configuration, paths, shards and parameters of each stage."""

import json
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.settings.types import DeploymentMethod

from maskdistill.annotations.names import read_names
from maskdistill.config import load_config
from maskdistill.config.datasets import BUILT
from maskdistill.config.given import with_given
from maskdistill.config.limits import refuse_more_clusters
from maskdistill.config.roles import (
    has_ground_truth,
    inference_settings,
    label_free,
    training_settings,
)
from maskdistill.data.official_datasets import BUILDS
from maskdistill.data.planned import (
    check_annotations,
    count_fitted,
    count_planned,
    planned_listing,
    scored_listing,
    truth_listing,
)
from maskdistill.data.listing import plan_shards
from maskdistill.runtime.contents import content_of, is_as_first_seen
from maskdistill.runtime.cores import available_cores
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import canonical_json
from maskdistill.runtime.provenance import stage_code
from maskdistill.workflow import layout
from maskdistill.workflow.layout import tau_name, value_name
from maskdistill.workflow.needed_weights import (
    checkpoint_name,
    networks,
    official_weights,
    weights_path,
)


def unformatted(text):
    """A text that Snakemake formats, with its braces doubled: the checkout's path may hold some."""
    return text.replace("{", "{{").replace("}", "}}")


# The entry points lie beside the interpreter that runs Snakemake, unless conda brings its own.
WITH_CONDA = DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method
if not WITH_CONDA:
    shell.prefix(
        unformatted(
            "set -euo pipefail; export PATH="
            f"{shlex.quote(str(Path(sys.executable).parent))}:$PATH; "
        )
    )

try:
    CONFIG = load_config(
        with_given(config, workflow.config_settings.config),
        " ".join(map(str, workflow.configfiles)) or "config",
        workflow.config_settings.config,
    )
    NUM_IMAGES = count_planned(CONFIG)
    NUM_FITTED = count_fitted(CONFIG, NUM_IMAGES)
    refuse_more_clusters(CONFIG, NUM_FITTED)
    check_annotations(CONFIG)
    TRUTH_LISTING = truth_listing(CONFIG)
    if CONFIG.clusters.names:
        read_names(CONFIG.clusters.names, CONFIG.clusters.total)
except MaskDistillError as error:
    raise WorkflowError(str(error)) from None

if NUM_IMAGES == 0:
    raise WorkflowError(
        "data: no images found; correct data.root or data.images in the configuration"
    )


def need_crf(setting):
    """Refuse before anything starts where the dense CRF is not installed."""
    if not WITH_CONDA and find_spec("pydensecrf") is None:
        raise WorkflowError(
            f"{setting}: CRF rounds need pydensecrf2, which is compiled when it is installed: "
            f"run `make crf` (g++ and Python's headers are wanted), or set {setting} to 0"
        )


if CONFIG.crf.rounds:
    need_crf("crf.rounds")

RUN = f"results/{CONFIG.run}"
OFFICIAL = layout.OFFICIAL
NUM_SHARDS, PER_JOB = plan_shards(NUM_IMAGES, CONFIG.num_shards, CONFIG.shards_per_job)
DIGITS = max(4, len(str(NUM_SHARDS - 1)))
SHARDS = [f"{shard:0{DIGITS}d}" for shard in range(NUM_SHARDS)]
TAILS = [
    f"{tail:0{len(str(PER_JOB)) - 1}d}" if PER_JOB > 1 else ""
    for tail in range(PER_JOB)
]
LAST_OF_JOBS = SHARDS[
    PER_JOB - 1 :: PER_JOB
]  # these stand for their jobs in what needs all shards
# Jobs of shards share this machine's cores; on a cluster, where none are given, each has its own.
ON_CLUSTER = workflow.remote_exec or workflow.resource_settings.cores is None
# `--cores all` knows nothing of the quota of a container: jobs beyond it would only take memory.
if not ON_CLUSTER and workflow.cores > available_cores():
    workflow.global_resources["_cores"] = available_cores()
SHARD_THREADS = (
    8 if ON_CLUSTER else max(1, min(8, workflow.cores * PER_JOB // NUM_SHARDS))
)
HAS_GROUND_TRUTH = has_ground_truth(CONFIG.data)

MASKS = f"{RUN}/{layout.MASKS}"
SEED = f"{RUN}/{layout.SEED}"
TAU = f"{RUN}/{layout.TAU}"
ROUND = f"{RUN}/{layout.ROUND}"

# What stages keep by shard. One job works through the shards whose numbers begin with its part.
FEATURES = f"{RUN}/features/shard-{{shard}}.h5"
MASK_SHARDS = f"{MASKS}/masks/shard-{{shard}}.json"
EMBEDDINGS = f"{MASKS}/embeddings/shard-{{shard}}.h5"
CANDIDATES = f"{SEED}/candidates/shard-{{shard}}.json"
PSEUDO_LABELS = f"{TAU}/pseudo_labels/shard-{{shard}}"
REFINED_LABELS = f"{ROUND}/labels/shard-{{shard}}"
PREDICTIONS = f"{ROUND}/predictions{{post}}/shard-{{shard}}"

ROUNDS = range(CONFIG.crf.rounds + 1)
SHARPENED = (
    ["_crf"] if CONFIG.crf.rounds else []
)  # predictions that a dense CRF has worked on


MAIN = layout.main_values(CONFIG)


wildcard_constraints:
    masks=r"topk-[0-9.]+|lost-\d+|attention-[0-9.]+(?:-largest)?",
    k=r"\d+",
    seed=r"\d+",
    tau=r"[0-9.]+(?:-bbox|-grabcut)?",
    hard=r"[0-9.]+",
    round=r"\d+",
    post="|_crf",
    part=rf"\d{{{DIGITS - len(TAILS[0])}}}",


def of_run(pattern, **chosen):
    """Paths of ``pattern`` at the main swept values, for all seeds and jobs of shards it names."""
    every = {"seed": CONFIG.seeds, "shard": LAST_OF_JOBS, "post": ""}
    return expand(pattern, **(every | MAIN | chosen))


def ablated(detector, segmenter, seeds):
    """The paths of all variants, from patterns of the detector's and the segmenter's results."""
    types = [
        tau_name(CONFIG.pseudo_labels.tau, kind)
        for kind in CONFIG.ablations.label_types
    ]
    hard = [value_name(share) for share in CONFIG.ablations.hard_pixels]
    rounds = (
        range(CONFIG.ablations.crf_rounds + 1) if CONFIG.ablations.crf_rounds else []
    )
    paths = of_run(detector, seed=seeds, tau=types)
    paths += of_run(segmenter, seed=seeds, hard=hard, round=0)
    paths += of_run(segmenter, seed=seeds, round=rounds, post=["", "_crf"])
    return list(dict.fromkeys(paths))


CLUSTERED = ["masks", "objects"]
"""Cases of the oracle whose categories are still to be discovered."""


def of_oracle(pattern):
    """Where the oracle keeps what the run keeps under a pattern: its folder in the place of the masks'."""
    return pattern.replace(f"{RUN}/{layout.MASKS}/", f"{RUN}/{layout.ORACLE}/", 1)


def oracle_scores(masks, detector, segmenter):
    """Evaluations of all cases: of the stages behind what is perfect, without CRF rounds."""
    from maskdistill.data.truth_check import (
        count_classes,
    )  # jobs have no use for what it imports

    found = []
    for case in CONFIG.oracle.cases:
        stages = [segmenter] if case == "labels" else [masks, detector, segmenter]
        k = MAIN["k"] if case in CLUSTERED else count_classes(CONFIG)
        for stage in stages:
            found += of_run(stage, case=case, k=k, round=0)
    return found


def of_part(pattern):
    """The pattern for every shard of a job's part."""
    return [pattern.replace("{shard}", f"{{part}}{tail}") for tail in TAILS]


def all_shards(pattern):
    """Input function: the pattern for every shard at the job's own wildcards.

    Of each job of several shards the last one is named: Snakemake's time grows with the square of a job's inputs.
    """
    return lambda wildcards: expand(pattern, shard=LAST_OF_JOBS, **wildcards)


def each_shard(wildcards):
    """--each of a job: the shard of its part, or the first and the last one."""
    ends = [f"{wildcards.part}{tail}" for tail in (TAILS[0], TAILS[-1])]
    return "-".join(dict.fromkeys(ends))


def one_of_each(pattern):
    """Param function: the pattern with {shard} left in, which --each fills."""
    return lambda wildcards: pattern.format(shard="{shard}", **wildcards)


def braces(pattern, **chosen):
    """Param function: the pattern for every shard, which no number of shards makes too long.

    Quoted (``:q``) in a command: the entry point expands it, for the system takes only 2 MiB of arguments.
    """
    every = f"{{{SHARDS[0]}..{SHARDS[-1]}}}"
    return lambda wildcards: pattern.format(shard=every, **(dict(wildcards) | chosen))


def label_shards(wildcards):
    """Pattern of the label maps that a round's segmenter learns from."""
    return REFINED_LABELS if int(wildcards.round) else PSEUDO_LABELS


def model_before(wildcards):
    """Model of the round before."""
    values = dict(wildcards) | {"round": int(wildcards.round) - 1}
    return f"{ROUND}/segmenter/model.safetensors".format(**values)


def section(name, **values):
    """One section of the configuration as JSON, with swept values put in: what an entry point's --params takes."""
    return canonical_json(getattr(CONFIG, name).model_dump(mode="json") | values)


def untracked(value):
    """Param function: a value that may change without the rule running again.

    It takes the threads, so Snakemake does not compare it with that of the last run.
    """
    return lambda wildcards, threads: value


# How a stage works, not what comes out.
RUNNING = {"workers", "checkpoint_every", "log_every"}


def in_full(settings):
    """Param function: settings as an entry point takes them, as JSON or as a function of the wildcards.

    It takes the threads, so Snakemake does not compare it with that of the last run; ``shaping`` is what it compares.
    """
    return lambda wildcards, threads: (
        settings(wildcards) if callable(settings) else settings
    )


def shaping(settings):
    """Param function: of the same settings those that change the result. With other workers nothing is made anew."""

    def without_running(values):
        return {key: value for key, value in values.items() if key not in RUNNING}

    return lambda wildcards: canonical_json(
        json.loads(
            settings(wildcards) if callable(settings) else settings,
            object_hook=without_running,
        )
    )


def is_baseline(masks):
    """Whether a folder of masks holds a baseline's, as opposed to the method's own: ``topk-0.4``."""
    return not masks.startswith("topk-")


def is_refined(masks):
    """Whether the masks of a folder get outlines from the photographs: the method's own alone."""
    return CONFIG.masks.refine != "none" and not is_baseline(masks)


def mask_settings(masks):
    """--params of the masks stage, for a baseline what it has use for."""
    if is_baseline(masks):
        return canonical_json({"resize_mask": CONFIG.masks.resize_mask})
    return section("masks", topk=float(masks.removeprefix("topk-")))


def label_settings(tau):
    """--params of the pseudo-labels at a value of the wildcard tau."""
    value, _, label_type = tau.partition("-")
    return section("pseudo_labels", tau=float(value), type=label_type or "mask")


EMBEDDING_KEYS = {"input", "short_side", "precision", "workers"}


def clusters_settings(k, candidates=None):
    """--params of K-means: over-clustering is in k already; what only other rules use is left at its default."""
    own = {"overcluster", "candidates_k", "backbone", "names"} | EMBEDDING_KEYS
    settings = CONFIG.clusters.model_dump(mode="json", exclude=own)
    return canonical_json(settings | {"num_clusters": k, "candidates_k": candidates})


CRF = canonical_json(CONFIG.crf.model_dump(mode="json", exclude={"rounds"}))


def crf_option(wildcards):
    """Param function: --crf where a dense CRF sharpens predictions."""
    return f"--crf {shlex.quote(CRF)}" if wildcards.post else ""


def code(stage, *without):
    """Hash of the modules that shape a stage's result: an edit of one reruns the stage, a touch does not.

    They are what its entry point imports, but those ``without`` which it works at the settings at hand.
    The settings themselves are params, so the text of config/ is not among them.
    """
    return stage_code(stage, *without)


def predictions_code(wildcards):
    """Param function: hash of the code that predicts, with that of the dense CRF where it is used."""
    return code("predictions", *([] if wildcards.post else ["segmenter/crf.py"]))


def weights_input(stage, network):
    """The weights file of a stage as a list of inputs; empty for 'random'. A known checksum is compared here."""
    try:
        path = weights_path(CONFIG, stage, network)
    except MaskDistillError as error:
        raise WorkflowError(str(error)) from None
    return [path] if path else []


NETWORKS = networks(CONFIG)
WEIGHTS = {name: weights_input(name, network) for name, network in NETWORKS.items()}


def contents(files):
    """SHA-256 of the files among these that come from outside: another content makes anew, whatever the time says.

    A download, which may not be here yet, counts when it is no longer what it was; what ``pretrain`` makes never does.
    """
    made = (f"{RUN}/", f"{BUILT}/")
    found = {
        path: content_of(path)
        for path in files
        if path and not path.startswith(made) and Path(path).is_file()
    }
    return [
        sha256
        for path, sha256 in found.items()
        if not (path.startswith(f"{OFFICIAL}/") and is_as_first_seen(path, sha256))
    ]


def weights_option(stage):
    """The value of --weights."""
    return (WEIGHTS[stage] or ["random"])[0]


def swept_values():
    """Values of the wildcards that the sweep section asks for, the main run's among them; empty without a sweep."""
    sweep = CONFIG.sweep
    if not any(sweep.model_dump().values()):
        return {}
    values = {
        "masks": [
            MAIN["masks"],
            *(f"topk-{value_name(value)}" for value in sweep.topk),
        ],
        "k": [
            MAIN["k"],
            *(CONFIG.clusters.overcluster * value for value in sweep.num_clusters),
        ],
        "tau": [
            tau_name(tau, label_type)
            for tau in [CONFIG.pseudo_labels.tau, *sweep.tau]
            for label_type in [CONFIG.pseudo_labels.type, *sweep.label_types]
        ],
        "hard": [MAIN["hard"], *(value_name(value) for value in sweep.hard_pixels)],
        "seed": CONFIG.seeds,
        "round": [CONFIG.crf.rounds],
    }
    return {name: list(dict.fromkeys(found)) for name, found in values.items()}


def at_swept_values(*patterns):
    """The patterns' paths at each combination of the values that the sweep section asks for."""
    values = swept_values()
    paths = [
        path
        for pattern in patterns
        if values
        for path in expand(pattern, post=["", *SHARPENED], **values)
    ]
    return list(dict.fromkeys(paths))


def beside_main(*patterns):
    """The patterns' paths at the values that the sweep section asks for, but those of the main run."""
    own = [
        path for pattern in patterns for path in of_run(pattern, post=["", *SHARPENED])
    ]
    return [path for path in at_swept_values(*patterns) if path not in own]


def sweep_targets():
    """What the sweep section asks for beside the main run: the last stage's result at each combination."""
    last = (
        "evaluation/segmenter{post}.json"
        if HAS_GROUND_TRUTH
        else "segmenter/model.safetensors"
    )
    return at_swept_values(f"{ROUND}/{last}")
