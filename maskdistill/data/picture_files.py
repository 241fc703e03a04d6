"""Open pictures and read their bytes: from regular files only, and within the memory allowed.

:func:`open_picture` is the one place where a picture is opened, a file of its own or one inside of an
archive.
"""

import errno
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from PIL import Image

from maskdistill.data.picture_refs import FAULTS, Frame, Row, file_of, has_odd_parts, inside, remote_url
from maskdistill.runtime.allocator import return_freed_memory
from maskdistill.runtime.budget import DECODING, Budget, shared_with_siblings
from maskdistill.runtime.errors import MaskDistillError

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "AVIF", "GIF", "PPM", "JPEG2000")
"""Pillow formats that are decoded, whatever the suffix says."""

MAX_BYTES = 512 * 2**20
"""Larger files are refused before they are read; of the largest picture, uncompressed RGBA takes 341 MiB."""

MAX_PIXELS = 89_478_485
"""Larger pictures are refused before they are decoded (Pillow's own warning limit, 256 MiB as RGB)."""

MAX_SIDE = 32_000
"""In pixels: libraries that count sides in 16 bits with a sign take no more, such as OpenCV 4 where it turns
one.
"""

MAX_ASPECT = 50
"""Longest side over shortest: beyond it nothing is left of the short side at the sizes that networks see."""

GIANT = DECODING // 8
"""Whoever took more gives freed memory back to the system: eight threads may keep as much as this, each."""
BYTES_A_PIXEL = 12
"""Of a picture while it is decoded, at most: as stored, upright and as RGB, 4 bytes each."""

_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
_KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}  # fmt: skip


class PictureError(MaskDistillError):
    """A picture cannot be used. The message is the reason alone: no path, equal on every machine."""


_budget = Budget(DECODING)


def refuse_size(width: int, height: int) -> None:
    """Refuse a picture whose size alone would end a later stage.

    Raises:
        PictureError: it has too many pixels, too long a side, or next to no second dimension.
    """
    size = f"{width}x{height} pixels"
    if width * height > MAX_PIXELS:
        raise PictureError(f"{size}, more than {MAX_PIXELS}: scale it down")
    if max(width, height) > MAX_SIDE:
        raise PictureError(f"{size}, a side of more than {MAX_SIDE}: scale it down or cut it")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise PictureError(f"{size}, one side more than {MAX_ASPECT} times the other: cut it")


class PictureStream(io.RawIOBase):
    """Bytes ``start`` to ``start + size`` of an open file, as a stream that can seek.

    Every read names its place in the file, so processes that share the descriptor do not disturb each other.
    """

    def __init__(self, descriptor: int, start: int, size: int) -> None:
        super().__init__()
        self._descriptor, self._start, self._place = descriptor, start, 0
        self.size = size

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place within the picture."""
        self._place = max(0, offset + (0, self._place, self.size)[whence])
        return self._place

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from where the stream stands; 0 at the picture's end."""
        wanted = max(0, min(len(buffer), self.size - self._place))
        data = self._read(wanted, self._place)
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)

    def whole(self) -> bytes:
        """All of it, wherever the stream stands; of a file that shrank meanwhile what is left."""
        return self._read(self.size, 0)

    def _read(self, count: int, place: int) -> bytes:
        return os.pread(self._descriptor, count, self._start + place)


class HeldPicture(PictureStream):
    """The bytes of a picture that lie in memory already."""

    def __init__(self, data: bytes) -> None:
        super().__init__(-1, 0, len(data))
        self._data = data

    def _read(self, count: int, place: int) -> bytes:
        return self._data if count == self.size else self._data[place : place + count]


