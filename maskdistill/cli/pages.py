"""What the commands that write a page of a run have in common: its configuration, and files by rename."""

import argparse
import json
from collections.abc import Mapping, Sequence

import pandas as pd

from maskdistill.config import Config, load_config
from maskdistill.runtime.files import atomic_path


def add_run_name(parser: argparse.ArgumentParser) -> None:
    """Add ``--run-name``."""
    parser.add_argument("--run-name", required=True, metavar="NAME", help="name of the run, the page's title")


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add ``--config``, which :func:`given_config` reads."""
    parser.add_argument("--config", required=True, metavar="JSON", help="the whole validated configuration")


def given_config(args: argparse.Namespace) -> Config:
    """The configuration of ``--config``."""
    return load_config(json.loads(args.config), "--config")


def numbered(evaluations: Sequence[str]) -> dict[str, str]:
    """Evaluations as inputs of a page's provenance, in the order given."""
    return {f"evaluations/{number:03d}": path for number, path in enumerate(evaluations)}


def write_page(path: str, html: str) -> None:
    """Write a page."""
    with atomic_path(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def write_table(path: str, rows: Sequence[Mapping[str, object]], digits: int | None = None) -> None:
    """Write a CSV with a line a row, whose columns are the rows' keys.

    Args:
        digits: decimals that numbers are rounded to; None: as they are.
    """
    table = pd.DataFrame(rows)
    with atomic_path(path) as temporary:
        (table if digits is None else table.round(digits)).to_csv(temporary, index=False, lineterminator="\n")
