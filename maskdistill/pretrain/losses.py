"""Heads and losses of the two objectives."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from maskdistill.training.distributed import gather_batch, rank_and_world


def projector(in_dim: int, hidden_dim: int, out_dim: int) -> nn.Sequential:
    """Two-layer MLP (SimCLR's projection head, Chen et al. 2020, §4.2) with batch normalisation after both.

    The last normalisation, without scale and shift, keeps a short training from collapsing to a constant
    output.
    """
    return nn.Sequential(
        nn.Linear(in_dim, hidden_dim, bias=False),
        nn.BatchNorm1d(hidden_dim),
        nn.ReLU(inplace=True),
        nn.Linear(hidden_dim, out_dim, bias=False),
        nn.BatchNorm1d(out_dim, affine=False),
    )


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Normalised temperature-scaled cross-entropy (SimCLR, Chen et al. 2020, Eq. 1).

    Args:
        first, second: float (n, d), the two views' projections in this process; positives share the row.
        temperature: T.

    Returns:
        Scalar mean over the 2n views, and the share of views whose partner is the most similar one.
        Negatives are all other views of the batch over all processes.
    """
    rank, world = rank_and_world()
    local = [F.normalize(view.float(), dim=1) for view in (first, second)]
    everyone = torch.cat([gather_batch(view) for view in local])
    rows = torch.arange(len(first), device=first.device) + rank * len(first)
    offset = len(first) * world
    terms, hits = [], []
    for view, own in ((0, rows), (1, rows + offset)):
        logits = local[view] @ everyone.T / temperature
        logits = logits.scatter(1, own[:, None], float("-inf"))
        partner = (own + offset) % (2 * offset)
        terms.append(F.cross_entropy(logits, partner))
        hits.append((logits.argmax(dim=1) == partner).float().mean())
    return torch.stack(terms).mean(), torch.stack(hits).mean()


class DINOHead(nn.Module):
    """Projection head of DINO (Caron et al. 2021, appendix C): 3-layer MLP, L2, weight-normalised
    prototypes.
    """

    def __init__(self, in_dim: int, hidden_dim: int, bottleneck_dim: int, out_dim: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(in_dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, hidden_dim), nn.GELU(),
            nn.Linear(hidden_dim, bottleneck_dim),
        )  # fmt: skip
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.last = weight_norm(nn.Linear(bottleneck_dim, out_dim, bias=False))
        scale = self.last.parametrizations.weight.original0
        scale.data.fill_(1)
        scale.requires_grad_(False)

    def forward(self, features: Tensor) -> Tensor:
        """Logits over prototypes, (n, out_dim), of features (n, in_dim)."""
        out: Tensor = self.last(F.normalize(self.mlp(features), dim=-1))
        return out


class DINOLoss(nn.Module):
    """Cross-entropy from centred, sharpened teacher to student over different views (Caron et al. 2021, Eq.
    2, Alg. 1).

    Args:
        out_dim: number of prototypes.
        student_temperature, teacher_temperature: softmax temperatures.
        center_momentum: m of Eq. 4.
    """

    center: Tensor

    def __init__(
        self,
        out_dim: int,
        student_temperature: float,
        teacher_temperature: float,
        center_momentum: float = 0.9,
    ) -> None:
        super().__init__()
        self.student_temperature, self.teacher_temperature = student_temperature, teacher_temperature
        self.center_momentum = center_momentum
        self.register_buffer("center", torch.zeros(1, out_dim))

    def forward(self, student: list[Tensor], teacher: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Loss and mean teacher entropy (nats), then the centre moves.

        Args:
            student: logits (n, out_dim) of every view, global ones first.
            teacher: logits of the global views, no gradient.
        """
        targets = [F.softmax((t.float() - self.center) / self.teacher_temperature, dim=-1) for t in teacher]
        terms = [
            -(target * F.log_softmax(logits.float() / self.student_temperature, dim=-1)).sum(dim=-1).mean()
            for i, target in enumerate(targets)
            for j, logits in enumerate(student)
            if i != j
        ]
        entropy = torch.stack([-(p * p.clamp_min(1e-12).log()).sum(dim=-1).mean() for p in targets]).mean()
        with torch.no_grad():
            mean = gather_batch(torch.cat(teacher).float()).mean(dim=0, keepdim=True)
            self.center.lerp_(mean, 1 - self.center_momentum)
        return torch.stack(terms).mean(), entropy
