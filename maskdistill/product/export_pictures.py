"""Pictures that an export is compared on: the run's own where they are there."""

from pathlib import Path

import numpy as np
from PIL import Image

from maskdistill.data.manifest import image_rows, ok_images, read_manifest
from maskdistill.data.picture_files import picture_bytes
from maskdistill.data.picture_refs import file_of, remote_url, shown_name
from maskdistill.segmenter.data import squash

COMPARED = 8
CALIBRATED = 8
"""Pictures that ranges of a quantised network are taken from."""
SIDE = 256


def copy_pictures(run: str | None, folder: Path) -> tuple[list[Path], list[Path], str]:
    """Copy pictures, spread over the run, as files of their own: theirs may lie in an archive.

    Args:
        run: its folder, if there is one.
        folder: to copy into.

    Returns:
        Up to :data:`COMPARED` files, whose names but for the ending are numbers; up to :data:`CALIBRATED`
        other ones, the same where the run has too few; and what they are: generated colour patches where the
        run has none or they are gone.
    """
    files, source = _copied(run, folder, COMPARED + CALIBRATED)
    if len(files) <= COMPARED:
        return files, files, source
    return files[::2], files[1::2], source


def _copied(run: str | None, folder: Path, count: int) -> tuple[list[Path], str]:
    manifest = Path(run or ".") / "data/manifest.csv"
    if run is not None and manifest.is_file():
        rows = image_rows(ok_images(read_manifest(manifest, shard=0)))
        spread = np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)
        names = [rows[place].file for place in spread]
        names = [name for name in names if remote_url(name) or Path(file_of(name)).is_file()]
        if names:
            return [
                _copy(name, folder / f"{number:04d}") for number, name in enumerate(names)
            ], "pictures of the run"
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (count, 12, 12, 3), dtype=np.uint8)
    files = [folder / f"{number:04d}.png" for number in range(count)]
    for file, patches in zip(files, coarse, strict=True):
        Image.fromarray(squash(patches, SIDE)).save(file)
    return files, "generated colour patches"


def _copy(name: str, path: Path) -> Path:
    path = path.with_suffix(Path(shown_name(name)).suffix)
    with picture_bytes(name) as data:
        path.write_bytes(data)
    return path
