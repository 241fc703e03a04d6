"""Cache on this machine, limited in size, for objects read from stores and web servers.

One file per object or part of one, named by a hash of its URL: its bytes, then what is known about it
(:class:`_Foot`). Files appear by renaming and are never changed, so any number of processes may share the
folder. The least recently used ones are removed first; a process that has such a file open can still read it.
"""

import contextlib
import hashlib
import json
import os
import threading
import time
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import atomic_path, canonical_json
from maskdistill.runtime.locks import FileLock
from maskdistill.runtime.remote_read import Part, Received, Unchanged, fetch

FOLDER = "MASKDISTILL_CACHE"
"""Environment variable: folder of the cache, on a disk of this machine."""
GIGABYTES = "MASKDISTILL_CACHE_GB"
"""Environment variable: limit of its size in gigabytes."""
DEFAULT_GIGABYTES = 20.0
KEPT_SHARE = 0.9
"""Share of the limit that stays when objects are removed."""
LOOK_SHARE = 1 / 64
"""Share of the limit after whose addition a process checks the size."""
ABANDONED = 6 * 3600.0
"""Seconds after which an unfinished file counts as abandoned."""
_MAGIC = b"MDO1"


class _Foot(NamedTuple):
    """Record after an object's bytes: the server's mark of the content, and size and hash of the bytes."""

    etag: str
    size: int
    sha256: str


class ObjectCache:
    """A folder of objects.

    Args:
        folder: made if it is absent.
        limit: limit in bytes; concurrent processes may briefly exceed it, each by :data:`LOOK_SHARE` and the
            object that it reads.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self._added, self._lock = limit, threading.Lock()  # check the size already at the first object

    def open(
        self, url: str, sha256: str = "", most: int | None = None, part: Part | None = None
    ) -> tuple[int, int]:
        """An open descriptor of a file that begins with an object's bytes, and their number; the caller
        closes it.

        Args:
            url: checked (:func:`maskdistill.runtime.remote_urls.checked`).
            sha256: of the wanted content; a cached object is used without asking the server only if it has
                this hash.
            most: largest size in bytes; larger objects are refused.
            part: the only part of the object that is wanted; None: all of it.

        Raises:
            ObjectRefused, MaskDistillError: as :func:`maskdistill.runtime.remote_read.fetch`, or nothing can
                be written to the folder.
        """
        path = self._path(url, part)
        held = _open(path)
        if held is not None and sha256 and held[1].sha256 == sha256:
            _touch(path)
            return held[0], held[1].size
        try:
            found = self._fetch(url, path, held[1].etag if held else "", most, part)
        except Unchanged:
            assert held is not None, "nothing was known that could be unchanged"
            _touch(path)
            return held[0], held[1].size
        except BaseException:
            if held is not None:
                os.close(held[0])
            raise
        if held is not None:
            os.close(held[0])
        return found

    def _path(self, url: str, part: Part | None) -> Path:
        named = f"{url}#{part[0]}+{part[1]}" if part else url  # no checked URL holds such a mark
        name = hashlib.sha256(named.encode()).hexdigest()
        return self.folder / name[:2] / name[2:42]

    def _fetch(
        self, url: str, path: Path, known: str, most: int | None, part: Part | None
    ) -> tuple[int, int]:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with atomic_path(path) as temporary, open(temporary, "w+b") as stream:
                received = fetch(url, stream, known, most, part)
                _write_foot(stream.fileno(), received)
                descriptor = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise MaskDistillError(
                f"{self.folder}: was removed while it was used; give the same command again"
            ) from None
        except OSError as error:
            raise MaskDistillError(
                f"{self.folder}: objects cannot be kept there ({error.strerror}); set {FOLDER} to a folder "
                f"of this machine with room, or {GIGABYTES} to less than {self.limit / 1e9:g}"
            ) from None
        try:
            self._account(received.size)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor, received.size

    def _account(self, size: int) -> None:
        with self._lock:
            self._added += size
            if self._added <= self.limit * LOOK_SHARE:
                return
            self._added = 0
        self.shrink()

    def shrink(self) -> None:
        """Remove the least recently used objects until the size is low enough, unless another process is
        doing so.
        """
        lock = FileLock(self.folder / ".lock")
        if not lock.acquire():
            return
        try:
            self._shrink()
        finally:
            lock.release()

    def _shrink(self) -> None:
        import numpy as np

        used, sizes = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for folder in self._folders():
            found = np.array([entry[1:] for entry in _files(folder)], np.int64).reshape(-1, 2)
            used.append(found[:, 0])
            sizes.append(found[:, 1])
        times, held = np.concatenate(used), np.concatenate(sizes)
        excess = int(held.sum()) - self.limit
        if excess <= 0:
            return
        order = np.argsort(times, kind="stable")
        wanted = excess + int(self.limit * (1 - KEPT_SHARE))
        last = times[order[min(int(np.searchsorted(np.cumsum(held[order]), wanted)), len(order) - 1)]]
        for folder in self._folders():
            for path, used_at, _ in _files(folder):
                if used_at <= last and not Path(path).name.startswith("."):
                    _remove(path)

    def _folders(self) -> list[Path]:
        return sorted(path for path in self.folder.iterdir() if len(path.name) == 2 and path.is_dir())


@lru_cache(4)
def _cache(folder: str, limit: int) -> ObjectCache:
    return ObjectCache(Path(folder), limit)


def cache() -> ObjectCache:
    """The cache set in the environment.

    Raises:
        MaskDistillError: its size is not a number.
    """
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(os.environ.get(FOLDER) or f"{home}/maskdistill/objects").expanduser().absolute()
    given = os.environ.get(GIGABYTES) or str(DEFAULT_GIGABYTES)
    try:
        limit = int(float(given) * 1e9)
    except (ValueError, OverflowError):
        limit = 0
    if limit <= 0:
        raise MaskDistillError(f"{GIGABYTES}={given!r}: give gigabytes, such as {DEFAULT_GIGABYTES:g}")
    return _cache(str(folder), limit)


def _write_foot(descriptor: int, received: Received) -> None:
    text = canonical_json(list(received)).encode()
    os.lseek(descriptor, 0, os.SEEK_END)
    with open(os.dup(descriptor), "ab") as stream:
        stream.write(text + len(text).to_bytes(4) + _MAGIC)


def _open(path: Path) -> tuple[int, _Foot] | None:
    """A descriptor of a cached object; None if there is none, or it is incomplete."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with contextlib.suppress(OSError, ValueError, TypeError):
        size = os.fstat(descriptor).st_size
        tail = os.pread(descriptor, 8, size - 8)
        length = int.from_bytes(tail[:4])
        foot = _Foot(*json.loads(os.pread(descriptor, length, size - 8 - length)))
        if tail[4:] == _MAGIC and foot.size + length + 8 == size:
            return descriptor, foot
    os.close(descriptor)
    return None


def _files(folder: Path) -> list[tuple[str, int, int]]:
    """Path, time of last use in nanoseconds and size of each object in a folder; removes abandoned temporary
    files.
    """
    found = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                stat = entry.stat(follow_symlinks=False)
                if entry.name.startswith(".") and time.time() - stat.st_mtime > ABANDONED:
                    _remove(entry.path)
                    continue
                found.append((entry.path, stat.st_mtime_ns, stat.st_size))
    return found


def _touch(path: Path) -> None:
    with contextlib.suppress(OSError):
        os.utime(path)


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
