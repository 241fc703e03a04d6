"""Every setting has its range, and nothing outside of it passes: found by walking the schema, not by a
list.
"""

import copy
import json
import math
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import jsonschema
import pytest
from pydantic import ValidationError

from maskdistill.config import ClustersConfig, Config, load_config, parse_section
from maskdistill.config.limits import refuse_more_clusters
from maskdistill.data.listing import parse_data
from maskdistill.runtime.errors import MaskDistillError

BOUNDS = (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum"))
MAY_BE_EMPTY = {
    "datasets.*.md5", "detector.steps", "baselines.masks", "paper.backbones", "evaluation.protocols",
    "objects.formats",
    "sweep.topk", "sweep.num_clusters", "sweep.tau", "sweep.hard_pixels", "sweep.label_types",
    "sweep.rounds", "bench.rules", "bench.rounds", "bench.beside",
}  # fmt: skip
"""Lists of which none is a choice."""
REPEATED = {"min_size_train", "atrous_rates", "scale", "rpn_pre_nms", "rpn_post_nms", "backbones"}
"""Lists in which a value may stand twice: as a weight, in places with a meaning; names of backbones are
compared.
"""
TEACHER = {"objective": "distill", "teacher": {"weights": "t.pth"}}


def minimal(**changes: Any) -> dict[str, Any]:
    weights = {"weights": "random"}
    required = {"run": "r", "backbone": weights, "detector": weights, "segmenter": weights}
    return required | {"data": {"kind": "scenes"}} | changes


class Setting(NamedTuple):
    """A key that holds no section: where, with what beside it, and its part of the schema."""

    path: tuple[str | int, ...]
    values: dict[str, Any]
    node: Mapping[str, Any]

    @property
    def name(self) -> str:
        return ".".join(str(key) for key in self.path)


@cache
def schema() -> dict[str, Any]:
    return Config.model_json_schema()


def resolved(node: Mapping[str, Any]) -> Mapping[str, Any]:
    return schema()["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node


def settings(
    node: Mapping[str, Any], path: tuple[str | int, ...], values: dict[str, Any]
) -> Iterator[Setting]:
    """Settings below a section, with values in which it is there."""
    for name, field in node["properties"].items():
        at = (*path, name)
        options = [resolved(option) for option in field.get("anyOf", [field])]
        if "discriminator" in field or any("discriminator" in option for option in options):
            chosen = next(option for option in [field, *options] if "discriminator" in option)
            for kind, reference in chosen["discriminator"]["mapping"].items():
                source = resolved({"$ref": reference})
                given = {"kind": kind} | {key: "p" for key in source.get("required", ()) if key != "kind"}
                if kind.startswith("remote"):  # of the first a root or a file: one of the two
                    given |= {"root": "s3://bucket"}
                yield from settings(source, at, put(values, at, given))
            continue
        below = next((option for option in options if "properties" in option), None)
        if below is not None:
            inside = TEACHER["teacher"] if name in ("teacher", "backbone") else {}
            yield from settings(
                below, at, put(values, at, inside) if name != "teacher" else put(values, path, TEACHER)
            )
        else:
            item = resolved(field.get("items", {}))
            for named in map(resolved, field.get("patternProperties", {}).values()):
                yield from settings(named, (*at, "n"), put(values, at, {"n": {"weights": "random"}}))
            if "properties" in item:
                yield from settings(item, (*at, 0), put(values, at, [{"name": "n", "weights": "random"}]))
            if name != "kind":
                yield Setting(at, values, field)


def put(values: dict[str, Any], path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    """A copy with a value at a place; of a section what is there already stays."""
    found: Any = copy.deepcopy(values)
    section = found
    for key in path[:-1]:
        section = section[key] if isinstance(key, int) else section.setdefault(key, {})
    old = section[path[-1]] if isinstance(path[-1], int) else section.get(path[-1])
    within = isinstance(old, dict) and isinstance(value, dict) and "kind" not in value
    section[path[-1]] = {**old, **value} if within else copy.deepcopy(value)
    return dict(found)


def every_setting() -> list[Setting]:
    return list(settings(schema(), (), minimal()))


def leaves(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The types of a setting's values, of lists and mappings those of the values in them."""
    for option in map(resolved, node.get("anyOf", [node])):
        inner = [*option.get("prefixItems", []), *([option["items"]] if "items" in option else [])]
        for one in inner:
            yield from leaves(one)
        if not inner:
            yield option


def matches(name: str, names: set[str]) -> bool:
    return name in names or any(
        name.startswith(n.split("*")[0]) and name.endswith(n.split("*")[-1]) for n in names if "*" in n
    )


def test_the_walk_finds_all_settings() -> None:
    names = [setting.name for setting in every_setting()]
    assert len(names) > 180
    assert {"run", "seeds", "data.root", "data.ignore_border", "support.file", "datasets.sbd.path",
    "crf.bilateral.sxy",
            "pretrain.teacher.arch", "clusters.backbone.weights",
            "bench.backbones.n.weights", "paper.backbones.0.arch"} <= set(names)  # fmt: skip
    for setting in every_setting():
        load_config(setting.values)


def test_every_setting_has_a_range() -> None:
    """Numbers a smallest and a largest value, lists a length and distinct values, texts a pattern or a
    letter.
    """
    for setting in every_setting():
        for leaf in leaves(setting.node):
            if leaf.get("type") in ("integer", "number") and "enum" not in leaf and "const" not in leaf:
                for names in BOUNDS:
                    assert any(math.isfinite(leaf.get(name, math.inf)) for name in names), (
                        f"{setting.name}: no {names[0]}"
                    )
            if leaf.get("type") == "string" and not {"enum", "const"} & leaf.keys():
                assert {"pattern", "minLength"} & leaf.keys() or setting.name.endswith("arch"), setting.name
        for option in setting.node.get("anyOf", [setting.node]):
            if option.get("type") == "array":
                assert option.get("maxItems"), setting.name
                assert option.get("minItems") or setting.name in MAY_BE_EMPTY, setting.name
                distinct = option.get("uniqueItems") or setting.name == "detector.steps"
                assert distinct or str(setting.path[-1]) in REPEATED, setting.name


HOSTILE: list[Any] = [
    0, -1, 0.0, -0.5, 1.5, math.inf, -math.inf, math.nan, 2**31, 2**63, 10**40, 1e300, True, False, "", " ",
    "x", "nan",
    "a\0b", "${NO_SUCH_VARIABLE}/x", None, [], {}, [0], [-1], [0, 0], [0, 0, 0], [1, 1], [5, 3], [5, 3, 1],
    [math.inf],
    [math.nan, 1.0], [True], [""], ["x", "x"], [None], [[]], [1] * 2000, {"x": 1}, [10**12, 10**12],
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.hostile(
    "config: 0, -1, infinity, NaN, 2**63, `true`, an empty or doubled list, ... for every setting there is",
    outcome="refused before anything is computed, by a message that names the key; or it is within the "
    "setting's range",
)
def test_no_hostile_value_passes() -> None:
    passed = 0
    alike = {(setting.path[-1], json.dumps(setting.node)): setting for setting in every_setting()}
    for setting in alike.values():
        types = {leaf.get("type") for leaf in leaves(setting.node)}
        validator = jsonschema.Draft202012Validator({**setting.node, "$defs": schema()["$defs"]})
        for value in HOSTILE:
            given = put(setting.values, setting.path, value)
            try:
                config = Config.model_validate(given)
            except ValidationError as error:
                names = [str(part) for item in error.errors() for part in item["loc"]]
                assert str(setting.path[-1]) in names or str(setting.path[-1]) in str(error), (
                    f"{setting.name} = {value!r}"
                )
                continue
            passed += 1
            found: Any = config.model_dump(mode="json")
            for key in setting.path:
                found = found[key]
            wrong = [error.message for error in validator.iter_errors(found)]
            assert not wrong, f"{setting.name} = {value!r}: {wrong}"
            truth = isinstance(value, bool) or (value == [True] and value[0] is True)
            assert not truth or "boolean" in types, f"{setting.name} = {value!r}"
            assert not isinstance(value, float) or math.isfinite(value), f"{setting.name} = {value!r}"
    assert passed > 100, "zeros, ones and nulls are right for some"


@pytest.mark.hostile(
    "config: `anchor_sizes: []`, `atrous_rates: [0, 0, 0]`, `scale: [0, 0]`, `lr: .inf`, `seeds: [1234, "
    "1234]`, ...",
    outcome="refused before anything is computed; the message names the key",
)
@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("detector", {"anchor_sizes": []}),
        ("detector", {"min_size_train": []}),
        ("segmenter", {"atrous_rates": [0, 0, 0]}),
        ("detector", {"aspect_ratios": [0.0]}),
        ("detector", {"rpn_post_nms": [-1, -1]}),
        ("segmenter", {"scale": [0, 0]}),
        ("detector", {"lr": math.inf}),
        ("", {"seeds": [1234, 1234]}),
        # of the same kinds
        ("detector", {"anchor_sizes": [32, 32]}),
        ("detector", {"rpn_pre_nms": [0, 6000]}),
        ("detector", {"momentum": 1.0}),
        ("detector", {"steps": [22000, 20000]}),
        ("detector", {"steps": [20000, 24000]}),
        ("detector", {"steps": [-5]}),
        ("detector", {"warmup_iters": 24001}),
        ("detector", {"min_size_test": 1334}),
        ("detector", {"min_size_train": [800, 2000]}),
        ("segmenter", {"scale": [1.25, 0.75]}),
        ("segmenter", {"lr": math.nan}),
        ("segmenter", {"border_label": False}),
        ("pretrain", {"min_crop": 0}),
        ("clusters", {"max_fit": 19}),
        ("clusters", {"max_fit": 80, "num_clusters": 30, "overcluster": 3}),
        ("clusters", {"num_clusters": True}),
        ("sweep", {"tau": [0.5, 0.50]}),
        ("sweep", {"num_clusters": [2_000_000]}),
        ("ablations", {"seeds": [7, 7]}),
        ("ablations", {"label_types": []}),
        ("evaluation", {"protocols": ["agnostic_multi", "agnostic_multi"]}),
        ("masks", {"further": {"min_area": 0.6}}),
        ("crf", {"bilateral": {"srgb": math.inf}}),
        ("", {"shards_per_job": True}),
    ],
)  # fmt: skip
def test_settings_that_used_to_fail_late_are_refused(section: str, values: dict[str, Any]) -> None:
    key = next(iter(values))
    key = next(iter(values[key])) if isinstance(values[key], dict) else key
    weights = {"weights": "random"} if section in ("detector", "segmenter") else {}
    given = minimal(**({section: weights | values} if section else values))
    with pytest.raises(MaskDistillError, match=key):
        load_config(given)


def test_stages_have_the_same_ranges() -> None:
    """What ``--params`` gives goes through the same sections."""
    with pytest.raises(MaskDistillError, match=r"--params: .*\n.*max_fit"):
        parse_section(ClustersConfig, '{"max_fit": 0}')
    with pytest.raises(MaskDistillError, match=r"lr.*finite"):
        parse_section(Config.model_fields["probe"].annotation, '{"lr": Infinity}')  # type: ignore[arg-type]
    with pytest.raises(MaskDistillError, match="num_train"):
        parse_data('{"kind": "scenes", "num_train": 0}')


def test_figure_3_is_within_what_is_fitted() -> None:
    config = load_config(minimal(clusters={"num_clusters": 10, "max_fit": 30}))
    refuse_more_clusters(config, 1000)
    with pytest.raises(
        MaskDistillError, match=r"max_fit has 30 fitted at most; write `overcluster: \[1, 2, 3\]`"
    ):
        refuse_more_clusters(config, 1000, figure3=True)
