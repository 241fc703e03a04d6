"""What ``maskdistill doctor`` found out, in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from maskdistill.backbones.registry import find_backbone
from maskdistill.config import Config
from maskdistill.data.picture_names import left_out_words
from maskdistill.runtime.shared_memory import SUGGESTED

State = Literal["ok", "note", "wrong"]
BYTES = {"float32": 4, "float16": 2}
GIGA = 1e9
MEBI = 2**20
LEAST_SHARED = 32 * MEBI
"""Bytes: less is not enough for a few batches of small pictures."""
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


def shared_memory_check(found: tuple[int, int] | None, used: bool) -> Check:
    """Whether loading processes have the memory through which they hand pictures over.

    Args:
        found: its size and what is free, in bytes; None where there is none.
        used: whether the configuration has loading processes whatever the device is.
    """
    name: str = "shared memory"
    state: State = "wrong" if used else "note"
    remedy = "docker run --shm-size=2g, or `workers: 0` in the sections that have it"
    if found is None:
        return Check(name, state, "none: there is no /dev/shm", remedy)
    size, free = found
    said = f"{free / MEBI:.0f} of {size / MEBI:.0f} MiB free in /dev/shm"
    if free >= SUGGESTED:
        return Check(name, "ok", said)
    return Check(name, state if free < LEAST_SHARED else "note", said, remedy)


def uses_workers(config: Config) -> bool:
    """Whether a stage of the configuration has loading processes on any device."""
    sections = (config.features, config.clusters, config.detector, config.segmenter)
    return any((section.workers or 0) > 0 for section in sections)


def locks_check(folder: str, locks: bool) -> Check:
    """Whether files in a folder can be locked."""
    if locks:
        return Check("file locks", "ok", folder)
    return Check(
        "file locks", "note", f"none in {folder}: this file system has none, as many NFS mounts",
        "it works without; but let one machine at a time run there, as others' jobs are not noticed",
    )  # fmt: skip


def left_out_check(left_out: Mapping[str, int]) -> Check:
    """What looks like pictures and is not used."""
    return Check(
        "other pictures", "note", f"left out: {left_out_words(left_out)}", "convert what is to be used"
    )


def disk_need(config: Config, num_images: int) -> float:
    """About the bytes of a run: the stored keys of 4:3 pictures, and a reserve for the rest."""
    backbone = find_backbone(config.backbone.arch)
    if not config.features.store:
        return RESERVE
    side = -(-config.features.short_side // backbone.patch_size)
    keys = side * round(side * ASPECT) * backbone.embed_dim * BYTES[config.features.dtype]
    return RESERVE + keys * num_images
