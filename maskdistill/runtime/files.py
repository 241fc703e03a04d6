"""Atomic outputs, which are on the disk before they get their names; sealed JSON; content hashes."""

import glob
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from maskdistill.runtime import seal
from maskdistill.runtime.errors import MaskDistillError

MARK = ".snakemake_timestamp"
"""Snakemake leaves this file in every folder that is an output of a rule."""

LONGEST_NAME = 255
"""Largest length of a file name in bytes."""
_NAME_KEPT = 100
_SYNCED_AT_ONCE = 16


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary file name beside ``path``; rename it to ``path`` when the block ends well.

    On an exception the temporary file is removed and ``path`` is left as it was. The file is flushed to the
    disk before the renaming, so no power cut leaves half of it; within :func:`atomic_directory` the folder
    takes care of that.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{_own_prefix(path)}{secrets.token_hex(4)}{path.suffix}")
    temporary.touch(
        0o666, exist_ok=False
    )  # minus the umask, which only the kernel can tell without changing it
    try:
        yield temporary
        give_name(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside ``path``; it replaces ``path`` when the block ends without
    error.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{_own_prefix(path)}{secrets.token_hex(4)}")
    temporary.mkdir(0o777)  # minus the umask
    try:
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        give_name(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def sealed_path(path: str | Path) -> Iterator[Path]:
    """:func:`atomic_path` whose file is sealed before it gets its name (:mod:`maskdistill.runtime.seal`)."""
    with atomic_path(path) as temporary:
        yield temporary
        seal.add_seal(temporary)


def give_name(temporary: Path, path: Path) -> None:
    """Rename a finished file or folder that has been flushed to the disk, then flush the folder that contains
    it.
    """
    kept = not any(_TEMPORARY.match(folder.name) for folder in path.parents)
    if kept:
        _sync_all(temporary)
    temporary.replace(path)
    if kept:
        with suppress(OSError):  # some file systems cannot flush folders
            _sync(path.parent)


def _sync_all(path: Path) -> None:
    """Flush a file, or all files in a folder, to the disk; many at once, which disks handle together."""
    if not path.is_dir():
        _sync(path)
        return
    found = [(Path(folder), names) for folder, _, names in os.walk(path)]
    files = [folder / name for folder, names in found for name in names if not (folder / name).is_symlink()]
    with ThreadPoolExecutor(_SYNCED_AT_ONCE) as pool:
        list(pool.map(_sync, files))
    with suppress(OSError):
        for folder, _ in reversed(found):
            _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _own_prefix(path: Path) -> str:
    """Prefix of this process's temporary names for ``path``; leftovers of killed processes on this host are
    removed.

    A long name is replaced by a hash, so that the temporary name is never too long if ``path`` itself is not.
    """
    name = os.fsencode(path.name)
    short = path.name if len(name) <= _NAME_KEPT else hashlib.sha256(name).hexdigest()[:32]
    begin = f".{short}.{platform.node()}-"
    for leftover in path.parent.glob(f"{glob.escape(begin)}*"):
        process = leftover.name.removeprefix(begin).partition("-")[0]
        if process.isdecimal() and not Path("/proc", process).exists() and Path("/proc/self").exists():
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)
    return f"{begin}{os.getpid()}-"


_TEMPORARY = re.compile(rf"\..*\.{re.escape(platform.node())}-\d+-")


def canonical_json(value: Any) -> str:
    """Compact JSON with sorted keys: equal values give equal bytes. NaN and infinity are refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def write_json(path: str | Path, value: Mapping[str, Any]) -> None:
    """Write an object as canonical JSON, sealed and atomically."""
    text = canonical_json({name: item for name, item in value.items() if name != seal.KEY})
    with sealed_path(path) as temporary:
        temporary.write_text(text + "\n")


def remedy(path: str | Path) -> str:
    """What to do about a damaged file that a run has made; a folder made by one stage is replaced as a
    whole.
    """
    made = [folder for folder in Path(path).parents if (folder / MARK).exists()]
    return f"make it anew: in a run the same command with --forcerun {made[0] if made else path}"


def damaged(path: str | Path, what: str) -> MaskDistillError:
    """The error for a file of a run that is not as it was written; ``what`` follows its name."""
    return MaskDistillError(f"{path}: {what}; {remedy(path)}")


def check_seal(path: str | Path) -> None:
    """Check a file made by a stage against its seal.

    Raises:
        MaskDistillError: it is missing, damaged or has no seal.
    """
    try:
        seal.verify(path)
    except FileNotFoundError:
        raise absent(path) from None
    except seal.BrokenSeal as error:
        raise damaged(path, f"damaged: {error}") from None
    except OSError as error:
        raise damaged(path, f"cannot be read ({error.strerror})") from None


def absent(path: str | Path) -> MaskDistillError:
    """The error for a missing file that a stage makes.

    Snakemake notices it itself, unless one job makes several shards, of which it checks only the last.
    """
    made = Path(path) if Path(path).parent.is_dir() else Path(path).parent
    return MaskDistillError(
        f"{path}: no such file; run the stage that makes it first (in a run: the same command with "
        f"--forcerun {made})"
    )


def read_json(path: str | Path, todo: str = "") -> Any:
    """Read what :func:`write_json` wrote; for a missing or damaged file a :class:`MaskDistillError` names it.

    Args:
        todo: the remedy, if the file may not be a run's.
    """

    def broken(reason: str) -> MaskDistillError:
        return MaskDistillError(f"{path}: {reason}; {todo}") if todo else damaged(path, reason)

    try:
        value = json.loads(seal.sealed_text(Path(path).read_bytes()))
    except FileNotFoundError:
        raise absent(path) from None
    except seal.BrokenSeal as error:
        raise broken(f"damaged: {error}") from None
    except OSError as error:
        raise broken(f"cannot be read ({error.strerror})") from None
    del value[seal.KEY]
    return value


def file_digest(path: str | Path, algorithm: str) -> str:
    """Hex digest of a file's bytes; ``algorithm`` as :mod:`hashlib` names it."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def sha256_file(path: str | Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    return seal.known_sha256(path) or file_digest(path, "sha256")


def sha256_text(text: str) -> str:
    """Hex SHA-256 of a string's UTF-8 bytes."""
    return hashlib.sha256(text.encode()).hexdigest()
