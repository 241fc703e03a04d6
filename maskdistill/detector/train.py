"""Training of the detector."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from maskdistill.backbones.resnet import ARCHITECTURES
from maskdistill.config import DetectorConfig
from maskdistill.detector.data import AnnotatedImages, Batch, detector_batches
from maskdistill.detector.model import detector_lr, norm_parameter_groups
from maskdistill.training.compilation import compile_parts
from maskdistill.training.distributed import data_parallel, synchronise_norms
from maskdistill.training.loop import LoopSettings, MetricRow, train
from maskdistill.training.optimizers import build_optimizer
from maskdistill.training.precise_bn import precise_statistics


def make_optimizer(model: nn.Module, config: DetectorConfig) -> torch.optim.Optimizer:
    """SGD with momentum or AdamW over what is trainable, without weight decay on norm layers."""
    groups = norm_parameter_groups(model, config.weight_decay, config.backbone_lr)
    return build_optimizer(groups, config.optimizer, config.lr, config.momentum)


def fastest_layout(config: DetectorConfig, device: torch.device) -> torch.memory_format:
    """How weights and maps lie in memory while a detector is trained: channels last but for C4 on a CPU.

    There layer4 and the RPN have wide maps, and the backward passes of their convolutions and normalisation
    take longer with channels last: a tenth of a step (results/benchmarks/engines.md).
    """
    c4 = config.arch in ARCHITECTURES and not config.pyramid
    return torch.contiguous_format if c4 and device.type == "cpu" else torch.channels_last


def train_detector(
    model: nn.Module,
    dataset: AnnotatedImages,
    config: DetectorConfig,
    settings: LoopSettings,
    device: torch.device,
) -> tuple[nn.Module, list[MetricRow]]:
    """Train a model of ``build_detector`` [P §3.3 Eq. 3, §A.1].

    :func:`make_optimizer` at the rate :func:`detector_lr`. The loss is the plain sum of
    the RPN's two, class, box and mask losses. ``config.batch_size`` images a step over all processes,
    with synchronised batch normalisation on several GPUs. At the end ``config.precise_bn`` further batches
    give the normalisation layers their statistics.

    Returns:
        The trained model, in eval mode, and the metric rows.

    Raises:
        MaskDistillError: the loss is NaN or infinite.
    """
    model = synchronise_norms(model.to(memory_format=fastest_layout(config, device)).to(device), device)
    model.train()
    if config.compile:
        compile_parts(model, ["backbone", "roi_heads.box_head"], dynamic=True)
    parallel = data_parallel(model, device)
    optimizer = make_optimizer(model, config)

    def forward(batch: Batch) -> dict[str, Tensor]:
        images = [image.to(device, non_blocking=True).float() / 255 for image in batch[0]]
        targets = [
            {key: value.to(device, non_blocking=True) for key, value in one.items()} for one in batch[1]
        ]
        losses: dict[str, Tensor] = parallel(images, targets)
        return losses

    def step(_: int, batch: Batch) -> dict[str, Tensor]:
        losses = forward(batch)
        return {"loss": torch.stack(list(losses.values())).sum(), **losses}

    def batches(start: int, end: int) -> Iterator[Batch]:
        return detector_batches(dataset, config.batch_size, end, start, config.workers, device.type == "cuda")

    last = settings.total_steps
    rows = train(
        settings,
        {"detector": model},
        optimizer,
        lambda start: batches(start, last),
        step,
        lambda number: detector_lr(config, number),
    )
    if config.precise_bn:
        precise_statistics(model, batches(last, last + config.precise_bn), forward)
    return model.eval(), rows
