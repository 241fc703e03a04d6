"""Masks of pictures batched by size equal those of pictures taken one by one, whatever their shape and mode.

``pytest -s`` prints the table: smallest mask IoU of each kind.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskdistill.cli import main
from maskdistill.data.manifest import image_rows, ok_images, read_manifest
from maskdistill.data.scenes import generate_scene
from maskdistill.formats import rle

WEIGHTS = Path(__file__).parents[1] / "config/weights/vit_micro_patch8.safetensors"
OF_EACH = 3
Save = Callable[[Image.Image, Path], None]


def as_png(mode: str) -> Save:
    return lambda picture, path: picture.convert(mode).save(path.with_suffix(".png"))


def as_jpeg(mode: str) -> Save:
    return lambda picture, path: picture.convert(mode).save(path.with_suffix(".jpg"), quality=95)


def sixteen_bit(picture: Image.Image, path: Path) -> None:
    grey = np.asarray(picture.convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(path.with_suffix(".png"))


def rotated(picture: Image.Image, path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the viewer turns it by 90 degrees clockwise
    picture.transpose(Image.Transpose.ROTATE_90).save(path.with_suffix(".jpg"), exif=exif, quality=95)


def cropped(width: int, height: int) -> Save:
    """Cut from the middle, then PNG."""

    def save(picture: Image.Image, path: Path) -> None:
        left, top = (picture.width - width) // 2, (picture.height - height) // 2
        picture.crop((left, top, left + width, top + height)).save(path.with_suffix(".png"))

    return save


def stretched(width: int, height: int) -> Save:
    return lambda picture, path: picture.resize((width, height)).save(path.with_suffix(".png"))


KINDS: dict[str, Save] = {
    "portrait": cropped(96, 128),
    "landscape": cropped(128, 90),
    "square": cropped(128, 128),
    "tiny": cropped(16, 17),
    "wide 1:10": cropped(160, 16),
    "tall 10:1": cropped(16, 160),
    "wide 1:50": stretched(800, 16),
    "tall 50:1": stretched(16, 800),
    "grayscale": as_png("L"),
    "palette": as_png("P"),
    "RGBA": as_png("RGBA"),
    "CMYK": as_jpeg("CMYK"),
    "16-bit": sixteen_bit,
    "EXIF-rotated": rotated,
}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    (folder / "photos").mkdir()
    for number in range(OF_EACH):
        for kind, save in KINDS.items():
            scene = generate_scene(5, number, size=160, difficulty=0.3).image
            save(Image.fromarray(scene), folder / "photos" / f"{number} {kind.replace(':', ' to ')}")
    params = json.dumps({"kind": "folder", "root": str(folder / "photos")})
    assert main(["manifest", f"--params={params}", "--num-shards=1", f"--output={folder}/manifest.csv"]) == 0
    assert len(ok_images(read_manifest(folder / "manifest.csv"))) == OF_EACH * len(KINDS), "none is left out"
    return folder / "manifest.csv"


def masks_of(manifest: Path, batch_size: int, short_side: int) -> dict[str, np.ndarray]:
    folder = manifest.parent / f"batch-{batch_size}-{short_side}"
    params = json.dumps({"batch_size": batch_size, "short_side": short_side, "workers": 0})
    shard = ["--shard=0", "--arch=vit_micro_patch8", f"--weights={WEIGHTS}", "--device=cpu", "--threads=1"]
    assert (
        main(["features", f"--manifest={manifest}", *shard, f"--params={params}", f"--output={folder}/f.h5"])
        == 0
    )
    assert main(["masks", f"--features={folder}/f.h5", f"--output={folder}/m.json"]) == 0
    found = json.loads((folder / "m.json").read_text())["masks"]
    keys = {row.image_id: row.key for row in image_rows(ok_images(read_manifest(manifest)))}
    return {keys[mask["image_id"]]: rle.decode(mask["segmentation"]) for mask in found}


@pytest.mark.slow
@pytest.mark.hostile(
    "photo: 1:50, 50:1, 16 pixels wide, and every mode in one batch",
    outcome="used: masks as of each picture alone",
)
@pytest.mark.parametrize("short_side", [48, 16])
def test_batches_do_not_change_masks(manifest: Path, short_side: int) -> None:
    alone, together = masks_of(manifest, 1, short_side), masks_of(manifest, 8, short_side)
    assert alone.keys() == together.keys() and len(alone) == OF_EACH * len(KINDS)
    least = dict.fromkeys(KINDS, 1.0)
    for key, mask in alone.items():
        kind = key.partition(" ")[2].replace(" to ", ":")
        other = together[key]
        assert mask.shape == other.shape
        least[kind] = min(least[kind], float((mask & other).sum() / max(1, (mask | other).sum())))
    print(f"\nshort side {short_side}: " + ", ".join(f"{kind} {iou:.4f}" for kind, iou in least.items()))
    assert set(least.values()) == {1.0}
