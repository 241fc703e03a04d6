"""Published values, all from ``cited.csv`` in this folder, which says where each was printed."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd

CITED = Path(__file__).with_name("cited.csv")


@dataclass(frozen=True)
class Cited:
    """One published value.

    Attributes:
        group, row, column: its place in the table; ``group`` is empty where the table has none.
        value: in percent, except for settings (a share or a threshold).
        source: where it was printed.
    """

    group: str
    row: str
    column: str
    value: float
    source: str


@cache
def cited_values(table: str) -> tuple[Cited, ...]:
    """The published values of a table or figure, in the order of the file; empty for an unknown one."""
    rows = pd.read_csv(CITED, dtype={"value": float}, keep_default_na=False)
    rows = rows[rows["table"] == table].drop(columns="table")
    return tuple(
        Cited(**{str(name): value for name, value in row.items()}) for row in rows.to_dict("records")
    )
