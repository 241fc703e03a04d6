"""Values in paths."""

from decimal import Decimal


def value_name(value: float) -> str:
    """A number as text for paths: the fewest decimals that identify it, never an exponent."""
    return f"{Decimal(repr(float(value))).normalize():f}"
