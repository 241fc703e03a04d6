"""The typed definition of every parameter: default, range, unit, meaning, and where the paper states it.

``config/schema.json`` and ``config/defaults.yaml`` are generated from here (``maskdistill config``).
Each stage receives exactly its own section as JSON and never opens the configuration file.
[P §4.1] is a section of the paper (arXiv 2206.06363), [method §2] one of docs/explanation/method.md.
"""

from maskdistill.config.ablations import AblationsConfig
from maskdistill.config.backbone import BackboneConfig
from maskdistill.config.bench import BenchConfig, BenchStage
from maskdistill.config.clusters import MAX_CLUSTERS, ClustersConfig
from maskdistill.config.crf import CrfConfig
from maskdistill.config.data import (
    CocoData,
    DataConfig,
    FolderData,
    ListData,
    ScenesData,
    SupportConfig,
    VocData,
)
from maskdistill.config.datasets import DatasetConfig, DatasetsConfig
from maskdistill.config.detector import DetectorConfig
from maskdistill.config.evaluation import EvaluationConfig, Protocol
from maskdistill.config.features import FeaturesConfig
from maskdistill.config.load import load_config, parse_section
from maskdistill.config.masks import AffinityConfig, BaselinesConfig, FurtherMasksConfig, MasksConfig
from maskdistill.config.objects import ObjectsConfig
from maskdistill.config.oracle import OracleCase, OracleConfig
from maskdistill.config.paper import FrozenBackbone, PaperConfig
from maskdistill.config.pretrain import PretrainConfig
from maskdistill.config.probe import ProbeConfig
from maskdistill.config.pseudo_annotations import PseudoAnnotationsConfig
from maskdistill.config.pseudo_labels import Compare, LabelType, PseudoLabelsConfig
from maskdistill.config.report import ReportConfig
from maskdistill.config.run import Config
from maskdistill.config.segmenter import SegmenterConfig
from maskdistill.config.self_training import SelfTrainingConfig
from maskdistill.config.stages import (
    CandidateQualityConfig,
    ConsistencyConfig,
    DistilConfig,
    OwnObjectsConfig,
    ThumbnailsConfig,
)
from maskdistill.config.student import OptimizerName
from maskdistill.config.sweep import SweepConfig

__all__ = [
    "MAX_CLUSTERS",
    "AblationsConfig",
    "AffinityConfig",
    "BackboneConfig",
    "BaselinesConfig",
    "BenchConfig",
    "BenchStage",
    "CandidateQualityConfig",
    "ClustersConfig",
    "CocoData",
    "Compare",
    "Config",
    "ConsistencyConfig",
    "CrfConfig",
    "DataConfig",
    "DatasetConfig",
    "DatasetsConfig",
    "DetectorConfig",
    "DistilConfig",
    "EvaluationConfig",
    "FeaturesConfig",
    "FolderData",
    "FrozenBackbone",
    "FurtherMasksConfig",
    "LabelType",
    "ListData",
    "MasksConfig",
    "ObjectsConfig",
    "OptimizerName",
    "OracleCase",
    "OracleConfig",
    "OwnObjectsConfig",
    "PaperConfig",
    "PretrainConfig",
    "ProbeConfig",
    "Protocol",
    "PseudoAnnotationsConfig",
    "PseudoLabelsConfig",
    "ReportConfig",
    "ScenesData",
    "SegmenterConfig",
    "SelfTrainingConfig",
    "SupportConfig",
    "SweepConfig",
    "ThumbnailsConfig",
    "VocData",
    "load_config",
    "parse_section",
]
