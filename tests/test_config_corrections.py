"""What the program prints as a correction is accepted when it is typed: each is parsed from the message and
applied.
"""

import copy
import re
import shlex
from typing import Any

import pytest
import yaml
from snakemake.cli import parse_config  # type: ignore[import-untyped]
from snakemake.utils import update_config  # type: ignore[import-untyped]

from maskdistill.config import DetectorConfig, load_config, parse_section
from maskdistill.config.given import with_given
from maskdistill.runtime.errors import MaskDistillError

WEIGHTS = {"weights": "random"}


def base() -> dict[str, Any]:
    required = {name: dict(WEIGHTS) for name in ("backbone", "detector", "segmenter")}
    return {"run": "r", "data": {"kind": "folder", "root": "p"}, **required}


def message(values: dict[str, Any], given: dict[str, Any] | None = None) -> str:
    with pytest.raises(MaskDistillError) as caught:
        load_config(values, "c.yaml", given)
    return str(caught.value)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"num_clusters": 5}, "clusters: {num_clusters: 5}"),
    ({"tau": 0.5}, "pseudo_labels: {tau: 0.5}"),
    ({"topk": 0.3}, "masks: {topk: 0.3}"),
    ({"K": 7}, "clusters: {num_clusters: 7}"),
    ({"k": 7}, "clusters: {num_clusters: 7}"),
    ({"seed": 3}, "seeds: [3]"),
    ({"num_shard": 4}, "num_shards: 4"),
    ({"lr": 0.1}, "pretrain: {lr: 0.1}"),
    ({"epochs": 3}, "segmenter: {epochs: 3}"),
    ({"epoch": 3}, "segmenter: {epochs: 3}"),
    ({"center": True}, "masks: {affinity: {center: true}}"),
    ({"clusters.num_clusters": 6}, "clusters: {num_clusters: 6}"),
    ({"sxy": 3}, "crf: {gaussian: {sxy: 3}}"),
    ({"root": "q"}, "data: {root: q}"),
    ({"store": False}, "features: {store: false}"),
    ({"masks": {"num_clusters": 4}}, "clusters: {num_clusters: 4}"),
    ({"masks": {"tau": 4}}, "pseudo_labels: {tau: 0.9}"),
    ({"masks": {"centre": True}}, "masks: {affinity: {center: true}}"),
    ({"crf": {"sxy": 3}}, "crf: {gaussian: {sxy: 3}}"),
    ({"detector": {**WEIGHTS, "itres": 30_000}}, "iters: 30000"),
    ({"detector": {**WEIGHTS, "itres": 5}}, "iters: 24000"),
    ({"seeds": 5}, "seeds: [5]"),
    ({"seeds": [3, 4, 3]}, "seeds: [3, 4]"),
    ({"sweep": {"tau": 0.5}}, "tau: [0.5]"),
    ({"segmenter": {**WEIGHTS, "scale": [2, 1]}}, "scale: [1, 2]"),
    ({"segmenter": {**WEIGHTS, "scale": 2}}, "scale: [0.75, 1.25]"),
    ({"detector": {**WEIGHTS, "steps": [9, 3, 9]}}, "steps: [3, 9]"),
    ({"pseudo_labels": 0.5}, "pseudo_labels: {tau: 0.9}"),
    ({"pseudo_labels": {"overlap": "drp"}}, "overlap: drop"),
    ({"clusters": {"names": 3}}, "names: null"),
    ({"paper": {"backbones": [{"name": "a", "arch": "resnet"}]}}, "arch: resnet50"),
    ({"probe": True}, "probe: {enabled: false}"),
    ({"masks": {"cls_heads": 9}}, "cls_heads: 6"),
    ({"clusters": {"max_fit": 3}}, "max_fit: 1000000"),
    ({"detector": {**WEIGHTS, "steps": [5, 24000]}}, "steps: [5]"),
    ({"detector": {**WEIGHTS, "max_size": 700}}, "max_size: 800"),
    ({"pseudo_labels": {"tau": "0,2"}}, "tau: 0.2"),
    ({"segmenter": {**WEIGHTS, "lr": ",01"}}, "lr: 0.01"),
    ({"oracle": {"cases": ["label"]}}, "cases: [labels]"),
    ({"oracle": {"cases": ["masks", "anotations"]}}, "cases: [masks, annotations]"),
]


