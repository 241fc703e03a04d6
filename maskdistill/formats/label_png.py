"""Label maps as indexed PNGs in the colours of the PASCAL VOC development kit."""

import io
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import absent, atomic_path, damaged
from maskdistill.runtime.seal import BrokenSeal, check_png


def color_map() -> npt.NDArray[np.uint8]:
    """Colours of all labels, uint8 (256, 3) in RGB.

    Label 0 is black, 1 dark red (128, 0, 0), 255 cream (224, 224, 192). Bit 0, 1, 2 of the label goes to
    the highest bit of R, G, B, the next three bits to the next lower one, and so on (VOC devkit,
    VOClabelcolormap).
    """
    labels = np.arange(256)
    colors = np.zeros((256, 3), dtype=np.uint8)
    for step in range(8):
        for channel in range(3):
            bit = (labels >> (3 * step + channel)) & 1
            colors[:, channel] |= (bit << (7 - step)).astype(np.uint8)
    return colors


@cache
def _palette() -> bytes:
    return color_map().tobytes()


def encode_label_png(labels: npt.NDArray[np.uint8]) -> bytes:
    """Encode a label map as an indexed 8-bit PNG; equal maps give equal bytes.

    Only runs of equal bytes are searched for (zlib's Z_RLE), as label maps consist of them: four times as
    fast as Pillow's default, with smaller files.

    Args:
        labels: uint8 (H, W), one label a pixel.

    Raises:
        ValueError: if ``labels`` is not a two-dimensional uint8 array.
    """
    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise ValueError(f"a label map is uint8 (H, W), not {labels.dtype} {labels.shape}")
    image = Image.fromarray(np.ascontiguousarray(labels))
    image.putpalette(_palette())
    stream = io.BytesIO()
    image.save(stream, format="PNG", compress_level=1, compress_type=zlib.Z_RLE)
    return stream.getvalue()


def write_label_png(path: str | Path, labels: npt.NDArray[np.uint8]) -> None:
    """Write a label map, uint8 (H, W), by :func:`encode_label_png`, atomically; missing folders are made."""
    content = encode_label_png(labels)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def read_label_png(
    path: str | Path, made: bool = True, check: Callable[[int, int], None] | None = None
) -> npt.NDArray[np.uint8]:
    """Read a label map, uint8 (H, W), from an indexed or greyscale 8-bit PNG.

    Args:
        made: whether a run made the file; a message about a user's own file never advises deletion.
        check: called with height and width before anything is decoded; it may raise.

    Raises:
        MaskDistillError: if the file is missing, damaged, or not an image with one 8-bit label per pixel.
    """
    try:
        data = Path(path).read_bytes()
        if made:
            check_png(data)
        return _decode(path, data, check)
    except FileNotFoundError:
        raise absent(path) if made else MaskDistillError(f"{path}: no such file; correct the path") from None
    except MaskDistillError:
        raise
    except Exception as error:  # Pillow's decoders raise a dozen unrelated types on damaged data
        reason = f"not a readable PNG ({error if isinstance(error, BrokenSeal) else type(error).__name__})"
        if made:
            raise damaged(path, reason) from None
        raise MaskDistillError(f"{path}: {reason}; give the intact file") from None


def _decode(path: str | Path, data: bytes, check: Callable[[int, int], None] | None) -> npt.NDArray[np.uint8]:
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        if image.mode not in ("P", "L"):
            raise MaskDistillError(
                f"{path}: a label map has one 8-bit label a pixel (mode P or L), this PNG has mode "
                f"{image.mode};"
                " convert it to labels"
            )
        if check is not None:
            check(image.height, image.width)
        return np.array(image, dtype=np.uint8)
