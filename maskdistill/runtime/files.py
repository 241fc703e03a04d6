"""Atomic outputs, canonical JSON and content hashes."""

import glob
import hashlib
import json
import os
import platform
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from maskdistill.runtime.errors import MaskDistillError

MARK = ".snakemake_timestamp"
"""Snakemake leaves this file in every folder that is the output of a rule."""

LONGEST_NAME = 255
"""Bytes that file systems take as the name of a file."""
_NAME_KEPT = 100


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary file name beside ``path``; rename it to ``path`` when the block ends well.

    On an exception the temporary file is removed and ``path`` is left as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{_own_prefix(path)}{secrets.token_hex(4)}{path.suffix}")
    temporary.touch(0o666, exist_ok=False)  # less the umask, which only the kernel knows without changing it
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside ``path``; it replaces ``path`` when the block ends well."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{_own_prefix(path)}{secrets.token_hex(4)}")
    temporary.mkdir(0o777)  # less the umask
    try:
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _own_prefix(path: Path) -> str:
    """How this process begins temporary names of ``path``; what killed processes of this host left is removed.

    Of a long name a hash stands there: the temporary name must not be too long where ``path`` itself is not.
    """
    name = os.fsencode(path.name)
    short = path.name if len(name) <= _NAME_KEPT else hashlib.sha256(name).hexdigest()[:32]
    begin = f".{short}.{platform.node()}-"
    for leftover in path.parent.glob(f"{glob.escape(begin)}*"):
        process = leftover.name.removeprefix(begin).partition("-")[0]
        if process.isdecimal() and not Path("/proc", process).exists() and Path("/proc/self").exists():
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)
    return f"{begin}{os.getpid()}-"


def canonical_json(value: Any) -> str:
    """Compact JSON with sorted keys: equal values give equal bytes. NaN and infinity are refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as canonical JSON, atomically."""
    text = canonical_json(value)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n")


def remedy(path: str | Path) -> str:
    """What to do about a damaged file that a run has made; a folder that one stage made goes as a whole."""
    made = [folder for folder in Path(path).parents if (folder / MARK).exists()]
    return f"delete the folder {made[0]} and run again" if made else "delete it and run again"


def absent(path: str | Path) -> MaskDistillError:
    """What to say of a missing file that a stage makes.

    Snakemake itself misses it, unless one job makes several shards: of these it looks at the last.
    """
    made = Path(path) if Path(path).parent.is_dir() else Path(path).parent
    return MaskDistillError(
        f"{path}: no such file; run the stage that makes it first (in a run: the same command with --forcerun {made})"
    )


def read_json(path: str | Path, todo: str = "") -> Any:
    """Read a JSON file that a run has made; a missing or broken file is a :class:`MaskDistillError` naming it.

    Args:
        todo: the remedy, where the file is perhaps not a run's.
    """
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise absent(path) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise MaskDistillError(f"{path}: not valid JSON ({error}); {todo or remedy(path)}") from None


def file_digest(path: str | Path, algorithm: str) -> str:
    """Hex digest of a file's bytes; ``algorithm`` as :mod:`hashlib` names it."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def sha256_file(path: str | Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    return file_digest(path, "sha256")


def sha256_text(text: str) -> str:
    """Hex SHA-256 of a string's UTF-8 bytes."""
    return hashlib.sha256(text.encode()).hexdigest()
