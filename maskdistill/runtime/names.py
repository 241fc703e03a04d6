"""Values as they stand in paths."""

from decimal import Decimal


def value_name(value: float) -> str:
    """A number as it stands in paths: the shortest decimals that give it back, never an exponent."""
    return f"{Decimal(repr(float(value))).normalize():f}"
