"""Adaptations to Snakemake: errors, braces, and where commands are found."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.rules import Rule

from maskdistill.runtime.errors import MaskDistillError


@contextmanager
def refusals() -> Iterator[None]:
    """Let Snakemake print a :class:`MaskDistillError` of the block as its own: one message, no traceback."""
    try:
        yield
    except MaskDistillError as error:
        raise WorkflowError(str(error)) from None


def unformatted(text: str) -> str:
    """A text that Snakemake will format, with its braces doubled: the checkout's path may contain braces."""
    return text.replace("{", "{{").replace("}", "}}")


def with_environment(rule: Rule, default: str) -> None:
    """Give a rule its conda environment.

    Snakemake prepends the checkout's path to those of environments and formats the result, so the path is
    prepended here, with its braces doubled.

    Args:
        rule: may name another environment; as the default, a path from the folder of its file.
        default: for a rule without its own environment.
    """
    path = rule.basedir.join(rule.conda_env or default).get_path_or_uri(secret_free=False)
    rule.conda_env = rule.ruleinfo.conda_env = unformatted(
        os.path.normpath(path) if rule.basedir.is_local else path
    )


def find_commands(folder: Path) -> None:
    """Append a folder to the path in which shell commands look for entry points."""
    paths = os.environ.get("PATH", "").split(os.pathsep)
    if str(folder) not in paths:
        os.environ["PATH"] = os.pathsep.join([*paths, str(folder)])
