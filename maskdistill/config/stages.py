"""What stages are given that work with several sections of the configuration."""

from maskdistill.config.clusters import ClustersConfig
from maskdistill.config.evaluation import EvaluationConfig
from maskdistill.config.features import FeaturesConfig
from maskdistill.config.masks import MasksConfig
from maskdistill.config.objects import ObjectsConfig
from maskdistill.config.pseudo_labels import PseudoLabelsConfig
from maskdistill.config.report import ReportConfig
from maskdistill.config.types import Section


class DistilConfig(Section):
    """Sections of the stage distil: features and masks in one go."""

    features: FeaturesConfig = FeaturesConfig()
    masks: MasksConfig = MasksConfig()


class ConsistencyConfig(Section):
    """Sections of the stage consistency: what masks and clusters were made with."""

    features: FeaturesConfig = FeaturesConfig()
    masks: MasksConfig = MasksConfig()
    clusters: ClustersConfig = ClustersConfig()


class CandidateQualityConfig(Section):
    """Sections of the stage candidate_quality."""

    pseudo_labels: PseudoLabelsConfig = PseudoLabelsConfig()
    evaluation: EvaluationConfig = EvaluationConfig()


class OwnObjectsConfig(Section):
    """Sections of the stage own_objects; of the second tau and compare are used, where the first has no
    score.
    """

    objects: ObjectsConfig = ObjectsConfig()
    pseudo_labels: PseudoLabelsConfig = PseudoLabelsConfig()


class ThumbnailsConfig(Section):
    """Sections of the stage thumbnails: of the report objects and object_side, of the others which
    objects.
    """

    report: ReportConfig = ReportConfig()
    objects: ObjectsConfig = ObjectsConfig()
    pseudo_labels: PseudoLabelsConfig = PseudoLabelsConfig()
