"""Decode pictures: upright, RGB, whole. A picture that cannot be is refused with a reason."""

from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from maskdistill.data.picture_files import FORMATS, MAX_PIXELS, PictureError, picture_bytes, refuse_size
from maskdistill.data.picture_refs import told_name
from maskdistill.runtime.errors import MaskDistillError

DEPTHS = (8, 10, 12, 14)
"""Bits that are looked for in 16: what cameras, scanners and microscopes write."""
_HEIF = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}
_PNG = b"\x89PNG\r\n\x1a\n"
_NOTES = {b"iCCP", b"tEXt", b"zTXt", b"iTXt"}


def decode(data: bytes) -> tuple[Image.Image, str]:
    """Decode a picture held in memory.

    The EXIF orientation is applied. Transparent parts become white, as viewers show them; of an animation the
    first frame is taken. 16 bits a channel become 8: where the file states fewer significant bits, or its
    largest value would fit into 8, 10, 12 or 14, as of a 12-bit camera, white is the largest value of so many
    bits.

    Args:
        data: the file's bytes.

    Returns:
        The upright picture in mode RGB, and the mode it is stored in (e.g. ``CMYK``, or ``I;16 of 12 bits``).

    Raises:
        PictureError: with the reason: empty, not a picture, a refused size, truncated or an unusable pixel
            type.
        MemoryError: not the picture's fault.
    """
    if not data:
        raise PictureError("empty file (0 bytes)")
    try:
        image, deep = _load(data)
    except (PictureError, MemoryError):
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise PictureError(f"more than {MAX_PIXELS} pixels: scale it down") from None
    except Exception as error:  # Pillow's decoders raise a dozen unrelated types on damaged data
        image, deep = _load_bare(data, error)
    mode = image.mode
    if deep and (rescued := _rescue(data, image)):
        image, bits = rescued
        return _to_rgb(image), f"{mode} of {bits} bits"
    image = _upright(image)
    if mode.startswith("I;16") or (mode == "I" and image.format == "PPM"):
        values = np.asarray(image).astype(np.uint16, copy=False)
        bits = 16 if mode == "I" else _depth(values, _stated_depth(image))
        return Image.fromarray(_shift(values, bits)).convert(
            "RGB"
        ), mode if bits == 16 else f"{mode} of {bits} bits"
    return _to_rgb(image), mode


def _load(data: bytes) -> tuple[Image.Image, bool]:
    """The picture as stored, and whether Pillow cut its 16-bit channels to the upper 8 bits."""
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    refuse_size(*image.size)
    deep = not image.mode.startswith("I") and any(";16" in str(tile[3]) for tile in image.tile)
    image.load()
    return image, deep


def _load_bare(data: bytes, error: Exception) -> tuple[Image.Image, bool]:
    """Load again without a PNG's profile and texts, which may be damaged or too large for Pillow.

    Raises:
        PictureError: with the reason in ``error``.
    """
    bare = _without_notes(data)
    if len(bare) < len(data):
        try:
            return _load(bare)
        except (PictureError, MemoryError):
            raise
        except Exception as again:
            error = again
    if isinstance(error, UnidentifiedImageError):
        if data[4:8] == b"ftyp" and data[8:12] in _HEIF:
            raise PictureError("HEIC, which is not decoded: save it as JPEG or PNG")
        raise PictureError(f"not a picture in a supported format ({', '.join(FORMATS)})")
    told = re.sub(r"0x[0-9a-f]+", "", " ".join(str(error).split()))[:100]
    raise PictureError(f"truncated or damaged ({type(error).__name__}{': ' + told if told else ''})")


def _without_notes(data: bytes) -> bytes:
    """A PNG without its profile and texts; anything else as it is."""
    if not data.startswith(_PNG):
        return data
    kept, place = [_PNG], len(_PNG)
    while place + 12 <= len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4])
        if data[place + 4 : place + 8] not in _NOTES:
            kept.append(data[place:end])
        place = end
    return b"".join(kept)


