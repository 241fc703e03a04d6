"""A configuration for a folder of photographs, from what is found there."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from maskdistill.data.sources import default_num_shards

MAX_CLUSTERS = 20
"""K of the paper's main setting [P §4.1]; more is for who knows that there are more categories."""
PER_CORE = 25
Settings = Literal["small", "dino", "paper"]
"""Small networks and shipped weights; the same with DINO's features; the paper's."""


DINO: dict[str, Any] = {
    "backbone": {"arch": "dino_vits16", "weights": "official"},
    "features": {"short_side": 480},
    "clusters": {"num_clusters": MAX_CLUSTERS, "short_side": 224},
}
"""What ``dino`` changes in the small settings: features of DINO ViT-S/16 [P §4.1], at sizes for a CPU."""
ABOUT_WEIGHTS: dict[Settings, list[str]] = {
    "small": [
        "The shipped weights were trained on generated scenes and are weak on photographs. With a network,",
        "`maskdistill init` with --settings dino takes DINO's instead (about 90 MB, once). `weights: pretrain` trains",
        "on your own pictures: something for many thousands of them and a GPU.",
    ],
    "dino": [
        "DINO ViT-S/16 is downloaded into resources/weights when the run starts (about 90 MB, once). Count with a",
        "second a picture and core for its features, and as much again for the clusters.",
    ],
}


@dataclass(frozen=True)
class Found:
    """What a look at the photographs and the machine told.

    Attributes:
        root: absolute path of the folder.
        count: pictures, readable or not.
        sizes: width and height in pixels of a sample.
        unusable: path and reason of each picture of the sample that cannot be used.
        gpus, cores: of the machine.
        left_out: files that look like pictures and are not decoded, by suffix.
    """

    root: str
    count: int
    sizes: Sequence[tuple[int, int]]
    unusable: Sequence[tuple[str, str]]
    gpus: int
    cores: int
    left_out: Mapping[str, int] = field(default_factory=dict)


def suggest_clusters(count: int) -> int:
    """K for ``count`` pictures: sqrt(n / 2) (Mardia, Kent and Bibby 1979), 2 to 20, never above n."""
    return min(count, MAX_CLUSTERS, max(2, round(math.sqrt(count / 2))))


def suggest_shards(found: Found) -> int:
    """Pieces that are worked on at once: one a core without a GPU, unless they would be tiny."""
    shards = default_num_shards(found.count)
    return shards if found.gpus else max(shards, min(found.cores, found.count // PER_CORE))


def write_config(template: str, found: Found, run: str, settings: Settings, weights_below: str) -> str:
    """Text of the configuration.

    Args:
        template: text of ``config/config.yaml`` for the paper's settings, else of ``config/folder.yaml``.
        found: what was found.
        run: name of the run.
        settings: which ones; ``small`` and ``dino`` share a template.
        weights_below: checkout that the paths of shipped weights are relative to.
    """
    clusters = suggest_clusters(found.count)
    changes: dict[str, Any] = {
        "run": run,
        "data": {"kind": "folder", "root": found.root},
        "datasets": None,
        "num_shards": suggest_shards(found),
    }
    if settings == "paper":
        changes |= {"seeds": [1234], "baselines": None}
    if settings == "dino":
        changes |= DINO
    text = set_top_level(_without_header(template), changes)
    text = set_nested(text, "clusters", "num_clusters", clusters)
    return (
        "".join(f"# {line}\n" for line in _header(found, clusters, settings, weights_below))
        + "\n"
        + text.rstrip()
        + "\n"
    )


def _header(found: Found, clusters: int, settings: Settings, weights_below: str) -> list[str]:
    lines = [f"Written by `maskdistill init` for {found.count} pictures below {found.root!r}."]
    if found.sizes:
        widths, heights = (sorted(side) for side in zip(*found.sizes, strict=True))
        middle = len(found.sizes) // 2
        lines.append(
            f"A sample of {len(found.sizes)} is {widths[0]} to {widths[-1]} pixels wide and {heights[0]} to"
            f" {heights[-1]} high (medians {widths[middle]} and {heights[middle]})."
        )
    lines += [f"Cannot be used and will be left out: {path!r} ({reason})" for path, reason in found.unusable]
    machine = f"{found.gpus} GPU(s)" if found.gpus else f"No GPU, {found.cores} CPU cores"
    if settings == "paper":
        lines.append(f"{machine}: the paper's settings (config/config.yaml), one seed.")
    else:
        lines.append(f"{machine}: small settings (config/folder.yaml).")
        lines += ABOUT_WEIGHTS[settings]
    lines.append(f"clusters.num_clusters {clusters} is the square root of half the number of pictures, 2 to"
                 f" {MAX_CLUSTERS}: write what you")  # fmt: skip
    lines.append("expect, or compare numbers in the report's section on clusters and run again.")
    lines.append("Every other key, its meaning and default: config/defaults.yaml.")
    return [*lines, f"Start it in {weights_below!r}, which paths of weights are relative to."]


def _without_header(text: str) -> str:
    lines = text.splitlines(keepends=True)
    first = next(place for place, line in enumerate(lines) if not line.startswith("#"))
    return "".join(lines[first:])


def set_top_level(text: str, changes: Mapping[str, Any]) -> str:
    """Replace top-level entries of a YAML text, None removes one; new ones go below the first line."""
    new = []
    for key, value in changes.items():
        block = "" if value is None else yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True, width=10_000)
        block = re.sub(r"\n- ", "\n  - ", block)
        pattern = re.compile(rf"^{re.escape(key)}:.*\n(?:[ \t]+.*\n)*", re.MULTILINE)
        if pattern.search(text):
            text = pattern.sub(block.replace("\\", r"\\"), text, count=1)
        else:
            new.append(block)
    first, newline, rest = text.partition("\n")
    return first + newline + "".join(new) + rest


def set_nested(text: str, section: str, key: str, value: int) -> str:
    """Replace the number at ``section.key`` of a YAML text, whose section stands as a block and has the key.

    Raises:
        ValueError: the text has no such line.
    """
    pattern = re.compile(rf"^({re.escape(section)}:.*\n(?:[ \t]+.*\n)*?  {re.escape(key)}: )\S+", re.MULTILINE)
    changed, count = pattern.subn(lambda match: f"{match[1]}{value}", text, count=1)
    if count == 0:
        raise ValueError(f"no line for {section}.{key}")
    return changed
