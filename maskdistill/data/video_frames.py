"""Read chosen frames again: forwards where possible, else from a seek to before them."""

import io
from typing import TYPE_CHECKING, Any

from PIL import Image

from maskdistill.data.picture_files import PictureError
from maskdistill.data.picture_refs import Frame
from maskdistill.data.turns import Turns
from maskdistill.data.video import ChosenFrames, decoded, need_pyav, open_video

if TYPE_CHECKING:
    import av

AHEAD = 10.0
"""Seconds that are decoded rather than sought over: most encoders put a frame to begin at more often than
that.
"""
BACK = 1.0
"""Seconds that a seek begins earlier after one that led behind the frame; doubled each time."""
_GONE = "a frame that is not in the video any more: it was replaced, or is damaged now"


class FrameReader:
    """An open video.

    Attributes:
        decoded: frames that were decoded so far, for tests.
    """

    def __init__(self, path: str) -> None:
        from av.error import FFmpegError

        need_pyav()
        self._path, self.decoded = path, 0
        try:
            self._begin()
        except (FFmpegError, ValueError):
            raise PictureError(
                "not a video that can be decoded any more: replace it with a complete copy"
            ) from None
        self._second = int(1 / self._stream.time_base) if self._stream.time_base else 1
        self._ahead = AHEAD * self._second

    def close(self) -> None:
        """Close it."""
        self._container.close()

    def read(self, place: tuple[int, int | None]) -> bytes:
        """A frame as an uncompressed, upright BMP, by its time stamp, or counted without one.

        Raises:
            PictureError: it is not there, or too large.
        """
        number, time = place
        return _bmp(self._counted(number) if time is None else self._at(time))

    def _begin(self) -> None:
        """Stand before the first frame."""
        self._container, self._stream = open_video(self._path)
        self._frames = decoded(self._container, self._stream, ChosenFrames())
        self._number, self._time, self._whole = -1, -(2**63), True

    def _next(self) -> "av.VideoFrame | None":
        frame = next(self._frames, None)
        if frame is not None:
            self.decoded += 1
            self._number += 1
            self._time = self._time if frame.pts is None else frame.pts
        return frame

    def _counted(self, number: int) -> "av.VideoFrame":
        if number <= self._number or not self._whole:
            self._restart()
        while (frame := self._next()) is not None:
            if self._number == number:
                return frame
        raise PictureError(_GONE)

    def _at(self, time: int) -> "av.VideoFrame":
        """The frame with a time stamp; a seek beyond it is repeated earlier, at last from the start.

        A seek forwards that led backwards was in vain: twice as much is decoded rather than sought over from
        then on.
        """
        stood = max(self._time, self._stream.start_time or 0)
        jump = time - stood > self._ahead
        if jump or self._time >= time:
            self._seek(time)
        back = BACK * self._second
        while True:
            while (frame := self._next()) is not None and (frame.pts is None or frame.pts < time):
                if jump and self._time <= stood:
                    self._ahead *= 2
                jump = False
            if frame is not None and frame.pts == time:
                return frame
            if self._whole:
                raise PictureError(_GONE)
            self._seek(int(time - back))
            back *= 2

    def _seek(self, time: int) -> None:
        """Seek to before a time (or behind it, if the file misleads), or to the start."""
        from av.error import FFmpegError

        if time <= (self._stream.start_time or 0):
            self._restart()
            return
        try:
            self._container.seek(time, stream=self._stream)
        except FFmpegError:
            self._restart()
            return
        self._frames, self._whole = decoded(self._container, self._stream, ChosenFrames()), False
        self._time = -(2**63)

    def _restart(self) -> None:
        self._container.close()
        self._begin()


def _bmp(frame: "av.VideoFrame") -> bytes:
    """A frame as it is shown, as the bytes of a BMP."""
    picture = Image.fromarray(frame.to_ndarray(format="rgb24"))
    if frame.rotation:
        picture = picture.rotate(frame.rotation, expand=True)
    buffer = io.BytesIO()
    picture.save(buffer, "BMP")
    return buffer.getvalue()


_videos: Turns[Any] = Turns(lambda key: FrameReader(key[0]))


def frame_bytes(frame: Frame) -> bytes:
    """A frame of a video as the bytes of a picture file.

    Raises:
        PictureError: the video, or the frame, is not there any more.
        OSError: the file cannot be read.
    """
    return _videos.read((frame.archive,), (frame.number, frame.time))
