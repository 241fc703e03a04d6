"""What the time of a rule's job depends on: how much it goes through, and which settings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from maskdistill.config import Config
from maskdistill.product.costs import Sizes


def _nothing(_: Config) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True)
class Demand:
    """Of one rule's jobs; the default is of one whose time is taken to be the same in every run.

    Attributes:
        unit: as its loop counts: ``img``, ``step`` or ``mask``.
        count: how many of the unit a job goes through, on average.
        settings: those that a record must have alike, by the names that the stage is given them under.
        files: patterns of its records below ``benchmarks``, where they do not have the rule's name.
    """

    unit: str = ""
    count: Callable[[Config, Sizes], float] | None = None
    settings: Callable[[Config], Mapping[str, Any]] = _nothing
    files: tuple[str, ...] = ()


def _all(_: Config, sizes: Sizes) -> float:
    return sizes.all_per_job


def _main(_: Config, sizes: Sizes) -> float:
    return sizes.main_per_job


def _every(_: Config, sizes: Sizes) -> float:
    return sizes.images


def _scored(_: Config, sizes: Sizes) -> float:
    return sizes.scored


def _trained(_: Config, sizes: Sizes) -> float:
    return sizes.trained / sizes.shard_jobs


def _predicted(config: Config, sizes: Sizes) -> float:
    listed = config.data.GENERATED or config.data.scored_file() is not None
    return (sizes.scored if listed else sizes.main) / sizes.shard_jobs


def _masks(config: Config, sizes: Sizes) -> float:
    return sizes.images * config.masks.most


def _masks_of_shard(config: Config, sizes: Sizes) -> float:
    return sizes.all_per_job * config.masks.most


def _detector_steps(config: Config, _: Sizes) -> float:
    detector = config.detector
    return detector.iters * detector.reference_batch / detector.batch_size


def _segmenter_steps(config: Config, sizes: Sizes) -> float:
    return config.segmenter.epochs * max(1, sizes.trained // config.segmenter.batch_size)


def _probe_steps(config: Config, sizes: Sizes) -> float:
    return config.probe.epochs * max(1, sizes.trained // config.probe.batch_size)


def _pretrain_steps(config: Config, _: Sizes) -> float:
    return config.pretrain.steps


def _of(section: str, *names: str) -> Callable[[Config], Mapping[str, Any]]:
    """Settings of a section, as JSON has them."""

    def settings(config: Config) -> Mapping[str, Any]:
        chosen: Mapping[str, Any] = getattr(config, section).model_dump(mode="json", include=set(names))
        return chosen

    return settings


def _backbone(config: Config) -> Mapping[str, Any]:
    return {"arch": config.backbone.arch, **_of("features", "short_side", "precision")(config)}


def _of_masks(config: Config) -> Mapping[str, Any]:
    if config.features.store and config.masks.by_paper:
        return _of("masks", "refine", "max_masks")(config)
    if config.features.store:
        return _of("masks", "rule", *(["refine"] if config.masks.refine != "none" else []))(config)
    sections = {name: getattr(config, name).model_dump(mode="json") for name in ("features", "masks")}
    return {"arch": config.backbone.arch, **sections}


def _embedded(config: Config) -> Mapping[str, Any]:
    arch = (config.clusters.backbone or config.backbone).arch
    return {"arch": arch, **_of("clusters", "input", "short_side", "precision")(config)}


def _clustered(config: Config) -> Mapping[str, Any]:
    return {
        "num_clusters": config.clusters.total,
        **_of("clusters", "algorithm", "niter", "nredo", "max_fit")(config),
    }


_DETECTOR = ("arch", "engine", "pyramid", "head_channels", "max_size", "precision")
_SIDES = ("arch", "size", "head", "precision")
DEMANDS: Mapping[str, Demand] = {
    "scenes": Demand("img", _every),
    "manifest": Demand("img", _every),
    "features": Demand("img", _all, _backbone),
    "masks": Demand("img", _all, _of_masks),
    "embeddings": Demand("mask", _masks_of_shard, _embedded),
    "clusters": Demand("mask", _masks, _clustered),
    "detector": Demand(
        "step", _detector_steps, _of("detector", *_DETECTOR, "batch_size", "min_size_train", "roi_batch",
        "roi_positive", "freeze_at")
    ),
    "candidates": Demand("img", _main, _of("detector", *_DETECTOR, "min_size_test", "max_dets")),
    "pseudo_labels": Demand("img", _main, _of("pseudo_labels", "type", "overlap")),
    "segmenter": Demand("step", _segmenter_steps, _of("segmenter", *_SIDES, "batch_size", "freeze_at")),
    "refined_labels": Demand("img", _trained, _of("segmenter", *_SIDES)),
    "predictions": Demand(
        "img", _predicted, _of("segmenter", *_SIDES), ("predictions/**/*.json", "predictions_crf/**/*.json")
    ),
    "probe": Demand("step", _probe_steps, _of("probe", "batch_size")),
    "pretrain": Demand("step", _pretrain_steps, _of("pretrain", "batch_size")),
    **{f"evaluate_{name}": Demand("img", _scored, files=(f"evaluation/**/{name}.json",))
       for name in ("masks", "detector", "segmenter", "candidates", "probe")},
}  # fmt: skip
"""By rule; what is not here, e.g. the report, takes as long as it took."""
