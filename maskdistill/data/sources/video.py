"""Frames of videos, which are never unpacked."""

import logging
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from maskdistill.config.paths import UserPath
from maskdistill.config.types import NUMBER, DistinctSome
from maskdistill.data.containers import kept_lines
from maskdistill.data.listed import ListedImage
from maskdistill.data.picture_names import printable
from maskdistill.data.picture_refs import VIDEOS, Frame, Inside
from maskdistill.data.sources.base import Look
from maskdistill.data.sources.in_files import InFiles
from maskdistill.data.video import choose_frames, need_pyav

log = logging.getLogger("maskdistill")
FORMAT = 1
"""Of what is kept of a video: a line of settings and of its stamp, a line a chosen frame, a line of what was
found.
"""
DIGITS = 6
Rate = Annotated[float, Field(gt=0, le=1000), NUMBER]
Change = Annotated[float, Field(ge=0, le=255), NUMBER]


class VideoData(InFiles):
    """Frames of videos, no ground truth: a video is decoded once to choose them, and they are read at their
    places.
    """

    SUFFIXES: ClassVar[tuple[str, ...]] = VIDEOS
    FILES: ClassVar[str] = "videos"

    kind: Literal["video"]
    root: UserPath | DistinctSome[UserPath] = Field(
        description="folder that is searched for videos recursively, one video, a pattern such as "
        "clips/*.mp4, or a list of these; needs the extra video (PyAV)"
    )
    fps: Rate | None = Field(1.0, description="frames per second to look at, evenly spaced; null: all")
    min_change: Change = Field(
        2.0,
        description="skip a frame if its grey thumbnail of 32 x 32 pixels differs from the last "
        "chosen frame's by less than this on average (grey levels of 0 to 255); 0: skip none",
    )

    def pictures(self, look: Look) -> Iterator[ListedImage]:
        """The chosen frames, video by video, all to train on; keys are ``VIDEO/NUMBER``.

        A video that cannot be decoded stands for one picture, which the manifest quarantines.
        """
        for prefix, path in self.files(look.section):
            lines = kept_lines(
                path, look.kept, [FORMAT, self.fps, self.min_change], partial(self._lines, path)
            )
            told = next(lines)
            if told["fault"]:
                yield _listed(f"{prefix}/~", Inside(str(path), "video", fault=told["fault"]))
            if told["damaged"]:
                look.left_out["damaged frames"] += told["damaged"]
            for number, time in lines:
                name = f"{number:0{max(DIGITS, len(str(told['total'])))}d}"
                yield _listed(f"{prefix}/{name}", Frame(str(path), f"{name}.bmp", number, time))

    def _lines(self, path: Path) -> Iterator[Any]:
        """What decoding a video told, then number and time stamp of each chosen frame."""
        need_pyav()
        log.info("%s: decoded once, to choose frames", path)
        found = choose_frames(path, self.fps, self.min_change)
        log.info(
            "%s: %d of %d frames chosen; %d more look like the one before; %d are damaged",
            path, len(found.numbers), found.total, found.alike, found.damaged,
        )  # fmt: skip
        yield {"fault": found.fault, "total": found.total, "damaged": found.damaged}
        times: Iterable[int | None] = found.times or repeat(None, len(found.numbers))
        yield from ([number, time] for number, time in zip(found.numbers, times, strict=True))


def _listed(key: str, place: Frame | Inside) -> ListedImage:
    return ListedImage(printable(key), Path(str(place)), True, False)
