"""Opening HDF5 files; without torch, for stages that need none."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import absent, remedy


@contextmanager
def open_hdf5(path: str | Path) -> Iterator[h5py.File]:
    """Open a file for reading.

    Raises:
        MaskDistillError: the file is missing, truncated, not HDF5 or being written by another process.
    """
    try:
        file = h5py.File(path, "r")
    except FileNotFoundError:
        raise absent(path) from None
    except BlockingIOError:
        raise MaskDistillError(
            f"{path}: another process is writing it; wait until that one has ended, and run again"
        ) from None
    except OSError as error:
        raise MaskDistillError(f"{path}: not a readable HDF5 file ({error}); {remedy(path)}") from None
    with file:
        yield file
