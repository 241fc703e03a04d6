"""Every artefact contains the SHA-256 of its own content, its seal, which every reader checks.

JSON has it as its last key (``"~sha256"``), safetensors among its metadata, HDF5, NPZ, CSV and torch files as
a last line, which their readers skip. It is the digest of the file with 64 zeros in its own place. PNGs need
none: the format has a checksum in every chunk, which :func:`check_png` checks.
"""

import hashlib
import os
import re
import struct
import time
import zlib
from pathlib import Path

KEY = "~sha256"
"""Name of the digest in JSON and in the metadata of safetensors; it sorts after every other key."""
BLANK = "0" * 64
_LINE = b"\n# sha256 "
_JSON = f'"{KEY}":"'.encode()
_CHUNK = 2**17
_OLD_ENOUGH_NS = 2_000_000_000
_HEX = re.compile(rb"[0-9a-f]{64}")
_known: dict[str, tuple[tuple[int, ...], str]] = {}


class BrokenSeal(Exception):
    """A file is not what was written; the message says how that was detected."""


def stamp(path: str | Path) -> tuple[int, int, int, int]:
    """Size, modification time, inode and change time; while these stay the same, the content is assumed
    to.
    """
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns, found.st_ino, found.st_ctime_ns


def add_seal(path: str | Path) -> None:
    """Seal a finished file, as the last step before it gets its name. A safetensors file already has its
    blank digest.

    Raises:
        ValueError: not a JSON object, or no blank digest in a safetensors file.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        with open(path, "r+b") as stream:
            stream.seek(0, os.SEEK_END)
            if path.suffix == ".json":
                stream.seek(-2, os.SEEK_END)
                if stream.read() != b"}\n":
                    raise ValueError(f"{path}: only a JSON object on one line can be sealed")
                comma = b"" if stream.tell() == len(b"{}\n") else b","
                stream.seek(-2, os.SEEK_END)
                stream.write(comma + _JSON + BLANK.encode() + b'"}\n')
            else:
                stream.seek(-1, os.SEEK_END)
                ended = stream.read() == _LINE[:1]
                stream.write(_LINE[ended:] + BLANK.encode() + b"\n")
    place = _place(path)
    if place is None:
        raise ValueError(f"{path}: has no place for its digest")
    digest = _hash(path, place)[0]
    with open(path, "r+b") as stream:
        stream.seek(place)
        stream.write(digest.encode())


def has_seal(path: str | Path) -> bool:
    """Whether a file has a digest, right or wrong."""
    return _place(Path(path)) is not None


def verify(path: str | Path) -> str:
    """Check a file against its seal; a file that was checked before and has kept its stamp is not read again.

    Returns:
        Hex SHA-256 of the whole file, including the seal.

    Raises:
        BrokenSeal: it has none, or another one.
        OSError: it cannot be read.
    """
    path = Path(path)
    before = stamp(path)
    if (known := known_sha256(path)) is not None:
        return known
    place = _place(path)
    if place is None:
        raise BrokenSeal("it has no digest: it was cut off or overwritten, or an earlier version made it")
    digest, of_file, stored = _hash(path, place)
    if stored != digest:
        raise BrokenSeal("its content is not what its digest says")
    _remember(path, before, of_file)
    return of_file


def whole_as(path: str | Path, sha256: str) -> None:
    """Check a whole file against a digest stored elsewhere, as :func:`verify` does with the file's own.

    Raises:
        BrokenSeal: it has another one.
        OSError: it cannot be read.
    """
    before = stamp(path)
    if known_sha256(path) == sha256:
        return
    with open(path, "rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != sha256:
        raise BrokenSeal("its content is not what its digest says")
    _remember(path, before, found)


def _remember(path: str | Path, before: tuple[int, ...], sha256: str) -> None:
    """Note a file's digest, unless it was changed so recently that another change could leave its times
    unchanged.
    """
    if time.time_ns() - max(before[1], before[3]) > _OLD_ENOUGH_NS:
        _known[os.path.abspath(path)] = before, sha256


def known_sha256(path: str | Path) -> str | None:
    """Hex SHA-256 of a file that :func:`verify` has read and that has kept its stamp; None for others."""
    known = _known.get(os.path.abspath(path))
    return known[1] if known and known[0] == stamp(path) else None


def sealed_text(data: bytes) -> bytes:
    """Bytes of a JSON file, checked against their seal.

    Raises:
        BrokenSeal: as :func:`verify`.
    """
    place = len(data) - len(BLANK) - len(b'"}\n')
    if place < 0 or not data[:place].endswith(_JSON) or not _HEX.fullmatch(data, place, place + len(BLANK)):
        raise BrokenSeal("it has no digest: it was cut off or overwritten, or an earlier version made it")
    digest = hashlib.sha256(data[:place])
    digest.update(BLANK.encode() + data[place + len(BLANK) :])
    if digest.hexdigest().encode() != data[place : place + len(BLANK)]:
        raise BrokenSeal("its content is not what its digest says")
    return data


def check_png(data: bytes) -> None:
    """Check every chunk of a PNG against its checksum, which not all decoders do.

    Raises:
        BrokenSeal: one is wrong, or the file does not end where a PNG ends.
    """
    place = 8
    if data[:place] != b"\x89PNG\r\n\x1a\n":
        raise BrokenSeal("it does not begin as a PNG")
    kind = b""
    while kind != b"IEND":
        if place + 12 > len(data):
            raise BrokenSeal("it is cut off")
        (length,) = struct.unpack_from(">I", data, place)
        kind, end = data[place + 4 : place + 8], place + 8 + length
        if end + 4 > len(data) or zlib.crc32(data[place + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise BrokenSeal("a checksum is wrong")
        place = end + 4
    if place != len(data):
        raise BrokenSeal("bytes follow its end")


def _place(path: Path) -> int | None:
    """Position of the digest in a file; None if it has none."""
    with open(path, "rb") as stream:
        if path.suffix == ".safetensors":
            length = int.from_bytes(stream.read(8), "little")
            found = re.search(re.escape(_JSON) + _HEX.pattern + b'"', stream.read(min(length, 2**27)))
            return None if found is None else 8 + found.start() + len(_JSON)
        before, behind = (_JSON, b'"}\n') if path.suffix == ".json" else (_LINE, b"\n")
        size = stream.seek(0, os.SEEK_END)
        place = size - len(behind) - len(BLANK)
        if place < len(before):
            return None
        stream.seek(place - len(before))
        tail = stream.read()
    whole = tail.startswith(before) and tail.endswith(behind)
    return place if whole and _HEX.fullmatch(tail, len(before), len(before) + len(BLANK)) else None


def _hash(path: Path, place: int) -> tuple[str, str, str]:
    """Digest of the file as it is, computed with the digest's place blank, and the digest stored there."""
    with open(path, "rb") as stream:
        blank, whole = hashlib.sha256(), hashlib.sha256()
        left = place
        while left and (data := stream.read(min(_CHUNK, left))):
            blank.update(data)
            left -= len(data)
        whole = blank.copy()
        stored = stream.read(len(BLANK))
        blank.update(BLANK.encode())
        whole.update(stored)
        while data := stream.read(_CHUNK):
            blank.update(data)
            whole.update(data)
    return blank.hexdigest(), whole.hexdigest(), stored.decode("ascii", "replace")
