"""Segment pictures with the ONNX models beside this file: python segment.py PICTURES... --out DIR

Writes DIR/labels/NAME.png, label maps whose values are named in segment.json, and DIR/objects.json, objects
in COCO's form with compressed run lengths. Needs Python 3.10, numpy, Pillow and onnxruntime, and nothing of
MaskDistill, whose `predict` gives the same masks. In a program of your own:

    models = Models(Path("exported"))
    photo = open_picture(Path("photo.jpg"))  # uint8 (H, W, 3)
    labels, objects = models.labels(photo), models.objects(photo)
"""

import argparse
import json
import math
import os
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

Rgb = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
HERE = Path(__file__).resolve().parent
DEPTHS = (8, 10, 12, 14)
"""Bits that cameras, scanners and microscopes write into 16."""
MOST_PIXELS = 40_000_000
"""Objects of larger pictures are sought at so many pixels, as `predict` does."""
MAX_ASPECT = 50
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".jp2", ".ppm", ".pgm")
ORIENTATION = 0x0112


class UnusablePictureError(ValueError):
    """A picture that cannot be segmented; the message says why."""


@dataclass(frozen=True)
class Found:
    """One object.

    Attributes:
        category: 1..K, the place of its name among the classes.
        score: 0..1.
        box: x1, y1, x2, y2 in pixels of the picture.
        mask: bool (H, W).
    """

    category: int
    score: float
    box: tuple[float, float, float, float]
    mask: Mask


class Models:
    """The exported models.

    Args:
        folder: which `maskdistill export` wrote.
        kind: onnx, or int8 where that was exported too.
    """

    def __init__(self, folder: Path = HERE, kind: str = "onnx") -> None:
        self.settings: dict[str, Any] = json.loads((folder / "segment.json").read_text(encoding="utf-8"))
        self.classes: list[str] = self.settings["classes"]
        if kind not in self.settings:
            raise SystemExit(f"{folder}: no models of kind {kind}; export them by --kinds {kind}")
        names = self.settings[kind]
        self._segmenter = _session(folder / names["segmenter"])
        self._detector = _session(folder / names["detector"])

    def labels(self, photo: Rgb) -> npt.NDArray[np.uint8]:
        """Label map uint8 (H, W) of a picture, uint8 (H, W, 3): 0 background, 1..K."""
        return np.asarray(self._segmenter.run(["labels"], {"picture": photo[None]})[0][0], np.uint8)

    def objects(self, photo: Rgb, min_score: float = 0.0) -> list[Found]:
        """Objects of a picture, uint8 (H, W, 3), best first."""
        height, width = photo.shape[:2]
        shrunk = math.sqrt(max(1.0, height * width / MOST_PIXELS))
        sides = max(1, int(height / shrunk)), max(1, int(width / shrunk))
        seen = (
            photo
            if shrunk == 1
            else np.asarray(Image.fromarray(photo).resize(sides[::-1], Image.Resampling.BILINEAR))
        )
        least = np.array(max(min_score, self.settings["least_score"]), np.float32)
        found = self._detector.run(
            ["boxes", "labels", "scores", "masks"], {"picture": seen[None], "least_score": least}
        )
        return list(_placed(found, sides, (height, width)))


def _session(path: Path) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def _placed(
    found: Sequence[npt.NDArray[Any]], seen: tuple[int, int], shape: tuple[int, int]
) -> Iterator[Found]:
    """Objects at the picture's size from what the network found at the size that it saw."""
    rows, columns = nearest(seen[0], shape[0]), nearest(seen[1], shape[1])
    scale = np.array([shape[1] / seen[1], shape[0] / seen[0]] * 2)
    for box, label, score, grid in zip(*found, strict=True):
        mask = paste(grid, box, seen)
        if not mask.any():
            continue
        x1, y1, x2, y2 = (float(value) for value in box * scale)
        yield Found(
            int(label), float(score), (x1, y1, x2, y2), mask if seen == shape else mask[rows][:, columns]
        )


def nearest(before: int, after: int) -> npt.NDArray[np.int64]:
    """For each of ``after`` pixels the one of ``before`` below its centre, int64 (after,)."""
    return (2 * np.arange(after) + 1) * before // (2 * after)


