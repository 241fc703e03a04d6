"""What to write instead of a wrong key or value; a correction is suggested only if it would be accepted."""

import copy
import difflib
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

Schema = Mapping[str, Any]
Path = tuple[str | int, ...]
ALIASES: dict[str, tuple[str, ...]] = {
    "k": ("clusters", "num_clusters"),
    "threshold": ("pseudo_labels", "tau"),
}
"""Names of settings in the literature."""
_DECIMAL = re.compile(r"[+-]?\d*,\d+")
"""A number with the comma that many languages write."""
ALMOST, LIKE = 0.8, 0.6
"""Similarity of two names, at most 1: from here on a typing error, and a possible match."""


@dataclass(frozen=True)
class Correction:
    """One way to put things right.

    Attributes:
        text: text of the message; ``{}`` is replaced by the correction.
        path: keys that lead from the top to the corrected value, which replaces what is there.
        value: the corrected value.
        drop: keys that lead to the wrong key, which is removed; None if the key stays and its value is
            corrected.
        sure: whether it is complete; False if part of it is a placeholder in angle brackets.
        shown: what the correction looks like in a file.
    """

    text: str
    path: Path = ()
    value: Any = None
    drop: Path | None = None
    sure: bool = True
    shown: str = ""

    def applied(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """A corrected copy of the values."""
        found: dict[str, Any] = copy.deepcopy(dict(values))
        if self.drop is not None:
            _at(found, self.drop[:-1]).pop(self.drop[-1], None)
        if self.path:
            section: Any = found
            for key in self.path[:-1]:
                inner = section[key] if isinstance(key, int) else section.get(key)
                if not isinstance(inner, dict | list):
                    inner = section[key] = {}
                section = inner
            section[self.path[-1]] = self.value
        return found

    def message(self, given: Mapping[str, Any]) -> str:
        """The text, in the syntax of where the wrong key came from: a file, or ``--config``."""
        typed = self.sure and _is_in(given, self.drop or self.path)
        if typed and not self.path:
            return f"leave out `{self.shown}`"
        return self.text.format(f"`--config {_typed(self.path, self.value)}`" if typed else f"`{self.shown}`")


Check = Callable[[dict[str, Any]], Sequence[Any]]
"""The errors of a mapping, as pydantic lists them; empty where it is valid."""


def choose(item: Any, schema: Schema, values: Mapping[str, Any] | None, check: Check) -> Correction | None:
    """The first correction of an error that is accepted.

    Args:
        item: the error, as pydantic lists it.
        schema: JSON schema of what was validated.
        values: what was validated; None if unknown, and corrections are then not tested.
        check: validates corrected values.
    """
    where = value_path(item["loc"], schema)
    for correction in _candidates(item, where, schema, values):
        if not correction.sure or values is None or _accepted(correction, where, schema, values, check):
            return correction
    return None


def value_path(loc: Sequence[str | int], schema: Schema) -> Path:
    """Keys that lead to a value, without the names of union alternatives that pydantic puts among them."""
    path: list[str | int] = []
    node = resolve(schema, schema)
    for key in loc:
        if key not in node.get("discriminator", {}).get("mapping", {}):
            path.append(key)
        node = _below(schema, node, key)
    return tuple(path)


def resolve(schema: Schema, node: Schema) -> Schema:
    """Follow references; for "a section or null", return the section."""
    options = [option for option in node.get("anyOf", ()) if option.get("type") != "null"]
    if len(options) == 1:
        node = options[0]
    if "$ref" in node:
        found: Schema = schema.get("$defs", {}).get(node["$ref"].rpartition("/")[2], {})
        return found
    return node


def yaml_line(values: Mapping[str, Any]) -> str:
    """Keys and values on one line, as in a configuration."""
    return yaml.safe_dump(dict(values), default_flow_style=True, width=10_000, allow_unicode=True).strip()[
        1:-1
    ]


def _accepted(
    correction: Correction, where: Path, schema: Schema, values: Mapping[str, Any], check: Check
) -> bool:
    """Whether a correction leaves no error at the places that it touches, and adds none to the whole."""
    before = {error["msg"] for error in check(dict(values)) if not error["loc"]}
    for error in check(correction.applied(values)):
        place = value_path(error["loc"], schema)
        if not place and error["msg"] not in before:
            return False
        for touched in (where, correction.path):
            if place and touched and all(a == b for a, b in zip(place, touched, strict=False)):
                return False
    return True


def _candidates(
    item: Any, where: Path, schema: Schema, values: Mapping[str, Any] | None
) -> Iterator[Correction]:
    """Corrections to try, the best first."""
    if not where or not isinstance(where[0], str):
        return
    if item["type"] == "extra_forbidden":
        yield from _for_unknown_key(where, item, schema)
    elif item["type"] == "union_tag_invalid":
        yield _for_unknown_kind(where, item, schema)
    elif item["type"] == "union_tag_not_found":
        yield Correction("add `kind:`, which says what the source is", sure=False)
    else:
        yield from _for_wrong_value(where, item, schema, values)


def _for_unknown_key(where: Path, item: Any, schema: Schema) -> Iterator[Correction]:
    """First with the given value, then with the key's default."""
    section, key, given = where[:-1], str(where[-1]), item["input"]
    own = _properties(schema, item["loc"][:-1])
    elsewhere = {path: field for path, field in _all_keys(schema) if path[:-1] != section}
    meant = (
        [tuple(key.split("."))] if "." in key else [ALIASES[key.lower()]] if key.lower() in ALIASES else []
    )
    exact = [path for path in elsewhere if path[-1] == key]
    close = difflib.get_close_matches(key, {path[-1] for path in elsewhere}, 3, ALMOST)
    meant += exact
    for value in ([given], []):
        yield from _renamed(where, value, difflib.get_close_matches(key, own, 1, ALMOST), own)
        yield from _moved(where, value, [path for path in meant if path in elsewhere], elsewhere)
    yield from _renamed(where, [given], difflib.get_close_matches(key, own, 3, LIKE), own)
    yield from _moved(
        where, [given], [path for name in close for path in elsewhere if path[-1] == name], elsewhere
    )
    yield Correction("remove the line {}", drop=where, shown=yaml_line({key: given}))


def _renamed(
    where: Path, given: Sequence[Any], names: Sequence[str], known: Mapping[str, Schema]
) -> Iterator[Correction]:
    for name in names:
        for value in _forms(given, known[name]):
            yield Correction("write {}", (*where[:-1], name), value, where, shown=yaml_line({name: value}))


def _moved(
    where: Path,
    given: Sequence[Any],
    places: Sequence[tuple[str, ...]],
    known: Mapping[tuple[str, ...], Schema],
) -> Iterator[Correction]:
    """The key in other sections; if it fits in several, all are named."""
    homes = list(dict.fromkeys(".".join(place[:-1]) or "the top level" for place in places))
    several = len(homes) > 1
    for place in places:
        for value in _forms(given, known[place]):
            text = f"it belongs below {' or '.join(homes)}: write {'for example ' * several}{{}}"
            yield Correction(text, place, value, where, shown=yaml_line(_nested(place, value)))


def _for_unknown_kind(where: Path, item: Any, schema: Schema) -> Correction:
    given: Mapping[str, Any] = item["input"]
    expected = [tag.strip("' ") for tag in item["ctx"]["expected_tags"].split(",")]
    kind = closest(given.get("kind"), expected)
    node = _node(schema, item["loc"])
    alternative = resolve(schema, {"$ref": node["discriminator"]["mapping"][kind]})
    lacking = [name for name in alternative.get("required", ()) if name not in given and name != "kind"]
    lines = [filled(schema, name, alternative["properties"][name], None) for name in lacking]
    more = "".join(f", `{line}`" for line in lines).replace("{", "{{").replace("}", "}}")
    return Correction(
        f"write {{}}{more}", (*where, "kind"), kind, sure=not lacking, shown=yaml_line({"kind": kind})
    )


def _for_wrong_value(
    where: Path, item: Any, schema: Schema, values: Mapping[str, Any] | None
) -> Iterator[Correction]:
    given, missing = item["input"], item["type"] == "missing"
    section, place = item["loc"][:-1], where[-1]
    if isinstance(place, int):  # a list is shown as a whole
        where, section = where[:-1], section[:-1]
        given = _with_choice(item, place, where, _properties(schema, section).get(str(where[-1])), values)
    key = str(where[-1])
    field = _properties(schema, section).get(key)
    if field is None:
        return
    for value in _repaired(given, field):
        yield Correction("write {}", where, value, shown=yaml_line({key: value}))
    if item["type"] in ("value_error", "assertion_error"):  # whose message already says what to do
        return
    line = filled(schema, key, field, given)
    try:
        value = yaml.safe_load(f"{{{line}}}")[key] if "<" not in line else None
    except yaml.YAMLError:
        value = None
    sure = value is not None or "<" not in line
    yield Correction(f"{'add' if missing else 'write'} {{}}", where, value, sure=sure, shown=line)


def _with_choice(
    item: Any, place: int, where: Path, field: Schema | None, values: Mapping[str, Any] | None
) -> list[Any] | None:
    """A list whose entry at ``place`` is no choice, with the most similar one there; None for other lists."""
    choices = (field or {}).get("items", {}).get("enum")
    if not choices or values is None or not isinstance(item["input"], str):
        return None
    given = list(_at(values, where))
    given[place] = closest(given[place], choices)
    return given


def _repaired(given: Any, field: Schema) -> Iterator[Any]:
    """What a value was probably meant to be: with a decimal point; of a list the single value as a list,
    without duplicates, in order.
    """
    if isinstance(given, str) and _DECIMAL.fullmatch(given.strip()):
        yield float(given.replace(",", "."))
    if not _is_list(field) or given is None:
        return
    if not isinstance(given, list | tuple | dict):
        yield [given]
    if isinstance(given, list | tuple) and all(isinstance(value, int | float | str) for value in given):
        once = [value for place, value in enumerate(given) if value not in given[:place]]
        if len({isinstance(value, str) for value in given}) == 1:
            yield from (once, sorted(once), sorted(given))


def _forms(given: Sequence[Any], field: Schema) -> Iterator[Any]:
    """The value, and the value as a list where a list is expected; the default if no value was given."""
    if not given and field.get("default") is not None:
        yield field["default"]
    for value in given:
        yield value
        if _is_list(field) and not isinstance(value, list | dict):
            yield [value]


def _is_list(field: Schema) -> bool:
    return any(option.get("type") == "array" for option in field.get("anyOf", [field]))


def filled(schema: Schema, key: str, field: Schema, given: Any) -> str:
    """A valid line for a key: the nearest choice, its default, or a placeholder in angle brackets."""
    choices = [choice for option in field.get("anyOf", [field]) for choice in option.get("enum", ())]
    if choices and isinstance(given, str):
        return yaml_line({key: closest(given, choices)})
    below = resolve(schema, field)
    if "discriminator" in below and "default" not in field:
        kind = "folder"
        section = resolve(schema, {"$ref": below["discriminator"]["mapping"][kind]})
        needed = [name for name in section.get("required", ()) if name != "kind"]
        lines = [yaml_line({"kind": kind})]
        lines += [filled(schema, name, section["properties"][name], None) for name in needed]
        return f"{key}: {{{', '.join(lines)}}}"
    if "properties" in below:
        needed = below.get("required") or list(below["properties"])[:1]
        properties = below["properties"]
        lines = [filled(schema, name, properties[name], None) for name in needed]
        return f"{key}: {{{', '.join(lines)}}}"
    if "default" in field:
        return yaml_line({key: field["default"]})
    return f"{key}: <{field.get('description', 'value')}>"


def closest(given: Any, choices: Sequence[str]) -> str:
    """The choice most similar to the given value."""
    return (difflib.get_close_matches(str(given), choices, 1, 0.0) or list(choices))[0]


def _node(schema: Schema, loc: Sequence[str | int]) -> Schema:
    """Schema at a path, whose keys may include names of alternatives."""
    node: Schema = resolve(schema, schema)
    for key in loc:
        node = _below(schema, node, key)
    return node


def _below(schema: Schema, node: Schema, key: str | int) -> Schema:
    mapping = node.get("discriminator", {}).get("mapping", {})
    if key in mapping:
        return resolve(schema, {"$ref": mapping[key]})
    if isinstance(key, int):
        return resolve(schema, node.get("items", {}))
    # of keys that a user chooses, as names of backbones are
    chosen: Schema = next(iter(node.get("patternProperties", {}).values()), {})
    return resolve(schema, _own(schema, node).get(key, chosen))


def _own(schema: Schema, node: Schema) -> dict[str, Schema]:
    """Keys of a section; for alternatives, the keys of all."""
    found: dict[str, Schema] = {}
    for reference in node.get("discriminator", {}).get("mapping", {}).values():
        found |= resolve(schema, {"$ref": reference}).get("properties", {})
    return found | dict(node.get("properties", {}))


def _properties(schema: Schema, loc: Sequence[str | int]) -> dict[str, Schema]:
    return _own(schema, _node(schema, loc))


def _all_keys(schema: Schema, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Schema]]:
    """Every key of every section that is not in a list; within a section, keys nearer to the top come
    first.
    """
    own = _properties(schema, path)
    for name, field in own.items():
        yield (*path, name), field
    for name, field in own.items():
        below = resolve(schema, field)
        if "properties" in below or "discriminator" in below:
            yield from _all_keys(schema, (*path, name))


def _nested(path: Sequence[str | int], value: Any) -> dict[str, Any]:
    for key in reversed(path):
        value = {str(key): value}
    return dict(value)


def _typed(path: Path, value: Any) -> str:
    """A setting as Snakemake's ``--config`` takes it."""
    inner = _nested(path[1:], value) if path[1:] else value
    text = yaml.safe_dump(inner, default_flow_style=True, width=10_000, allow_unicode=True)
    return shlex.quote(f"{path[0]}={text.removesuffix('...' + chr(10)).strip()}")


def _at(values: Any, path: Path) -> Any:
    for key in path:
        values = values[key]
    return values


def _is_in(values: Any, path: Path) -> bool:
    for key in path:
        if not isinstance(values, Mapping) or key not in values:
            return False
        values = values[key]
    return True
