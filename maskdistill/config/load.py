"""Configurations and their sections, validated as they are read."""

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from maskdistill.config.messages import explain, refuse_wildcards
from maskdistill.config.run import Config
from maskdistill.config.types import Section

S = TypeVar("S", bound=Section)


def load_config(
    values: dict[str, Any], source: str = "config", given: Mapping[str, Any] | None = None
) -> Config:
    """Validate a configuration read from YAML.

    Args:
        values: the mapping as read.
        source: what to name in an error message.
        given: the part that came from the command line's ``--config``.

    Raises:
        MaskDistillError: listing every unknown, missing or ill-typed key, or paths that Snakemake cannot be
            given.
    """
    config = _validated(Config, lambda: Config.model_validate(values), source, values, given)
    refuse_wildcards(config.model_dump(mode="json"), source)
    return config


def parse_section(section: type[S], text: str) -> S:
    """Validate one section from the JSON text given to an entry point's ``--params``."""
    return _validated(section, lambda: section.model_validate_json(text), "--params", _mapping(text))


def validate_section(section: type[S], values: Mapping[str, Any], source: str) -> S:
    """Validate one section from values.

    Raises:
        MaskDistillError: naming ``source`` and every wrong key.
    """
    return _validated(section, lambda: section.model_validate(dict(values)), source, dict(values))


def _validated(
    section: type[S],
    validate: Callable[[], S],
    source: str,
    values: dict[str, Any] | None,
    given: Mapping[str, Any] | None = None,
) -> S:
    def check(corrected: dict[str, Any]) -> list[Any]:
        try:
            section.model_validate(corrected)
        except ValidationError as error:
            return list(error.errors())
        return []

    try:
        return validate()
    except ValidationError as error:
        raise explain(error, source, section.model_json_schema(), values, check, given) from None


def _mapping(text: str) -> dict[str, Any] | None:
    """The mapping in a JSON text; None if it holds something else."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
