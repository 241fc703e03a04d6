"""Label PNGs: published VOC colours, lossless round trip, clear errors."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskdistill.formats.label_png import color_map, read_label_png, write_label_png
from maskdistill.runtime.errors import MaskDistillError

VOC = Path(__file__).parents[2] / "shared/data/voc2007/VOC2007"


def test_published_colours() -> None:
    colors = color_map()
    assert colors.shape == (256, 3) and colors.dtype == np.uint8
    # aeroplane ... tvmonitor as printed in the VOC devkit documentation, and the void colour
    published = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 8: (64, 0, 0), 15: (192, 128,
    128),
                 16: (0, 64, 0), 20: (0, 64, 128), 255: (224, 224, 192)}  # fmt: skip
    assert {label: tuple(int(v) for v in colors[label]) for label in published} == published
    assert len({tuple(row) for row in colors.tolist()}) == 256


def test_real_voc_palette_agrees() -> None:
    files = sorted((VOC / "SegmentationClass").glob("*.png"))
    if not files:
        pytest.skip("../shared/data/voc2007 is absent")
    with Image.open(files[0]) as image:
        palette = np.array(image.getpalette(), dtype=np.uint8).reshape(-1, 3)
        expected = np.array(image)
    np.testing.assert_array_equal(palette, color_map()[: len(palette)])
    np.testing.assert_array_equal(read_label_png(files[0]), expected)


@pytest.mark.parametrize("shape", [(1, 1), (7, 13), (64, 3)])
def test_round_trip_keeps_every_label(tmp_path: Path, shape: tuple[int, int]) -> None:
    labels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    path = tmp_path / "sub/a b.png"
    write_label_png(path, labels)
    np.testing.assert_array_equal(read_label_png(path), labels)
    with Image.open(path) as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.array(image.convert("RGB")), color_map()[labels])
    assert [p.name for p in path.parent.iterdir()] == ["a b.png"]


def test_few_labels_still_round_trip_and_slices_work(tmp_path: Path) -> None:
    labels = np.zeros((20, 30), dtype=np.uint8)
    labels[5:9, 4:] = 1
    write_label_png(tmp_path / "a.png", labels.T[::2])
    np.testing.assert_array_equal(read_label_png(tmp_path / "a.png"), labels.T[::2])


def test_grey_png_is_read_as_labels(tmp_path: Path) -> None:
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    Image.fromarray(labels).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_label_png(tmp_path / "grey.png"), labels)


def test_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="uint8"):
        write_label_png(tmp_path / "a.png", np.zeros((3, 3), dtype=np.int64))
    Image.new("RGB", (4, 4)).save(tmp_path / "rgb.png")
    with pytest.raises(MaskDistillError, match=r"rgb\.png.*mode RGB"):
        read_label_png(tmp_path / "rgb.png")
    with pytest.raises(MaskDistillError, match=r"none\.png: no such file"):
        read_label_png(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(MaskDistillError, match=r"text\.png: not a readable PNG"):
        read_label_png(tmp_path / "text.png")
    write_label_png(tmp_path / "cut.png", np.random.default_rng(1).integers(0, 9, (64, 64)).astype(np.uint8))
    cut = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(cut[: len(cut) // 2 + 400])
    with pytest.raises(MaskDistillError, match=r"cut\.png"):
        read_label_png(tmp_path / "cut.png")
