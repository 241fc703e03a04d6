"""The one typed source of every parameter: default, range, unit, meaning and where the paper says so.

``config/schema.json`` and ``config/defaults.yaml`` are generated from here (``maskdistill config``).
Each stage receives exactly its own section as JSON and never opens the configuration file.
[P §4.1] is a section of the paper (arXiv 2206.06363), [method §2] one of docs/explanation/method.md.
"""

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError, field_validator, model_validator

from maskdistill.backbones.registry import find_backbone, find_official
from maskdistill.config_data import (
    CocoData,
    DataConfig,
    DatasetsConfig,
    FolderData,
    SceneSide,
    SupportConfig,
    VocData,
)
from maskdistill.config_messages import explain, refuse_wildcards
from maskdistill.config_paper import MASK_BASELINE as MASK_BASELINE
from maskdistill.config_paper import BaselineName
from maskdistill.config_paper import PaperConfig as PaperConfig
from maskdistill.config_training import AnnotationsConfig as AnnotationsConfig
from maskdistill.config_training import CrfConfig as CrfConfig
from maskdistill.config_training import DetectorConfig as DetectorConfig
from maskdistill.config_training import EvaluationConfig as EvaluationConfig
from maskdistill.config_training import LabelType, Precision
from maskdistill.config_training import ProbeConfig as ProbeConfig
from maskdistill.config_training import PseudoLabelsConfig as PseudoLabelsConfig
from maskdistill.config_training import SegmenterConfig as SegmenterConfig
from maskdistill.config_types import (
    NUMBER,
    Batch,
    Channels,
    Decay,
    Distinct,
    DistinctSome,
    Examples,
    Fraction,
    Positive,
    Rate,
    Resized,
    Rounds,
    Section,
    Seed,
    Share,
    Spread,
    UserPath,
    Workers,
)
from maskdistill.data.official_datasets import BUILT
from maskdistill.runtime.errors import MaskDistillError

S = TypeVar("S", bound=Section)
FITTED = 1_000_000
ViewSide = Annotated[int, Field(ge=32, le=16_384), NUMBER]
LocalSide = Annotated[int, Field(ge=16, le=16_384), NUMBER]
HalfTurn = Annotated[float, Field(ge=0, le=0.5), NUMBER]
Masks = Annotated[int, Field(ge=1, le=100), NUMBER]
Dim = Annotated[int, Field(ge=1, le=1_048_576), NUMBER]
Heads = Annotated[int, Field(ge=1, le=1024), NUMBER]
Iterations = Annotated[int, Field(ge=1, le=1_000_000), NUMBER]
Compared = Annotated[int, Field(ge=2, le=1_000_000), NUMBER]


class BackboneConfig(Section):
    """Vision transformer that gives features [P §3.2, §4.1]."""

    arch: str = Field("dino_vits16", description="name of a backbone; `maskdistill weights --list` shows them")
    weights: UserPath = Field(
        description="path of a checkpoint; 'official': the authors', downloaded into resources/weights; "
        "'pretrain': train on the run's own images; 'random': for comparison only"
    )
    sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="checksum of the weights file; null: the known one, if any"
    )

    @field_validator("arch")
    @classmethod
    def _known(cls, arch: str) -> str:
        try:
            find_backbone(arch)
        except MaskDistillError as error:
            raise ValueError(str(error)) from None
        return arch

    @model_validator(mode="after")
    def _weights_of_arch(self) -> "BackboneConfig":
        if self.weights == "official":
            try:
                find_official(self.arch)
            except MaskDistillError as error:
                raise ValueError(str(error)) from None
        if self.sha256 and self.weights in ("pretrain", "random"):
            raise ValueError(f"sha256 is for a file, and weights is {self.weights!r}; remove it")
        return self


