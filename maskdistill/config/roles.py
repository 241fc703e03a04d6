"""Which settings affect what: evaluation only, files for other tools only, and, of the detector's, those that
training never sees.

Snakemake runs a stage again when a setting that its rule receives changes. A label setting that reached a
label-free stage would retrain everything and would be a leak; a test-time setting that reached a training
would retrain for nothing. ``tests/test_config_roles.py`` checks that every setting is in one table.
"""

from typing import Any

from maskdistill.config.data import DataConfig, SupportConfig
from maskdistill.config.detector import DetectorConfig
from maskdistill.config.self_training import SelfTrainingConfig

EVALUATION_SECTIONS = frozenset({"evaluation", "probe", "report", "ablations", "oracle", "bench", "paper"})
"""Sections that no stage receives whose result others learn from. The further backbones of ``bench`` shape
folders of their own, which nothing but the bench reads.
"""
HANDED_OUT_SECTIONS = frozenset({"objects"})
"""Sections that affect files for other tools; only the stage that writes these and the report get them."""

DETECTOR_TEST_FIELDS = frozenset({"min_size_test", "score_thresh", "nms", "max_dets"})
"""Settings of the detector that both engines use only in eval mode."""
DETECTOR_PAIRS = frozenset({"rpn_pre_nms", "rpn_post_nms"})
"""Settings of the detector with two values, for training and for test."""
DETECTOR_SHARED_FIELDS = frozenset({"engine", "max_size"})
"""Settings of the detector for training and test time; at test time the value may differ from the trained
model's.
"""
DETECTOR_FORM_FIELDS = (
    "arch", "freeze_at", "anchor_sizes", "aspect_ratios", "roi_pool", "pyramid", "head_channels",
)  # fmt: skip
"""Settings of the detector that define the network's layers, or which of them were trained."""
DETECTOR_ROUND_FIELDS = frozenset(SelfTrainingConfig.model_fields)
"""Settings of the detector's rounds of self-training. No training receives them, so a further round trains
only one further detector.
"""


def label_free(source: DataConfig | SupportConfig, pictures: bool = True) -> dict[str, Any]:
    """A source's section without the settings that only evaluation reads: what a stage that lists pictures
    may receive.

    Args:
        source: section ``data`` or ``support``.
        pictures: whether to include the lists of pictures to score; without them only settings of the
            training pictures remain.
    """
    left_out = source.LABELS if pictures else source.LABELS | source.SCORED
    return source.model_dump(mode="json", exclude=set(left_out))


def has_ground_truth(data: DataConfig) -> bool:
    """Whether there is ground truth to score against."""
    return data.has_truth


def training_settings(config: DetectorConfig) -> dict[str, Any]:
    """The detector's settings for training; in pairs, the value for test is the default."""
    settings = config.model_dump(mode="json", exclude=set(DETECTOR_TEST_FIELDS | DETECTOR_ROUND_FIELDS))
    for name in DETECTOR_PAIRS:
        settings[name] = [getattr(config, name)[0], DetectorConfig.model_fields[name].default[1]]
    return settings


def round_settings(config: DetectorConfig) -> dict[str, Any]:
    """The detector's settings from which a round of self-training gets its annotations."""
    return config.model_dump(mode="json", include=set(DETECTOR_ROUND_FIELDS - {"rounds"}))


def inference_settings(config: DetectorConfig) -> dict[str, Any]:
    """The detector's settings for using a trained model; in pairs, the value for training is the default."""
    settings = config.model_dump(mode="json", include=set(DETECTOR_TEST_FIELDS | DETECTOR_SHARED_FIELDS))
    for name in DETECTOR_PAIRS:
        settings[name] = [DetectorConfig.model_fields[name].default[0], getattr(config, name)[1]]
    return settings
