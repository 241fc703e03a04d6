"""Settings of stages that use several sections of the configuration."""

from maskdistill.config.clusters import ClustersConfig
from maskdistill.config.evaluation import EvaluationConfig
from maskdistill.config.features import FeaturesConfig
from maskdistill.config.masks import MasksConfig
from maskdistill.config.objects import ObjectsConfig
from maskdistill.config.pseudo_labels import PseudoLabelsConfig
from maskdistill.config.report import ReportConfig
from maskdistill.config.types import Section


class DistilConfig(Section):
    """Sections of the stage distil, which computes features and masks in one pass."""

    features: FeaturesConfig = FeaturesConfig()
    masks: MasksConfig = MasksConfig()


class ConsistencyConfig(Section):
    """Sections of the stage consistency: the settings that made masks and clusters."""

    features: FeaturesConfig = FeaturesConfig()
    masks: MasksConfig = MasksConfig()
    clusters: ClustersConfig = ClustersConfig()


class CandidateQualityConfig(Section):
    """Sections of the stage candidate_quality."""

    pseudo_labels: PseudoLabelsConfig = PseudoLabelsConfig()
    evaluation: EvaluationConfig = EvaluationConfig()


class OwnObjectsConfig(Section):
    """Sections of the stage own_objects; tau and compare of ``pseudo_labels`` apply if ``objects`` has no
    score.
    """

    objects: ObjectsConfig = ObjectsConfig()
    pseudo_labels: PseudoLabelsConfig = PseudoLabelsConfig()


class ThumbnailsConfig(Section):
    """Sections of the stage thumbnails: ``report`` for their number and size, the others for the choice of
    objects.
    """

    report: ReportConfig = ReportConfig()
    objects: ObjectsConfig = ObjectsConfig()
    pseudo_labels: PseudoLabelsConfig = PseudoLabelsConfig()
