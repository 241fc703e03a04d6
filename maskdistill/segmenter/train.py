"""Training of the segmenter."""

import torch
from torch import Tensor, nn

from maskdistill.backbones.vit import normalize
from maskdistill.config import SegmenterConfig
from maskdistill.runtime.devices import mixed
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.segmenter.data import LabelledImages, segmenter_batches
from maskdistill.segmenter.loss import IGNORE, hard_pixel_loss
from maskdistill.segmenter.model import segmenter_lr, steps_per_epoch
from maskdistill.training.compilation import compile_parts
from maskdistill.training.distributed import data_parallel, rank_and_world, synchronise_norms
from maskdistill.training.loop import LoopSettings, MetricRow, train
from maskdistill.training.optimizers import backbone_groups, build_optimizer


def train_segmenter(
    model: nn.Module,
    dataset: LabelledImages,
    config: SegmenterConfig,
    settings: LoopSettings,
    device: torch.device,
) -> tuple[nn.Module, list[MetricRow]]:
    """Train a :class:`Segmenter` on label maps [P §3.3 Eq. 4, §4.1].

    ``config.optimizer``, weight decay on everything trainable, :func:`segmenter_lr`;
    ``config.batch_size`` images a step over all processes, with synchronised batch normalisation on
    several GPUs. The last step's model is kept: choosing by a score would need labels.

    Args:
        settings: ``total_steps`` is ``config.epochs * steps_per_epoch(len(dataset), config.batch_size)``.

    Returns:
        The trained model, in eval mode, and the metric rows.

    Raises:
        MaskDistillError: the loss is NaN or infinite, or a process would see a single image a step.
    """
    if config.batch_size // rank_and_world()[1] < 2:
        raise MaskDistillError(
            f"segmenter.batch_size {config.batch_size}: batch normalisation needs at least 2 images a GPU; "
            "raise it"
        )
    model = synchronise_norms(model.to(memory_format=torch.channels_last).to(device), device)
    model.train()
    if config.compile:
        compile_parts(model, [""], dynamic=False)
    parallel = data_parallel(model, device)
    groups = backbone_groups(model, model.get_submodule("backbone"), config.weight_decay, config.backbone_lr)
    optimizer = build_optimizer(groups, config.optimizer, config.lr, config.momentum)
    epoch_steps = steps_per_epoch(len(dataset), config.batch_size)

    def step(_: int, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        images = normalize(batch[0].to(device, non_blocking=True)).contiguous(
            memory_format=torch.channels_last
        )
        labels = batch[1].to(device, non_blocking=True).long()
        with mixed(device, config.precision):
            logits = parallel(images)
        valid = labels != IGNORE
        right = (logits.detach().argmax(1) == labels) & valid
        accuracy = right.sum() / valid.sum().clamp(min=1)
        return {"loss": hard_pixel_loss(logits, labels, config.hard_pixels), "agreement": accuracy}

    rows = train(
        settings,
        {"segmenter": model},
        optimizer,
        lambda start: segmenter_batches(dataset, settings.total_steps, start, device.type == "cuda"),
        step,
        lambda number: segmenter_lr(config, number, epoch_steps),
    )
    return model.eval(), rows