class PretrainConfig(Section):
    """Self-supervised training of a backbone on unlabelled images; used where weights: pretrain."""

    objective: Literal["dino", "contrast", "distill"] = Field(
        "dino",
        description="dino: self-distillation (Caron et al. 2021); "
        "contrast: NT-Xent between two views (SimCLR, Chen et al. 2020); "
        "distill: a ResNet learns a pre-trained transformer's features (FitNets, Romero et al. 2015)",
    )
    teacher: BackboneConfig | None = Field(None, description="the pre-trained transformer (distill)")
    exchange_share: Fraction = Field(
        0.0,
        description="share of the draws that are generated pairs: the same objects, moved and re-lit, over two "
        "backgrounds; the rest are two augmentations of one picture",
    )
    cutout_share: Fraction = Field(
        0.0,
        description="share of the generated pairs that are views as clusters.input masked_square makes them: one "
        "object cut out by a rough mask, on flat ground, the second time with another texture and other colours",
    )
    crop_share: Fraction = Field(
        0.0,
        description="share of the other generated pairs that are views as a detector's regions: a square around one "
        "object with all that lies there, the second time with another texture, other colours and background",
    )
    exchange_pairs: Positive = Field(
        30_000, description="different generated pairs; rendered once, then kept in memory"
    )
    scene_size: SceneSide = Field(96, description="side in pixels at which generated pairs are rendered")
    scene_difficulty: Fraction = Field(0.5, description="largest difficulty of the generated pairs")
    scene_seed: Seed = Field(1_000_000, description="seed of the generated pairs; apart from data.seed")
    steps: Positive = Field(2000, description="optimiser steps")
    batch_size: Batch = Field(64, description="images a step, over all GPUs")
    size: ViewSide = Field(128, description="side of a global view in pixels")
    local_size: LocalSide = Field(64, description="side of a local view in pixels (dino)")
    local_views: Rounds = Field(4, description="local views an image (dino)")
    photometric: Fraction = Field(1.0, description="strength of brightness, contrast, blur; 1: the published setting")
    hue: HalfTurn = Field(0.1, description="largest turn of the hue; 0.1: the published setting")
    grayscale: Fraction = Field(0.2, description="share of the views without colour; 0.2: the published setting")
    min_crop: Share = Field(0.4, description="smallest share of the picture in a global view")
    lr: Rate = Field(5e-4, description="peak learning rate at batch 256, scaled linearly")
    weight_decay: Decay = 0.04
    warmup: Fraction = Field(0.1, description="share of the steps with rising learning rate")
    temperature: Spread = Field(0.2, description="contrast only")
    teacher_temperature: Spread = Field(0.04, description="dino only")
    momentum: Fraction = Field(0.996, description="teacher momentum at the start, cosine to 1")
    out_dim: Dim = Field(4096, description="prototypes (dino)")
    projection_dim: Channels = Field(256, description="projection size (contrast) or bottleneck (dino)")
    hidden_dim: Channels = Field(1024, description="hidden size of the projection head")
    patch_keep: Share = Field(1.0, description="share of a ViT's patches that training sees (FLIP, Li 2023)")
    drop_path: Fraction = Field(0.1, description="stochastic depth rate of the student ViT")
    precision: Precision = Field("float32", description="of matrix products in training; bfloat16 is faster on GPUs")
    workers: Workers = Field(2, description="data loading processes")
    checkpoint_every: Positive = Field(200, description="steps between resumable checkpoints")
    log_every: Positive = Field(20, description="steps between rows of the metrics CSV")
    seed: Seed = 0

    @model_validator(mode="after")
    def _teacher_where_needed(self) -> "PretrainConfig":
        if (self.objective == "distill") != (self.teacher is not None):
            raise ValueError("teacher is for objective distill, which needs it")
        if self.teacher is not None and self.teacher.weights in ("pretrain", "random"):
            raise ValueError("teacher.weights is a file or 'official': a transformer that has learned already")
        return self


DECODING_WORKERS = (
    "image decoding processes; null: on a GPU one less than the threads granted, on a CPU none, where they would take"
    " cores from the network"
)


