"""Writing and opening HDF5 files, without torch."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from maskdistill.runtime.errors import MaskDistillError, system_errno
from maskdistill.runtime.files import absent, check_seal, damaged, sealed_path
from maskdistill.runtime.locks import UNSUPPORTED, warn_without_locks


def hdf5_file(path: str | Path, mode: str) -> h5py.File:
    """Open a file with HDF5's own lock; if the file system has no locks, without one, which is logged once.

    Raises:
        OSError: as h5py raises it; a BlockingIOError if another process holds the lock.
    """
    try:
        return h5py.File(path, mode)
    except OSError as error:
        if system_errno(error) not in UNSUPPORTED or "lock" not in str(error):
            raise
    warn_without_locks(Path(path).parent)
    try:
        return h5py.File(path, mode, locking=False)
    except OSError as error:
        if system_errno(error) not in UNSUPPORTED or "lock" not in str(error):
            raise
        raise MaskDistillError(
            f"{path}: this file system has no locks, which HDF5_USE_FILE_LOCKING in the environment asks "
            "for; unset it"
        ) from None


@contextmanager
def write_hdf5(path: str | Path) -> Iterator[h5py.File]:
    """Open a file for writing; it appears at ``path``, sealed, when the block ends without error."""
    with sealed_path(path) as temporary, hdf5_file(temporary, "w") as file:
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
        file = hdf5_file(path, "r")
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
    """Raise BlockingIOError if another process holds the lock that HDF5 takes on a file that it writes."""
    with open(path, "rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:  # a file system without locks
            return
        fcntl.flock(stream, fcntl.LOCK_UN)
