"""Locks on files that the kernel releases when a process ends, however it ends; on any file system.

Some file systems have no locks (many NFS mounts return ENOLCK). There, the name of a kernel socket does the
same for the processes of one machine, and a warning says that processes on other machines are not seen.
"""

import errno
import fcntl
import hashlib
import logging
import os
import socket
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from maskdistill.runtime.errors import MaskDistillError

UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
"""Error numbers for a file system without locks."""

log = logging.getLogger("maskdistill")
_warned: set[str] = set()


class UnfitLockError(MaskDistillError):
    """The name of a lock file is taken by something that cannot be locked: a link, a folder, a pipe, ..."""


class FileLock:
    """A lock on a file, for one process at a time. The file is made if it is absent, and stays.

    Args:
        path: of the file; links are not followed.
        mode: permissions of a new file; None: according to the umask.
    """

    def __init__(self, path: str | Path, mode: int | None = None) -> None:
        self.path, self.mode = Path(path), mode
        self.descriptor: int | None = None
        self._name: socket.socket | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self.descriptor is not None

    @property
    def writable(self) -> bool:
        """Whether the locked file may be written to; read permission is enough for the lock itself."""
        return self.held and fcntl.fcntl(self._held_descriptor(), fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR

    def write(self, text: str) -> None:
        """Replace the content of the locked file."""
        os.ftruncate(self._held_descriptor(), 0)
        os.pwrite(self._held_descriptor(), text.encode(errors="backslashreplace"), 0)

    def _held_descriptor(self) -> int:
        if self.descriptor is None:
            raise RuntimeError("acquire() comes first")
        return self.descriptor

    def acquire(self) -> bool:
        """Try to take the lock; False if another process, or another object in this one, has it.

        Raises:
            UnfitLockError: what lies there is not a file.
            MaskDistillError: it cannot be opened; the message names its owner.
        """
        if self.held:
            return True
        descriptor = open_lock_file(self.path, self.mode)
        taken = False
        try:
            taken = (
                self._lock(descriptor) and os.fstat(descriptor).st_nlink > 0
            )  # another process may have removed its name
        finally:
            if not taken:
                os.close(descriptor)
                self.release()
        if taken:
            self.descriptor = descriptor
        return taken

    def release(self) -> None:
        """Release the lock."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None
        if self._name is not None:
            self._name.close()
            self._name = None

    def _lock(self, descriptor: int) -> bool:
        if (free := try_flock(descriptor)) is not None:
            return free
        warn_without_locks(self.path.parent)
        try:
            self._name = _bind(descriptor)
        except OSError as error:
            return error.errno != errno.EADDRINUSE
        return True


def try_flock(descriptor: int) -> bool | None:
    """Try to lock an open file: True if it is locked now, False if another process has it, None if locks do
    not exist.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        if (
            error.errno in UNSUPPORTED or error.errno == errno.EBADF
        ):  # EBADF: NFS, and a file open for reading only
            return None
        raise
    return True


def warn_without_locks(folder: str | Path) -> None:
    """Warn, once per process, that a folder's file system has no locks, and what that means."""
    place = os.path.abspath(folder)
    if place not in _warned:
        _warned.add(place)
        log.warning(
            "%s: this file system has no locks; processes of other machines that use the same files are not "
            "noticed, so let one machine at a time work there",
            place,
        )


def has_locks(folder: str | Path) -> bool:
    """Whether files in a folder can be locked; tested with a temporary file.

    Raises:
        OSError: a file cannot be made there.
    """
    with tempfile.TemporaryFile(dir=folder) as stream:
        return try_flock(stream.fileno()) is not None


def _bind(descriptor: int) -> socket.socket:
    """Bind the kernel socket that stands for a file; EADDRINUSE if another process has it."""
    found = os.fstat(descriptor)
    name = hashlib.sha256(f"maskdistill {found.st_dev} {found.st_ino}".encode()).hexdigest()
    taken = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        taken.bind(f"\0maskdistill-{name[:40]}")
    except BaseException:
        taken.close()
        raise
    return taken


def open_lock_file(path: Path, mode: int | None = None) -> int:
    """Descriptor of a regular file, which is made if it is absent; links are not followed.

    Raises:
        UnfitLockError, MaskDistillError: as :meth:`FileLock.acquire`.
    """
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = _open(path, flags, mode)
    except OSError as error:
        raise _unfit(path, error) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnfitLockError(_not_a_file(path, "something other than a file"))
    return descriptor


def _open(path: Path, flags: int, mode: int | None) -> int:
    try:
        return os.open(path, flags | os.O_RDWR)
    except FileNotFoundError:
        pass
    except PermissionError:
        return os.open(path, flags | os.O_RDONLY)  # read permission is enough to lock it
    try:
        descriptor = os.open(path, flags | os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:  # another process was faster; without O_CREAT, which a shared folder may forbid
        return os.open(path, flags | os.O_RDWR)
    if mode is not None:
        with suppress(OSError):
            os.fchmod(descriptor, mode)
    return descriptor


def _unfit(path: Path, error: OSError) -> MaskDistillError:
    kinds = {
        errno.ELOOP: "a link",
        errno.EISDIR: "a folder",
        errno.ENXIO: "a socket or pipe",
        errno.ENODEV: "a device",
    }
    if error.errno in kinds:
        return UnfitLockError(_not_a_file(path, kinds[error.errno]))
    owner = ""
    with suppress(OSError):
        owner = f"; it belongs to user {_name_of(path.lstat().st_uid)}"
    return MaskDistillError(f"{path}: the lock file cannot be opened ({error.strerror}){owner}")


def _not_a_file(path: Path, kind: str) -> str:
    return f"{path}: is {kind} where a lock file must lie; move it elsewhere"


def _name_of(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
