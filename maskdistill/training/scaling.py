"""The linear scaling rule: a schedule stated for one batch size, converted to another [method §5-scaling]."""

import logging

from maskdistill.config import DetectorConfig, SegmenterConfig

log = logging.getLogger("maskdistill")


def detector_for_batch(config: DetectorConfig) -> DetectorConfig:
    """The settings with rate and iterations converted from ``reference_batch`` to ``batch_size`` images per
    step.

    The rate is multiplied by their ratio; ``iters``, ``steps`` and ``warmup_iters`` are divided by it (the
    warmup too, as in detectron2's ``auto_scale_workers``). The result's ``reference_batch`` is its
    ``batch_size``, so scaling twice changes nothing.
    """
    ratio = config.batch_size / config.reference_batch
    if ratio == 1:
        return config
    scaled = config.model_copy(
        update={
            "lr": config.lr * ratio,
            "iters": max(1, round(config.iters / ratio)),
            "steps": [round(step / ratio) for step in config.steps],
            "warmup_iters": round(config.warmup_iters / ratio),
            "reference_batch": config.batch_size,
        }
    )
    log.info(
        "linear scaling from a batch of %d to %d: lr %g, %d iterations, steps %s, warmup %d",
        config.reference_batch, config.batch_size, scaled.lr, scaled.iters, scaled.steps, scaled.warmup_iters,
    )  # fmt: skip
    return scaled


def segmenter_for_batch(config: SegmenterConfig) -> SegmenterConfig:
    """As :func:`detector_for_batch`; the length is stated in epochs, so only the rate changes."""
    ratio = config.batch_size / config.reference_batch
    if ratio == 1:
        return config
    scaled = config.model_copy(update={"lr": config.lr * ratio, "reference_batch": config.batch_size})
    log.info(
        "linear scaling from a batch of %d to %d: lr %g", config.reference_batch, config.batch_size, scaled.lr
    )
    return scaled
