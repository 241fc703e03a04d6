"""Which evaluation of a run fills which entry of the paper's tables and figures.

Rules get from here the files that a target needs, and the entry point learns what to read from them, so both
use one list.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from maskdistill.config import Config, Protocol
from maskdistill.workflow import layout

TABLES = ("table1", "table2", "table3", "tableS1", "tableS2")
FIGURES = ("figure3", "figure4", "figure5")
TARGETS = TABLES + FIGURES
AP = {"AP50": "ap50", "AP": "ap", "AP75": "ap75"}
"""The paper's columns and their metrics, by name: the workflow imports this module, which must import no
metric.
"""
CLUSTERING = "clustering: clusters matched with classes by Hungarian on IoU, over all classes and background"
LINEAR = "linear probe: last layer trained on labels, no matching"
INSTANCES: dict[Protocol, str] = {
    "agnostic_multi": "class-agnostic, all detections and objects",
    "semantic_single": "semantic (Hungarian on pairs), one pair an image, images without detections left out",
    "semantic_single_strict": "semantic (Hungarian on pairs), one pair an image, images without detections "
    "count",
    "semantic_multi": "semantic (Hungarian on pairs), all detections and objects",
}
GROUPS: dict[Protocol, tuple[str, str, str]] = {
    "agnostic_multi": ("class-agnostic multi", "(a)", "(b)"),
    "semantic_single": ("semantic single", "(c)", "(d)"),
    "semantic_multi": ("semantic multi", "(e)", "(f)"),
}
SETTINGS = ("masks", "k", "tau", "hard", "round")
"""Swept values, in the order of the stages."""
STAGE_FOLDERS = {"masks": layout.SEED, "detector": layout.TAU}


@dataclass(frozen=True)
class Source:
    """One stage's evaluations at given settings, one file per seed.

    Attributes:
        stage: ``masks``, ``detector``, ``segmenter``, ``segmenter_crf``, ``probe`` or ``probe_crf``.
        values: the swept values in the path, except the seed.
        folder: folder of the evaluation below the run's, with the swept values filled in and ``{seed}`` left
            in braces.
    """

    stage: str
    values: Mapping[str, str | int]
    folder: str

    def path(self, seed: int) -> str:
        """Path of the evaluation below the run's folder."""
        return f"{self.folder.format(**self.values, seed=seed)}/evaluation/{self.stage}.json"

    @property
    def settings(self) -> dict[str, str | int]:
        """The swept values on which the stage depends."""
        return {name: self.values[name] for name in SETTINGS if f"{{{name}}}" in self.folder}


@dataclass(frozen=True)
class Place:
    """An entry of a table, or a point of a figure.

    Attributes:
        group, row, column: as in ``cited.csv``; an empty column stands for one entry per key below
            ``metric``.
        protocol: how it is scored, in words.
        source: what it is computed from.
        metric: keys that lead to the score in the evaluation's JSON.
        intervals: keys that lead to its interval.
        x: the swept value (figures).
    """

    group: str
    row: str
    column: str
    protocol: str
    source: Source
    metric: tuple[str, ...]
    intervals: tuple[str, ...] = field(default=())
    x: float | None = None


def source(config: Config, stage: str, **changed: str | int) -> Source:
    """A stage's evaluations at the run's own settings, except those ``changed``."""
    return Source(stage, layout.main_values(config) | changed, STAGE_FOLDERS.get(stage, layout.ROUND))


def places(target: str, config: Config) -> list[Place]:
    """All entries of a target that a run fills, in the order of the paper.

    Raises:
        KeyError: no such target.
    """
    return _PLACES[target](config)


def evaluations(target: str, config: Config) -> list[str]:
    """The evaluations that a target needs, below the run's folder, each once."""
    paths = (place.source.path(seed) for place in places(target, config) for seed in config.paper.seeds)
    return list(dict.fromkeys(paths))


def miou(group: str, row: str, source: Source, column: str = "mIoU", x: float | None = None) -> Place:
    """The entry of a mean IoU."""
    protocol = LINEAR if source.stage.startswith("probe") else CLUSTERING
    return Place(group, row, column, protocol, source, ("miou",), ("intervals", "miou"), x)


def _table1(config: Config) -> list[Place]:
    hard = layout.value_name(config.paper.hard_pixels)
    return [
        miou("", "ViT masks", source(config, "masks")),
        miou("", "+ Mask R-CNN", source(config, "detector")),
        miou(
            "",
            "+ segmentation model, without hard pixel mining",
            source(config, "segmenter", hard="1", round=0),
        ),
        miou("", "+ segmentation model", source(config, "segmenter", hard=hard, round=0)),
    ]


def _table_s1(config: Config) -> list[Place]:
    def painted(label_type: str) -> Source:
        return source(config, "detector", tau=layout.tau_name(config.pseudo_labels.tau, label_type))

    wanted = config.paper.label_types
    from_masks = {"tau": layout.tau_name(config.pseudo_labels.tau, "mask")}
    found = [miou("from boxes", "ViT masks", source(config, "masks"))]
    for label_type, row in (("bbox", "+ Mask R-CNN, boxes"), ("grabcut", "+ GrabCut")):
        if label_type in wanted:
            found.append(miou("from boxes", row, painted(label_type)))
    found.append(miou("from masks", "ViT masks", source(config, "masks")))
    if "mask" in wanted:
        found.append(miou("from masks", "+ Mask R-CNN, masks", painted("mask")))
        found.append(miou("from masks", "+ DeepLab", source(config, "segmenter", **from_masks, round=0)))
        if config.paper.crf_rounds:
            found.append(miou("from masks", "+ CRF", _sharpened(config, "segmenter", **from_masks)))
    return found


