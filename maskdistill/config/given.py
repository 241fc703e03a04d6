"""Values from the command line's ``--config``, which Snakemake merges over the configuration file."""

from collections.abc import Mapping
from typing import Any

SOURCES = ("data", "support")
"""Sections whose keys depend on their ``kind``."""


def with_given(merged: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The merged configuration, corrected where only the command line's values tell what was meant.

    Snakemake passes ``null`` as a word. A source given with its ``kind`` replaces the file's, because the
    file's keys belong to another kind.

    Args:
        merged: file and command line, as Snakemake has them.
        given: the part that came from ``--config``.
    """
    values = _with_nulls(merged, given)
    for name in SOURCES:
        section = given.get(name)
        if isinstance(section, Mapping) and "kind" in section:
            values[name] = _without_words(section)
    return values


def _with_nulls(merged: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    values = dict(merged)
    for key, value in given.items():
        inner = values.get(key)
        if isinstance(value, Mapping) and isinstance(inner, Mapping):
            values[key] = _with_nulls(inner, value)
        else:
            values[key] = _without_words(value)
    return values


def _without_words(value: Any) -> Any:
    """The value with None for each ``null``."""
    if isinstance(value, Mapping):
        return {key: _without_words(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_words(inner) for inner in value]
    return None if value == "null" else value
