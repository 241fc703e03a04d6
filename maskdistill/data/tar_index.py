"""Where in a tar archive its pictures lie: read off the headers once, and kept.

Members are named as WebDataset names them (https://github.com/webdataset/webdataset): those of one folder
that share their name up to the first dot, and stand side by side, are one sample. Its picture is the member
with nothing but a picture's suffix behind that dot. No member's content is read.
"""

import os
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

from maskdistill.data.containers import kept_lines, unreadable
from maskdistill.data.picture_names import SUFFIXES, printable
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import LONGEST_NAME
from maskdistill.runtime.tar_headers import StrictHeader

FORMAT = 1
"""Of an index: a line of it and of the archive's stamp, a line a picture, a line of what was left out."""
COMPRESSED = (
    ".tar.gz",
    ".tgz",
    ".tar.bz2",
    ".tbz",
    ".tbz2",
    ".tar.xz",
    ".txz",
    ".tar.zst",
    ".tzst",
    ".tar.lz4",
    ".taz",
)
_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK": "zip"}
_LONGEST_SUFFIX = 12


class Member(NamedTuple):
    """A picture of an archive.

    Attributes:
        name: as it stands there, as text.
        offset, size: of its bytes in the archive; 0 where ``fault`` says why it cannot be a picture.
    """

    name: str
    offset: int
    size: int
    fault: str

    @property
    def sample(self) -> str:
        """Its folder and its name up to the first dot."""
        return _sample(self.name)[0]


def pictures_of(archive: Path, kept: Path | None, left_out: Counter[str]) -> Iterator[Member]:
    """The pictures of an archive on this machine in its order, one at a time.

    Args:
        kept: folder of a manifest; an index is kept there and read as long as the archive has its size and
            times.
        left_out: counts the members of samples that are not its picture, by suffix.

    Raises:
        MaskDistillError: naming archive and member: not a plain tar, cut off, damaged, or a member is there
            twice.
    """
    lines = kept_lines(archive, kept, [FORMAT], lambda: index_lines(str(archive), partial(_opened, archive)))
    return members(lines, left_out)


def members(lines: Iterator[Any], left_out: Counter[str]) -> Iterator[Member]:
    """The pictures that an index names (:func:`index_lines`), which may have been kept as JSON."""
    for found in lines:
        if isinstance(found, dict):
            left_out.update(found)
        else:
            yield Member(*found)


def index_lines(archive: str, opened: Callable[[], IO[bytes]]) -> Iterator[Member | Counter[str]]:
    """Each picture of an archive, then what was left out.

    Args:
        archive: its name, for messages.
        opened: opens it, wherever it lies; the stream can seek.

    Raises:
        MaskDistillError: as :func:`pictures_of`, and what ``opened`` and the stream raise.
    """
    left_out: Counter[str] = Counter()
    yield from _read_headers(archive, opened, left_out)
    yield left_out


def _opened(archive: Path) -> IO[bytes]:
    try:
        return open(archive, "rb")
    except OSError as error:
        raise unreadable(archive, error) from None


def _read_headers(archive: str, opened: Callable[[], IO[bytes]], left_out: Counter[str]) -> Iterator[Member]:
    """The pictures of an archive; the pictures of one sample in memory at a time."""
    sample, number = dict[str, Member](), ""
    for header in _headers(archive, opened):
        name = printable(header.name).replace("\0", "~")
        parts = name.split("/")
        if header.isdir() or any(part.startswith(".") and part not in (".", "..") for part in parts):
            continue
        own, suffix = _sample(name)
        if suffix not in SUFFIXES:
            left_out[_kind(suffix)] += 1
            continue
        if name in sample:
            raise MaskDistillError(f"{archive}: member {name!r} is there twice; pack the archive again")
        if sample and own != number:
            yield _picture(sample, left_out)
            sample = {}
        fault, number = _fault(header, parts), own
        sample[name] = (
            Member(name, 0, 0, fault) if fault else Member(name, header.offset_data, header.size, "")
        )
    if sample:
        yield _picture(sample, left_out)


def _headers(archive: str, opened: Callable[[], IO[bytes]]) -> Iterator[tarfile.TarInfo]:
    """The headers of a tar, one at a time; members are skipped."""
    last, before = "its beginning", -1
    try:
        with opened() as stream:
            start = stream.read(4)
            if compression := next((name for magic, name in _MAGIC.items() if start.startswith(magic)), None):
                raise compressed(archive, compression)
            stream.seek(0)
            with tarfile.open(
                fileobj=stream, mode="r:", tarinfo=StrictHeader, encoding="utf-8", errors="surrogateescape"
            ) as tar:
                while (header := tar.next()) is not None:
                    if header.size < 0 or tar.offset <= before:
                        raise tarfile.ReadError("a negative size")
                    before, last = tar.offset, f"member {printable(header.name)!r}"
                    yield header
                    tar.members.clear()  # type: ignore[attr-defined]  # else all headers stay in memory
    except OSError as error:
        raise unreadable(Path(archive), error) from None
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise MaskDistillError(
            f"{archive}: not a whole tar archive ({error}), read up to {last}: cut short or damaged; "
            f"replace it with a complete copy"
        ) from None


def compressed(archive: str, how: str) -> MaskDistillError:
    """What to say of an archive whose members have no place of their own."""
    return MaskDistillError(
        f"{archive}: is compressed ({how}), and pictures are read at their places in a plain tar; decompress "
        "it (gunzip, unzstd, ...) and give the .tar, which is hardly larger: pictures are compressed "
        "themselves"
    )


def _sample(name: str) -> tuple[str, str]:
    """What a member shares with the others of its sample, and what is behind the first dot of its name."""
    folder, slash, base = name.rpartition("/")
    stem, dot, suffix = base.partition(".")
    return folder + slash + stem, (dot + suffix).lower()


def _kind(suffix: str) -> str:
    """What a member is counted as that is no sample's picture."""
    last = os.path.splitext(f"x{suffix}")[1]
    if not 1 < len(last) <= _LONGEST_SUFFIX:
        return "without a suffix"
    return last if last == suffix else f".*{last}"


def _fault(header: tarfile.TarInfo, parts: list[str]) -> str:
    """Why a member named like a picture is none (:data:`maskdistill.data.picture_refs.FAULTS`)."""
    if header.issym() or header.islnk():
        return "link"
    if header.issparse():
        return "sparse"
    if not header.isreg():
        return "device"
    outside = not parts[0] or ".." in parts or "\0" in header.name
    return "name" if outside or any(len(part.encode()) > LONGEST_NAME for part in parts) else ""


def _picture(sample: dict[str, Member], left_out: Counter[str]) -> Member:
    """Of a sample's pictures the one with the most usual suffix: a label map beside it is a PNG."""
    first, *others = sorted(sample.values(), key=lambda member: SUFFIXES.index(_sample(member.name)[1]))
    left_out.update(_sample(member.name)[1] for member in others)
    return first