@contextmanager
def open_picture(picture: str | Path) -> Iterator[PictureStream]:
    """Open a picture: a regular file, or what lies in one (:mod:`maskdistill.data.picture_refs`).

    A frame of a video comes as an uncompressed BMP.

    One that lies elsewhere is fetched unless the cache has it. What the manifest saw (``sha256`` of a
    ``Photo``) is taken from there without asking; of anything else the server is asked whether it changed.

    Raises:
        PictureError: not a regular file, too large, or a member of an archive or an object that is no picture
            or not there any more.
        OSError: it cannot be read.
        MaskDistillError: network, server or credentials failed, which is no fault of the picture.
    """
    place, url = inside(picture), remote_url(picture)
    if isinstance(place, Frame | Row):
        yield HeldPicture(_of_container(place))
        return
    if place and place.fault:
        raise PictureError(FAULTS.get(place.fault, place.fault))
    if place and place.size > MAX_BYTES:
        raise _too_large(place.size)
    if place and url and not place.size:
        yield HeldPicture(b"")
        return
    if url:
        part = (place.offset, place.size) if place else None
        descriptor, held = _open_remote(url, getattr(picture, "sha256", ""), part)
    else:
        descriptor, held = _open_regular(file_of(picture))
    try:
        start, size = (place.offset, place.size) if place and not url else (0, held)
        if start + size > held:
            raise PictureError(f"the archive ends before it, at byte {held}: replace it with a complete copy")
        if size > MAX_BYTES:
            raise _too_large(size)
        yield PictureStream(descriptor, start, size)
    finally:
        os.close(descriptor)


@contextmanager
def picture_bytes(picture: str | Path) -> Iterator[bytes]:
    """A picture's bytes, and the right to decode them: decoding threads share their memory.

    Raises:
        PictureError, OSError: as :func:`open_picture`.
        MaskDistillError: the process has no more open files or memory, which is no fault of the picture.
    """
    try:
        with open_picture(picture) as stream:
            pixels = _pixels(stream) if stream.size else 0
            wanted = stream.size + BYTES_A_PIXEL * pixels
            with shared_with_siblings(wanted), _budget.hold(wanted):
                try:
                    yield stream.whole()
                finally:
                    if wanted > GIANT:
                        return_freed_memory()
    except MemoryError:
        raise exhausted(picture, "memory") from None
    except OSError as error:
        if error.errno in _EXHAUSTED:
            raise exhausted(picture, error.strerror or "") from None
        raise


def exhausted(path: str | Path, what: str) -> MaskDistillError:
    """What to say where the machine, not the picture, is the reason."""
    return MaskDistillError(
        f"{path}: cannot be read or decoded: the process ran out of what it may use ({what}); give the job "
        "more memory or open files (ulimit -n), or fewer threads, and give the same command again"
    )


def _of_container(place: Frame | Row) -> bytes:
    """What lies in a video or a table, whose libraries are loaded for nobody else."""
    _refuse_kind(os.stat(place.archive))
    if isinstance(place, Frame):
        from maskdistill.data.video_frames import frame_bytes

        data = frame_bytes(place)
    else:
        from maskdistill.data.table_rows import row_bytes

        data = row_bytes(place)
    if len(data) > MAX_BYTES:
        raise _too_large(len(data))
    return data


def _too_large(size: int) -> PictureError:
    return PictureError(f"{size} bytes, more than {MAX_BYTES}: save it smaller")


def _open_regular(path: str | Path) -> tuple[int, int]:
    """Descriptor and size of a regular file; opening anything else may hang or have an effect."""
    try:
        _refuse_kind(os.stat(path))
    except ValueError:
        raise PictureError("the file name holds a byte 0; rename it") from None
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        opened = os.fstat(descriptor)
        _refuse_kind(opened)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, opened.st_size


def _open_remote(url: str, sha256: str, part: tuple[int, int] | None) -> tuple[int, int]:
    """Descriptor and number of an object's bytes, or a part's, in the cache; fetched first if need be."""
    from maskdistill.runtime.object_cache import cache  # of pictures on this machine nothing of it is needed
    from maskdistill.runtime.remote_read import ObjectRefused

    if has_odd_parts(url):
        raise PictureError("its name has an empty part, or '.' or '..' as one: give it another name")
    try:
        return cache().open(url, sha256, MAX_BYTES, part)
    except ObjectRefused as error:
        raise PictureError(str(error)) from None


def _refuse_kind(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise PictureError(f"not a file but {_KINDS.get(stat.S_IFMT(found.st_mode), 'something else')}")


def read_header(stream: PictureStream) -> Image.Image:
    """The picture as its header tells, not decoded; raises whatever Pillow raises."""
    return Image.open(cast(IO[bytes], stream), formats=FORMATS)


def _pixels(stream: PictureStream) -> int:
    """Pixels according to the header; 0 where decoding refuses before it takes memory."""
    try:
        with read_header(stream) as image:
            refuse_size(*image.size)
            return image.width * image.height
    except MemoryError:
        raise
    except Exception:  # Pillow's parsers raise a dozen unrelated types on damaged headers
        return 0
