"""Frames of a video: chosen while it is decoded once, found again by their time stamps.

PyAV rather than OpenCV, which finds frames by their number at the average rate: of videos with a variable
rate, and of transport streams, it gives other frames than were asked for. Here a seek only brings the decoder
somewhere before a frame, and the frame is known by its own time stamp.
"""

import logging
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskdistill.runtime.errors import MaskDistillError

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

log = logging.getLogger("maskdistill")
FORMATS = "mov,matroska,avi,mpegts,mpeg,flv,asf,ogg,h264,hevc,mpegvideo,m4v"
"""Kinds of files that FFmpeg may read: none that names other files or the network, as playlists do."""
_OPTIONS = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
THUMBNAIL = 32
"""Side in pixels."""
_SLACK = 1e-6
"""Of a part of a second: times are rounded to the video's units."""


@dataclass
class ChosenFrames:
    """What decoding a video told.

    Attributes:
        numbers: of the chosen frames, ascending.
        times: their time stamps; empty where those of the video do not grow, and frames are counted.
        total: whole frames in all.
        alike: frames that were not chosen since they look like the one before.
        damaged: frames or pieces that could not be decoded.
        fault: why there is none (:data:`maskdistill.data.picture_refs.FAULTS`).
    """

    numbers: "array[int]" = field(default_factory=lambda: array("q"))
    times: "array[int]" = field(default_factory=lambda: array("q"))
    total: int = 0
    alike: int = 0
    damaged: int = 0
    fault: str = ""


def need_pyav() -> None:
    """Refuse videos where PyAV is missing."""
    if find_spec("av") is None:
        raise MaskDistillError(
            "videos need PyAV, which is not installed: pip install 'maskdistill[video]' (in a checkout: make "
            "video)"
        )


def choose_frames(path: Path, fps: float | None, min_change: float) -> ChosenFrames:
    """Decode a video once and choose, ``fps`` times a second, the first frame that looks new.

    Two frames look alike where their grey thumbnails of 32 x 32 pixels differ by less than ``min_change`` of
    255 on average; each is compared with the last one that was chosen.

    Args:
        fps: None for all frames.
        min_change: 0 for all frames, alike or not.
    """
    from av.error import FFmpegError

    found, growing, latest = ChosenFrames(), True, -(2**63)
    try:
        container, stream = open_video(path)
    except (FFmpegError, OSError, ValueError) as error:
        log.warning("%s: not a video that can be decoded (%s)", path, " ".join(str(error).split())[:200])
        return ChosenFrames(fault="video")
    wanted = _Wanted(fps, min_change)
    rate = float(stream.average_rate or stream.guessed_rate or 25)
    with container:
        for number, frame in enumerate(decoded(container, stream, found)):
            growing = growing and frame.pts is not None and frame.pts > latest
            latest = -1 if frame.pts is None else frame.pts
            if wanted.in_time(number / rate if frame.time is None else frame.time):
                if wanted.is_new(frame):
                    found.numbers.append(number)
                    found.times.append(latest)
                else:
                    found.alike += 1
            found.total = number + 1
    if not growing:
        found.times = array("q")
    found.fault = "" if found.total else "frames"
    return found


class _Wanted:
    """Tells the frames that are chosen, asked in order."""

    def __init__(self, fps: float | None, min_change: float) -> None:
        self._fps, self._min_change = fps, min_change
        self._start: float | None = None
        self._part = -1
        self._before: Any = None

    def in_time(self, seconds: float) -> bool:
        """Whether a frame is the first in its part of a second."""
        if self._start is None:
            self._start = seconds
        if self._fps is None:
            return True
        part = int((seconds - self._start) * self._fps + _SLACK)
        if part <= self._part:
            return False
        self._part = part
        return True

    def is_new(self, frame: "av.VideoFrame") -> bool:
        """Whether a frame does not look like the last of which this was said."""
        if self._min_change <= 0:
            return True
        seen = _thumbnail(frame)
        if self._before is not None and abs(seen - self._before).mean() < self._min_change:
            return False
        self._before = seen
        return True


def open_video(path: str | Path) -> "tuple[InputContainer, VideoStream]":
    """The container and its video, decoded in one thread.

    Raises:
        FFmpegError, OSError, ValueError: not a video.
    """
    import av

    from maskdistill.data.picture_files import MAX_PIXELS

    av.logging.set_level(None)
    container = av.open(str(path), options=_OPTIONS)
    stream = container.streams.best("video")
    if not isinstance(stream, av.VideoStream):
        container.close()
        raise ValueError("holds no video")
    stream.thread_type = "NONE"
    stream.codec_context.thread_count = 1
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    return container, stream


def decoded(
    container: "InputContainer", stream: "VideoStream", found: ChosenFrames
) -> "Iterator[av.VideoFrame]":
    """Whole frames in display order; damaged ones are skipped and counted in ``found``."""
    from av.error import EOFError as Drained
    from av.error import FFmpegError

    for packet in _packets(container, stream, found):
        try:
            frames = stream.decode(packet)
        except Drained:
            continue
        except FFmpegError:
            found.damaged += 1
            continue
        for frame in frames:
            if frame.is_corrupt:
                found.damaged += 1
            else:
                yield frame


def _packets(
    container: "InputContainer", stream: "VideoStream", found: ChosenFrames
) -> "Iterator[av.Packet[VideoStream] | None]":
    """Packets up to a fault, then None, for which the decoder returns what it holds back."""
    from av.error import FFmpegError

    try:
        yield from container.demux(stream)
    except FFmpegError:
        found.damaged += 1
    yield None


def _thumbnail(frame: "av.VideoFrame") -> Any:
    """float32 (32, 32), grey."""
    small = frame.reformat(width=THUMBNAIL, height=THUMBNAIL, format="gray", interpolation="AREA")
    return small.to_ndarray().astype("float32")