class FeaturesConfig(Section):
    """CLS query and patch keys of the last self-attention block [P §3.2, §4.1]."""

    short_side: Resized = Field(640, description="shortest side in pixels after resizing")
    batch_size: Batch = Field(8, description="images of equal size forwarded together")
    precision: Precision = Field("float32", description="of the network's matrix products")
    dtype: Literal["float32", "float16"] = Field("float32", description="storage type of the keys")
    store: bool = Field(
        True, description="keep the keys, to sweep top-k or run baselines; false: straight to masks, which are equal"
    )
    workers: Workers | None = Field(None, description=DECODING_WORKERS)


class AffinityConfig(Section):
    """The affinity graph between patches [P §3.2 Eq. 1]."""

    center: bool = Field(False, description="subtract the image's mean key first")


class FurtherMasksConfig(Section):
    """Where the search for further masks of an image stops (maskdistill.masks); for masks.max_masks above 1."""

    min_area: Fraction = Field(0.01, description="stop at a further mask that covers a smaller share of the patches")
    max_area: Fraction = Field(0.5, description="stop at a further mask that covers a larger share of the patches")
    max_overlap: Fraction = Field(
        0.5, description="stop where earlier masks cover a larger share of a further one, before it is cut"
    )

    @model_validator(mode="after")
    def _some_area_between(self) -> "FurtherMasksConfig":
        if self.min_area > self.max_area:
            raise ValueError(f"min_area {self.min_area:g} is above max_area {self.max_area:g}: no mask would be taken")
        return self


class MasksConfig(Section):
    """Object masks from the affinity graph, one an image in the paper [P §3.2 Eq. 1-2]."""

    topk: Share = Field(0.4, description="share of patches taken as candidates [P §4.1]")
    cls_heads: Heads | None = Field(None, description="use the first n heads for the CLS affinity; null: all")
    cls_mass: Share | None = Field(
        None,
        description="keep this share of the CLS affinity's sum; the rest counts as 0, in the order of torch.topk; "
        "null: off",
    )
    component: Literal["source_4conn", "all"] = Field("source_4conn", description="keep the source's component")
    resize_mask: Literal["nearest", "bicubic_nonzero"] = Field("nearest", description="resampling to full size")
    refine: Literal["none", "grabcut"] = Field(
        "none",
        description="none: outlines of patches; grabcut: OpenCV's GrabCut started from each mask seeks the object's "
        "own, beyond the paper",
    )
    affinity: AffinityConfig = AffinityConfig()
    max_masks: Masks = Field(1, description="most masks an image; above 1 beyond the paper")
    further: FurtherMasksConfig = FurtherMasksConfig()


class DistilConfig(Section):
    """Sections of the stage distil: features and masks in one go."""

    features: FeaturesConfig = FeaturesConfig()
    masks: MasksConfig = MasksConfig()


class BaselinesConfig(Section):
    """Simpler mask rules on the same features, scored beside the main masks [P Table 3, §A.4]."""

    masks: Distinct[BaselineName] = Field(
        [],
        description="lost-K: LOST with its K patches of lowest degree; attention-M: the patches that hold the share M "
        "of DINO's CLS attention, attention-M-largest: their largest component",
    )


