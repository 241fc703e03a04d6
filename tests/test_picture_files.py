"""Files that are no pictures, never end or are too much; and pictures of unusual depth, notes and size."""

import errno
import hashlib
import io
import multiprocessing
import os
import struct
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from maskdistill.data import images, picture_files
from maskdistill.data.images import decode, load_rgb
from maskdistill.data.manifest import inspect_image
from maskdistill.data.picture_files import MAX_BYTES, MAX_SIDE, PictureError, refuse_size
from maskdistill.data.picture_names import SUFFIXES, left_out_kind
from maskdistill.runtime import budget as budgets
from maskdistill.runtime.budget import Budget, SharedUnits, share_among_forks, shared_with_siblings
from maskdistill.runtime.errors import MaskDistillError


def png(picture: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


SCENE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8))


# ---------------------------------------------------------------- files


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 200 * 10**9)


def make_animation(path: Path) -> None:
    SCENE.save(path, "GIF", save_all=True, append_images=[SCENE])
    os.truncate(path, MAX_BYTES + 1)


@pytest.mark.hostile(
    "photo: a link to /dev/zero or another device", outcome="quarantined: not a file but a device"
)
@pytest.mark.hostile(
    "photo: a pipe, which nobody may ever write to", outcome="quarantined: not a file but a pipe"
)
@pytest.mark.hostile(
    "photo: sparse, of 200 GB; an animation of more than 512 MiB", outcome="quarantined, never read"
)
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.symlink_to("/dev/zero"), "not a file but a device"),
        (lambda path: path.symlink_to("/dev/null"), "not a file but a device"),
        (make_pipe, "not a file but a pipe"),
        (make_sparse, f"200000000000 bytes, more than {MAX_BYTES}: save it smaller"),
        (make_animation, f"{MAX_BYTES + 1} bytes, more than {MAX_BYTES}: save it smaller"),
        (Path.mkdir, "not a file but a folder"),
        (lambda path: path.symlink_to(path), "cannot be read (Too many levels of symbolic links)"),
    ],
)
def test_only_files_of_a_sensible_size_are_read(
    tmp_path: Path, make: Callable[[Path], None], reason: str
) -> None:
    make(tmp_path / "a.jpg")
    began = time.monotonic()
    assert inspect_image(tmp_path / "a.jpg") == (0, 0, "", "", reason)
    with pytest.raises(MaskDistillError, match=r"a\.jpg: "):
        load_rgb(tmp_path / "a.jpg")
    assert time.monotonic() - began < 5


def test_a_name_with_a_byte_zero() -> None:
    assert inspect_image(Path("a\0.jpg")).reason == "the file name holds a byte 0; rename it"


@pytest.mark.hostile(
    "photo: the process has no more open files or memory",
    outcome="the stage stops and says so: no picture is blamed",
)
@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_the_machine_is_not_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    (tmp_path / "a.png").write_bytes(png(SCENE))

    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(MaskDistillError, match=r"a\.png: .*ran out of .*ulimit -n") as caught:
        inspect_image(tmp_path / "a.png")
    assert not isinstance(caught.value, PictureError)


def test_memory_that_runs_out_is_not_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(png(SCENE))

    def refuse(_: Image.Image) -> None:
        raise MemoryError

    monkeypatch.setattr(images, "_upright", refuse)
    for look in (inspect_image, load_rgb):
        with pytest.raises(MaskDistillError, match=r"a\.png: .*memory.*fewer threads"):
            look(tmp_path / "a.png")


# ---------------------------------------------------------------- memory


def test_a_budget_is_never_exceeded_and_nobody_waits_for_ever() -> None:
    budget, held, most = Budget(100), [0], [0]
    lock = threading.Lock()

    def work(wanted: int) -> int:
        with budget.hold(wanted):
            with lock:
                held[0] += min(wanted, 100)
                most[0] = max(most[0], held[0])
            time.sleep(0.001)
            with lock:
                held[0] -= min(wanted, 100)
        return wanted

    wanted = np.random.default_rng(3).choice([1, 30, 60, 100, 5000], 200).tolist()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, wanted)) == wanted
    assert 60 < most[0] <= 100 and budget.used == 0


