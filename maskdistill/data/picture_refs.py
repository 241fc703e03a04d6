"""How a picture is named where it is opened, always as an absolute path.

A file by its own; one in an object store or on a web server by ``/SCHEME:/REST`` for ``SCHEME://REST``; one
inside of another file, wherever that lies, by ``FILE::NAME::PLACE``. ``PLACE`` is ``OFFSET+SIZE`` in bytes
in a tar, ``NUMBER@TIME`` for a frame of a video and ``COLUMN#GROUP.ROW`` for a row of a table: a picture is
read at its place and the file is never searched again. Of what cannot be a picture, such as a link, one of
:data:`FAULTS` stands there.
"""

import re
from pathlib import Path
from typing import NamedTuple

from maskdistill.runtime.remote_urls import SCHEMES, shown, split

VIDEOS = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".asf",
    ".flv",
    ".3gp", ".3g2", ".ogv", ".h264", ".h265", ".hevc",
)  # fmt: skip
"""File names that are taken for videos, in any case."""
TABLES = (".parquet", ".arrow")
"""File names that are taken for tables that hold pictures, in any case."""
_FILE = "|".join(re.escape(suffix) for suffix in (".tar", *VIDEOS, *TABLES))
_PLACE = (
    r"(?P<offset>\d+)\+(?P<size>\d+)|(?P<number>\d+)@(?P<time>-?\d+)?|(?P<column>[^:]+)#(?P<group>\d+)\.(?P<row>\d+)"
    r"|(?P<fault>[a-z]+)"
)
_INSIDE = re.compile(rf"(?P<file>.+?(?:{_FILE}))::(?P<name>.+)::(?:{_PLACE})", re.DOTALL | re.IGNORECASE)
_REMOTE = re.compile(rf"/({'|'.join(SCHEMES)}):/(.+)", re.DOTALL)
_NO_PART = re.compile(r"(?<=/)(?:/|\.{1,2}(?=/|$))")

FAULTS = {
    "link": "a link in the archive: pack the picture itself (tar --dereference --hard-dereference)",
    "device": "not a file but a device, pipe or the like: pack the archive without it",
    "sparse": "a sparse member, whose bytes do not lie together: pack it without --sparse",
    "name": "its name leads out of the archive, or is too long for a file: pack it under a relative, shorter "
    "name",
    "video": "not a video that can be decoded, or damaged from its beginning: convert it, e.g. to MP4 with "
    "H.264",
    "frames": "a video without a whole frame: replace it with a complete copy",
}
"""Why a member that is called like a picture, or a video, cannot be one."""


class Inside(NamedTuple):
    """A picture within an archive.

    Attributes:
        archive: path of the file.
        member: its name there, for people; it is not looked up.
        offset, size: its bytes in the file; 0 where ``fault``, a key of :data:`FAULTS`, says why it is none.
    """

    archive: str
    member: str
    offset: int = 0
    size: int = 0
    fault: str = ""

    def __str__(self) -> str:
        return f"{self.archive}::{self.member}::{self.fault or f'{self.offset}+{self.size}'}"


class Frame(NamedTuple):
    """A frame of a video.

    Attributes:
        archive: path of the file.
        member: a name for people.
        number: how many whole frames are shown before it.
        time: its time stamp, in the video's own units; None where those of the video do not grow from frame
            to frame.
    """

    archive: str
    member: str
    number: int
    time: int | None

    def __str__(self) -> str:
        return f"{self.archive}::{self.member}::{self.number}@{'' if self.time is None else self.time}"


class Row(NamedTuple):
    """A picture in a row of a Parquet or Arrow file.

    Attributes:
        archive: path of the file.
        member: a name for people.
        column: that holds it, without a colon.
        group, row: number of the row group or record batch, and of the row in it, from 0.
    """

    archive: str
    member: str
    column: str
    group: int
    row: int

    def __str__(self) -> str:
        return f"{self.archive}::{self.member}::{self.column}#{self.group}.{self.row}"


def inside(picture: str | Path) -> Inside | Frame | Row | None:
    """What a picture's name says of its place in an archive, video or table; None for a file of its own."""
    found = _INSIDE.fullmatch(str(picture))
    if found is None:
        return None
    file, name = found["file"], found["name"]
    if found["number"]:
        return Frame(file, name, int(found["number"]), int(found["time"]) if found["time"] else None)
    if found["column"]:
        return Row(file, name, found["column"], int(found["group"]), int(found["row"]))
    return Inside(file, name, int(found["offset"] or 0), int(found["size"] or 0), found["fault"] or "")


def remote_name(url: str) -> str:
    """How a picture at a checked URL is named (:func:`maskdistill.runtime.remote_urls.checked`).

    Parts of a path that paths do not keep, as between two slashes, are put down such that they do; and so are
    colons of a URL that would name a place in an archive.
    """
    scheme, _, rest = url.partition("://")
    name = f"/{scheme}:/{_NO_PART.sub(_encoded, rest)}"
    return name.replace("::", "%3A%3A") if inside(name) else name


def _encoded(part: re.Match[str]) -> str:
    return part[0].replace("/", "%2F").replace(".", "%2E")


def remote_url(picture: str | Path) -> str | None:
    """The URL of the object that is a picture, or holds it; None for what lies on this machine."""
    found = _REMOTE.fullmatch(file_of(picture))
    return f"{found[1]}://{found[2]}" if found else None


def has_odd_parts(url: str) -> bool:
    """Whether an object's name has a part that is empty, ``.`` or ``..``: no URL names it reliably."""
    return any(part in ("", ".", "..") for part in split(url).name.split("/"))


def file_of(picture: str | Path) -> str:
    """Name of the file that holds a picture: the archive, or the picture's own."""
    found = inside(picture)
    return found.archive if found else str(picture)


def shown_name(picture: str | Path) -> str:
    """A picture's name for people and for others' programs: its URL, or without its place in the archive."""
    found, url = inside(picture), remote_url(picture)
    file = shown(url) if url else file_of(picture)
    return f"{file}::{found.member}" if found else file


def told_name(picture: str | Path) -> str:
    """A picture's name in messages: its URL, or all that its name says of its place."""
    return shown_name(picture) if remote_url(picture) else str(picture)
