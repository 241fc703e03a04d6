"""Kinds of exported models by name. To add one: a module with a ``KIND`` and its line in :data:`KINDS`."""

from collections.abc import Sequence

from maskdistill.product.kinds import int8, onnx, pt2
from maskdistill.product.kinds.types import ExportKind
from maskdistill.runtime.errors import MaskDistillError

KINDS = {kind.name: kind for kind in (onnx.KIND, int8.KIND, pt2.KIND)}


def parse_kinds(text: str) -> Sequence[ExportKind]:
    """Kinds of a list with commas, in :data:`KINDS`'s order; ``onnx`` is always among them.

    Raises:
        MaskDistillError: a name that is not there.
    """
    names = {name.strip() for name in text.split(",") if name.strip()} | {onnx.KIND.name}
    if unknown := sorted(names - KINDS.keys()):
        raise MaskDistillError(f"--kinds {', '.join(unknown)}: unknown; there are {', '.join(KINDS)}")
    return [kind for name, kind in KINDS.items() if name in names]
