"""A configuration for a folder of photographs, from what is found there."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from maskdistill.config import Config
from maskdistill.data.listing import default_num_shards
from maskdistill.data.manifest import tolerated

MAX_CLUSTERS = 20
"""K of the paper's main setting [P §4.1]; more is for who knows that there are more categories."""
PER_CORE = 25
Changes = dict[str, dict[str, Any]]
"""Section -> key -> value of a configuration."""


@dataclass(frozen=True)
class Found:
    """What a look at the photographs and the machine told.

    Attributes:
        root: absolute path of the folder.
        count: pictures, readable or not.
        sizes: width and height in pixels of a sample.
        unusable: path and reason of each picture of the sample that cannot be used.
        gpus, cores: of the machine.
        free: bytes on the disk where results go.
        sample: paths of a few of the usable ones.
        left_out: files that look like pictures and are not decoded, by suffix.
        kind: of source that the folder is.
    """

    root: str
    count: int
    sizes: Sequence[tuple[int, int]]
    unusable: Sequence[tuple[str, str]]
    gpus: int
    cores: int
    free: int = 2**62
    sample: Sequence[Path] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    kind: str = "folder"


def suggest_clusters(count: int) -> int:
    """K for ``count`` pictures: sqrt(n / 2) (Mardia, Kent and Bibby 1979), 2 to 20, never above n."""
    return min(count, MAX_CLUSTERS, max(2, round(math.sqrt(count / 2))))


def suggest_shards(found: Found) -> int:
    """Pieces that are worked on at once: one a core without a GPU, unless they would be tiny."""
    shards = default_num_shards(found.count)
    return shards if found.gpus else max(shards, min(found.cores, found.count // PER_CORE))


def write_config(
    template: str, found: Found, run: str, changes: Changes, notes: Mapping[str, str], header: Sequence[str]
) -> str:
    """Text of the configuration: the template's with what was found and chosen, and the reasons as comments.

    Args:
        template: text of a configuration.
        found: what was found.
        run: name of the run.
        changes: settings that were chosen.
        notes: ``section.key`` -> why, beside the value.
        header: lines that follow what was found, at the top.
    """
    top: dict[str, Any] = {
        "run": run,
        "data": {"kind": found.kind, "root": found.root},
        "datasets": None,
        "num_shards": suggest_shards(found),
        "baselines": None,
    }
    if re.search(r"^seeds:", template, re.MULTILINE):
        top["seeds"] = [1234]
    text = set_top_level(_without_header(template), top)
    for section, values in changes.items():
        for key, value in values.items():
            text = set_nested(text, section, key, value, notes.get(f"{section}.{key}", ""))
    comments = "".join(f"# {line}".rstrip() + "\n" for line in [*_header(found), *header])
    return f"{comments}\n{text.rstrip()}\n"


def _header(found: Found) -> list[str]:
    lines = [f"Written by `maskdistill init` for {found.count} pictures below {found.root!r}."]
    if found.sizes:
        widths, heights = (sorted(side) for side in zip(*found.sizes, strict=True))
        middle = len(found.sizes) // 2
        lines.append(
            f"A sample of {len(found.sizes)} is {widths[0]} to {widths[-1]} pixels wide and {heights[0]} to"
            f" {heights[-1]} high (medians {widths[middle]} and {heights[middle]})."
        )
    lines += [f"Cannot be used: {path!r} ({reason})" for path, reason in found.unusable]
    return [*lines, *left_out_or_refused(found)]


def left_out_or_refused(found: Found) -> list[str]:
    """A line on what a run does with the pictures of the sample that cannot be used, if there are any."""
    bad, share = len(found.unusable), float(Config.model_fields["max_quarantined"].default)
    if not bad:
        return []
    if bad > (most := tolerated(share, found.count)):
        return [
            f"The run refuses more than {most} such picture{'s' * (most != 1)} of {found.count}: repair or "
            f"remove them, or set max_quarantined (it is {share:g})."
        ]
    return [f"The run leaves {'it' if bad == 1 else 'them'} out and lists {'it' if bad == 1 else 'them'}."]


def _without_header(text: str) -> str:
    lines = text.splitlines(keepends=True)
    first = next(place for place, line in enumerate(lines) if not line.startswith("#"))
    return "".join(lines[first:])


def set_top_level(text: str, changes: Mapping[str, Any]) -> str:
    """Replace top-level entries of a YAML text, None removes one; new ones go below the first line."""
    new = []
    for key, value in changes.items():
        block = (
            ""
            if value is None
            else yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True, width=10_000)
        )
        block = re.sub(r"\n- ", "\n  - ", block)
        pattern = re.compile(rf"^{re.escape(key)}:.*\n(?:[ \t]+.*\n)*", re.MULTILINE)
        if pattern.search(text):
            text = pattern.sub(block.replace("\\", r"\\"), text, count=1)
        else:
            new.append(block)
    first, newline, rest = text.partition("\n")
    return first + newline + "".join(new) + rest


def set_nested(text: str, section: str, key: str, value: Any, note: str = "") -> str:
    """Set or add ``section.key`` in a YAML text of block sections with one key per line.

    Args:
        note: comment beside the value; without one that of a line whose value stays is kept.
    """
    flow = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000)
    dumped = flow.strip().removesuffix("...").rstrip()
    line = f"  {key}: {dumped}" + (f" # {note}" if note else "")
    block = re.search(rf"^{re.escape(section)}:.*\n(?:[ \t]+.*\n)*", text, re.MULTILINE)
    if block is None:
        return f"{text.rstrip()}\n\n{section}:\n{line}\n"
    old = re.search(rf"^  {re.escape(key)}: *(.*?)( +#.*)?$", block[0], re.MULTILINE)
    if old is None:
        first, newline, rest = block[0].partition("\n")
        changed = first + newline + line + "\n" + rest
    elif yaml.safe_load(old[1]) == value and not note:
        return text
    else:
        changed = block[0][: old.start()] + line + block[0][old.end() :]
    return text[: block.start()] + changed + text[block.end() :]
