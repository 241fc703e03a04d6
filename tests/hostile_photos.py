"""A folder of photographs as they should not be: for the tests of odd and hostile input."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from maskdistill.data.scenes import generate_scene

Draw = Callable[[Image.Image, Path], None]


def _as(mode: str, suffix: str) -> Draw:
    return lambda picture, path: picture.convert(mode).save(path.with_suffix(suffix))


def _sixteen_bit(picture: Image.Image, path: Path) -> None:
    Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257).save(path.with_suffix(".png"))


def _rotated(picture: Image.Image, path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.transpose(Image.Transpose.ROTATE_90).save(path.with_suffix(".jpg"), exif=exif)


def _animated(suffix: str) -> Draw:
    """The picture, then a white frame."""

    def save(picture: Image.Image, path: Path) -> None:
        white = Image.new("RGB", picture.size, "white")
        picture.save(path.with_suffix(suffix), save_all=True, append_images=[white], lossless=True)

    return save


def _wrong_extension(picture: Image.Image, path: Path) -> None:
    picture.save(path.with_suffix(".jpg"), "PNG")


def _sized(width: int, height: int) -> Draw:
    return lambda picture, path: picture.resize((width, height)).save(path.with_suffix(".png"))


USABLE: dict[str, Draw] = {
    "wrong extension": _wrong_extension,
    "CMYK": _as("CMYK", ".jpg"),
    "palette": _as("P", ".png"),
    "16-bit": _sixteen_bit,
    "RGBA": _as("RGBA", ".png"),
    "GIF": _animated(".gif"),
    "WebP": _animated(".webp"),
    "APNG": _animated(".png"),
    "EXIF-rotated": _rotated,
    "wide": _sized(1000, 20),
    "tall": _sized(20, 1000),
    'it\'s "quoted" & <b>spaced ünïcode $HOME `id` {wildcard} %s #1, 2': _as("RGB", ".png"),
}
"""Name of a file without suffix -> how it is written; masks, labels and scores are made of all of them."""


def write_usable(folder: Path) -> int:
    """Write one photograph of each usable kind, and two of one stem in further folders; returns their
    number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number, (name, draw) in enumerate(USABLE.items()):
        draw(_picture(number), folder / name)
    for number, twin in enumerate(("a", "b")):
        (folder / twin).mkdir()
        _picture(50 + number).save(folder / twin / "CMYK.jpg")
    (folder / "a/up").symlink_to(folder, target_is_directory=True)
    return len(USABLE) + 2


def write_unusable(folder: Path) -> dict[str, str]:
    """Write photographs that cannot be used; returns the key of each and how the reason begins."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = folder / "truncated.jpg"
    _picture(99).save(whole)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("<script>alert(1)</script>")
    _sized(1, 1)(_picture(98), folder / "pixel")
    (folder / "vanished.jpg").symlink_to(folder / "nowhere.jpg")
    _picture(97).save(folder / "latin.jpg")
    (folder / "latin.jpg").rename(folder / os.fsdecode(b"caf\xe9.jpg"))
    return {
        "caf\\xe9": "the file name is not UTF-8",
        "empty": "empty file",
        "pixel": "1x1 pixels, smaller than 16 a side",
        "text": "not a picture",
        "truncated": "truncated or damaged",
        "vanished": "cannot be read",
    }


def _picture(number: int) -> Image.Image:
    return Image.fromarray(generate_scene(21, number, 96, 0.3).image)
