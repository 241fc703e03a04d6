"""DINO, SimCLR and feature distillation in one training loop; the first two keep a moving average of the
weights.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from maskdistill.backbones import vit
from maskdistill.backbones.weights import read_state_dict, strict_load
from maskdistill.config import AffinityConfig, MasksConfig, PretrainConfig
from maskdistill.masks.rules import maskdistill as rule
from maskdistill.pretrain.distillation import Distillation
from maskdistill.pretrain.encoder import Encoder
from maskdistill.pretrain.losses import DINOHead, DINOLoss, nt_xent, projector
from maskdistill.pretrain.schedule import cosine, warmup_cosine
from maskdistill.pretrain.views import ViewDataset, Views
from maskdistill.runtime.devices import mixed
from maskdistill.runtime.loading import load_batches
from maskdistill.training.distributed import data_parallel, rank_and_world
from maskdistill.training.loop import LoopSettings, MetricRow, train
from maskdistill.training.order import StepSampler

PROBE_VIEWS = 32


class Branch(nn.Module):
    """Encoder and projection head."""

    def __init__(
        self, arch: str, config: PretrainConfig, drop_path: float = 0.0, patch_keep: float = 1.0
    ) -> None:
        super().__init__()
        self.encoder = Encoder(arch, drop_path, patch_keep)
        width, hidden, bottleneck = self.encoder.dim, config.hidden_dim, config.projection_dim
        self.head: nn.Module
        if config.objective == "dino":
            self.head = DINOHead(width, hidden, bottleneck, config.out_dim)
        else:
            self.head = projector(width, hidden, bottleneck)

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """``(features (n, dim), outputs (n, out))`` of normalised views (n, 3, H, W)."""
        features = self.encoder(views)
        return features, self.head(features)


class Pretraining(nn.Module):
    """Student and teacher.

    The teacher is the student's moving average: DINO's target, and the weights to keep.
    """

    def __init__(self, arch: str, config: PretrainConfig) -> None:
        super().__init__()
        self.config = config
        self.student = Branch(arch, config, config.drop_path, config.patch_keep)
        self.teacher = Branch(arch, config)
        self.teacher.load_state_dict(self.student.state_dict())
        self.teacher.requires_grad_(False)
        self.dino_loss = DINOLoss(config.out_dim, 0.1, config.teacher_temperature)

    def losses(self, student: nn.Module, views: Views) -> dict[str, Tensor]:
        """Scalar losses and diagnostics of one batch of normalised views (B, 3, H, W), global ones first."""
        both = torch.cat(views[:2])
        features, outputs = student(both)
        first, second = outputs.chunk(2)
        spread = torch.nn.functional.normalize(features.detach().float(), dim=1).std(dim=0).mean()
        if self.config.objective == "contrast":
            loss, hits = nt_xent(first, second, self.config.temperature)
            return {"loss": loss, "partner_found": hits, "feature_std": spread}
        with torch.no_grad():
            targets = list(self.teacher(both)[1].chunk(2))
        local = list(student(torch.cat(views[2:]))[1].chunk(len(views) - 2)) if len(views) > 2 else []
        loss, entropy = self.dino_loss([first, second, *local], targets)
        return {"loss": loss, "feature_std": spread, "teacher_entropy": entropy}

    def kept(self) -> dict[str, Tensor]:
        """The weights to keep: the teacher's encoder."""
        state: dict[str, Tensor] = self.teacher.encoder.backbone.state_dict()
        return state

    @torch.no_grad()
    def move_teacher(self, momentum: float) -> None:
        """``teacher = momentum * teacher + (1 - momentum) * student``; buffers are copied."""
        source = dict(self.student.named_parameters())
        for name, value in self.teacher.named_parameters():
            value.lerp_(source[name], 1 - momentum)
        buffers = dict(self.student.named_buffers())
        for name, buffer in self.teacher.named_buffers():
            buffer.copy_(buffers[name])


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Trainable parameters: matrices with decay; biases, norms, tokens and positions without."""
    named = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
    plain = [p for n, p in named if p.ndim < 2 or n.endswith(("pos_embed", "cls_token"))]
    decayed = [p for n, p in named if not (p.ndim < 2 or n.endswith(("pos_embed", "cls_token")))]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


@torch.no_grad()
def mask_diagnostics(encoder: Encoder, probe: Tensor) -> dict[str, float]:
    """Label-free check of the masks that the rule would make: mean share of a picture that is covered, and
    share of pictures covered to more than 95 %, for plain and for centred keys.

    Args:
        probe: normalised (n, 3, H, W), H and W multiples of the patch size.
    """
    training = encoder.training
    query, _, keys = vit.last_attention(encoder.eval().backbone, probe)
    encoder.train(training)
    patch = encoder.backbone.patch_embed.patch_size[0]
    grid = (probe.shape[-2] // patch, probe.shape[-1] // patch)
    out: dict[str, float] = {}
    for name, center in (("", False), ("_centered", True)):
        config = MasksConfig(affinity=AffinityConfig(center=center))
        cover = [
            rule.distil(k, q, grid, config).mask.mean()
            for q, k in zip(query.float().cpu().numpy(), keys.float().cpu().numpy(), strict=True)
        ]
        out[f"coverage{name}"] = float(np.mean(cover))
        out[f"whole_image{name}"] = float(np.mean(np.array(cover) > 0.95))
    return out


def pretrain(
    arch: str,
    files: Sequence[str | Path],
    config: PretrainConfig,
    settings: LoopSettings,
    device: torch.device,
    init: str | Path | None = None,
) -> tuple[Pretraining | Distillation, list[MetricRow]]:
    """Train a backbone without labels.

    Args:
        arch: ViT or ResNet name.
        files: photographs (may be empty when ``config.exchange_share`` is 1).
        settings: of the loop; ``total_steps`` equals ``config.steps``.
        init: weights of an earlier pretraining to start the encoder from.

    Returns:
        The trained networks, whose ``kept()`` are the weights, and the metric rows.
    """
    torch.manual_seed(config.seed)
    model: Pretraining | Distillation
    if config.teacher is not None:
        model = Distillation(arch, config.teacher.arch, config.teacher.weights)
        backbones = [model.student.backbone]
    else:
        model = Pretraining(arch, config)
        backbones = [branch.encoder.backbone for branch in (model.student, model.teacher)]
    if init is not None:
        for backbone in backbones:
            strict_load(backbone, read_state_dict(init), init)
    model = model.to(device)
    student = data_parallel(model.student, device)
    peak = config.lr * config.batch_size / 256
    optimizer = torch.optim.AdamW(parameter_groups(model.student, config.weight_decay), lr=peak)
    dataset = ViewDataset(files, config)
    probe: Tensor | None = None
    rank, world = rank_and_world()

    def batches(start: int) -> Iterable[Views]:
        sampler = StepSampler(len(dataset), config.batch_size, config.steps, start, config.seed, rank, world)
        return load_batches(dataset, sampler, config.workers, device.type == "cuda", ahead=4)

    def step(number: int, views: Views) -> dict[str, Tensor]:
        ready = [vit.normalize(view.to(device, non_blocking=True)) for view in views]
        model.train()
        with mixed(device, config.precision):
            return model.losses(student, ready)

    def diagnose() -> dict[str, float]:
        nonlocal probe
        if isinstance(model, Distillation) or not model.teacher.encoder.is_vit:
            return {}
        if probe is None:  # those of step 0, also in a resumed run
            first = next(iter(StepSampler(len(dataset), config.batch_size, 1, 0, config.seed, rank, world)))
            probe = vit.normalize(torch.stack([dataset[item][0] for item in first[:PROBE_VIEWS]]).to(device))
        return mask_diagnostics(model.teacher.encoder, probe)

    def after(number: int) -> None:
        if isinstance(model, Pretraining):
            model.move_teacher(cosine(number, config.steps, config.momentum, 1.0))

    rows = train(
        settings,
        {"pretraining": model},
        optimizer,
        batches,
        step,
        lambda number: warmup_cosine(number, config.steps, peak, config.warmup, peak * 0.01),
        after,
        diagnose,
    )
    return model, rows
