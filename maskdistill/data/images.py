"""Decode pictures: upright, RGB, whole. A picture that cannot be is refused with a reason."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from maskdistill.runtime.errors import MaskDistillError

SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".avif", ".gif", ".ppm", ".pgm", ".heic", ".heif"
)  # fmt: skip
"""File names that are taken for pictures, in any case. HEIC is listed so that it is reported, not overlooked."""

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "AVIF", "GIF", "PPM")
"""Pillow formats that are decoded, whatever the suffix says."""

MAX_PIXELS = 89_478_485
"""Larger pictures are refused before they are decoded (Pillow's own warning limit, 256 MiB as RGB)."""


def printable(name: str) -> str:
    """A file's name as text: bytes that are not UTF-8 become ``\\xe9`` and the like."""
    return os.fsencode(name).decode(errors="backslashreplace")


class PictureError(MaskDistillError):
    """A picture cannot be used. The message is the reason alone: no path, equal on every machine."""


def decode(data: bytes) -> tuple[Image.Image, str]:
    """Decode a picture held in memory.

    The EXIF orientation is applied. Transparent parts become white, as viewers show them; 16-bit grey is
    scaled to 8 bits; of an animation the first frame is taken.

    Args:
        data: the file's bytes.

    Returns:
        The upright picture in mode RGB, and the mode it is stored in (e.g. ``CMYK``).

    Raises:
        PictureError: with the reason: empty, not a picture, too large, truncated or an unusable pixel type.
    """
    if not data:
        raise PictureError("empty file (0 bytes)")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        mode = image.mode
        if image.width * image.height > MAX_PIXELS:
            raise PictureError(f"{image.width}x{image.height} pixels, more than {MAX_PIXELS}: scale it down")
        image.load()
    except PictureError:
        raise
    except (
        UnidentifiedImageError,
        Image.DecompressionBombWarning,
        Image.DecompressionBombError,
    ) as error:
        if isinstance(error, UnidentifiedImageError):
            raise PictureError(f"not a picture in a supported format ({', '.join(FORMATS)})") from None
        raise PictureError(f"more than {MAX_PIXELS} pixels: scale it down") from None
    except Exception as error:  # Pillow's decoders raise a dozen unrelated types on damaged data
        raise PictureError(f"truncated or damaged ({type(error).__name__})") from None
    return _to_rgb(_upright(image)), mode


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; a picture whose EXIF block is damaged is taken as it is stored."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F"):
        raise PictureError(f"pixel type {image.mode} (32-bit) has no defined white: convert it to 8 or 16 bits")
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.new("RGBA", layer.size, "white")
        image.alpha_composite(layer)
    return image if image.mode == "RGB" else image.convert("RGB")


class Photo(str):
    """Path of a picture that remembers what the manifest saw there.

    Attributes:
        sha256: hex digest of the file's bytes; empty where it is not known.
    """

    __slots__ = ("sha256",)
    sha256: str

    def __new__(cls, path: str, sha256: str = "") -> Photo:
        photo = super().__new__(cls, path)
        photo.sha256 = sha256 if len(sha256) == 64 and sha256.strip("0") else ""
        return photo

    def __reduce__(self) -> tuple[type[Photo], tuple[str, str]]:
        return Photo, (str(self), self.sha256)

    def check(self, data: bytes) -> None:
        """Compare the file's bytes, which are read to be decoded, with what the manifest saw.

        Raises:
            MaskDistillError: the picture was replaced.
        """
        if self.sha256 not in ("", hashlib.sha256(data).hexdigest()):
            raise MaskDistillError(
                f"{self}: has another content than when the manifest was made, and what was computed so far is of that"
                " one: put it back, or in a run give the same command with --forcerun manifest (for predict: another"
                " --out)"
            )


def load_rgb(path: str | Path) -> Image.Image:
    """Decode a picture file, upright and in mode RGB (see :func:`decode`); a :class:`Photo` is compared first.

    Raises:
        MaskDistillError: naming the file, the reason and the remedy; also where the picture was replaced.
    """
    try:
        data = Path(path).read_bytes()
        if isinstance(path, Photo):
            path.check(data)
        return decode(data)[0]
    except PictureError as error:
        raise MaskDistillError(f"{path}: {error}; replace or remove it and run the manifest stage again") from None
    except OSError as error:
        raise MaskDistillError(
            f"{path}: cannot be read ({error.strerror}); restore it or run the manifest stage again"
        ) from None
