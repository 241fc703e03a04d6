"""Paths of a run's files below ``results/<run>``, which contain the swept values."""

from maskdistill.config import Config, MasksConfig
from maskdistill.masks.folders import suffix
from maskdistill.runtime.names import value_name as value_name

MASKS = "{masks}"
SEED = f"{MASKS}/k-{{k}}/seed-{{seed}}"
CLUSTERS = f"{SEED}/clusters.json"
TRAINED = f"{SEED}{{trained}}"
"""The wildcard is empty for the first detector; for rounds of self-training it is :func:`trained_name`."""
TAU = f"{TRAINED}/tau-{{tau}}"
ROUND = f"{TAU}/hard-{{hard}}/crf-{{round}}"
ANNOTATIONS = f"{TRAINED}/annotations.json"
ANNOTATION_INDEX = f"{TRAINED}/annotations.h5"
DETECTOR = f"{TRAINED}/detector/model.safetensors"
SEGMENTER = f"{ROUND}/segmenter/model.safetensors"
ORACLE = "oracle/{case}"
"""Replaces :data:`MASKS` in paths of what is made from the ground truth, to see which stage loses what."""
OFFICIAL = "resources/weights"
"""Folder of downloaded checkpoints, shared between runs."""
DATASETS = "resources/datasets"
"""Folder of downloaded datasets, shared between runs."""

FEATURES = "features{at}/shard-{shard}.h5"
"""The wildcard is empty for the run's backbone; for a further one of the bench it is its suffix
(:mod:`maskdistill.masks.folders`).
"""
MASK_SHARDS = f"{MASKS}/masks/shard-{{shard}}.json"
EMBEDDINGS = f"{MASKS}/embeddings/shard-{{shard}}.h5"
CANDIDATES = f"{TRAINED}/candidates/shard-{{shard}}.json"
PSEUDO_LABELS = f"{TAU}/pseudo_labels/shard-{{shard}}"
REFINED_LABELS = f"{ROUND}/labels/shard-{{shard}}"
PREDICTIONS = f"{ROUND}/predictions{{post}}/shard-{{shard}}"
OBJECTS = "objects/objects.json"
"""Lists the folders beside it, one per format. They are not outputs of a rule, as Snakemake would delete
them.
"""


def tau_name(tau: float, label_type: str) -> str:
    """Value of the wildcard tau: ``0.9``, or ``0.9-bbox`` if something other than the mask is painted."""
    return value_name(tau) + ("" if label_type == "mask" else f"-{label_type}")


def trained_name(rounds: int) -> str:
    """Value of the wildcard trained after rounds of self-training: ``/round-2``; empty for none."""
    return f"/round-{rounds}" if rounds else ""


def topk_name(topk: float) -> str:
    """Value of the wildcard masks for the paper's rule: ``topk-0.4``."""
    return f"topk-{value_name(topk)}"


def mask_name(masks: MasksConfig) -> str:
    """Value of the wildcard masks for the section's own rule: :func:`topk_name`, or another rule's name."""
    return topk_name(masks.topk) if masks.by_paper else masks.rule


def benched_suffixes(config: Config) -> list[str]:
    """Suffixes of the backbones that the bench compares (:mod:`maskdistill.masks.folders`), the run's own
    first.
    """
    return ["", *map(suffix, config.bench.backbones)]


def benched_folders(config: Config) -> list[str]:
    """Values of the wildcard masks that the bench compares, by backbone: the run's own rule, then those named
    in the section.
    """
    rules = list(dict.fromkeys([mask_name(config.masks), *config.bench.rules]))
    return [f"{rule}{at}" for at in benched_suffixes(config) for rule in rules]


def main_values(config: Config) -> dict[str, str | int]:
    """The swept values of the configuration's main run, except the seed."""
    return {
        "masks": mask_name(config.masks),
        "k": config.clusters.total,
        "trained": trained_name(config.detector.rounds),
        "tau": tau_name(config.pseudo_labels.tau, config.pseudo_labels.type),
        "hard": value_name(config.segmenter.hard_pixels),
        "round": config.crf.rounds,
    }