def _rescue(data: bytes, image: Image.Image) -> tuple[Image.Image, int] | None:
    """A picture of several 16-bit channels that hold fewer bits, upright and with 8; None where they hold 16.

    Pillow keeps the upper bytes of such a picture, which are next to black then; OpenCV reads all bits.
    """
    extrema = image.getextrema()
    if max(high for _, high in extrema[: 1 if image.mode == "LA" else 3]) >= 1 << (max(DEPTHS) - 8):  # type: ignore[misc, index]
        return None
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if found is None or found.dtype != np.uint16 or found.shape[:2] != (image.height, image.width):
        return None
    values: npt.NDArray[np.uint16] = found.astype(np.uint16, copy=False)
    if values.ndim == 2 or values.shape[2] not in (3, 4):
        return None
    bits = _depth(values[..., :3], _stated_depth(image))
    channels = [_shift(values[..., channel], bits) for channel in (2, 1, 0)]
    if values.shape[2] == 4:
        channels.append(_shift(values[..., 3], _depth(values[..., 3], None)))
    shallow = Image.fromarray(np.stack(channels, axis=2))
    shallow.getexif()[_ORIENTATION] = orientation(image)
    return _upright(shallow), bits


def _depth(values: npt.NDArray[np.uint16], stated: int | None) -> int:
    """Significant bits of 16-bit values: as stated if all fit, else the least sufficient depth."""
    largest = int(values.max(initial=0)).bit_length()
    if stated is not None and stated >= largest:
        return stated
    return next((bits for bits in DEPTHS if largest <= bits), 16)


def _shift(values: npt.NDArray[np.uint16], bits: int) -> npt.NDArray[np.uint8]:
    return (values >> (bits - 8)).astype(np.uint8)


def _stated_depth(image: Image.Image) -> int | None:
    """Significant bits between 8 and 15 that a TIFF states: bits a sample, or its largest value."""
    tags = getattr(image, "tag_v2", {})
    try:
        bits = [int(np.max(tags[258])) if 258 in tags else 16, int(np.max(tags.get(281, 65535))).bit_length()]
    except (TypeError, ValueError):
        return None
    return min(bits) if 8 <= min(bits) < 16 else None


_ORIENTATION = 0x0112


def orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1, as it is stored, where the EXIF block is damaged."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        return 1


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; a picture whose EXIF block is damaged is taken as it is stored."""
    try:
        if orientation(image) != 1:
            return ImageOps.exif_transpose(image)
    except MemoryError:
        raise
    except Exception:
        pass
    return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F"):
        raise PictureError(
            f"pixel type {image.mode} (32-bit) has no defined white: convert it to 8 or 16 bits"
        )
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        return _on_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    """The picture on white, a strip at a time: whole layers would take three times its memory."""
    out = Image.new("RGB", image.size)
    rows = max(1, 2**20 // image.width)
    for top in range(0, image.height, rows):
        layer = image.crop((0, top, image.width, min(top + rows, image.height))).convert("RGBA")
        canvas = Image.new("RGBA", layer.size, "white")
        canvas.alpha_composite(layer)
        out.paste(canvas.convert("RGB"), (0, top))
    return out


class Photo(str):
    """Name of a picture (:mod:`maskdistill.data.picture_refs`) that remembers what the manifest saw there.

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
                f"{told_name(self)}: its content has changed since the manifest was made, and the results "
                f"so far are of the old content: put the old file back, or in a run give the same command "
                f"with --forcerun manifest (for predict: another --out)"
            )


def load_rgb(path: str | Path) -> Image.Image:
    """Decode a picture, upright, as RGB (see :func:`decode`); a :class:`Photo` is checked first.

    Raises:
        MaskDistillError: naming the file, the reason and the remedy; also where the picture was replaced.
    """
    try:
        with picture_bytes(path) as data:
            if isinstance(path, Photo):
                path.check(data)
            return decode(data)[0]
    except PictureError as error:
        raise MaskDistillError(
            f"{told_name(path)}: {error}; replace it and run the manifest stage again"
        ) from None
    except OSError as error:
        raise MaskDistillError(
            f"{path}: cannot be read ({error.strerror}); restore it or run the manifest stage again"
        ) from None