def paste(grid: npt.NDArray[np.float32], box: npt.NDArray[np.float32], shape: tuple[int, int]) -> Mask:
    """Mask bool (H, W) = ``shape`` from probabilities (S, S) that fill a box, x1 y1 x2 y2 in pixels.

    True where the bilinear probability at a pixel's centre is at least 0.5; outside the box it fades to 0
    within half a cell.
    """
    mask = np.zeros(shape, dtype=bool)
    x1, y1, x2, y2 = (float(value) for value in box)
    if x2 <= x1 or y2 <= y1:
        return mask
    top, left = max(math.floor(y1) - 1, 0), max(math.floor(x1) - 1, 0)
    bottom, right = min(math.ceil(y2) + 1, shape[0]), min(math.ceil(x2) + 1, shape[1])
    down = _weights(np.arange(top, bottom), y1, y2, grid.shape[0])
    across = _weights(np.arange(left, right), x1, x2, grid.shape[1])
    mask[top:bottom, left:right] = down @ grid @ across.T >= 0.5
    return mask


def _weights(pixels: npt.NDArray[np.int64], first: float, last: float, cells: int) -> npt.NDArray[np.float32]:
    """Bilinear weight of each cell of a grid from ``first`` to ``last`` at each pixel's centre, float32 (n,
    cells).
    """
    places = (pixels + 0.5 - first) / (last - first) * cells - 0.5
    return np.asarray(np.maximum(0, 1 - np.abs(places[:, None] - np.arange(cells))), np.float32)


def open_picture(path: Path) -> Rgb:
    """A picture, upright, uint8 (H, W, 3) in RGB.

    The EXIF orientation is applied, transparent parts become white, of an animation the first frame is taken.
    Of one channel of 16 bits, white is the largest value of 8, 10, 12 or 14 bits if it would fit into so
    many.

    Raises:
        UnusablePictureError: damaged, larger than Pillow's limit, or of a pixel type without a defined white.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            opened = Image.open(path)
            deep = not opened.mode.startswith("I") and any(";16" in str(tile[3]) for tile in opened.tile)
            opened.load()
            image: Image.Image = opened
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise a dozen unrelated types on damaged data
        raise UnusablePictureError(f"{path}: cannot be decoded ({type(error).__name__}: {error})") from None
    if max(image.size) > MAX_ASPECT * min(image.size):
        raise UnusablePictureError(f"{path}: one side is more than {MAX_ASPECT} times the other: cut it")
    if deep and max(high for _, high in _extrema(image)) < 1 << (max(DEPTHS) - 8):
        raise UnusablePictureError(f"{path}: 16 bits a channel of which fewer are used: save it with 8")
    grey16 = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")
    stated = 16 if image.mode == "I" else _stated_depth(image)
    image = _upright(image)
    if grey16:
        values = np.asarray(image).astype(np.uint16)
        bits = 16 if image.mode == "I" else _depth(values, stated)
        return np.repeat((values >> (bits - 8)).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise UnusablePictureError(
            f"{path}: pixels of 32 bits have no defined white: convert it to 8 or 16 bits"
        )
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        canvas = Image.new("RGBA", layer.size, "white")
        canvas.alpha_composite(layer)
        image = canvas
    return np.asarray(image.convert("RGB"))


def _extrema(image: Image.Image) -> list[tuple[int, int]]:
    """Smallest and largest value of each colour channel."""
    found: Any = image.getextrema()
    return list(found[: 1 if image.mode == "LA" else 3])


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; as stored where the EXIF block is damaged."""
    try:
        if int(image.getexif().get(ORIENTATION, 1)) != 1:
            return ImageOps.exif_transpose(image)
    except MemoryError:
        raise
    except Exception:
        pass
    return image


def _depth(values: npt.NDArray[np.uint16], stated: int) -> int:
    """Significant bits of 16-bit values: as stated if all fit, else the fewest of DEPTHS that hold all."""
    largest = int(values.max(initial=0)).bit_length()
    if largest <= stated < 16:
        return stated
    return next((bits for bits in DEPTHS if largest <= bits), 16)


def _stated_depth(image: Image.Image) -> int:
    """Significant bits between 8 and 15 that a TIFF states; 16 where none does."""
    tags = getattr(image, "tag_v2", {})
    try:
        bits = min(
            int(np.max(tags[258])) if 258 in tags else 16, int(np.max(tags.get(281, 65535))).bit_length()
        )
    except (TypeError, ValueError):
        return 16
    return bits if bits >= 8 else 16