class ClustersConfig(Section):
    """K-means over CLS features of the masked images [P §3.2, §4.1]."""

    num_clusters: Positive = Field(20, description="K before over-clustering; background is not a cluster")
    input: Literal["masked_image", "masked_crop", "masked_square", "crop"] = Field(
        "masked_image",
        description="what the ViT sees; masked_square: the masked picture in a square around the mask's box, 1.24 "
        "times its longer side",
    )
    short_side: Resized | None = Field(None, description="resize to this shortest side first; null: native")
    precision: Precision = Field("float32", description="of the network's matrix products")
    workers: Workers | None = Field(None, description=DECODING_WORKERS)
    backbone: BackboneConfig | None = Field(
        None, description="another network for the embeddings (the released code takes ViT-S/8); null: the masks' own"
    )
    whiten: Literal["std", "none"] = Field("std", description="divide columns by their standard deviation")
    l2: bool = Field(True, description="L2-normalise rows")
    algorithm: Literal["faiss", "minibatch"] = Field(
        "faiss",
        description="faiss: Lloyd's K-means; minibatch: scikit-learn's MiniBatchKMeans as in the released code, with "
        "its own 100 iterations and 3 starts",
    )
    spherical: bool = Field(False, description="keep centroids at unit length (faiss); meant for l2: true")
    niter: Iterations = Field(
        100, description="most K-means iterations of a start (faiss); fewer where they gain nothing"
    )
    nredo: Iterations = Field(10, description="K-means starts by k-means++, the best is kept (faiss)")
    overcluster: Positive = Field(1, description="K = overcluster * num_clusters [P §4.2, Fig. 3]")
    max_fit: Positive = Field(
        FITTED,
        description="masks that K-means is fitted on at most; of more, a uniform sample that does not depend on "
        "shards. Memory is 4 * dim * max_fit bytes. Centroids are applied to all masks",
    )
    candidates_k: DistinctSome[Compared] | None = Field(
        None, description="numbers of clusters that the report compares without labels; null: around K"
    )
    names: UserPath | None = Field(
        None,
        description="YAML file of names for clusters, saved from the report; report, predict and export show them, "
        "and nothing is trained again",
    )

    @property
    def total(self) -> int:
        """K with over-clustering."""
        return self.overcluster * self.num_clusters


class ConsistencyConfig(Section):
    """Sections of the stage consistency: what masks and clusters were made with."""

    features: FeaturesConfig = FeaturesConfig()
    masks: MasksConfig = MasksConfig()
    clusters: ClustersConfig = ClustersConfig()


class ReportConfig(Section):
    """The page that shows it all."""

    examples: Examples = Field(12, description="images in the montage")
    per_cluster: Examples = Field(8, description="examples a cluster")


class CandidateQualityConfig(Section):
    """Sections of the stage candidate_quality."""

    pseudo_labels: PseudoLabelsConfig = PseudoLabelsConfig()
    evaluation: EvaluationConfig = EvaluationConfig()


class AblationsConfig(Section):
    """What the target ``snakemake ablations`` compares, all else being the run's own [P Table 1, Table S1]."""

    seeds: DistinctSome[Seed] = Field([1234, 1235, 1236], description="rows are means over these")
    label_types: DistinctSome[LabelType] = Field(
        ["bbox", "grabcut", "mask"], description="values of pseudo_labels.type"
    )
    hard_pixels: DistinctSome[Share] = Field([1.0, 0.2], description="values of segmenter.hard_pixels; 1: all pixels")
    crf_rounds: Rounds = Field(2, description="rounds 0 to this one, each with and without a last CRF")
    examples: Examples = Field(6, description="images pictured")


OracleCase = Literal["masks", "objects", "categories", "annotations", "labels"]


class OracleConfig(Section):
    """What the target ``snakemake oracle`` makes perfect by the ground truth, one at a time; all else is the run's."""

    cases: DistinctSome[OracleCase] = Field(
        ["masks", "objects", "categories", "annotations", "labels"],
        description="masks: for each found mask the exact one of the object that it overlaps best; objects: exact "
        "masks of all objects; categories: found masks with the true category of that object; annotations: exact masks "
        "and true categories of all objects; labels: true label maps for the segmenter",
    )


class SweepConfig(Section):
    """Further values whose results are made beside the main ones."""

    topk: Distinct[Share] = Field([], description="further values of masks.topk")
    num_clusters: Distinct[Positive] = Field([], description="further values of clusters.num_clusters")
    tau: Distinct[Fraction] = Field([], description="further values of pseudo_labels.tau")
    hard_pixels: Distinct[Share] = Field([], description="further values of segmenter.hard_pixels")
    label_types: Distinct[LabelType] = Field([], description="further values of pseudo_labels.type")