def apply(values: dict[str, Any], line: str) -> dict[str, Any]:
    """The values after the correction of one line of a message is written, and the wrong key is gone."""
    place, _, rest = line.strip().partition(": ")
    path = [int(key) if key.isdecimal() else key for key in place.split(".")]
    found = copy.deepcopy(values)
    if place in found:
        path = [place]
    if isinstance(path[-1], int):  # a list is written as a whole
        path.pop()
    section = found
    for key in path[:-1]:
        section = section[key] if isinstance(key, int) else section.setdefault(key, {})
    if "unknown key" in rest:
        section.pop(path[-1])
    written = re.search(r"(?:write|add) (?:for example )?`([^`]*)`", rest)
    if written:
        update = yaml.safe_load(f"{{{written[1]}}}")
        if "belongs below" in rest:
            update_config(found, update)
        else:
            inner = section.get(path[-1])
            whole = isinstance(inner, dict) and path[-1] not in update
            (inner if whole else section).update(update)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("wrong", "correction"), WRONG, ids=lambda value: str(value))
def test_a_printed_correction_is_accepted(wrong: dict[str, Any], correction: str) -> None:
    values = base() | copy.deepcopy(wrong)
    lines = message(values).splitlines()[1:]
    assert any(f"`{correction}`" in line for line in lines), lines
    for line in lines:
        if "<" not in line:
            values = apply(values, line)
    if "paper" in wrong:
        values["paper"]["backbones"][0]["weights"] = "random"  # of which a path is asked in brackets
    load_config(values)


@pytest.mark.parametrize(("wrong", "correction"), [item for item in WRONG if "paper" not in item[0]], ids=str)
def test_a_printed_option_is_accepted(wrong: dict[str, Any], correction: str) -> None:
    """The same given by --config: where an option is printed, it is typed instead, with the quotes that are
    shown.
    """
    lines = message(base() | copy.deepcopy(wrong), wrong).splitlines()[1:]
    typed = re.search(r"`--config ([^`]*)`", lines[0])
    if typed is None:
        assert len(lines) == 1 and not lines[0].startswith(f"  {next(iter(wrong))}: unknown"), lines
        return
    given = parse_config(shlex.split(typed[1]))
    merged = base()
    update_config(merged, given)
    load_config(with_given(merged, given))


@pytest.mark.parametrize("wrong", [{"gpus": 2}, {"nothing_like_it": [1]}, {"annotations": "x.json"}])
def test_what_is_meant_nowhere_is_left_out(wrong: dict[str, Any]) -> None:
    values = base() | wrong
    line = message(values).splitlines()[1]
    assert "remove the line" in line
    load_config(apply(values, line))
    assert f"leave out `{next(iter(wrong))}" in message(values, wrong)


def test_what_only_a_user_knows_stands_in_brackets() -> None:
    assert "write `kind: folder`, `root: <folder that holds the pictures" in message(
        base() | {"data": {"kind": "fodler"}}
    )
    assert "write `data: {kind: folder, root: <folder" in message(base() | {"data": None})
    assert "add `images: <folder" in message(base() | {"data": {"kind": "coco"}})
    assert "write `run: <name of the folder" in message(base() | {"run": "a b"}, {"run": "a b"})


def test_stages_get_corrections_too() -> None:
    with pytest.raises(MaskDistillError, match=r"itres: unknown key; write `iters: 30000`"):
        parse_section(DetectorConfig, '{"weights": "random", "itres": 30000}')
    with pytest.raises(MaskDistillError, match="Invalid JSON"):
        parse_section(DetectorConfig, "{")
