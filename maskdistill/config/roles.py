"""Which settings shape what: those of evaluation alone, of files for other tools alone, and of the detector
those that training never sees.

What a stage's rule is given decides when Snakemake runs it again. A label setting that reached a label-free
stage would train everything anew, and would be a leak; a test-time setting in a training would train for
nothing. ``tests/test_config_roles.py`` holds that every setting is in one table.
"""

from typing import Any

from maskdistill.config.data import DataConfig, SupportConfig
from maskdistill.config.detector import DetectorConfig
from maskdistill.config.self_training import SelfTrainingConfig

EVALUATION_SECTIONS = frozenset({"evaluation", "probe", "report", "ablations", "oracle", "bench", "paper"})
"""Whole sections that no stage is given whose result others learn from."""
HANDED_OUT_SECTIONS = frozenset({"objects"})
"""Whole sections that shape files for other tools: the stage that writes these and the report are given them
alone.
"""

DETECTOR_TEST_FIELDS = frozenset({"min_size_test", "score_thresh", "nms", "max_dets"})
"""Of the detector: used in eval mode alone, by both engines."""
DETECTOR_PAIRS = frozenset({"rpn_pre_nms", "rpn_post_nms"})
"""Of the detector: two values, of training and of test."""
DETECTOR_SHARED_FIELDS = frozenset({"engine", "max_size"})
"""Of the detector: used in training and at test time, where another value than the trained model's may be
given.
"""
DETECTOR_ROUND_FIELDS = frozenset(SelfTrainingConfig.model_fields)
"""Of the detector: what its rounds of self-training learn from. No training sees them, so that one round more
trains one detector more.
"""


def label_free(source: DataConfig | SupportConfig, pictures: bool = True) -> dict[str, Any]:
    """A source's section without what evaluation alone reads: all that a stage may be given that lists
    pictures.

    Args:
        source: section ``data`` or ``support``.
        pictures: with the lists of pictures to score; without them the rest is what shapes those that are
            trained on.
    """
    left_out = source.LABELS if pictures else source.LABELS | source.SCORED
    return source.model_dump(mode="json", exclude=set(left_out))


def has_ground_truth(data: DataConfig) -> bool:
    """Whether there is anything to score against."""
    return data.has_truth


def training_settings(config: DetectorConfig) -> dict[str, Any]:
    """The detector's settings that its training sees; of pairs the test half is the default's."""
    settings = config.model_dump(mode="json", exclude=set(DETECTOR_TEST_FIELDS | DETECTOR_ROUND_FIELDS))
    for name in DETECTOR_PAIRS:
        settings[name] = [getattr(config, name)[0], DetectorConfig.model_fields[name].default[1]]
    return settings


def round_settings(config: DetectorConfig) -> dict[str, Any]:
    """The detector's settings by which a round of self-training gets its annotations."""
    return config.model_dump(mode="json", include=set(DETECTOR_ROUND_FIELDS - {"rounds"}))


def inference_settings(config: DetectorConfig) -> dict[str, Any]:
    """The detector's settings that a trained model is used with; of pairs the training half is the
    default's.
    """
    settings = config.model_dump(mode="json", include=set(DETECTOR_TEST_FIELDS | DETECTOR_SHARED_FIELDS))
    for name in DETECTOR_PAIRS:
        settings[name] = [DetectorConfig.model_fields[name].default[0], getattr(config, name)[1]]
    return settings
