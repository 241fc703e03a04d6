"""Ground truth by kind of source: the module of this package that is called as the kind."""

import pkgutil
from importlib import import_module
from typing import Any

from maskdistill.config import DataConfig
from maskdistill.data import truth
from maskdistill.data.truth.base import SourceTruth
from maskdistill.runtime.errors import MaskDistillError

TRUTHS: dict[str, type[SourceTruth[Any]]] = {
    module.name: found.Truth
    for module in pkgutil.iter_modules(truth.__path__)
    if hasattr(found := import_module(f"{truth.__name__}.{module.name}"), "Truth")
}
"""``kind`` -> its ground truth."""


def truth_of(data: DataConfig) -> SourceTruth[Any]:
    """The ground truth of a source.

    Raises:
        MaskDistillError: it has none.
    """
    if not data.has_truth:
        raise MaskDistillError(
            f"data.kind: {data.kind} without annotations has no ground truth; nothing can be scored"
        )
    return TRUTHS[data.kind](data)
