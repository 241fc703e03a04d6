"""The page docs/reference/command-line.md, made from the parsers: ``python tests/command_line_page.py``
writes it.
"""

import argparse
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from maskdistill.cli import STAGES, grouped

PAGE = Path(__file__).parents[1] / "docs/reference/command-line.md"
HEAD = """\
# Command line

This page is generated from the commands' parsers by `python tests/command_line_page.py`; a test compares it.

`maskdistill COMMAND [OPTIONS]` or `python -m maskdistill COMMAND [OPTIONS]`; each command has its own
`--help`. The exit status is 0 only if every output is complete.

- `--each A-B`, after a command, runs it for each shard from A to B in turn; `{shard}` stands for the number,
  written with as many digits as A. Of an option with as many values as there are shards each takes its own.
- Where an option takes several files, `{0000..0199}` in quotes stands for all these numbers, as in bash.
- `--params` takes a section of the [configuration](configuration.md) as JSON.

`maskdistill run CONFIG` starts the workflow, as `snakemake` does: see the [first
run](../tutorials/first-run.md). The workflow's rules call the commands below "Stages", and most of those
below the headings after it. Each also works by hand, for example:

```sh
maskdistill masks --features shard-0000.h5 --params '{"topk": 0.2}' --output masks.json
```
"""


def parser_of(stage: str) -> argparse.ArgumentParser:
    """The parser of a command, described by the docstring of its module."""
    module = import_module(f"maskdistill.cli.{stage}")
    parser = argparse.ArgumentParser(prog=f"maskdistill {stage}", description=inspect.getdoc(module))
    module.add_arguments(parser)
    return parser


def in_cell(text: str) -> str:
    """Text on one line for a table, with its characters taken as they are."""
    return re.sub(r"([|<>*_])", r"\\\1", " ".join(text.split()))


def rows(parser: argparse.ArgumentParser) -> Iterator[str]:
    """A row of the table for each option but --help."""
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        value = "" if action.nargs == 0 else action.metavar or action.dest.upper()
        if action.choices:
            value = " or ".join(map(str, action.choices))
        several = " ..." if action.nargs in ("+", "*") else ""
        name = " ".join(filter(None, [*action.option_strings[-1:], f"{value}{several}"]))
        needed = "required" if action.option_strings and action.required else ""
        meaning = in_cell((action.help or "") % (vars(action) | {"prog": parser.prog}))
        yield f"| `{name}` | {'; '.join(filter(None, [needed, meaning]))} |"


def command(stage: str) -> str:
    """The section of one command."""
    parser = parser_of(stage)
    table = [*rows(parser)]
    lines = [f"### {stage}", "", f"```text\n{(parser.description or '').strip()}\n```"]
    return "\n".join([*lines, "", "| option | meaning |", "|---|---|", *table, ""] if table else [*lines, ""])


def overview(stages: list[str]) -> str:
    """What each of some commands is for."""
    return "\n".join(
        ["| command | what it does |", "|---|---|", *(f"| [{s}](#{s}) | {STAGES[s]} |" for s in stages), ""]
    )


def render() -> str:
    """The page."""
    parts = [HEAD]
    for title, stages in grouped().items():
        parts += [f"## {title[0].upper()}{title[1:]}\n", overview(stages), *map(command, stages)]
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(render(), encoding="utf-8")