def most_at_once(wanted: int, units: int) -> int:
    """How many of four forks held ``wanted`` bytes at the same time."""
    budgets._shared = SharedUnits(units)
    context = multiprocessing.get_context("fork")
    held, most, all_there = context.Value("i", 0), context.Value("i", 0), context.Barrier(4)

    def work() -> None:
        all_there.wait(30)
        for _ in range(10):
            with shared_with_siblings(wanted):
                with held.get_lock():
                    held.value += 1
                    most.value = max(most.value, held.value)
                time.sleep(0.005)
                with held.get_lock():
                    held.value -= 1

    forks = [context.Process(target=work) for _ in range(4)]
    for fork in forks:
        fork.start()
    for fork in forks:
        fork.join(30)
    assert [fork.exitcode for fork in forks] == [0] * 4
    return most.value


@pytest.mark.parametrize(("parts", "expected"), [(1, {2, 3, 4}), (3, {1}), (50, {1})])
def test_loading_processes_share_the_memory(
    parts: int, expected: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budgets, "_shared", None)
    assert most_at_once(parts * budgets.UNIT, 4) in expected
    share_among_forks()
    with shared_with_siblings(10**12):
        pass  # this process is no fork


def test_a_budget_is_given_back_by_pictures_that_fail(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(SCENE)[:-200])
    assert inspect_image(tmp_path / "a.png").reason.startswith("truncated or damaged")
    assert picture_files._budget.used == 0


