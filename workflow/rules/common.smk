"""What all rules share: the validated configuration, paths, shards and parameters of each stage."""

import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.settings.types import DeploymentMethod

from maskdistill.config import load_config
from maskdistill.data.sources import (
    count_images,
    default_num_shards,
    listing_fingerprint,
)
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import canonical_json
from maskdistill.runtime.provenance import code_hash

# The entry points lie beside the interpreter that runs Snakemake, unless conda brings its own.
if DeploymentMethod.CONDA not in workflow.deployment_settings.deployment_method:
    shell.prefix(
        f"set -euo pipefail; export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH; "
    )

try:
    CONFIG = load_config(
        dict(config), " ".join(map(str, workflow.configfiles)) or "config"
    )
    NUM_IMAGES = count_images(CONFIG.data)
except MaskDistillError as error:
    raise WorkflowError(str(error)) from None

if NUM_IMAGES == 0:
    raise WorkflowError(
        "data: no images found; correct data.root or data.images in the configuration"
    )

RUN = f"results/{CONFIG.run}"
NUM_SHARDS = min(CONFIG.num_shards or default_num_shards(NUM_IMAGES), NUM_IMAGES)
SHARDS = [f"{shard:04d}" for shard in range(NUM_SHARDS)]
SHARD_THREADS = max(1, min(8, (workflow.cores or 8) // NUM_SHARDS))
HAS_GROUND_TRUTH = CONFIG.data.kind in ("scenes", "voc") or bool(
    getattr(CONFIG.data, "annotations", None)
)

TOPK = f"{RUN}/topk-{{topk}}"
SEED = f"{TOPK}/k-{{k}}/seed-{{seed}}"
TAU = f"{SEED}/tau-{{tau}}"
MAIN = {
    "topk": f"{CONFIG.masks.topk:g}",
    "k": CONFIG.clusters.num_clusters,
    "tau": f"{CONFIG.pseudo_labels.tau:g}",
}


wildcard_constraints:
    topk=r"[0-9.]+",
    k=r"\d+",
    seed=r"\d+",
    tau=r"[0-9.]+",
    shard=r"\d{4}",


def of_run(pattern, **chosen):
    """Paths of ``pattern`` at the main swept values, for all seeds and shards it names."""
    return expand(pattern, **({"seed": CONFIG.seeds, "shard": SHARDS} | MAIN | chosen))


def all_shards(pattern):
    """Input function: the pattern for every shard at the job's own wildcards."""
    return lambda wildcards: expand(pattern, shard=SHARDS, **wildcards)


def section(name, **values):
    """One section of the configuration as JSON, with swept values put in: what an entry point's --params takes."""
    return canonical_json(getattr(CONFIG, name).model_dump(mode="json") | values)


def code(*modules):
    """Hash of the modules that shape a stage's result: an edit of one reruns the stage, a touch does not.

    The settings themselves are params, so the text of config.py is not among them.
    """
    return code_hash(*modules)


def weights_input(stage, path):
    """The weights file of a stage as a list of inputs; empty for 'random'."""
    if path == "random":
        return []
    if path == "pretrain":
        shared = stage == "clusters" and CONFIG.clusters.backbone is None
        return [f"{RUN}/pretrain/{'backbone' if shared else stage}.safetensors"]
    if not Path(path).is_file():
        raise WorkflowError(
            f"{stage}.weights: {path}: no such file. Fetch the checkpoint (README, 'What needs which download'), "
            "or write 'pretrain' to train one on your images"
        )
    return [path]


NETWORKS = {
    "backbone": CONFIG.backbone,
    "clusters": CONFIG.clusters.backbone or CONFIG.backbone,
    "detector": CONFIG.detector,
    "segmenter": CONFIG.segmenter,
}
WEIGHTS = {
    name: weights_input(name, network.weights) for name, network in NETWORKS.items()
}


def weights_option(stage):
    """The value of --weights."""
    return (WEIGHTS[stage] or ["random"])[0]


def sweep_targets():
    """What the sweep section asks for beside the main run: the last stage's result at each combination."""
    sweep = CONFIG.sweep
    if not (sweep.topk or sweep.num_clusters or sweep.tau):
        return []
    values = {
        "topk": dict.fromkeys([MAIN["topk"], *(f"{value:g}" for value in sweep.topk)]),
        "k": dict.fromkeys([MAIN["k"], *sweep.num_clusters]),
        "tau": dict.fromkeys([MAIN["tau"], *(f"{value:g}" for value in sweep.tau)]),
    }
    last = (
        "evaluation/segmenter.json"
        if HAS_GROUND_TRUTH
        else "segmenter/model.safetensors"
    )
    return expand(f"{TAU}/{last}", seed=CONFIG.seeds, **values)
