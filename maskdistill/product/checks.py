"""What ``maskdistill doctor`` found out, in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from maskdistill.backbones.registry import find_backbone
from maskdistill.config import Config

State = Literal["ok", "note", "wrong"]
BYTES = {"float32": 4, "float16": 2}
GIGA = 1e9
RESERVE = 2 * GIGA
ASPECT = 4 / 3


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what it is.
        state: ``wrong`` where something needed is missing; a ``note`` is worth reading and stops nothing.
        found: what was found.
        remedy: what to do about it; empty if nothing.
    """

    name: str
    state: State
    found: str
    remedy: str = ""


def report_lines(checks: Sequence[Check]) -> list[str]:
    """One line a check, and one more where there is something to do."""
    lines = []
    width = max((len(check.name) for check in checks), default=0) + 2
    for check in checks:
        lines.append(f"{check.state:6s}{check.name:{width}s}{check.found}")
        if check.remedy:
            lines.append(f"{'':{6 + width}s}-> {check.remedy}")
    return lines


def disk_need(config: Config, num_images: int) -> float:
    """Bytes that a run will about take: the stored keys of the patches of 4:3 pictures, and a reserve for the rest."""
    backbone = find_backbone(config.backbone.arch)
    if not config.features.store:
        return RESERVE
    side = -(-config.features.short_side // backbone.patch_size)
    keys = side * round(side * ASPECT) * backbone.embed_dim * BYTES[config.features.dtype]
    return RESERVE + keys * num_images