class Config(Section):
    """A run."""

    run: str = Field(
        max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name of the folder below results/"
    )
    num_shards: Positive | None = Field(None, description="pieces that images are split into; null: by their number")
    shards_per_job: Annotated[Literal[1, 10, 100], NUMBER] | None = Field(
        None, description="shards that one job works through; null: so many that no stage has above 1000 jobs"
    )
    max_quarantined: Fraction = Field(
        0.05,
        description="share of pictures that may be unreadable; above it the run stops before anything is computed. "
        "A single one is tolerated unless this is 0",
    )
    max_dropped: Fraction = Field(
        0.05,
        description="share of the ground truth's annotations, or images, that may be dropped for being empty, without "
        "an image and the like; above it the run stops before anything is trained. A single one is tolerated unless "
        "this is 0",
    )
    seeds: DistinctSome[Seed] = Field([1234], description="a branch each: K-means, detector, segmenter")
    data: Annotated[DataConfig, Field(discriminator="kind")]
    support: Annotated[SupportConfig, Field(discriminator="kind")] | None = Field(
        None, description="further photographs whose masks K-means is fitted on too; nothing else uses them [P §4.1]"
    )
    datasets: DatasetsConfig = DatasetsConfig()
    backbone: BackboneConfig
    pretrain: PretrainConfig = PretrainConfig()
    features: FeaturesConfig = FeaturesConfig()
    masks: MasksConfig = MasksConfig()
    baselines: BaselinesConfig = BaselinesConfig()
    clusters: ClustersConfig = ClustersConfig()
    annotations: AnnotationsConfig = AnnotationsConfig()
    detector: DetectorConfig
    pseudo_labels: PseudoLabelsConfig = PseudoLabelsConfig()
    segmenter: SegmenterConfig
    crf: CrfConfig = CrfConfig()
    probe: ProbeConfig = ProbeConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    report: ReportConfig = ReportConfig()
    sweep: SweepConfig = SweepConfig()
    ablations: AblationsConfig = AblationsConfig()
    oracle: OracleConfig = OracleConfig()
    paper: PaperConfig = PaperConfig()

    @model_validator(mode="after")
    def _distilled_networks(self) -> "Config":
        if self.pretrain.objective == "distill" and self.backbone.weights == "pretrain":
            raise ValueError("pretrain.objective: distill trains the detector's and segmenter's ResNet, not backbone")
        return self

    @model_validator(mode="after")
    def _heads_that_there_are(self) -> "Config":
        heads, arch = find_backbone(self.backbone.arch).num_heads, self.backbone.arch
        if (self.masks.cls_heads or 0) > heads:
            raise ValueError(
                f"masks.cls_heads: {self.masks.cls_heads} heads, and backbone.arch {arch} has {heads}; write"
                f" `cls_heads: {heads}`, or `cls_heads: null` for all"
            )
        return self

    @model_validator(mode="after")
    def _data_is_what_is_built(self) -> "Config":
        build = self.datasets.build
        folder = f"{BUILT}/{build}"
        if build == "voc" and not (isinstance(self.data, VocData) and self.data.root == folder):
            raise ValueError(
                f"datasets.build: voc makes {folder}; write data: {{kind: voc, root: {folder}}}, or datasets:"
                " {build: null}"
            )
        if build == "coco20k":
            images, truth, rest = (f"{folder}/{name}" for name in ("images", "truth/instances.json", "support"))
            data, support = self.data, self.support
            if not (isinstance(data, CocoData) and data.images == images and data.annotations in (truth, None)):
                raise ValueError(
                    f"datasets.build: coco20k makes {folder}; write data: {{kind: coco, images: {images},"
                    f" annotations: {truth}}}, or datasets: {{build: null}}"
                )
            if isinstance(support, FolderData) and support.root.startswith(BUILT) and support.root != rest:
                raise ValueError(f"datasets.build: coco20k makes {rest}; write support: {{kind: folder, root: {rest}}}")
        return self

    @model_validator(mode="after")
    def _sweeps_need_keys(self) -> "Config":
        if not self.features.store and (self.sweep.topk or self.baselines.masks):
            raise ValueError("sweep.topk and baselines.masks work on stored keys; set features.store to true")
        return self

    @model_validator(mode="after")
    def _clusters_can_be_fitted(self) -> "Config":
        clusters = self.clusters
        if clusters.max_fit < clusters.total:
            raise ValueError(
                f"clusters.max_fit: {clusters.max_fit} masks are fitted at most, and {clusters.total} clusters need as"
                f" many; write `max_fit: {max(FITTED, clusters.total)}`, or fewer clusters"
            )
        most = clusters.max_fit // clusters.overcluster
        fitting = [count for count in self.sweep.num_clusters if count <= most]
        if len(fitting) < len(self.sweep.num_clusters):
            raise ValueError(
                f"sweep.num_clusters: {max(self.sweep.num_clusters)} clusters need as many masks, and clusters.max_fit"
                f" has {clusters.max_fit} fitted at most; write `num_clusters: {fitting}`, or a larger max_fit"
            )
        return self

    @model_validator(mode="after")
    def _schedules_fit(self) -> "Config":
        """Rates drop and warm-ups end within the training, and shorter sides are no longer than the longest."""
        detector = self.detector
        if detector.steps and detector.steps[-1] >= detector.iters:
            right = [step for step in detector.steps if step < detector.iters]
            raise ValueError(
                f"detector.steps: {detector.steps} do not lie within {detector.iters} iterations (iters), and the rate"
                f" would not drop there; write `steps: {right}`, or `iters: {detector.steps[-1] + 1}` and more"
            )
        if detector.warmup_iters > detector.iters:
            raise ValueError(
                f"detector.warmup_iters: {detector.warmup_iters} are more than the {detector.iters} of iters; write"
                f" `warmup_iters: {detector.iters // 10}`"
            )
        for name, size in (("min_size_train", max(detector.min_size_train)), ("min_size_test", detector.min_size_test)):
            if size > detector.max_size:
                raise ValueError(
                    f"detector.{name}: a shorter side of {size} is above max_size, the longest side, which is"
                    f" {detector.max_size}; write `max_size: {size}` or more"
                )
        return self

    @model_validator(mode="after")
    def _exchange_needs_scenes(self) -> "Config":
        if self.backbone.weights == "pretrain" and self.pretrain.exchange_share and self.data.kind != "scenes":
            raise ValueError("pretrain.exchange_share is for data.kind: scenes; set it to 0 for photographs")
        return self


