"""Listing, decoding, quarantine and the manifest CSV."""

import hashlib
import io
import json
import logging
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from maskdistill.cli import main
from maskdistill.config import DataConfig
from maskdistill.data import manifest as manifest_module
from maskdistill.data import picture_files
from maskdistill.data.images import decode, load_rgb
from maskdistill.data.listed import ListedImage
from maskdistill.data.listing import (
    count_images,
    default_num_shards,
    iter_images,
    listing_fingerprint,
    parse_data,
    parse_support,
    with_support,
)
from maskdistill.data.manifest import image_rows, index_path, ok_images, read_manifest, write_manifest
from maskdistill.data.picture_files import PictureError
from maskdistill.data.stream import all_rows
from maskdistill.runtime.errors import MaskDistillError

SHARED = Path(__file__).parents[2] / "shared/data"


def picture(path: Path, size: tuple[int, int] = (40, 30), mode: str = "RGB", seed: int = 0) -> Path:
    """A noise picture of any 8-bit mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    Image.fromarray(noise).convert(mode).save(path)
    return path


def list_images(data: DataConfig, scenes_dir: Path | None = None) -> list[ListedImage]:
    return list(iter_images(data, scenes_dir))


def build_manifest(images: list[ListedImage], num_shards: int, base: Path, **options: Any) -> pd.DataFrame:
    pieces = list(manifest_module.build_manifest(images, len(images), num_shards, base, **options))
    assert [piece["shard"].unique().tolist() for piece in pieces] == [[shard] for shard in range(num_shards)]
    return pd.concat(pieces, ignore_index=True)


def folder(root: Path) -> str:
    return json.dumps({"kind": "folder", "root": str(root)})


def keys(root: Path) -> list[str]:
    return [image.key for image in list_images(parse_data(folder(root)))]


# ---------------------------------------------------------------- decoding


@pytest.mark.hostile("photo: CMYK, palette, grey, black and white, YCbCr", outcome="used, as RGB")
@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "YCbCr"])
def test_stored_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    suffix = ".png" if mode in ("L", "P", "1") else ".jpg"
    path = picture(tmp_path / f"a{suffix}", mode=mode)
    image, stored = decode(path.read_bytes())
    assert image.mode == "RGB" and image.size == (40, 30)
    assert stored == (mode if mode != "YCbCr" else "RGB")


def test_cmyk_colours(tmp_path: Path) -> None:
    Image.new("CMYK", (32, 32), (0, 255, 255, 0)).save(tmp_path / "red.jpg", quality=100)
    red, green, blue = np.asarray(load_rgb(tmp_path / "red.jpg")).reshape(-1, 3).mean(axis=0)
    assert red > 200 and green < 60 and blue < 60


@pytest.mark.hostile("photo: 16-bit grey", outcome="used: scaled to 8 bits, not clipped")
def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 32 * 20).reshape(20, 32).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    shown = np.asarray(load_rgb(tmp_path / "deep.png"))
    np.testing.assert_array_equal(shown, np.repeat((values // 256)[..., None], 3, axis=2))


@pytest.mark.hostile(
    "photo: RGBA, or a palette with transparency", outcome="used: transparent parts become white"
)
def test_transparent_parts_become_white(tmp_path: Path) -> None:
    pixels = np.zeros((20, 20, 4), dtype=np.uint8)
    pixels[:10, :, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "half.png")
    shown = np.asarray(load_rgb(tmp_path / "half.png"))
    assert (shown[:10] == 0).all() and (shown[10:] == 255).all()
    indexed = Image.new("P", (20, 20), 1)
    indexed.putpalette([0, 0, 0, 200, 10, 10])
    indexed.save(tmp_path / "index.png", transparency=1)
    assert (np.asarray(load_rgb(tmp_path / "index.png")) == 255).all()


@pytest.mark.hostile(
    "photo: rotated by EXIF (all eight orientations)",
    outcome="used upright; the manifest holds the upright size",
)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    stored = np.zeros((24, 36, 3), dtype=np.uint8)
    stored[:12, :18] = 255  # white quarter at the stored top left
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    # what the EXIF standard says the viewer shows: where the stored 0th row and 0th column lie
    upright = {
        1: stored, 2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1],
        5: stored.transpose(1, 0, 2), 6: np.rot90(stored, -1), 7: stored[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(stored, 1),
    }[orientation]  # fmt: skip
    np.testing.assert_array_equal(np.asarray(load_rgb(tmp_path / "a.png")), upright)
    table = build_manifest([ListedImage("a", tmp_path / "a.png", True, False)], 1, tmp_path)
    assert (table.height[0], table.width[0]) == upright.shape[:2]


@pytest.mark.hostile("photo: damaged EXIF block", outcome="used as it is stored")
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_not_lose_the_picture() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 30)).save(buffer, "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    assert decode(buffer.getvalue())[0].size == (20, 30)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has next to no data (a decompression bomb's header)."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 99))
        + chunk(b"IEND", b"")
    )


@pytest.mark.hostile(
    "photo: decompression bomb (30,000 x 30,000 and more)",
    outcome="quarantined from its header alone, never decoded",
)
@pytest.mark.parametrize("side", [9_460, 14_000, 30_000, 60_000])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bombs_are_refused_before_decoding(side: int) -> None:
    with pytest.raises(PictureError, match="more than 89478485"):
        decode(png_header(side, side))


def test_size_limit_is_exclusive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = picture(tmp_path / "a.png", (40, 30)).read_bytes()
    monkeypatch.setattr(picture_files, "MAX_PIXELS", 1200)
    assert decode(data)[0].size == (40, 30)
    monkeypatch.setattr(picture_files, "MAX_PIXELS", 1199)
    with pytest.raises(PictureError, match="40x30"):
        decode(data)


def test_load_rgb_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(MaskDistillError, match=r"gone\.jpg: cannot be read \(No such file"):
        load_rgb(tmp_path / "gone.jpg")
    (tmp_path / "text.jpg").write_text("hello")
    with pytest.raises(MaskDistillError, match=r"text\.jpg: not a picture.*manifest stage"):
        load_rgb(tmp_path / "text.jpg")


# ---------------------------------------------------------------- listing


def test_folder_listing_order_suffixes_and_keys(tmp_path: Path) -> None:
    for name in [
        "b.JPG",
        "a.jpeg",
        "sub dir/ü.PNG",
        "sub dir/c.tif",
        "z.webp",
        ".hidden.jpg",
        ".cache/x.jpg",
    ]:
        picture(tmp_path / "pics" / name)
    (tmp_path / "pics/notes.txt").write_text("no picture")
    (tmp_path / "pics/folder.jpg").mkdir()
    listed = list_images(parse_data(folder(tmp_path / "pics")))
    assert [image.key for image in listed] == ["a", "b", "sub dir/c", "sub dir/ü", "z"]
    assert all(image.train and not image.eval and image.path.is_absolute() for image in listed)
    assert count_images(parse_data(folder(tmp_path / "pics"))) == 5


@pytest.mark.hostile(
    "photo: one stem with several extensions in a folder",
    outcome="used: the extension becomes part of the name",
)
def test_ambiguous_keys_keep_the_extension(tmp_path: Path) -> None:
    for name in ["a.jpg", "a.png", "b.jpg", "c.jpg", "c.png", "c.jpg.png"]:
        picture(tmp_path / name)
    assert keys(tmp_path) == ["a.jpg", "a.png", "b", "c.jpg", "c.jpg.png", "c.png"]


@pytest.mark.hostile(
    "photo: loops of symbolic links, two links to one folder, a broken link",
    outcome="each real folder is visited once; the broken link is quarantined",
)
def test_symlink_loops_end(tmp_path: Path) -> None:
    picture(tmp_path / "pics/in/a.jpg")
    picture(tmp_path / "outside/b.jpg")
    (tmp_path / "pics/in/up").symlink_to(tmp_path / "pics", target_is_directory=True)
    (tmp_path / "pics/other").symlink_to(tmp_path / "outside", target_is_directory=True)
    (tmp_path / "pics/again").symlink_to(tmp_path / "outside", target_is_directory=True)
    (tmp_path / "pics/broken.jpg").symlink_to(tmp_path / "nowhere.jpg")
    found = keys(tmp_path / "pics")
    assert found == ["broken", "in/a", "again/b"], "linked folders come last"


@pytest.mark.hostile(
    "photo: none in the folder, or no such folder",
    outcome="the run does not start; the message names the key, the folder and the suffixes looked for",
)
def test_folder_errors(tmp_path: Path) -> None:
    with pytest.raises(MaskDistillError, match=r"data\.root.*not a folder"):
        keys(tmp_path / "none")
    with pytest.raises(MaskDistillError, match=r"no picture below.*\.jpg"):
        keys(tmp_path)


def test_folder_order_is_that_of_the_whole_paths(tmp_path: Path) -> None:
    """One folder is in memory at a time, yet pictures come as if all paths had been sorted ('-' < '.' < '/' <
    '0').
    """
    names = [
        "a.jpg",
        "a/z.jpg",
        "a-b.jpg",
        "a0.jpg",
        "a/b/c.jpg",
        "a/b.jpg",
        "B/x.jpg",
        "\u00e4/q.jpg",
        "z.jpg",
    ]
    for name in names:
        picture(tmp_path / name)
    listed = [
        image.path.relative_to(tmp_path).as_posix() for image in list_images(parse_data(folder(tmp_path)))
    ]
    assert listed == sorted(names)


def list_source(path: Path, text: str) -> DataConfig:
    path.write_text(text, encoding="utf-8")
    return parse_data(json.dumps({"kind": "list", "file": str(path)}))


def test_list_of_names(tmp_path: Path) -> None:
    data = list_source(tmp_path / "names.txt", "b.jpg\nsub/a b.png\n/elsewhere/c.jpg")
    listed = list_images(data)
    assert [image.key for image in listed] == ["b.jpg", "sub/a b.png", "elsewhere/c.jpg"]
    assert [image.path for image in listed] == [
        tmp_path / "b.jpg",
        tmp_path / "sub/a b.png",
        Path("/elsewhere/c.jpg"),
    ]
    assert all(image.train and not image.eval for image in listed) and count_images(data) == 3
    before = listing_fingerprint(data)
    assert (
        listing_fingerprint(list_source(tmp_path / "names.txt", "b.jpg\nsub/a b.png\n/elsewhere/d.jpg"))
        != before
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.jpg\nx/../b.jpg\n", "line 2 .* without '..'"),
        ("a.jpg\nb.jpg\nc.jpg\nb.jpg\n", "lines 2 and 4 name the same picture"),
        ("", "names no picture"),
    ],
)
def test_bad_lists_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(MaskDistillError, match=message):
        list_images(list_source(tmp_path / "names.txt", text))


def test_list_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(MaskDistillError, match=r"gone\.txt: no such file"):
        count_images(parse_data(json.dumps({"kind": "list", "file": str(tmp_path / "gone.txt")})))
    (tmp_path / "latin.txt").write_bytes(b"a.jpg\n\xe4.jpg\n")
    with pytest.raises(MaskDistillError, match="not UTF-8"):
        count_images(parse_data(json.dumps({"kind": "list", "file": str(tmp_path / "latin.txt")})))


def test_support_pictures_are_neither_trained_on_nor_scored(tmp_path: Path) -> None:
    picture(tmp_path / "main/a.jpg")
    picture(tmp_path / "more/a.jpg")
    support = parse_support(folder(tmp_path / "more"))
    listed = list(with_support(iter_images(parse_data(folder(tmp_path / "main"))), support))
    assert [tuple(image)[:4] for image in listed] == [
        ("a", tmp_path / "main/a.jpg", True, False),
        ("support/a", tmp_path / "more/a.jpg", False, False),
    ]
    assert parse_support(None) is None and parse_support("null") is None
    with pytest.raises(MaskDistillError, match="--support"):
        parse_support(json.dumps({"kind": "scenes"}))


def test_coco_lists_the_folder_never_the_json(tmp_path: Path) -> None:
    picture(tmp_path / "im/x/1.jpg")
    picture(tmp_path / "im/2.jpg")
    (tmp_path / "truth.json").write_text("this is not even JSON")
    section = {"kind": "coco", "images": str(tmp_path / "im"), "annotations": str(tmp_path / "truth.json")}
    listed = list_images(parse_data(json.dumps(section)))
    assert [(image.key, image.train, image.eval) for image in listed] == [
        ("2", True, True),
        ("x/1", True, True),
    ]
    del section["annotations"]
    assert (
        list_images(parse_data(json.dumps(section))) == listed
    )  # whether there is ground truth is not asked here


def voc(root: Path, **lists: str) -> str:
    return json.dumps({"kind": "voc", "root": str(root), **lists})


def test_voc_lists_are_united(tmp_path: Path) -> None:
    (tmp_path / "JPEGImages").mkdir()
    for name, text in {"Main/t": "b\na\n\n", "Segmentation/v": "c  1\nb -1\n"}.items():
        path = tmp_path / f"ImageSets/{name}.txt"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    data = parse_data(voc(tmp_path, train_list="Main/t", eval_list="Segmentation/v"))
    listed = list_images(data)
    assert [(i.key, i.train, i.eval) for i in listed] == [
        ("a", True, False),
        ("b", True, False),
        ("c", False, True),
    ]
    assert (
        data.scored_keys() == {"b", "c"} and data.scored_file() == tmp_path / "ImageSets/Segmentation/v.txt"
    )
    assert listed[0].path == tmp_path / "JPEGImages/a.jpg"
    with pytest.raises(
        MaskDistillError, match=r"data\.eval_list: Main/none: no list .*Main/none\.txt.*there: Main/t"
    ):
        list_images(parse_data(voc(tmp_path, train_list="Main/t", eval_list="Main/none")))
    (tmp_path / "ImageSets/Main/empty.txt").write_text("\n")
    with pytest.raises(MaskDistillError, match="lists no image"):
        list_images(parse_data(voc(tmp_path, train_list="Main/empty", eval_list="Main/t")))
    with pytest.raises(MaskDistillError, match="no folder JPEGImages"):
        list_images(parse_data(voc(tmp_path / "ImageSets")))


def test_which_pictures_are_scored_changes_no_listing(tmp_path: Path) -> None:
    """As long as they are there anyway."""
    for name in "ab":
        picture(tmp_path / f"JPEGImages/{name}.jpg")
    (tmp_path / "ImageSets").mkdir()
    for name, text in {"t": "a\nb\n", "v": "a\n", "w": "b\n", "more": "a\nc\n"}.items():
        (tmp_path / f"ImageSets/{name}.txt").write_text(text)
    first, second, more = (
        parse_data(voc(tmp_path, train_list="t", eval_list=name)) for name in ("v", "w", "more")
    )
    assert list_images(first) == list_images(second) != list_images(more)
    assert listing_fingerprint(first) == listing_fingerprint(second) != listing_fingerprint(more)
    assert (first.scored_keys(), second.scored_keys()) == ({"a"}, {"b"})


def test_real_voc_excerpt() -> None:
    root = SHARED / "voc2007/VOC2007"
    if not root.is_dir():
        pytest.skip("../shared/data/voc2007 is absent")
    listed = list_images(parse_data(voc(root, eval_list="Segmentation/train")))
    assert (len(listed), sum(i.train for i in listed), sum(i.eval for i in listed)) == (473, 473, 0)
    assert len(parse_data(voc(root, eval_list="Segmentation/train")).scored_keys() or ()) == 20
    assert all(image.path.is_file() for image in listed)


def test_scenes_are_listed_without_a_file(tmp_path: Path) -> None:
    data = parse_data('{"kind": "scenes", "num_train": 2, "num_eval": 1}')
    listed = list_images(data, tmp_path)
    assert [(i.key, i.path.name, i.train, i.eval) for i in listed] == [
        ("scene-00001", "scene-00001.jpg", True, False),
        ("scene-00002", "scene-00002.jpg", True, False),
        ("scene-00003", "scene-00003.jpg", False, True),
    ]
    assert count_images(data) == 3
    with pytest.raises(MaskDistillError, match="--scenes-dir"):
        list_images(data)


def test_wrong_section_is_explained() -> None:
    with pytest.raises(MaskDistillError, match="kind"):
        parse_data('{"kind": "videos"}')
    with pytest.raises(MaskDistillError, match="rooot: unknown key"):
        parse_data('{"kind": "folder", "root": "x", "rooot": "y"}')


def test_fingerprint_follows_the_pictures(tmp_path: Path) -> None:
    root = tmp_path / "pics"
    picture(root / "a.jpg")
    data = parse_data(folder(root))
    seen = [listing_fingerprint(data)]
    assert listing_fingerprint(data) == seen[0]
    (root / "notes.txt").write_text("x")
    assert listing_fingerprint(data) == seen[0]
    picture(root / "b.jpg")
    seen.append(listing_fingerprint(data))
    os.utime(root / "b.jpg", ns=(1, 1))
    seen.append(listing_fingerprint(data))
    (root / "b.jpg").rename(root / "c.jpg")
    seen.append(listing_fingerprint(data))
    root.rename(tmp_path / "moved")
    assert listing_fingerprint(parse_data(folder(tmp_path / "moved"))) == seen[-1]
    (tmp_path / "moved/c.jpg").unlink()
    seen.append(listing_fingerprint(parse_data(folder(tmp_path / "moved"))))
    assert len(set(seen[:4])) == 4 and seen[4] == seen[0]


@pytest.mark.parametrize(("n", "shards"), [(0, 1), (1, 1), (500, 1), (501, 2), (1000, 2), (16551, 34)])
def test_default_shards(n: int, shards: int) -> None:
    assert default_num_shards(n) == shards


# ---------------------------------------------------------------- manifest


def bad_tree(root: Path, good: int) -> Path:
    """``good`` pictures and one of each kind that must be quarantined."""
    for i in range(good):
        picture(root / f"good-{i:03d}.jpg", (40 + i, 30), seed=i)
    whole = picture(root / "whole.jpg", (200, 200), seed=99).read_bytes()
    (root / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "empty.jpg").write_bytes(b"")
    (root / "text.jpg").write_text("not a picture at all")
    picture(root / "tiny.png", (15, 40))
    Image.fromarray(np.zeros((20, 20), np.float32)).save(root / "float.tif")
    (root / "gone.jpg").symlink_to(root / "nowhere.jpg")
    (root / "bomb.png").write_bytes(png_header(60_000, 60_000))
    return root


@pytest.mark.hostile("photo: truncated", outcome="quarantined: truncated or damaged")
@pytest.mark.hostile("photo: zero bytes", outcome="quarantined: empty file")
@pytest.mark.hostile(
    "photo: not a picture at all", outcome="quarantined: not a picture in a supported format"
)
@pytest.mark.hostile("photo: 32-bit pixels", outcome="quarantined: no defined white")
def test_quarantine_reasons(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "maskdistill")
    listed = list_images(parse_data(folder(bad_tree(tmp_path / "pics", 3))))
    table = build_manifest(listed, 2, tmp_path, threads=2, max_quarantined=0.9)
    reasons = dict(zip(table.key, table.reason, strict=True))
    assert {key: reason.split(" (")[0] for key, reason in reasons.items() if reason} == {
        "bomb": "more than 89478485 pixels: scale it down",
        "empty": "empty file",
        "float": "pixel type F",
        "gone": "cannot be read",
        "text": "not a picture in a supported format",
        "tiny": "15x40 pixels, smaller than 16 a side",
        "truncated": "truncated or damaged",
    }
    assert (table.status == "ok").tolist() == [not reason for reason in table.reason]
    assert len(caplog.records) == 7 and "truncated.jpg" in caplog.text
    assert not table.reason.str.contains("0x|/").any()


def test_columns_against_a_slow_reading(tmp_path: Path) -> None:
    root = bad_tree(tmp_path / "pics", 10)
    listed = list_images(parse_data(folder(root)))
    table = build_manifest(listed, 4, tmp_path, threads=2, max_quarantined=0.5)
    assert table.image_id.tolist() == list(range(1, len(listed) + 1))
    for position, image in enumerate(listed):
        row = table.iloc[position]
        assert row["shard"] == position * 4 // len(listed)
        if image.path.exists():
            assert row["sha256"] == hashlib.sha256(image.path.read_bytes()).hexdigest()
        if row["status"] == "ok":
            with Image.open(image.path) as stored:
                assert (row["width"], row["height"], row["mode"]) == (*stored.size, stored.mode)
    again = build_manifest(listed, 4, tmp_path, threads=1, max_quarantined=0.5)
    pd.testing.assert_frame_equal(table, again)


def test_too_many_unusable_pictures_stop_the_run(tmp_path: Path) -> None:
    listed = list_images(parse_data(folder(bad_tree(tmp_path / "pics", 20))))
    with pytest.raises(
        MaskDistillError, match=r"7 of 28 images.*the 1 tolerated.*max_quarantined: 0\.05[\s\S]*0 bytes"
    ):
        build_manifest(listed, 1, tmp_path)
    assert (build_manifest(listed, 1, tmp_path, max_quarantined=0.25).status == "quarantined").sum() == 7


def test_one_unusable_picture_is_tolerated_unless_the_share_is_zero(tmp_path: Path) -> None:
    listed = [ListedImage("a", picture(tmp_path / "a.jpg"), True, False)]
    listed.append(ListedImage("b", tmp_path / "missing.jpg", True, False))
    assert build_manifest(listed, 1, tmp_path).status.tolist() == ["ok", "quarantined"]
    with pytest.raises(MaskDistillError, match="1 of 2"):
        build_manifest(listed, 1, tmp_path, max_quarantined=0)
    with pytest.raises(MaskDistillError, match=r"none of the 1 images[\s\S]*missing\.jpg: cannot be read"):
        build_manifest(listed[1:], 1, tmp_path, max_quarantined=1)
    for shards in (0, 3):
        with pytest.raises(MaskDistillError, match="num_shards"):
            build_manifest(listed, shards, tmp_path)


@pytest.mark.hostile(
    "photo: names with commas, line breaks, leading blanks, NA, 007, 1e5", outcome="used, under that name"
)
def test_csv_round_trip_with_odd_names(tmp_path: Path) -> None:
    names = ['NA.jpg', '007.jpg', 'with,comma "quote".jpg', "line\nbreak.jpg", "cr\rhere.jpg", "1e5.jpg",
    "True.jpg",
             "日本 語.jpg", " leading.jpg", "#hash.jpg"]  # fmt: skip
    for name in names:
        picture(tmp_path / "run/pics" / name)
    outside = picture(tmp_path / "elsewhere/x.jpg")
    listed = [*list_images(parse_data(folder(tmp_path / "run/pics"))), ListedImage("x", outside, False, True)]
    table = build_manifest(listed, 3, tmp_path / "run")
    path = tmp_path / "run/manifest.csv"
    write_manifest(path, table)
    first = path.read_bytes()
    write_manifest(path, table)
    assert path.read_bytes() == first and not list(path.parent.glob(".*"))
    back = read_manifest(path)
    pd.testing.assert_frame_equal(back.drop(columns="file"), table)
    assert sorted(back.key[:-1]) == sorted(name[:-4] for name in names)
    assert not os.path.isabs(back.path[0]) and back.path.iloc[-1] == str(outside)
    assert [Path(file) for file in back.file] == [image.path for image in listed]
    assert image_rows(back)[-1] == (len(listed), "x", str(outside), 40, 30, 2)


def test_a_shard_is_read_alone(tmp_path: Path) -> None:
    """Equal to filtering the whole table, also without an index and with that of another manifest."""
    for name in ("a", 'b"c', "d,e", "f\ng", "h i", "\u00fc", "k"):
        picture(tmp_path / f"pics/{name}.png")
    listed = list_images(parse_data(folder(tmp_path / "pics")))
    path = tmp_path / "manifest.csv"
    write_manifest(path, manifest_module.build_manifest(listed, len(listed), 3, tmp_path))
    whole = read_manifest(path)
    assert len(whole) == 7 and whole["key"].tolist() == [image.key for image in listed]
    for shard in range(3):
        expected = whole[whole["shard"] == shard].reset_index(drop=True)
        pd.testing.assert_frame_equal(read_manifest(path, shard), expected)
    with pytest.raises(MaskDistillError, match=r"no shard 3; take one of 0\.\.2"):
        read_manifest(path, 3)
    index_path(path).unlink()
    for shard_or_all in (1, None):
        with pytest.raises(MaskDistillError, match=r"manifest\.csv: not a manifest \(its index .*--forcerun"):
            read_manifest(path, shard_or_all)


@pytest.mark.hostile(
    "hdf5: manifest cut off, even between two rows", outcome="the stage stops: --forcerun FILE"
)
def test_a_manifest_that_was_cut_off(tmp_path: Path) -> None:
    for name in "abcd":
        picture(tmp_path / f"pics/{name}.png")
    listed = list_images(parse_data(folder(tmp_path / "pics")))
    path = tmp_path / "manifest.csv"
    write_manifest(path, manifest_module.build_manifest(listed, 4, 2, tmp_path))
    rows = path.read_bytes().splitlines(keepends=True)
    for kept in (b"".join(rows[:-1]), b"".join(rows)[:-3], b""):
        path.write_bytes(kept)
        for read in (
            read_manifest,
            lambda path: read_manifest(path, 1),
            lambda path: list(all_rows(path, ["key"])),
        ):
            with pytest.raises(MaskDistillError, match=r"manifest\.csv: not a manifest .*with --forcerun"):
                read(path)


def test_the_index_spares_the_rest_of_the_file(tmp_path: Path) -> None:
    """What is not of the shard is not even parsed."""
    for name in "abcd":
        picture(tmp_path / f"pics/{name}.png")
    listed = list_images(parse_data(folder(tmp_path / "pics")))
    path = tmp_path / "manifest.csv"
    write_manifest(path, manifest_module.build_manifest(listed, 4, 2, tmp_path))
    content = path.read_bytes()
    start = json.loads(index_path(path).read_text())["shards"]["1"]
    path.write_bytes(b"x" * start + content[start:])
    assert read_manifest(path, 1)["key"].tolist() == ["c", "d"]
    with pytest.raises(MaskDistillError, match="not a manifest"):
        read_manifest(path)


@pytest.mark.hostile(
    "photo: added or removed while the manifest is made",
    outcome="the stage stops: run again while nothing changes",
)
def test_pictures_that_come_or_go_while_listing(tmp_path: Path) -> None:
    listed = [ListedImage("a", picture(tmp_path / "a.png"), True, False)]
    with pytest.raises(MaskDistillError, match="1 images were found, 2 were counted"):
        list(manifest_module.build_manifest(listed, 2, 1, tmp_path))


def test_ok_images_filters(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "image_id": range(1, 7),
            "shard": [0, 0, 0, 1, 1, 1],
            "train": [True, False, True, True, False, True],
            "eval": [False, True, True, False, True, False],
            "status": ["ok", "ok", "quarantined", "ok", "ok", "ok"],
        }
    )
    assert ok_images(table).image_id.tolist() == [1, 2, 4, 5, 6]
    assert ok_images(table, shard=1).image_id.tolist() == [4, 5, 6]
    assert ok_images(table, shard=0, train=True).image_id.tolist() == [1]
    assert ok_images(table, eval=True).image_id.tolist() == [2, 5]
    assert ok_images(table, train=False).image_id.tolist() == [2, 5]
    assert ok_images(table, shard=1, train=True).index.tolist() == [0, 1]


@pytest.mark.hostile(
    "hdf5: manifest missing, empty or another CSV", outcome="the stage stops: --forcerun FILE"
)
def test_reading_something_else_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MaskDistillError, match="manifest stage first"):
        read_manifest(tmp_path / "none.csv")
    for text in ("", "a,b\n1,2\n"):
        (tmp_path / "other.csv").write_text(text)
        with pytest.raises(MaskDistillError, match=r"other\.csv: not a manifest"):
            read_manifest(tmp_path / "other.csv")


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(5):
        picture(tmp_path / f"pics/{i}.jpg", seed=i)
    output = tmp_path / "run/data/manifest.csv"
    common = ["manifest", "--params", folder(tmp_path / "pics"), "--output", str(output)]
    assert main([*common, "--num-shards", "2", "--threads", "2"]) == 0
    assert read_manifest(output)["shard"].tolist() == [0, 0, 0, 1, 1]
    output.unlink()
    assert main([*common, "--num-shards", "9"]) == 1
    assert "num_shards 9 for 5 images" in capsys.readouterr().err and not output.exists()
    with pytest.raises(SystemExit):
        main([*common, "--max-quarantined", "5"])
    assert "give a number from 0 to 1" in capsys.readouterr().err
    assert main(common) == 0
    assert read_manifest(output)["shard"].tolist() == [0] * 5
