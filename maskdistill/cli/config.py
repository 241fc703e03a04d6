"""Write the configuration's JSON schema and commented defaults, or check a configuration file."""

import argparse
import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from maskdistill.config import Config, load_config
from maskdistill.config.types import MOST
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import atomic_path

HEADER = """\
Every key of a configuration with its default, made by `maskdistill config --write config/` from
maskdistill/config/. A configuration names only what differs; keys shown as `# key:` have no default and must
be given.
"""
WIDTH = 112
LIMITS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", metavar="DIR", help="write schema.json and defaults.yaml into this folder")
    what.add_argument("--check", metavar="FILE", help="validate a YAML configuration")


def run(args: argparse.Namespace) -> None:
    """Write the generated files, or check one that a user wrote."""
    if args.check is not None:
        from maskdistill.product.objects import chosen_formats  # whose libraries no other command wants

        config = check_file(args.check)
        chosen_formats(config.objects)
        print(f"{args.check}: valid (run {config.run!r}, data of kind {config.data.kind!r})")
        return
    for name, text in {"schema.json": render_schema(), "defaults.yaml": render_defaults()}.items():
        with atomic_path(Path(args.write) / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def check_file(path: str | Path) -> Config:
    """Read and validate a YAML configuration.

    Raises:
        MaskDistillError: naming the file and every wrong key.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise MaskDistillError(f"{path}: cannot be read ({error.strerror}); correct the path") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MaskDistillError(f"{path}: not valid YAML ({error}); correct the file") from None
    if not isinstance(values, dict):
        raise MaskDistillError(
            f"{path}: a configuration is a mapping of keys to values (see config/defaults.yaml)"
        )
    return load_config(values, str(path))


def render_schema() -> str:
    """The configuration's JSON schema, for editors and validators."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}
    return json.dumps(schema, indent=2) + "\n"


def render_defaults() -> str:
    """YAML with every key, its meaning, range and default; keys without a default are commented out."""
    schema = Config.model_json_schema()
    lines = [*_comment(HEADER, 0), "", *_section(schema, schema["$defs"], 0)]
    return "\n".join(lines) + "\n"


def _section(schema: dict[str, Any], defs: dict[str, Any], depth: int) -> Iterator[str]:
    """Lines of one section's keys, in the order they are declared."""
    for name, field in schema["properties"].items():
        if depth == 0 and name != next(iter(schema["properties"])):
            yield ""
        if "discriminator" in field:
            yield from _alternatives(name, field, defs, depth)
        elif "$ref" in field:
            section = defs[_target(field)]
            yield from _comment(section.get("description", ""), depth)
            yield f"{'  ' * depth}{name}:"
            yield from _section(section, defs, depth + 1)
        else:
            required = name in schema.get("required", ()) and "const" not in field
            yield from _comment(_explain(field, required), depth)
            value = field.get("default", field.get("const"))
            yield f"{'  ' * depth}# {name}:" if required else f"{'  ' * depth}{name}: {_scalar(value)}"


def _alternatives(name: str, field: dict[str, Any], defs: dict[str, Any], depth: int) -> Iterator[str]:
    """A key that takes one of several sections: the first is shown active, the others as comments."""
    indent = "  " * depth
    for position, reference in enumerate(field["oneOf"]):
        section = defs[_target(reference)]
        if position:
            yield f"{indent}#"
        yield from _comment(
            f"{section.get('description', '')} {'Instead' if position else 'Required'}:", depth
        )
        lines = [f"{indent}{name}:", *_section(section, defs, depth + 1)]
        yield from ([f"{indent}# {line[len(indent) :]}" for line in lines] if position else lines)


def _target(field: dict[str, Any]) -> str:
    return str(field["$ref"]).rpartition("/")[2]


def _explain(field: dict[str, Any], required: bool) -> str:
    """Meaning of a key and, in brackets, its choices, its range and whether it must be given."""
    meaning = str(field.get("description", ""))
    options = field.get("anyOf", [field])
    notes = ["required"] if required else []
    choices = [str(choice) for option in options for choice in option.get("enum", ())]
    if choices:
        notes.append(f"one of {', '.join(choices)}")
    if limits := [_limits(option) for option in options if _limits(option)]:
        notes.append(" and ".join(limits))
    items = [
        item
        for option in options
        for item in (option.get("items"), *option.get("prefixItems", ())[:1])
        if item
    ]
    if each := [_limits(item) for item in items if _limits(item)]:
        notes.append(f"each {each[0]}")
    if any(option.get("minItems") and "prefixItems" not in option for option in options):
        notes.append("at least one")
    if any(option.get("type") == "null" for option in options) and "null" not in meaning:
        notes.append("may be null")
    return " ".join([meaning] * bool(meaning) + [f"({'; '.join(notes)})"] * bool(notes))


def _limits(node: dict[str, Any]) -> str:
    """The range of a number; a largest value that only 32 bits set goes without saying."""
    return " and ".join(
        f"{sign} {node[key]:.10g}" for key, sign in LIMITS.items() if abs(node.get(key, MOST)) < MOST
    )


def _comment(text: str, depth: int) -> list[str]:
    """Comment lines, wrapped."""
    indent = "  " * depth + "# "
    return [
        line
        for paragraph in text.splitlines()
        for line in textwrap.wrap(
            paragraph, WIDTH, initial_indent=indent, subsequent_indent=indent,
            break_long_words=False, break_on_hyphens=False,
        )
    ]  # fmt: skip


def _scalar(value: Any) -> str:
    """A value as YAML on one line (YAML 1.1: floats keep their point, so 1e-05 stays a number)."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000)
    return text.removesuffix("...\n").strip()