def load_config(values: dict[str, Any], source: str = "config", given: Mapping[str, Any] | None = None) -> Config:
    """Validate a configuration read from YAML.

    Args:
        values: the mapping as read.
        source: what to name in an error message.
        given: what of it the command line's ``--config`` gave.

    Raises:
        MaskDistillError: listing every unknown, missing or ill-typed key, or paths that Snakemake cannot be given.
    """
    config = _validated(Config, lambda: Config.model_validate(values), source, values, given)
    refuse_wildcards(config.model_dump(mode="json"), source)
    return config


def parse_section(section: type[S], text: str) -> S:
    """Validate one section from the JSON text given to an entry point's ``--params``."""
    return _validated(section, lambda: section.model_validate_json(text), "--params", _mapping(text))


def _validated(
    section: type[S],
    validate: Callable[[], S],
    source: str,
    values: dict[str, Any] | None,
    given: Mapping[str, Any] | None = None,
) -> S:
    def check(corrected: dict[str, Any]) -> list[Any]:
        try:
            section.model_validate(corrected)
        except ValidationError as error:
            return list(error.errors())
        return []

    try:
        return validate()
    except ValidationError as error:
        raise explain(error, source, section.model_json_schema(), values, check, given) from None


def _mapping(text: str) -> dict[str, Any] | None:
    """What a JSON text holds; None where that is no mapping."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
