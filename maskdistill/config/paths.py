"""Paths as a user writes them, with ``~`` and environment variables: the one place where they are
resolved.
"""

import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")


def user_path(text: str) -> str:
    """The path that a user means: ``~``, ``~name``, ``$NAME`` and ``${NAME}`` expanded, no double or trailing
    slashes.

    If the path exists as written, it is taken literally: a folder may be called ``US$``.

    Raises:
        ValueError: an environment variable that is not set, a null character, or an empty path.
    """
    if not text or "\0" in text:
        raise ValueError("give the path of a file or folder" if not text else "a path has no null character")
    if not os.path.lexists(text):
        text = os.path.expanduser(_VARIABLE.sub(_value, text))
    return str(Path(text))


def _value(found: re.Match[str]) -> str:
    name = found[1] or found[2]
    if name in os.environ:
        return os.environ[name]
    raise ValueError(f"the environment variable {name} is not set, and no path has this literal name")


UserPath = Annotated[
    str, AfterValidator(user_path), Field(min_length=1, json_schema_extra={"format": "path"})
]
"""A setting that is the path of a file or folder, relative to the folder where the program is started."""
