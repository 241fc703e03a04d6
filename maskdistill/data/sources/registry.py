"""All sources by their kind: modules of this package, and what installed packages name under :data:`GROUP`.

A new source takes one new file. Sources are looked for when a section is first read, not at import: another
package's source may be imported first, and it imports the configuration itself.
"""

import pkgutil
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from maskdistill.data import sources
from maskdistill.data.sources.base import ImageSource, kind_of
from maskdistill.runtime.errors import MaskDistillError

GROUP = "maskdistill.sources"
"""Entry-point group of other packages' sources: the kind -> its class."""


@cache
def image_sources() -> dict[str, type[ImageSource]]:
    """``kind`` -> source; those that need no pictures first, then by name.

    Raises:
        MaskDistillError: an installed package's source cannot be loaded, is none, or takes another's kind.
    """
    for module in pkgutil.iter_modules(sources.__path__):
        import_module(f"{sources.__name__}.{module.name}")
    own = filter(is_own, _derived(ImageSource.__subclasses__()))
    kinds = {kind: source for source in own if (kind := kind_of(source))}
    for entry in entry_points(group=GROUP):
        kinds[entry.name] = _load(entry, kinds)
    return dict(sorted(kinds.items(), key=lambda item: (not item[1].GENERATED, item[0])))


def _derived(sources: Iterable[type[ImageSource]]) -> Iterator[type[ImageSource]]:
    """These classes and all that are derived from them."""
    for source in sources:
        yield source
        yield from _derived(source.__subclasses__())


def is_own(source: type[ImageSource]) -> bool:
    """Whether a source is a module of this package, not of another one."""
    return source.__module__.startswith(f"{sources.__name__}.")


def _load(entry: EntryPoint, taken: dict[str, type[ImageSource]]) -> type[ImageSource]:
    package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
    where = f"image source {entry.name} of {package}"
    try:
        found = entry.load()
    except Exception as error:  # whatever another package's module does
        raise MaskDistillError(f"{where} cannot be loaded: {error}; repair or uninstall it") from error
    if not (isinstance(found, type) and issubclass(found, ImageSource)):
        raise MaskDistillError(f"{where}: {entry.value} is not an ImageSource; repair or uninstall it")
    if kind_of(found) != entry.name:
        raise MaskDistillError(
            f'{where}: {entry.value} must declare `kind: Literal["{entry.name}"]`; repair or uninstall it'
        )
    if entry.name in taken:
        raise MaskDistillError(
            f"{where}: {taken[entry.name].__module__} has this kind already; uninstall one"
        )
    return found
