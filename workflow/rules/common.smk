"""What all rules share: the validated configuration, the plan of the run, and the settings of its stages.

Paths, shards and settings are methods of RUN and SETTINGS (maskdistill/workflow/run.py and settings.py).
"""

import shlex
import sys
from pathlib import Path

from snakemake.settings.types import DeploymentMethod

from maskdistill.config import load_config
from maskdistill.config.given import with_given
from maskdistill.data.planned import planned_listing, scored_listing, truth_listing
from maskdistill.masks import folders
from maskdistill.runtime.cores import available_cores
from maskdistill.runtime.files import canonical_json
from maskdistill.runtime.provenance import stage_code as code
from maskdistill.workflow import layout, mask_folders, targets
from maskdistill.workflow.needed_weights import networks
from maskdistill.workflow.run import plan_run
from maskdistill.workflow.settings import (
    Settings,
    in_full,
    predictions_code,
    shaping,
    untracked,
)
from maskdistill.workflow.snakemake_ways import (
    find_commands,
    refusals,
    unformatted,
    with_environment,
)

# If this workflow is a module, the command line and the handlers are those of the outer workflow.
AS_MODULE = not workflow.modifier.is_main_snakefile()
EXCLUDED = {*(workflow.modifier.rule_exclude_list or ())}
GIVEN = {} if AS_MODULE else workflow.config_settings.config
# Snakemake knows its targets only after this point.
ASKED = set() if AS_MODULE else {*sys.argv}

# The entry points lie beside the interpreter that runs Snakemake, unless conda brings its own.
WITH_CONDA = DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method
COMMANDS = Path(sys.executable).parent
if AS_MODULE:
    find_commands(COMMANDS)
elif not WITH_CONDA:
    shell.prefix(
        unformatted(
            f"set -euo pipefail; export PATH={shlex.quote(str(COMMANDS))}:$PATH; "
        )
    )

with refusals():
    CONFIG = load_config(
        with_given(config, GIVEN),
        (
            f"module {__name__}"
            if AS_MODULE
            else " ".join(map(str, workflow.configfiles)) or "config"
        ),
        GIVEN,
    )
    RUN = plan_run(CONFIG, workflow.modifier.modify_path if AS_MODULE else str)
    TRUTH_LISTING = truth_listing(CONFIG)
    WEIGHTS = RUN.weights
    BACKBONES, BACKBONE_WEIGHTS = RUN.backbones, RUN.backbone_weights
    if CONFIG.crf.rounds and not WITH_CONDA:
        targets.need_crf("crf.rounds")
SETTINGS = Settings(CONFIG)
NETWORKS = networks(CONFIG)

# Jobs of shards share this machine's cores; on a cluster, where no cores are given, each has its own.
ON_CLUSTER = workflow.remote_exec or workflow.resource_settings.cores is None
# `--cores all` ignores the quota of a container; jobs beyond it would only take memory.
if not ON_CLUSTER and workflow.cores > available_cores():
    workflow.global_resources["_cores"] = available_cores()
SHARD_THREADS = RUN.shard_threads(None if ON_CLUSTER else workflow.cores)

MASKS = f"{RUN}/{layout.MASKS}"
SEED = f"{RUN}/{layout.SEED}"
TRAINED = f"{RUN}/{layout.TRAINED}"
TAU = f"{RUN}/{layout.TAU}"
ROUND = f"{RUN}/{layout.ROUND}"
FEATURES = f"{RUN}/{layout.FEATURES}"
MASK_SHARDS = f"{RUN}/{layout.MASK_SHARDS}"
EMBEDDINGS = f"{RUN}/{layout.EMBEDDINGS}"
ANNOTATIONS = f"{RUN}/{layout.ANNOTATIONS}"
ANNOTATION_INDEX = f"{RUN}/{layout.ANNOTATION_INDEX}"
CANDIDATES = f"{RUN}/{layout.CANDIDATES}"
PSEUDO_LABELS = f"{RUN}/{layout.PSEUDO_LABELS}"
REFINED_LABELS = f"{RUN}/{layout.REFINED_LABELS}"
PREDICTIONS = f"{RUN}/{layout.PREDICTIONS}"
FIRST = {"seed": CONFIG.seeds[:1]}


wildcard_constraints:
    masks=folders.pattern(layout.benched_suffixes(CONFIG)),
    at=folders.any_of(layout.benched_suffixes(CONFIG)),
    k=r"\d+",
    seed=r"\d+",
    trained=r"(?:/round-[1-9]\d*)?",
    tau=r"[0-9.]+(?:-bbox|-grabcut)?",
    hard=r"[0-9.]+",
    round=r"\d+",
    post="|_crf",
    part=RUN.part,
