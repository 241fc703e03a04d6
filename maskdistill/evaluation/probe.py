"""Linear probe of a trained segmenter: how well its features distinguish the true classes [P §A.2].

The only place where labels train anything. Everything but the last 1x1 convolution stays as it is, and the
result is only scored.
"""

import torch
from torch import Tensor, nn

from maskdistill.backbones.vit import normalize
from maskdistill.config import ProbeConfig
from maskdistill.runtime.devices import mixed
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.segmenter.data import LabelledImages, segmenter_batches
from maskdistill.segmenter.loss import IGNORE, hard_pixel_loss
from maskdistill.segmenter.model import Segmenter, segmenter_lr, steps_per_epoch
from maskdistill.training.distributed import data_parallel
from maskdistill.training.loop import LoopSettings, MetricRow, train


def make_probe(model: Segmenter, num_classes: int, init_std: float) -> Segmenter:
    """Freeze the network in place and put a new classifier at its end, the only part with gradients.

    Args:
        model: trained.
        num_classes: C, without background.
        init_std: standard deviation of the classifier's normally distributed weights, drawn from torch's
            generator; the bias is 0.

    Returns:
        The same model, in eval mode throughout, with C + 1 outputs.
    """
    model.requires_grad_(False)
    last = model.classifier[-1]
    assert isinstance(last, nn.Conv2d)
    classifier = nn.Conv2d(last.in_channels, num_classes + 1, 1)
    nn.init.normal_(classifier.weight, 0.0, init_std)
    nn.init.zeros_(classifier.bias)  # type: ignore[arg-type]
    model.classifier[-1] = classifier
    return model.eval()


def train_probe(
    model: Segmenter,
    dataset: LabelledImages,
    config: ProbeConfig,
    settings: LoopSettings,
    device: torch.device,
) -> list[MetricRow]:
    """Train the last layer of :func:`make_probe` in place on true label maps [method §9.2].

    The network stays in eval mode: batch normalisation uses and keeps its statistics, dropout is off. Plain
    cross-entropy over all labelled pixels, SGD with momentum and weight decay, :func:`segmenter_lr`. The last
    step's weights are kept.

    Args:
        dataset: with the segmenter's augmentation and precision, but the probe's
            ``dataset.config.batch_size``.
        settings: ``total_steps`` is ``config.epochs * steps_per_epoch(len(dataset), config.batch_size)``.

    Returns:
        The metric rows.

    Raises:
        MaskDistillError: the loss is NaN or infinite, or the model has other trainable tensors.
    """
    trainable = {parameter for parameter in model.parameters() if parameter.requires_grad}
    if trainable != set(model.classifier[-1].parameters()) or model.training:
        raise MaskDistillError(
            "a probe trains the last convolution alone, in eval mode; give a model of make_probe"
        )
    model = model.to(memory_format=torch.channels_last).to(device)
    parallel = data_parallel(model, device)
    last = model.classifier[-1]
    optimizer = torch.optim.SGD(
        last.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay
    )
    epoch_steps = steps_per_epoch(len(dataset), config.batch_size)

    def step(_: int, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        images = normalize(batch[0].to(device, non_blocking=True)).contiguous(
            memory_format=torch.channels_last
        )
        labels = batch[1].to(device, non_blocking=True).long()
        with mixed(device, dataset.config.precision):
            logits = parallel(images)
        accuracy = (logits.detach().argmax(1) == labels)[labels != IGNORE].float().mean()
        return {"loss": hard_pixel_loss(logits, labels, 1.0), "agreement": accuracy}

    return train(
        settings,
        {"classifier": last},
        optimizer,
        lambda start: segmenter_batches(dataset, settings.total_steps, start, device.type == "cuda"),
        step,
        lambda number: segmenter_lr(config, number, epoch_steps),
    )
