"""An object in a store as a stream that can seek, of which little is read where little is asked for.

Made for a tar's headers: where its members are small, all of it comes in a few large pieces; where they are
large, a small piece a header.
"""

import io
from typing import IO, Any

from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.remote_read import fetch
from maskdistill.runtime.remote_urls import shown

LEAST, MOST = 1 << 16, 1 << 22
"""Bytes of a piece. It is twice the last one where it begins within as many bytes behind that one, and else
the least.
"""


class ObjectStream(io.RawIOBase):
    """An object's bytes; one piece of them is in memory.

    Args:
        url: checked (:func:`maskdistill.runtime.remote_urls.checked`).
        size: in bytes, as the store's list has it.
    """

    def __init__(self, url: str, size: int) -> None:
        super().__init__()
        self._url, self._size, self._etag = url, size, ""
        self._place = self._begin = 0
        self._piece = b""

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place; nothing is read."""
        self._place = max(0, offset + (0, self._place, self._size)[whence])
        return self._place

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from where the stream stands, with one piece's bytes at most; 0 at the end.

        Raises:
            ObjectRefused, MaskDistillError: as :func:`maskdistill.runtime.remote_read.fetch`, or the object
                is another one now than when it was listed, or than its first piece.
        """
        if self._place >= self._size:
            return 0
        end = self._begin + len(self._piece)
        if not self._begin <= self._place < end:
            near = 0 <= self._place - end < len(self._piece)
            wanted = min(MOST, 2 * len(self._piece)) if near else LEAST
            wanted = min(wanted, self._size - self._place)
            self._piece, self._begin = self._ask(wanted), self._place
        start = self._place - self._begin
        data = self._piece[start : start + len(buffer)]
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)

    def _ask(self, count: int) -> bytes:
        """So many bytes from where the stream stands."""
        piece = io.BytesIO()
        got = fetch(self._url, piece, most=count, part=(self._place, count))
        if self._etag not in ("", got.etag):
            raise MaskDistillError(
                f"{shown(self._url)}: changed while it was read; give the same command again"
            )
        self._etag = got.etag
        return piece.getvalue()


def open_object(url: str, size: int) -> IO[bytes]:
    """An object as an open file, read-only; arguments as of :class:`ObjectStream`."""
    return io.BufferedReader(ObjectStream(url, size), 512)
