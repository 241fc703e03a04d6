"""The whole configuration of a run, with the checks that concern several sections."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from maskdistill.backbones.registry import find_backbone
from maskdistill.config.ablations import AblationsConfig
from maskdistill.config.backbone import BackboneConfig
from maskdistill.config.bench import BenchConfig
from maskdistill.config.clusters import FITTED, ClustersConfig
from maskdistill.config.crf import CrfConfig
from maskdistill.config.data import CocoData, DataConfig, FolderData, SupportConfig, VocData
from maskdistill.config.datasets import BUILT, DatasetsConfig
from maskdistill.config.detector import DetectorConfig
from maskdistill.config.evaluation import EvaluationConfig
from maskdistill.config.features import FeaturesConfig
from maskdistill.config.masks import BaselinesConfig, MasksConfig
from maskdistill.config.objects import ObjectsConfig
from maskdistill.config.oracle import OracleConfig
from maskdistill.config.paper import PaperConfig
from maskdistill.config.pretrain import PretrainConfig
from maskdistill.config.probe import ProbeConfig
from maskdistill.config.pseudo_annotations import PseudoAnnotationsConfig
from maskdistill.config.pseudo_labels import PseudoLabelsConfig
from maskdistill.config.report import ReportConfig
from maskdistill.config.segmenter import SegmenterConfig
from maskdistill.config.sweep import SweepConfig
from maskdistill.config.types import NUMBER, DistinctSome, Fraction, Positive, Section, Seed


class Config(Section):
    """The configuration of a run."""

    model_config = ConfigDict(defer_build=True)  # see maskdistill.config.data

    run: str = Field(
        max_length=100,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="name of the folder below results/",
    )
    num_shards: Positive | None = Field(
        None,
        description="number of shards that the images are split into; null: depends on the number of images",
    )
    shards_per_job: Annotated[Literal[1, 10, 100], NUMBER] | None = Field(
        None, description="shards per job; null: as few as keep every stage at 1000 jobs or fewer"
    )
    max_quarantined: Fraction = Field(
        0.05,
        description="share of pictures that may be unreadable; if more are, the run stops before anything "
        "is computed. A single one is tolerated unless this is 0",
    )
    max_dropped: Fraction = Field(
        0.05,
        description="share of the ground truth's annotations, or images, that may be dropped as unusable, "
        "e.g. empty or without an image; if more are, the run stops before anything is trained. A single "
        "one is tolerated unless this is 0",
    )
    seeds: DistinctSome[Seed] = Field(
        [1234], description="seeds of K-means, detector and segmenter; each seed repeats these stages"
    )
    data: DataConfig
    support: SupportConfig | None = Field(
        None,
        description="further photographs, whose masks are used only to fit K-means, together with those of "
        "data [P §4.1]",
    )
    datasets: DatasetsConfig = DatasetsConfig()
    backbone: BackboneConfig
    pretrain: PretrainConfig = PretrainConfig()
    features: FeaturesConfig = FeaturesConfig()
    masks: MasksConfig = MasksConfig()
    baselines: BaselinesConfig = BaselinesConfig()
    clusters: ClustersConfig = ClustersConfig()
    pseudo_annotations: PseudoAnnotationsConfig = PseudoAnnotationsConfig()
    detector: DetectorConfig
    pseudo_labels: PseudoLabelsConfig = PseudoLabelsConfig()
    segmenter: SegmenterConfig
    crf: CrfConfig = CrfConfig()
    probe: ProbeConfig = ProbeConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    objects: ObjectsConfig = ObjectsConfig()
    report: ReportConfig = ReportConfig()
    sweep: SweepConfig = SweepConfig()
    ablations: AblationsConfig = AblationsConfig()
    oracle: OracleConfig = OracleConfig()
    bench: BenchConfig = BenchConfig()
    paper: PaperConfig = PaperConfig()

    @model_validator(mode="after")
    def _distilled_networks(self) -> "Config":
        if self.pretrain.objective == "distill" and self.backbone.weights == "pretrain":
            raise ValueError(
                "pretrain.objective: distill trains the detector's and segmenter's ResNet, not backbone"
            )
        return self

    @model_validator(mode="after")
    def _heads_that_there_are(self) -> "Config":
        networks = {"backbone": self.backbone}
        networks |= {f"bench.backbones.{name}": network for name, network in self.bench.backbones.items()}
        for name, network in networks.items():
            heads = find_backbone(network.arch).num_heads
            if (self.masks.cls_heads or 0) > heads:
                raise ValueError(
                    f"masks.cls_heads: {self.masks.cls_heads} heads, and {name}.arch {network.arch} has "
                    f"{heads}; write `cls_heads: {heads}`, or `cls_heads: null` for all"
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
            images, truth, rest = (
                f"{folder}/{name}" for name in ("images", "truth/instances.json", "support")
            )
            data, support = self.data, self.support
            if not (
                isinstance(data, CocoData) and data.images == images and data.annotations in (truth, None)
            ):
                raise ValueError(
                    f"datasets.build: coco20k makes {folder}; write data: {{kind: coco, images: {images},"
                    f" annotations: {truth}}}, or datasets: {{build: null}}"
                )
            if isinstance(support, FolderData) and support.root.startswith(BUILT) and support.root != rest:
                raise ValueError(
                    f"datasets.build: coco20k makes {rest}; write support: {{kind: folder, root: {rest}}}"
                )
        return self

    @model_validator(mode="after")
    def _sweeps_need_keys(self) -> "Config":
        if not self.features.store and (self.sweep.topk or self.baselines.masks or self.bench.backbones):
            raise ValueError(
                "sweep.topk, baselines.masks and bench.backbones work on stored keys; set features.store to "
                "true"
            )
        return self

    @model_validator(mode="after")
    def _sweeps_need_the_papers_rule(self) -> "Config":
        if self.sweep.topk and not self.masks.by_paper:
            raise ValueError(
                f"sweep.topk: masks.rule {self.masks.rule} has no topk; write `topk: []`, or leave "
                "masks.rule out"
            )
        return self

    @model_validator(mode="after")
    def _clusters_can_be_fitted(self) -> "Config":
        clusters = self.clusters
        if clusters.max_fit < clusters.total:
            raise ValueError(
                f"clusters.max_fit: {clusters.max_fit} masks are fitted at most, and {clusters.total} "
                f"clusters need as many; write `max_fit: {max(FITTED, clusters.total)}`, or fewer clusters"
            )
        most = clusters.max_fit // clusters.overcluster
        fitting = [count for count in self.sweep.num_clusters if count <= most]
        if len(fitting) < len(self.sweep.num_clusters):
            raise ValueError(
                f"sweep.num_clusters: {max(self.sweep.num_clusters)} clusters need as many masks, and "
                f"clusters.max_fit has {clusters.max_fit} fitted at most; write `num_clusters: {fitting}`, "
                "or a larger max_fit"
            )
        return self

    @model_validator(mode="after")
    def _schedules_fit(self) -> "Config":
        """Learning rates drop and warm-ups end within the training; no shorter side is above the longest."""
        detector = self.detector
        if detector.steps and detector.steps[-1] >= detector.iters:
            right = [step for step in detector.steps if step < detector.iters]
            raise ValueError(
                f"detector.steps: {detector.steps} do not lie within {detector.iters} iterations (iters), "
                f"and the rate would not drop there; write `steps: {right}`, or `iters: "
                f"{detector.steps[-1] + 1}` and more"
            )
        if detector.warmup_iters > detector.iters:
            raise ValueError(
                f"detector.warmup_iters: {detector.warmup_iters} are more than the {detector.iters} of "
                f"iters; write `warmup_iters: {detector.iters // 10}`"
            )
        for name, size in (
            ("min_size_train", max(detector.min_size_train)),
            ("min_size_test", detector.min_size_test),
        ):
            if size > detector.max_size:
                raise ValueError(
                    f"detector.{name}: a shorter side of {size} is above max_size, the longest side, which is"
                    f" {detector.max_size}; write `max_size: {size}` or more"
                )
        return self

    @model_validator(mode="after")
    def _exchange_needs_scenes(self) -> "Config":
        if (
            self.backbone.weights == "pretrain"
            and self.pretrain.exchange_share
            and self.data.kind != "scenes"
        ):
            raise ValueError("pretrain.exchange_share is for data.kind: scenes; set it to 0 for photographs")
        return self
