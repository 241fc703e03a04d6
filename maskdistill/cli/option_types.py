"""Types of options: numbers with their ranges, which argparse names when they are not kept."""

import argparse
import math
from collections.abc import Callable

from maskdistill.config.types import MOST


def whole(least: int, most: int = MOST) -> Callable[[str], int]:
    """A whole number from ``least`` to ``most``."""

    def parse(text: str) -> int:
        if not text.strip().removeprefix("-").isdecimal() or not least <= int(text) <= most:
            reach = f"of at least {least}" if most == MOST else f"from {least} to {most}"
            raise argparse.ArgumentTypeError(f"{text!r}: give a whole number {reach}")
        return int(text)

    return parse


def share(text: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a number from 0 to 1")
    return value
