"""What a run's jobs cost, from figures that somebody measured: each with its source, none made up.

A figure holds for the paper's networks and sizes only; for others a rule counts as not measured.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from maskdistill.backbones.registry import find_backbone
from maskdistill.config import Config
from maskdistill.data.listing import plan_shards
from maskdistill.data.planned import count_planned, count_roles, count_support

ZOO = "detectron2's MODEL_ZOO.md, mask_rcnn_R_50_C4_3x"
PAPER_HOURS = 20.0
PAPER_GPUS = 4
SMALL = frozenset(
    {"all", "annotations", "baselines", "build_data", "build_truth", "choose_k", "consistency", "dataset",
     "gallery", "ground_truth", "ground_truth_train", "label_summary", "manifest", "objects", "report",
     "scenes",
     "self_annotations", "thumbnails", "trust", "weights"}
)  # fmt: skip
"""Rules whose jobs take seconds to minutes; nothing is estimated for them."""


@dataclass(frozen=True)
class Sizes:
    """What the work of a job depends on.

    Attributes:
        images: pictures of all, scored and trained on, and of the support set.
        main: those without the support set, which only features, masks and clusters work on.
        scored: pictures that are scored.
        shard_jobs: jobs of a stage that works by shard.
        trained: pictures that are trained on.
    """

    images: int
    main: int
    scored: int
    shard_jobs: int
    trained: int = 0

    @property
    def all_per_job(self) -> float:
        """Pictures of a job that works by shard, on average."""
        return self.images / self.shard_jobs

    @property
    def main_per_job(self) -> float:
        """The same without the support set."""
        return self.main / self.shard_jobs


def sizes_of(config: Config) -> Sizes:
    """Of a run that need not have begun.

    Raises:
        MaskDistillError: the pictures cannot be counted.
    """
    count = count_planned(config)
    shards, per_job = plan_shards(count, config.num_shards, config.shards_per_job)
    trained, scored = count_roles(config)
    return Sizes(count, count - count_support(config), scored, shards // per_job, trained)


@dataclass(frozen=True)
class Cost:
    """A figure for one rule.

    Attributes:
        device: ``cpu``: hours of one core; ``gpu``: hours of one GPU of the kind that ``source`` names.
        seconds: of one job, of one core or GPU.
        source: who measured what.
        wall: seconds of one job on the clock, where a machine like this one measured it.
    """

    device: str
    seconds: float
    source: str
    wall: float | None = None


def _features(config: Config, sizes: Sizes) -> Cost | None:
    backbone = find_backbone(config.backbone.arch)
    if (backbone.embed_dim, backbone.depth, backbone.patch_size, config.features.short_side) != (
        384,
        12,
        16,
        640,
    ):
        return None
    source = "0.66 images/s with masks, ViT-S/16 at 640 pixels on 2 cores (results/benchmarks/features.md)"
    return Cost("cpu", sizes.all_per_job * 2 / 0.66, source)


def _masks(config: Config, sizes: Sizes) -> Cost | None:
    if config.masks.refine != "none":
        return None
    if not config.features.store:
        return _features(config, sizes) or Cost("cpu", 0.0, "")
    return Cost(
        "cpu", sizes.all_per_job * 1.08e-3, "1.08 ms an image, reading apart (results/benchmarks/features.md)"
    )


def _clusters(config: Config, sizes: Sizes) -> Cost | None:
    if config.clusters.algorithm != "faiss":
        return None
    share = (
        min(sizes.images, config.clusters.max_fit)
        / 1e6
        * config.clusters.total
        / 80
        * config.clusters.nredo
        / 10
    )
    source = "170 s of CPU for 1,000,000 x 384, K 80, 10 starts, taken as linear (results/benchmarks/demo.md)"
    return Cost("cpu", 170 * share, source)


def _is_paper_detector(config: Config) -> bool:
    detector = config.detector
    return (detector.arch, detector.min_size_test, detector.roi_batch) == ("resnet50", 800, 512)


def _detector(config: Config, sizes: Sizes) -> Cost | None:
    if not _is_paper_detector(config):
        return None
    detector = config.detector
    iterations = detector.iters * detector.reference_batch
    return Cost("gpu", iterations * 0.575 * 8 / 16, f"0.575 s a step of 16 images on 8 V100 ({ZOO})")


def _candidates(config: Config, sizes: Sizes) -> Cost | None:
    if not _is_paper_detector(config):
        return None
    return Cost("gpu", sizes.main_per_job * 0.111, f"0.111 s an image on a V100 ({ZOO})")


def _pseudo_labels(config: Config, sizes: Sizes) -> Cost | None:
    if config.pseudo_labels.type == "grabcut" or config.pseudo_labels.overlap != "drop":
        return None
    source = "0.23 s of CPU for 120 images, synthetic candidates (results/benchmarks/pseudo_labels.md)"
    return Cost("cpu", sizes.main_per_job * 0.23 / 120, source)


def _refined_labels(config: Config, sizes: Sizes) -> Cost:
    return Cost(
        "cpu",
        sizes.main_per_job * 2.0,
        "2 s of one core an image for the CRF alone (docs/explanation/limits.md)",
    )


def _semantic(config: Config, sizes: Sizes) -> Cost:
    return Cost(
        "cpu", sizes.scored * 10.4 / 1449, "10.4 s of CPU for 1,449 maps (results/benchmarks/evaluation.md)"
    )


def _instances(config: Config, sizes: Sizes) -> Cost:
    source = "6.46 s on 2 cores for 5,000 images x 20 detections (results/benchmarks/evaluation.md)"
    return Cost("cpu", sizes.scored * 2 * 6.46 / 5000, source)


_COSTS: Mapping[str, Callable[[Config, Sizes], Cost | None]] = {
    "features": _features,
    "masks": _masks,
    "clusters": _clusters,
    "detector": _detector,
    "candidates": _candidates,
    "pseudo_labels": _pseudo_labels,
    "refined_labels": _refined_labels,
    "evaluate_masks": _instances,
    "evaluate_detector": _instances,
    "evaluate_segmenter": _semantic,
    "evaluate_probe": _semantic,
}


def cost_of(rule: str, config: Config, sizes: Sizes) -> Cost | None:
    """The figure for a rule, None where nobody measured one."""
    return _COSTS[rule](config, sizes) if rule in _COSTS else None


def paper_bound(config: Config) -> float | None:
    """At most so many GPU-hours by the paper's own account, all seeds; None for other data or networks.

    "About 20 h" for everything on the paper's machines, four V100 for the detector and two 1080Ti for the
    segmenter [P §A]: four GPUs in all the time is more than it can have been.
    """
    if config.data.kind != "voc" or not _is_paper_detector(config) or config.segmenter.arch != "resnet50":
        return None
    return PAPER_HOURS * PAPER_GPUS * len(config.seeds)
