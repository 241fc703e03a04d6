"""Read the bytes of picture files: regular ones only, no more than memory allows, and never one that has no end."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

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
"""In pixels: libraries that count sides in 16 bits with a sign take no more, such as OpenCV 4 where it turns one."""

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


@contextmanager
def picture_bytes(path: str | Path) -> Iterator[bytes]:
    """The bytes of a file, and during the block the right to decode them: threads that decode share their memory.

    Raises:
        PictureError: not a regular file, or too large.
        OSError: it cannot be read.
        MaskDistillError: the process has no more open files or memory, which is no fault of the picture.
    """
    try:
        descriptor, size = _open_regular(path)
        with open(descriptor, "rb", buffering=0) as stream:
            pixels = _pixels(descriptor) if size else 0
            stream.seek(0)
            wanted = size + BYTES_A_PIXEL * pixels
            with shared_with_siblings(wanted), _budget.hold(wanted):
                try:
                    yield _read(stream.fileno(), size)
                finally:
                    if wanted > GIANT:
                        return_freed_memory()
    except MemoryError:
        raise exhausted(path, "memory") from None
    except OSError as error:
        if error.errno in _EXHAUSTED:
            raise exhausted(path, error.strerror or "") from None
        raise


def exhausted(path: str | Path, what: str) -> MaskDistillError:
    """What to say where the machine, not the picture, is the reason."""
    return MaskDistillError(
        f"{path}: cannot be read or decoded: the process ran out of what it may use ({what}); give the job more memory"
        " or open files (ulimit -n), or fewer threads, and give the same command again"
    )


def _open_regular(path: str | Path) -> tuple[int, int]:
    """Descriptor and size of a regular file; nothing else is opened, for that may never return or have an effect."""
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


def _refuse_kind(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise PictureError(f"not a file but {_KINDS.get(stat.S_IFMT(found.st_mode), 'something else')}")
    if found.st_size > MAX_BYTES:
        raise PictureError(f"{found.st_size} bytes, more than {MAX_BYTES}: save it smaller")


def _pixels(descriptor: int) -> int:
    """Pixels that the header states; 0 where decoding will refuse the picture before it takes memory for them."""
    with open(descriptor, "rb", closefd=False) as stream:
        try:
            with Image.open(stream, formats=FORMATS) as image:
                refuse_size(*image.size)
                return image.width * image.height
        except MemoryError:
            raise
        except Exception:  # Pillow's parsers raise a dozen unrelated types on damaged headers
            return 0


def _read(descriptor: int, size: int) -> bytes:
    """The first ``size`` bytes; a file that shrank meanwhile gives fewer."""
    with open(descriptor, "rb", closefd=False) as stream:
        return stream.read(size)
