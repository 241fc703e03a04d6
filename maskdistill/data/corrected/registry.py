"""The formats in which corrected objects are read back: a module with ``READER`` in this folder."""

import pkgutil
from importlib import import_module
from pathlib import Path

from maskdistill.data import corrected
from maskdistill.data.corrected.base import Corrections, Reader
from maskdistill.data.truth_types import Losses
from maskdistill.runtime.errors import MaskDistillError

READERS: dict[str, Reader] = {
    found.READER.name: found.READER
    for module in pkgutil.iter_modules(corrected.__path__)
    if hasattr(found := import_module(f"{corrected.__name__}.{module.name}"), "READER")
}
"""Name -> reader."""
ARCHIVE = b"PK\x03\x04"


def read_corrected(path: Path, losses: Losses) -> tuple[Reader, Path, Corrections]:
    """Read a file or folder of corrected objects.

    Returns:
        Who read it, the file or folder that was read, and its objects.

    Raises:
        MaskDistillError: it is not in a format that can be read back; or naming file, entry and field of
            what is wrong in it.
    """
    if not path.exists():
        raise MaskDistillError(f"{path}: no such file or folder; correct the path")
    for reader in READERS.values():
        if (found := reader.find(path)) is not None:
            return reader, found, reader.read(found, losses)
    if path.is_file():
        with open(path, "rb") as stream:
            if stream.read(len(ARCHIVE)) == ARCHIVE:
                raise MaskDistillError(
                    f"{path}: a ZIP archive; unpack it, and give the file or folder that was in it"
                )
    known = "; ".join(f"{reader.name}: {reader.takes}" for reader in READERS.values())
    raise MaskDistillError(
        f"{path}: not in a format that can be read back ({known}); export it from the tool as one of these"
    )
