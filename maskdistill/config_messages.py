"""What is wrong with a configuration, and the line that would be right."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from pydantic import ValidationError

from maskdistill.runtime.errors import MaskDistillError

Schema = Mapping[str, Any]
WILDCARD = re.compile(r"\{\s*([.\w]+)\s*(,.*)?\}")


def explain(error: ValidationError, source: str, schema: Schema) -> MaskDistillError:
    """Turn a validation error into one message that names every wrong key and prints the corrected line.

    Args:
        error: as pydantic raised it.
        source: what to name: a file, an option.
        schema: JSON schema of what was validated.
    """
    lines = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"]) or "(top level)"
        correction = _correction(item, schema)
        if item["type"] == "extra_forbidden":
            lines.append(f"  {where}: unknown key; {correction} (all keys: config/defaults.yaml)")
        elif item["type"] == "missing":
            lines.append(f"  {where}: missing; {correction}")
        elif not item["loc"] and item["type"] == "value_error":
            lines.append(f"  {item['ctx']['error']}")
        else:
            lines.append(f"  {where}: {item['msg']} (got {item['input']!r}){correction and f'; {correction}'}")
    return MaskDistillError("\n".join([f"{source}: the configuration is not valid", *lines]))


def refuse_wildcards(values: Mapping[str, Any], source: str) -> None:
    """Refuse what Snakemake would take for a wildcard: it stands in inputs and params, and there is no escape for it.

    Args:
        values: a valid configuration.
        source: what to name: a file.

    Raises:
        MaskDistillError: naming every such key.
    """
    if lines := [
        f"  {where}: {text!r}: {{{name}}} is a wildcard to Snakemake" for where, text, name in _wildcards(values)
    ]:
        remedy = "rename the file or folder, or give a link to it whose path has no such braces"
        raise MaskDistillError("\n".join([f"{source}: the configuration is not valid", *lines, f"  {remedy}"]))


def _wildcards(value: Any, where: str = "") -> Iterator[tuple[str, str, str]]:
    """Dotted key, text and wildcard of each text that has one."""
    if isinstance(value, str):
        if found := WILDCARD.search(value):
            yield where, value, found[1]
    elif isinstance(value, Mapping | list):
        for key, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _wildcards(inner, f"{where}.{key}" if where else str(key))


def _correction(item: Any, schema: Schema) -> str:
    """What to write instead, as a line of YAML; empty where the message itself says it."""
    keys = [part for part in item["loc"] if isinstance(part, str)]
    if not keys:
        return ""
    section, missing = _section(schema, keys[:-1]), item["type"] == "missing"
    known: dict[str, Schema] = section.get("properties", {})
    key, given = keys[-1], item["input"]
    if item["type"] == "extra_forbidden":
        close = difflib.get_close_matches(key, known, 1)
        return f"write `{yaml_line({close[0]: given})}`" if close else f"remove the line `{yaml_line({key: given})}`"
    if item["type"] == "union_tag_invalid":
        expected = [tag.strip("' ") for tag in item["ctx"]["expected_tags"].split(",")]
        return f"write `{yaml_line({'kind': _closest(given.get('kind'), expected)})}`"
    if item["type"] == "union_tag_not_found":
        return "add `kind:`, which says what the source is"
    if key not in known or item["type"] in ("value_error", "assertion_error"):
        return ""
    return f"{'add' if missing else 'write'} `{_filled(schema, key, known[key], given)}`"


def _section(schema: Schema, keys: Sequence[str]) -> Schema:
    """The schema of a section; the names of a union's alternatives stand among the keys."""
    found = _target(schema, schema)
    for key in keys:
        if key in found.get("properties", {}):
            found = _target(schema, found["properties"][key])
        else:
            found = _target(schema, {"$ref": found.get("discriminator", {}).get("mapping", {}).get(key, "")})
    return found


def _target(schema: Schema, node: Schema) -> Schema:
    """Follow references; of a section or null, the section."""
    options = [option for option in node.get("anyOf", ()) if option.get("type") != "null"]
    if len(options) == 1:
        node = options[0]
    if "$ref" in node:
        found: Schema = schema.get("$defs", {}).get(node["$ref"].rpartition("/")[2], {})
        return found
    return node


def _filled(schema: Schema, key: str, field: Schema, given: Any) -> str:
    """A valid line for a key: the nearest choice, its default, or what belongs there in angle brackets."""
    choices = [choice for option in field.get("anyOf", [field]) for choice in option.get("enum", ())]
    if choices and isinstance(given, str):
        return yaml_line({key: _closest(given, choices)})
    below = _target(schema, field)
    if "properties" in below:
        needed = below.get("required") or list(below["properties"])[:1]
        return f"{key}: {{{', '.join(_filled(schema, name, below['properties'][name], None) for name in needed)}}}"
    if "default" in field:
        return yaml_line({key: field["default"]})
    return f"{key}: <{field.get('description', 'value')}>"


def _closest(given: Any, choices: Sequence[str]) -> str:
    return (difflib.get_close_matches(str(given), choices, 1, 0.0) or list(choices))[0]


def yaml_line(values: Mapping[str, Any]) -> str:
    """Keys and values as they stand on one line of a configuration."""
    return yaml.safe_dump(dict(values), default_flow_style=True, width=10_000, allow_unicode=True).strip()[1:-1]
