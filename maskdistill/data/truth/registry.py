"""Ground truth by kind of source: the module of this package with that name, or another package's class."""

import pkgutil
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from maskdistill.config import DataConfig
from maskdistill.data import truth
from maskdistill.data.truth.base import SourceTruth
from maskdistill.runtime.errors import MaskDistillError

GROUP = "maskdistill.truths"
"""Entry-point group of other packages' ground truth: the kind of source -> its :class:`SourceTruth`."""
TRUTHS: dict[str, type[SourceTruth[Any]]] = {
    module.name: found.Truth
    for module in pkgutil.iter_modules(truth.__path__)
    if hasattr(found := import_module(f"{truth.__name__}.{module.name}"), "Truth")
}
"""``kind`` -> its ground truth."""


def truth_of(data: DataConfig) -> SourceTruth[Any]:
    """The ground truth of a source.

    Raises:
        MaskDistillError: it has none, or the package of the source has no class that reads it.
    """
    if not data.has_truth:
        raise MaskDistillError(
            f"data.kind: {data.kind} without annotations has no ground truth; nothing can be scored"
        )
    found = TRUTHS.get(data.kind) or _installed(data.kind)
    return found(data)


def _installed(kind: str) -> type[SourceTruth[Any]]:
    """What another package names under :data:`GROUP`."""
    for entry in entry_points(group=GROUP, name=kind):
        where = f"ground truth {kind}: {entry.value}"
        try:
            found = entry.load()
        except Exception as error:  # whatever another package's module does
            raise MaskDistillError(
                f"{where} cannot be loaded: {error}; repair or uninstall its package"
            ) from error
        if not (isinstance(found, type) and issubclass(found, SourceTruth)):
            raise MaskDistillError(f"{where} is no SourceTruth; repair or uninstall its package")
        return found
    raise MaskDistillError(
        f"data.kind: {kind}: no package reads its ground truth; the source's own must name a SourceTruth "
        f"under the entry-point group {GROUP}"
    )
