"""Which files are taken for pictures, by their names alone."""

import os
import re
from collections.abc import Mapping

SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".avif", ".gif", ".ppm", ".pgm", ".heic",
    ".heif",
    ".jfif", ".jpe", ".jif", ".jfi", ".mpo", ".apng", ".dib", ".pnm", ".pbm", ".avifs", ".jp2", ".j2k",
    ".jpf", ".jpx",
    ".j2c", ".jpc",
)  # fmt: skip
"""File names that are taken for pictures, in any case.

HEIC is listed so that it is reported, not overlooked.
"""

OTHER_SUFFIXES = (
    ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".srf", ".orf", ".rw2", ".raf", ".pef",
    ".srw",
    ".raw", ".3fr", ".iiq", ".x3f", ".erf", ".kdc", ".mrw", ".rwl", ".heics", ".jxl", ".jxr", ".wdp", ".hdp",
    ".psd",
    ".psb", ".xcf", ".kra", ".svg", ".svgz", ".eps", ".ai", ".ico", ".cur", ".icns", ".tga", ".exr", ".hdr",
    ".dds",
    ".pcx", ".sgi", ".ras", ".qoi", ".xbm", ".xpm", ".fits", ".fit", ".dcm", ".emf", ".wmf", ".pict", ".pct",
    ".jng",
    ".mng", ".bpg", ".flif", ".pfm", ".pam",
)  # fmt: skip
"""Kinds of pictures that are not decoded: they are counted, so that nobody misses them in vain."""
_DISGUISED = re.compile(
    r"\.(?:jpe?g|png|tiff?|webp|gif|bmp)(?:[_~!@ -].*|\d+|\.(?:part|tmp|bak|orig|old|\w*download|\d+))$"
)
"""``a.jpg_large``, ``b.png~``, ``c.jpeg.part``: a picture's name, and something behind that no companion file
has.
"""


def printable(name: str) -> str:
    """A file's name as text: bytes that are not UTF-8 become ``\\xe9`` and the like."""
    return os.fsencode(name).decode(errors="backslashreplace")


def left_out_kind(name: str) -> str | None:
    """The count that a file falls under if it looks like a picture but is not taken; else None."""
    name = name.lower()
    suffix = os.path.splitext(name)[1]
    if suffix in OTHER_SUFFIXES:
        return suffix
    disguised = _DISGUISED.search(name)
    return disguised[0] if disguised and not name.endswith(SUFFIXES) else None


def left_out_words(left_out: Mapping[str, int]) -> str:
    """How many files look like pictures and are not taken, such as ``3 .dng, 1 .psd``; empty if none does."""
    return ", ".join(
        f"{count} {kind}" for kind, count in sorted(left_out.items(), key=lambda item: (-item[1], item))
    )
