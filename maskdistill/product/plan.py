"""What ``maskdistill plan`` says before a run: downloads, jobs, hours and disk space."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from maskdistill.config import Config
from maskdistill.product.costs import SMALL, Cost, Sizes, cost_of, paper_bound
from maskdistill.runtime.errors import MaskDistillError


@dataclass(frozen=True)
class Item:
    """Something to fetch or to keep.

    Attributes:
        name: what it is.
        bytes: how much; None where nobody says.
        note: who says so, or why nothing is fetched.
    """

    name: str
    bytes: int | None
    note: str


def parse_jobs(text: str) -> dict[str, int]:
    """Jobs by rule in what ``snakemake --dry-run`` prints; none where nothing is to be done.

    Raises:
        MaskDistillError: neither is there.
    """
    table = re.search(r"^Job stats:\njob +count\n[- ]+\n(.*?)^total ", text, re.M | re.S)
    if table is None:
        if "Nothing to be done" in text:
            return {}
        raise MaskDistillError(f"snakemake's dry run failed; what it said:\n{text.strip()[-4000:]}")
    rows = [line.split() for line in table[1].splitlines() if line.strip()]
    return {row[0]: int(row[1]) for row in rows if row[0] != "all"}


def in_words(count: float | None) -> str:
    """Bytes with a unit of 1000."""
    if count is None:
        return "unknown"
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} TB"


def about(seconds: float) -> str:
    """A time that is known roughly: two digits at most."""
    for unit, length, limit in (("s", 1, 100), ("min", 60, 100), ("h", 3600, 48)):
        if seconds < limit * length:
            return f"{seconds / length:.1f} {unit}" if unit == "h" else f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"


def items_lines(title: str, items: Sequence[Item]) -> Iterator[str]:
    """A block of lines with the sum of what is known."""
    known = [item.bytes for item in items if item.bytes is not None]
    open_items = sum(item.bytes is None for item in items)
    rest = f" and {open_items} of unknown size" if open_items else ""
    yield f"{title}: {in_words(sum(known))}{rest}"
    width = max((len(item.name) for item in items), default=0)
    for item in items:
        yield f"  {item.name:{width}s}  {in_words(item.bytes):>10s}  {item.note}"


def job_lines(
    jobs: Mapping[str, int], config: Config, sizes: Sizes, known: Callable[[str], Cost | None], cores: int
) -> Iterator[str]:
    """Jobs by rule with hours, and below them the sums of what is known, of each device.

    Args:
        jobs: by rule.
        config: of the run.
        sizes: of the run.
        known: rule -> what a job takes by records of this machine; they come before what somebody else
            measured.
        cores: that the run may use.
    """
    yield f"compute: {sum(jobs.values()):,} jobs"
    hours = {"cpu": 0.0, "gpu": 0.0}
    absent = []
    published = False
    for rule, count in jobs.items():
        cost = known(rule) or cost_of(rule, config, sizes)
        if cost is not None:
            published |= cost.wall is None
            total = count * cost.seconds / 3600
            hours[cost.device] += total
            unit = {"cpu": "core", "gpu": "GPU"}[cost.device]
            yield f"  {rule:20s}{count:7,d}  {total:10.2f} {unit}-hours: {cost.source}"
        elif rule in SMALL:
            yield f"  {rule:20s}{count:7,d}  {'small':>10s}"
        else:
            absent.append(rule)
            yield f"  {rule:20s}{count:7,d}  {'not measured':>12s}"
    rest = f"; not measured, and not in the sums: {', '.join(absent)}" if absent else ""
    spread = (
        f" ({about(3600 * hours['cpu'] / cores)} with {cores} busy)" if not published and hours["cpu"] else ""
    )
    v100 = " (published figures for V100)" if published else ""
    yield f"  sums: {hours['gpu']:.1f} GPU-hours{v100}, {hours['cpu']:.1f} core-hours{spread}{rest}"
    if published:
        yield (
            "  Nothing but what is from a folder of results was measured here. Other core-hours are of the "
            "benchmarks' machine; a GPU takes features over."
        )
    if (bound := paper_bound(config)) is not None:
        yield (
            f"  By the paper's own account the whole is at most {bound:.0f} GPU-hours for "
            f"{len(config.seeds)} seeds:"
            " about 20 h a run on 4 V100 and 2 1080Ti [P §A]"
        )