@pytest.mark.hostile(
    "photo: eight of 9450 x 9450 pixels with transparency",
    outcome="used, one at a time: within the memory asked for",
)
def test_giants_are_decoded_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real ones need a minute; here the budget is small instead, and a giant is 600 x 600."""
    at_once, most = [0], [0]
    lock, whole = threading.Lock(), images.decode

    def watched(data: bytes) -> tuple[Image.Image, str]:
        with lock:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
        try:
            time.sleep(0.01)
            return whole(data)
        finally:
            with lock:
                at_once[0] -= 1

    monkeypatch.setattr(images, "decode", watched)
    Image.new("RGBA", (600, 600)).save(tmp_path / "giant.png")
    for budget, expected in ((600 * 600 * 12 + 50_000, {1}), (10**9, {2, 3, 4, 5, 6, 7, 8})):
        monkeypatch.setattr(picture_files, "_budget", Budget(budget))
        most[0] = 0
        with ThreadPoolExecutor(8) as pool:
            assert all(image.size == (600, 600) for image in pool.map(load_rgb, [tmp_path / "giant.png"] * 8))
        assert most[0] in expected


def test_white_below_transparency_is_laid_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    """More rows than a strip has: the same pixels as in one go."""
    rng = np.random.default_rng(1)
    layer = Image.fromarray(rng.integers(0, 256, (3000, 700, 4)).astype(np.uint8))
    canvas = Image.new("RGBA", layer.size, "white")
    canvas.alpha_composite(layer)
    np.testing.assert_array_equal(
        np.asarray(decode(png(layer, compress_level=0))[0]), np.asarray(canvas.convert("RGB"))
    )


# ---------------------------------------------------------------- sizes


@pytest.mark.hostile(
    "photo: 32738 x 23 pixels, or another of more than 50 to 1", outcome="quarantined from its header: cut it"
)
@pytest.mark.hostile("photo: a side of more than 32,000 pixels", outcome="quarantined from its header")
@pytest.mark.parametrize(
    ("size", "reason"),
    [
        ((32738, 23), "a side of more than 32000"),
        ((23, 31000), "one side more than 50 times the other"),
        ((801, 16), "one side more than 50 times the other"),
        ((1, 20000), "one side more than 50 times the other"),
        ((32001, 900), "a side of more than 32000"),
        ((9460, 9460), "more than 89478485"),
    ],
)
def test_sizes_that_would_end_a_later_stage(tmp_path: Path, size: tuple[int, int], reason: str) -> None:
    with pytest.raises(PictureError, match=rf"{size[0]}x{size[1]} pixels, {reason}"):
        refuse_size(*size)
    if size[0] * size[1] > picture_files.MAX_PIXELS:
        return
    Image.new("1", size).save(tmp_path / "a.png")
    assert reason in inspect_image(tmp_path / "a.png").reason


def test_sizes_at_the_limits_are_used(tmp_path: Path) -> None:
    for size in ((800, 16), (16, 800), (MAX_SIDE, 640), (16, 16), (9459, 9459)):
        refuse_size(*size)


# ---------------------------------------------------------------- notes in PNGs


def with_chunk(extra: bytes) -> bytes:
    whole = png(SCENE)
    return whole[:33] + extra + whole[33:]


def large_text() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("Description", "a" * (2 * 2**20), zip=True)
    return png(SCENE, pnginfo=info)


@pytest.mark.hostile(
    "photo: PNG with a large or damaged colour profile or text", outcome="used: what is no pixel is left out"
)
@pytest.mark.parametrize(
    "data",
    [
        with_chunk(chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(3 * 2**20)))),
        large_text(),
        with_chunk(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b"<x>" + b" " * 2**21))),
        with_chunk(b"".join(chunk(b"tEXt", b"k%d\0" % i + b"v" * 2**20) for i in range(70))),
        with_chunk(chunk(b"zTXt", b"k\0\0" + b"not zlib")),
        with_chunk(chunk(b"tEXt", b"k\0v")[:-1] + b"?"),
    ],
    ids=["profile", "zTXt", "iTXt", "70 MB", "bad zlib", "bad checksum"],
)
def test_notes_in_a_png_do_not_lose_it(data: bytes) -> None:
    image, mode = decode(data)
    assert mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), np.asarray(SCENE))


def test_a_cut_png_with_a_large_profile_is_still_damaged() -> None:
    data = with_chunk(chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(3 * 2**20))))
    with pytest.raises(PictureError, match=r"^truncated or damaged \(OSError: image file is truncated"):
        decode(data[:-3000])


@pytest.mark.parametrize("brand", [b"heic", b"mif1"])
def test_heic_is_called_by_its_name(brand: bytes) -> None:
    with pytest.raises(PictureError, match=r"^HEIC, which is not decoded: save it as JPEG"):
        decode(b"\0\0\0\x18ftyp" + brand + bytes(40))


# ---------------------------------------------------------------- depths


RAMP = np.linspace(0, 1, 60 * 40).reshape(40, 60)


def encode(values: np.ndarray, suffix: str) -> bytes:
    data: bytes = cv2.imencode(suffix, values)[1].tobytes()
    return data


@pytest.mark.hostile(
    "photo: 8, 10, 12 or 14 bits in 16 (grey or colour, PNG or TIFF)",
    outcome="used: white is the largest value of so many bits; the manifest's mode and the log say so",
)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_fewer_bits_in_sixteen(bits: int, suffix: str) -> None:
    values = (RAMP * (2**bits - 1)).astype(np.uint16)
    expected = (values.astype(np.int64) * 256 // 2**bits).astype(np.uint8)
    said = "" if bits == 16 else f" of {bits} bits"
    image, mode = decode(encode(values, suffix))
    assert mode == f"I;16{said}"
    np.testing.assert_array_equal(np.asarray(image), np.repeat(expected[..., None], 3, axis=2))
    blue_green_red = np.stack([values // 3, values // 2, values], axis=2)
    image, mode = decode(encode(blue_green_red, suffix))
    assert mode == f"RGB{said}"
    shown = (blue_green_red[..., ::-1].astype(np.int64) * 256 // 2**bits).astype(np.uint8)
    np.testing.assert_array_equal(np.asarray(image), shown)


@pytest.mark.parametrize("alpha_bits", [12, 16])
def test_twelve_bits_with_transparency(alpha_bits: int) -> None:
    values = (RAMP * 4095).astype(np.uint16)
    alpha = np.full_like(values, 2**alpha_bits - 1)
    alpha[:, :10] = 0
    image, mode = decode(encode(np.dstack([values] * 3 + [alpha]), ".png"))
    shown = np.asarray(image)
    assert mode == "RGBA of 12 bits" and (shown[:, :10] == 255).all()
    np.testing.assert_array_equal(shown[:, 10:, 0], (values >> 4)[:, 10:])


def test_a_black_picture_stays_black_and_a_dim_one_is_not_clipped() -> None:
    assert not np.asarray(decode(encode(np.zeros((40, 60), np.uint16), ".png"))[0]).any()
    dim = np.full((40, 60), 20_000, np.uint16)  # more than 14 bits: as bright as 16 say
    assert (np.asarray(decode(encode(dim, ".png"))[0]) == 78).all()


def test_twelve_bits_turned_by_exif() -> None:
    """The orientation is applied whichever library reads the pixels."""
    values = (RAMP * 4095).astype(np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    for data in (encode(values, ".png"), encode(np.dstack([values] * 3), ".png")):
        turned = decode(data[:33] + chunk(b"eXIf", exif.tobytes()[6:]) + data[33:])[0]
        np.testing.assert_array_equal(np.asarray(turned)[..., 0], np.rot90(values >> 4, -1))


def test_a_depth_that_a_tiff_states_decides() -> None:
    """A dark exposure of a 12-bit camera stays as dark as it was, if the file says that it has 12 bits."""
    values = (RAMP * 900).astype(np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "TIFF", tiffinfo={281: 4095})
    image, mode = decode(buffer.getvalue())
    assert mode == "I;16 of 12 bits"
    np.testing.assert_array_equal(np.asarray(image)[..., 0], values >> 4)


def test_a_tiff_of_twelve_bits_a_sample() -> None:
    """Two samples in three bytes, as cameras write them: dark ones stay dark, for the file states its
    depth.
    """
    values = (RAMP * 300).astype(np.uint16)
    pairs = values.reshape(-1, 2).astype(np.uint32)
    packed = ((pairs[:, 0] << 12) | pairs[:, 1]).astype(">u4").view(np.uint8).reshape(-1, 4)[:, 1:].tobytes()
    start = 8 + 2 + 12 * 9 + 4
    tags = [
        (256, 60),
        (257, 40),
        (258, 12),
        (259, 1),
        (262, 1),
        (273, start),
        (277, 1),
        (278, 40),
        (279, len(packed)),
    ]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    data = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + packed
    image, mode = decode(data)
    assert mode == "I;16 of 12 bits"
    np.testing.assert_array_equal(np.asarray(image)[..., 0], values >> 4)


@pytest.mark.parametrize("largest", [255, 4095, 65535])
def test_portable_greymaps_of_any_depth(largest: int) -> None:
    values = (RAMP * largest).round()
    stored = values.astype(np.uint8 if largest < 256 else ">u2").tobytes()
    shown = np.asarray(decode(b"P5 60 40 %d\n" % largest + stored)[0])[..., 0]
    assert np.abs(shown - values / largest * 255).max() <= 1.0


# ---------------------------------------------------------------- names


@pytest.mark.hostile("photo: .jfif, .jpe, .pnm, .jp2 and the like", outcome="used")
@pytest.mark.parametrize(
    ("suffix", "kind"), [(".jfif", "JPEG"), (".JPE", "JPEG"), (".jp2", "JPEG2000"), (".pnm", "PPM")]
)
def test_rarer_suffixes_are_used(tmp_path: Path, suffix: str, kind: str) -> None:
    SCENE.save(tmp_path / f"a{suffix}", kind)
    assert suffix.lower() in SUFFIXES
    found = inspect_image(tmp_path / f"a{suffix}")
    assert (found.width, found.height, found.reason) == (60, 40, "")
    assert found.sha256 == hashlib.sha256((tmp_path / f"a{suffix}").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.dng", ".dng"), ("A.CR2", ".cr2"), ("b.psd", ".psd"), ("c.jpg_large", ".jpg_large"), ("d.png~",
        ".png~"),
        ("e.jpeg.part", ".jpeg.part"), ("f.jpg2", ".jpg2"), ("g.jpg", None), ("h.jpg.png", None),
        ("notes.txt", None),
        ("jpg", None), ("a.json", None), ("x.jp2", None), ("photo.jpg.xmp", None),
        ("p.jpg.json", None), ("q.jpg.1", ".jpg.1"), ("r.jpg.crdownload", ".jpg.crdownload"), ("s.jpg (1)",
        ".jpg (1)"),
    ],
)  # fmt: skip
def test_what_looks_like_a_picture(name: str, kind: str | None) -> None:
    assert left_out_kind(name) == kind