def _sharpened(config: Config, stage: str, **changed: str | int) -> Source:
    """A segmenter or a probe after the CRF rounds, its predictions sharpened once more [method §8, §9.2]."""
    return source(config, f"{stage}_crf", round=config.paper.crf_rounds, **changed)


FROZEN = "paper/backbones/{backbone}/seed-{seed}"
"""Folder of a frozen backbone's probe and clusters, below the run's."""


def _table2(config: Config) -> list[Place]:
    found = []
    for backbone in config.paper.backbones:
        for stage, column in (("probe", "linear"), ("segmenter", "clustering")):
            frozen = Source(stage, {"backbone": backbone.folder}, FROZEN)
            found.append(miou("", backbone.name, frozen, column))
    found += [
        miou("", "MaskDistill", source(config, "probe", round=0), "linear"),
        miou("", "MaskDistill", source(config, "segmenter", round=0), "clustering"),
    ]
    if config.paper.crf_rounds:
        found.append(miou("", "MaskDistill + CRF", _sharpened(config, "probe"), "linear"))
        found.append(miou("", "MaskDistill + CRF", _sharpened(config, "segmenter"), "clustering"))
    return found


def _table_s2(config: Config) -> list[Place]:
    rows = {
        "MaskDistill": source(config, "segmenter", round=0),
        "MaskDistill, linear": source(config, "probe", round=0),
    }
    if config.paper.crf_rounds:
        rows["MaskDistill + CRF"] = _sharpened(config, "segmenter")
        rows["MaskDistill + CRF, linear"] = _sharpened(config, "probe")
    found = []
    for row, scored in rows.items():
        mean = miou("", row, scored)
        found.append(Place("", row, "", mean.protocol, scored, ("iou",), ("class_intervals",)))
        found.append(mean)
    return found


def _table3(config: Config) -> list[Place]:
    rows = {
        "DINO masks": source(config, "masks", masks=config.paper.dino_masks),
        "LOST masks": source(config, "masks", masks=config.paper.lost_masks),
        "MaskDistill masks": source(config, "masks"),
        "MaskDistill detector": source(config, "detector"),
    }
    return [
        Place(group(protocol, config), row, column, words, scored, ("protocols", protocol, key),
              ("protocols", protocol, "intervals", key))
        for protocol, words in INSTANCES.items()
        for row, scored in rows.items()
        for column, key in AP.items()
    ]  # fmt: skip


def group(protocol: Protocol, config: Config) -> str:
    """Name of a protocol's part of Table 3 for the run's data: COCO's letters for kind coco, else VOC's."""
    coco = config.data.kind == "coco"
    data = "COCO20k" if coco else "VOC"
    if protocol not in GROUPS:
        return f"semantic single, strict, {data}"
    name, voc_letter, coco_letter = GROUPS[protocol]
    return f"{coco_letter if coco else voc_letter} {name}, {data}"


def _figure3(config: Config) -> list[Place]:
    found = []
    for factor in config.paper.overcluster:
        clusters = factor * config.clusters.num_clusters
        scored = source(config, "masks", k=clusters)
        words = INSTANCES["semantic_multi"] + "; a majority of pairs where clusters outnumber classes"
        for column, key in AP.items():
            keys = ("protocols", "semantic_multi")
            found.append(
                Place(
                    "",
                    f"C = {clusters}",
                    column,
                    words,
                    scored,
                    (*keys, key),
                    (*keys, "intervals", key),
                    clusters,
                )
            )
    return found


def _figure4(config: Config) -> list[Place]:
    found = []
    for share in config.paper.topk:
        scored, row = source(config, "masks", masks=layout.topk_name(share)), f"top-k = {share:g}"
        keys = ("protocols", "agnostic_multi")
        words = INSTANCES["agnostic_multi"]
        found.append(miou("", row, scored, x=share))
        found.append(
            Place("", row, "accuracy", "share of masks in the cluster of their object's class, Hungarian",
            scored,
                  ("cluster_accuracy",), x=share)
        )  # fmt: skip
        found.append(
            Place("", row, "AP50", words, scored, (*keys, "ap50"), (*keys, "intervals", "ap50"), share)
        )
    return found


def _figure5(config: Config) -> list[Place]:
    return [
        miou("", f"τ = {tau:g}", source(config, "detector", tau=_painted_tau(tau, config)), x=tau)
        for tau in config.paper.tau
    ]


def _painted_tau(tau: float, config: Config) -> str:
    return layout.tau_name(tau, config.pseudo_labels.type)


_PLACES: dict[str, Callable[[Config], list[Place]]] = {
    "table1": _table1,
    "table2": _table2,
    "table3": _table3,
    "tableS1": _table_s1,
    "tableS2": _table_s2,
    "figure3": _figure3,
    "figure4": _figure4,
    "figure5": _figure5,
}