def run_lengths(mask: Mask) -> dict[str, Any]:
    """COCO's compressed run lengths of a mask, bool (H, W): size, and column by column zeros, ones, zeros,
    ...
    """
    flat = np.concatenate([[False], mask.ravel(order="F")])
    ends = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], ends, [mask.size]])).tolist()
    text = []
    for place, count in enumerate(counts):
        value = count - counts[place - 2] if place > 2 else count
        more = True
        while more:
            bits = value & 31
            value >>= 5
            more = value != (-1 if bits & 16 else 0)
            text.append(chr(48 + bits + 32 * more))
    return {"size": list(mask.shape), "counts": "".join(text)}


def save_labels(path: Path, labels: npt.NDArray[np.uint8]) -> None:
    """Write a label map as an indexed PNG in PASCAL VOC's colours."""
    colors = np.zeros((256, 3), dtype=np.uint8)
    for step in range(8):
        for channel in range(3):
            colors[:, channel] |= ((np.arange(256) >> (3 * step + channel) & 1) << (7 - step)).astype(
                np.uint8
            )
    image = Image.fromarray(labels)
    image.putpalette(colors.tobytes())
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def _annotation(found: Found, number: int, picture: int) -> dict[str, Any]:
    """An object in COCO's form; its box is the mask's, as in `predict`'s files."""
    rows, columns = np.flatnonzero(found.mask.any(axis=1)), np.flatnonzero(found.mask.any(axis=0))
    left, top = float(columns[0]), float(rows[0])
    return {
        "id": number, "image_id": picture, "category_id": found.category, "score": round(found.score, 6),
        "bbox": [left, top, columns[-1] + 1 - left, rows[-1] + 1 - top], "area": int(found.mask.sum()),
        "iscrowd": 0, "segmentation": run_lengths(found.mask),
    }  # fmt: skip


def _listed(given: Sequence[Path]) -> dict[str, Path]:
    """Pictures by name: those named one by one, and those below folders by their path in it."""
    found: dict[str, Path] = {}
    for path in given:
        if not path.exists():
            raise SystemExit(f"{path}: no such file or folder; correct the path")
        below = (
            sorted(one for one in path.rglob("*") if one.suffix.lower() in ENDINGS)
            if path.is_dir()
            else [path]
        )
        for one in below:
            name = one.relative_to(path).as_posix() if path.is_dir() else one.name
            if found.setdefault(name, one) != one:
                raise SystemExit(f"{one} and {found[name]} have one name; rename one of them")
    if not found:
        raise SystemExit("no picture there")
    stem, often = Counter(Path(name).with_suffix("") for name in found).most_common(1)[0]
    if often > 1:
        raise SystemExit(f"several pictures are called {stem}, but for their endings; rename one of them")
    return found


def main(arguments: Sequence[str]) -> int:
    """Segment what is named on the command line; the number of pictures that could not be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument(
        "pictures", nargs="+", type=Path, metavar="PICTURE", help="pictures, or folders of them"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to write")
    parser.add_argument(
        "--models", type=Path, default=HERE, metavar="DIR", help="exported models (default: beside)"
    )
    parser.add_argument(
        "--kind", default="onnx", choices=["onnx", "int8"], help="of the models (default: onnx)"
    )
    parser.add_argument("--min-score", type=float, help="least score of an object (default: the run's)")
    given = parser.parse_args(arguments)
    pictures, models = _listed(given.pictures), Models(given.models, given.kind)
    least = models.settings["min_score"] if given.min_score is None else given.min_score
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for name, path in pictures.items():
        try:
            photo = open_picture(path)
        except UnusablePictureError as error:
            print(error, file=sys.stderr)
            continue
        save_labels((given.out / "labels" / name).with_suffix(".png"), models.labels(photo))
        images.append(
            {"id": len(images) + 1, "file_name": name, "height": photo.shape[0], "width": photo.shape[1]}
        )
        for found in models.objects(photo, least):
            annotations.append(_annotation(found, len(annotations) + 1, len(images)))
    given.out.mkdir(parents=True, exist_ok=True)
    categories = [{"id": value, "name": name} for value, name in enumerate(models.classes) if value]
    content = {"images": images, "annotations": annotations, "categories": categories}
    unfinished = given.out / "objects.json.part"
    unfinished.write_text(json.dumps(content), encoding="utf-8")
    os.replace(unfinished, given.out / "objects.json")
    print(f"{len(images)} pictures, {len(annotations)} objects: {given.out}")
    return len(pictures) - len(images)


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
