"""The report's first section: whether to trust the run, and why."""

from collections.abc import Sequence

from maskdistill.report.html import Context
from maskdistill.report.tables import NONE
from maskdistill.trust.signals import AVOID, LOOK, SIGNALS, USE, Signal
from maskdistill.trust.types import TrustRecord

SAID = {
    USE: "Nothing that can be seen without labels speaks against this result.",
    LOOK: "Look at the pictures below before you use this result.",
    AVOID: "Do not use this result: what can be seen without labels speaks against it.",
}
LOOKS = {
    "mask": "mask",
    "mirrored": "mirrored picture",
    "rescaled": "other size",
    "candidate": "detector's nearest",
    "otsu": "Otsu, by grey",
}
"""Key of a mask among those of a picture -> its title."""


def verdict_section(record: TrustRecord | None, strips: Sequence[Context]) -> Context:
    """What the template shows; empty without a verdict.

    Args:
        record: what the stage ``trust`` wrote; None without one.
        strips: of the pictures it names, from ``maskdistill.cli.report_pictures.trust_strips``.
    """
    if not record:
        return {}
    before = record["before_training"]["verdict"]
    return {
        "level": record["verdict"],
        "said": SAID[record["verdict"]],
        "reasons": record["reasons"],
        "before": before if before != record["verdict"] else "",
        "images": record["images"],
        "rows": [_row(signal, record["signals"].get(signal.name)) for signal in SIGNALS],
        "strips": strips,
    }


def _row(signal: Signal, value: float | None) -> tuple[str, str, str, str, str]:
    """Title, value, both limits and what the value says, as text."""
    level = NONE if value is None or signal.level(value) is None else str(signal.level(value))
    avoid, use = (NONE if limit is None else f"{limit:.2f}" for limit in (signal.avoid, signal.use))
    return signal.title, NONE if value is None else f"{value:.2f}", avoid, use, level
