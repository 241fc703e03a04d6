"""What is wrong with a configuration, and the corrected line."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from maskdistill.config.corrections import Check, Schema, choose
from maskdistill.config.corrections import yaml_line as yaml_line
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.remote_urls import redacted

WILDCARD = re.compile(r"\{\s*([.\w]+)\s*(,.*)?\}")


def explain(
    error: ValidationError,
    source: str,
    schema: Schema,
    values: Mapping[str, Any] | None = None,
    check: Check = lambda values: (),
    given: Mapping[str, Any] | None = None,
) -> MaskDistillError:
    """Turn a validation error into one message that names every wrong key and prints the corrected line.

    Args:
        error: as pydantic raised it.
        source: what to name: a file, an option.
        schema: JSON schema of what was validated.
        values: what was validated; a correction is printed only if it is accepted there.
        check: lists the errors of corrected values.
        given: the values that came from the command line; they are corrected there.
    """
    lines = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"]) or "(top level)"
        chosen = choose(item, schema, values, check)
        correction = chosen.message(given or {}) if chosen else ""
        if item["type"] == "extra_forbidden":
            lines.append(f"  {where}: unknown key; {correction} (all keys: config/defaults.yaml)")
        elif item["type"] == "missing":
            lines.append(f"  {where}: missing; {correction}")
        elif not item["loc"] and item["type"] == "value_error":
            lines.append(f"  {item['ctx']['error']}")
        else:
            message = item["msg"].removeprefix("Value error, ")
            got = "" if isinstance(item["input"], Mapping) else f" (got {_shown(item['input'])!r})"
            lines.append(f"  {where}: {message}{got}{correction and f'; {correction}'}")
    return MaskDistillError("\n".join([f"{source}: the configuration is not valid", *lines]))


def refuse_wildcards(values: Mapping[str, Any], source: str) -> None:
    """Refuse what Snakemake would read as a wildcard: values go into inputs and params, where braces cannot
    be escaped.

    Args:
        values: a valid configuration.
        source: what to name: a file.

    Raises:
        MaskDistillError: naming every such key.
    """
    if lines := [
        f"  {where}: {text!r}: {{{name}}} is a wildcard to Snakemake"
        for where, text, name in _wildcards(values)
    ]:
        remedy = "rename the file or folder, or give a link to it whose path has no such braces"
        raise MaskDistillError(
            "\n".join([f"{source}: the configuration is not valid", *lines, f"  {remedy}"])
        )


def _wildcards(value: Any, where: str = "") -> Iterator[tuple[str, str, str]]:
    """Dotted key, text and wildcard of each text that contains a wildcard."""
    if isinstance(value, str):
        if found := WILDCARD.search(value):
            yield where, value, found[1]
    elif isinstance(value, Mapping | list):
        for key, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _wildcards(inner, f"{where}.{key}" if where else str(key))


def _shown(value: Any) -> Any:
    """A value that is safe to log: a URL without user name, password and query."""
    return redacted(value) if isinstance(value, str) and "://" in value else value
