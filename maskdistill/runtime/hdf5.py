"""Writing and opening HDF5 files; without torch, for stages that need none."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import absent, check_seal, damaged, sealed_path


@contextmanager
def write_hdf5(path: str | Path) -> Iterator[h5py.File]:
    """Open a file for writing; it appears under ``path``, sealed, when the block ends well."""
    with sealed_path(path) as temporary, h5py.File(temporary, "w") as file:
        yield file


@contextmanager
def open_hdf5(path: str | Path) -> Iterator[h5py.File]:
    """Open a file for reading.

    Raises:
        MaskDistillError: the file is missing, damaged, not HDF5 or being written by another process.
    """
    try:
        _refuse_written(path)
        check_seal(path)
        file = h5py.File(path, "r")
    except FileNotFoundError:
        raise absent(path) from None
    except BlockingIOError:
        raise MaskDistillError(
            f"{path}: another process is writing it; wait until that one has ended, and run again"
        ) from None
    except OSError as error:
        raise damaged(path, f"not a readable HDF5 file ({error})") from None
    with file:
        yield file


def _refuse_written(path: str | Path) -> None:
    """Raise BlockingIOError where another process holds the lock that HDF5 takes on a file that it writes."""
    with open(path, "rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:  # a file system without locks
            return
        fcntl.flock(stream, fcntl.LOCK_UN)
