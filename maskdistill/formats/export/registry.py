"""The formats for files of objects: modules with ``FORMAT`` in this folder, and entry points.

Another package adds a format by an entry point in the group :data:`GROUP` that names an
:class:`ExportFormat`.
"""

import pkgutil
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError

from maskdistill.formats import export
from maskdistill.formats.export.records import Context, Picture
from maskdistill.runtime.errors import MaskDistillError

GROUP = "maskdistill.formats"
OPTION = re.compile(r":(?=[a-z_]+(?:[=:]|$))")
"""Precedes an option; the colon of a URL (``prefix=s3://mine``) does not count."""
Append: TypeAlias = Callable[[Picture], None]


class NoOptions(BaseModel):
    """Base of a format's options: each has a default; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class ExportFormat:
    """A format for files of objects.

    Attributes:
        name: value of ``--format`` and name of the folder; no comma, colon or slash.
        reader: which tool reads it, and how, in one line.
        write: ``with write(folder, context, options) as append`` receives an empty folder, takes one picture
            after the other by ``append(picture)``, and has written everything when the block ends. Equal
            pictures give equal bytes. The caller makes the folder appear only when it is complete.
        options: class of its options.
    """

    name: str
    reader: str
    write: Callable[[Path, Context, Any], AbstractContextManager[Append]]
    options: type[BaseModel] = NoOptions


@dataclass(frozen=True)
class Chosen:
    """A format with its options, as requested by a user."""

    format: ExportFormat
    options: BaseModel

    def write(self, folder: Path, context: Context) -> AbstractContextManager[Append]:
        """See :attr:`ExportFormat.write`, with these options."""
        return self.format.write(folder, context, self.options)


@cache
def own_formats() -> dict[str, ExportFormat]:
    """The formats of this package by name, sorted."""
    names = sorted(module.name for module in pkgutil.iter_modules(export.__path__))
    modules = [import_module(f"{export.__name__}.{name}") for name in names]
    return {module.FORMAT.name: module.FORMAT for module in modules if hasattr(module, "FORMAT")}


@cache
def export_formats() -> dict[str, ExportFormat]:
    """All formats by name: ours, then those of other packages, each sorted.

    Raises:
        MaskDistillError: an entry point cannot be loaded, is not a format, or has a name that is taken.
    """
    found = dict(own_formats())
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value)):
        try:
            loaded = entry.load()
        except Exception as error:  # another package's code may raise anything
            raise MaskDistillError(
                f"the format {entry.name} ({entry.value}) cannot be loaded: {type(error).__name__}: {error}; "
                "repair or uninstall the package that has it"
            ) from error
        if not isinstance(loaded, ExportFormat) or loaded.name in found:
            wrong = "its name is taken" if isinstance(loaded, ExportFormat) else "it is no ExportFormat"
            raise MaskDistillError(
                f"the format {entry.name} ({entry.value}): {wrong}; repair or uninstall its package"
            )
        found[loaded.name] = loaded
    return found


def parse_formats(text: str, option: str = "--format") -> list[Chosen]:
    """Parse formats as on the command line: ``coco:polygons,yolo``; options follow the name, each after a
    colon.

    An option is ``name=value``, or the bare name for ``name=true``.

    Args:
        text: formats, separated by commas.
        option: the command's option, for messages.

    Raises:
        MaskDistillError: an unknown format or option, a bad value, or a format twice.
    """
    known = export_formats()
    chosen: list[Chosen] = []
    for part in filter(None, map(str.strip, text.split(","))):
        name, *given = OPTION.split(part)
        if name not in known:
            raise MaskDistillError(f"{option} {name}: unknown; there are {', '.join(known)}")
        if any(name == other.format.name for other in chosen):
            raise MaskDistillError(f"{option} {text}: {name} twice; name it once")
        values = {
            option: value if equals else "true"
            for option, equals, value in (one.partition("=") for one in given)
        }
        try:
            options = known[name].options.model_validate(values)
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
            has = ", ".join(known[name].options.model_fields) or "none"
            raise MaskDistillError(f"{option} {part}: {wrong} (its options: {has})") from None
        chosen.append(Chosen(known[name], options))
    if not chosen:
        raise MaskDistillError(f"{option}: name at least one of {', '.join(known)}")
    return chosen
