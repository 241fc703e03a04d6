"""Videos as a source: the frames that are asked for, whatever the codec; chosen once, never unpacked; damaged
files.
"""

import json
import multiprocessing
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from maskdistill.cli import main
from maskdistill.data import video_frames
from maskdistill.data.images import load_rgb
from maskdistill.data.listing import count_images, iter_images, listing_fingerprint, parse_data, source_of
from maskdistill.data.manifest import ok_images, photos, read_manifest
from maskdistill.data.picture_files import open_picture
from maskdistill.data.picture_refs import FAULTS, Frame, Inside, inside, shown_name
from maskdistill.data.sources import video
from maskdistill.data.sources.base import ImageSource
from maskdistill.product.photos import find_photos

av = pytest.importorskip("av", reason="needs the extra video (make video)")
WIDTH, HEIGHT, COUNT = 64, 48, 90


def picture(number: int) -> np.ndarray:
    """A frame that differs from its neighbours, and from all others: two bars that move at different
    speeds.
    """
    frame = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
    frame[:, number % WIDTH] = 250
    frame[number * 5 % HEIGHT, :, 0] = 10
    return frame


def clip(
    path: Path, codec: str = "mpeg4", count: int = COUNT, rate: int = 10, shots: int = 0, **options: str
) -> Path:
    """A video; with ``shots`` each picture stands for so many frames, with ``vfr`` times between frames
    vary.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    units = Fraction(1, 1000 if options.pop("vfr", "") else rate)
    steps, time = random.Random(0), 0
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.options = WIDTH, HEIGHT, options
        stream.codec_context.time_base = units
        for number in range(count):
            shown = (
                np.full((HEIGHT, WIDTH, 3), number // shots * 40 % 256, np.uint8)
                if shots
                else picture(number)
            )
            frame = av.VideoFrame.from_ndarray(shown, format="rgb24")
            frame.pts, frame.time_base = time, units
            time += 1 if units.denominator == rate else steps.randint(20, 400)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def source(root: Path, **settings: float | None) -> ImageSource:
    return parse_data(json.dumps({"kind": "video", "root": str(root), **settings}))


def every(root: Path) -> ImageSource:
    """All frames."""
    return source(root, fps=None, min_change=0)


def shown(path: str | Path) -> bytes:
    return np.asarray(load_rgb(path)).tobytes()


def make_manifest(data: ImageSource, output: Path, *options: str) -> Path:
    listing = f"--listing={listing_fingerprint(data)}"
    assert (
        main(["manifest", f"--params={data.model_dump_json()}", f"--output={output}", listing, *options]) == 0
    )
    return output


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("vfr.mp4", "libx264", {"bf": "3", "g": "24", "vfr": "yes"}),
        ("open.mkv", "libx264", {"bf": "3", "g": "24", "x264-params": "open-gop=1:scenecut=0"}),
        ("stream.ts", "mpeg2video", {"bf": "2", "g": "12"}),
        ("old.avi", "mpeg4", {"bf": "2", "g": "24"}),
        ("no-times.h264", "libx264", {"bf": "3", "g": "24"}),
    ],
)
def test_a_frame_is_the_same_in_order_and_at_random(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    """Against a plain pass over the video; in order each frame is decoded once."""
    path = clip(tmp_path / name, codec, **options)
    with av.open(str(path)) as container:
        reference = [frame.to_ndarray(format="rgb24").tobytes() for frame in container.decode(video=0)]
    images = list(iter_images(every(path)))
    assert len(images) == len(reference) == COUNT == len(set(reference))
    assert [image.key for image in images] == [f"{path.stem}/{number:06d}" for number in range(COUNT)]
    assert [shown(image.path) for image in images] == reference
    assert opened().decoded == COUNT
    for number in random.Random(0).sample(range(COUNT), 12):
        assert shown(images[number].path) == reference[number], number


def opened() -> video_frames.FrameReader:
    found = video_frames._videos._open
    assert found is not None
    return found[1]


def test_a_frame_far_in_is_sought_and_what_comes_next_is_decoded(tmp_path: Path) -> None:
    images = list(iter_images(every(clip(tmp_path / "a.mp4", count=400, g="20"))))
    load_rgb(images[350].path)
    assert opened().decoded <= 25
    load_rgb(images[380].path)
    assert opened().decoded <= 25 + 30, "three seconds are decoded"
    assert inside(images[7].path) == Frame(
        str(tmp_path / "a.mp4"), "000007.bmp", 7, inside(images[7].path).time
    )
    assert shown_name(images[7].path).endswith("a.mp4::000007.bmp")


def test_where_no_frame_begins_anew_seeking_is_given_up(tmp_path: Path) -> None:
    """One frame in 12 s of a video that begins once: seeking forwards would decode all before, each time."""
    images = list(
        iter_images(source(clip(tmp_path / "a.mp4", count=1000, g="1000"), fps=1 / 12, min_change=0))
    )
    assert len(images) == 9
    for image in images:
        load_rgb(image.path)
    assert opened().decoded < 1.5 * 1000


def test_threads_take_turns_and_decode_once(tmp_path: Path) -> None:
    images = list(iter_images(every(clip(tmp_path / "a.mp4", count=200, g="50"))))
    expected = [shown(image.path) for image in images]
    load_rgb(images[0].path)
    before = opened().decoded
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda image: shown(image.path), images)) == expected
    assert opened().decoded - before < 3 * 200, "not once for each thread"


# ---------------------------------------------------------------- what is chosen


def test_a_fork_reads_the_video_that_its_parent_has_open(tmp_path: Path) -> None:
    """Its own way: the threads that decode for the parent are not in it, and it waits for none of them."""
    frames = [image.path for image in iter_images(every(clip(tmp_path / "a.mp4", "libx264", count=30)))][:4]
    expected = [shown(frame) for frame in frames]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map_async(shown, frames, chunksize=1).get(60) == expected
    assert [shown(frame) for frame in frames] == expected


def test_frames_at_a_rate_that_do_not_look_alike(tmp_path: Path) -> None:
    """Five shots of 2 s at 10 frames a second."""
    path = clip(tmp_path / "a.mp4", "libx264", count=100, shots=20, qp="10")
    keys = [image.key for image in iter_images(source(path))]
    assert keys == [f"a/{number:06d}" for number in (0, 20, 40, 60, 80)]
    assert (
        count_images(source(path, min_change=0)) == 10
        and count_images(source(path, fps=2.5, min_change=0)) == 25
    )
    assert count_images(source(path, fps=None)) == 5 and count_images(every(path)) == 100
    assert count_images(source(path, min_change=100)) == 2, "against the last frame that was chosen: 0, 120"


def test_a_video_is_decoded_once_to_choose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, calls, choose = clip(tmp_path / "a.mp4"), list[Path](), video.choose_frames
    monkeypatch.setattr(video, "choose_frames", lambda path, *rest: calls.append(path) or choose(path, *rest))
    first = list(iter_images(source(path)))
    for _ in range(2):
        assert list(iter_images(source(path), kept=tmp_path / "kept")) == first
    assert len(calls) == 2
    count_images(source(path, fps=2), kept=tmp_path / "kept")
    assert len(calls) == 3


def test_videos_of_a_folder_are_told_apart(tmp_path: Path) -> None:
    for name in ("in/b.MOV", "in/b.mp4", "a.mkv"):
        clip(tmp_path / name, count=1)
    assert [image.key for image in iter_images(source(tmp_path))] == [
        "a/000000", "in/b.MOV/000000", "in/b.mp4/000000",
    ]  # fmt: skip
    assert source_of(tmp_path) == source(tmp_path)
    assert find_photos([str(tmp_path / "a.mkv")], tmp_path / "l").data == source(tmp_path / "a.mkv")


def test_a_changed_video_is_noticed(tmp_path: Path) -> None:
    path = clip(tmp_path / "a.mp4", vfr="yes")
    manifest = make_manifest(source(path, min_change=0), tmp_path / "data/m.csv")
    table = ok_images(read_manifest(manifest))
    assert (
        len(table) > 5
        and table["mode"].eq("RGB").all()
        and (table["width"].iloc[0], table["shard"].max()) == (64, 0)
    )
    load_rgb(photos(table)[1])
    clip(path, vfr="yes", shots=10)
    with pytest.raises(Exception, match=r"a\.mp4::0+\d+\.bmp::\d+@\d+: its content has changed since"):
        load_rgb(photos(table)[1])
    clip(path, count=3)
    with pytest.raises(Exception, match="not in the video any more"):
        load_rgb(photos(table)[-1])


# ---------------------------------------------------------------- hostile videos


@pytest.mark.hostile(
    "archive: a video that is empty, no video, a playlist that names other files, or cut off before its "
    "index",
    outcome="it stands for one picture, which is quarantined with the reason; other videos are used",
)
def test_what_is_no_video_is_quarantined(tmp_path: Path) -> None:
    good = clip(tmp_path / "good.mp4", count=30)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mkv").write_text("hello " * 999)
    (tmp_path / "list.mp4").write_text(f"#EXTM3U\n#EXTINF:1,\n{good}\n#EXT-X-ENDLIST\n")
    (tmp_path / "cut.mp4").write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    (tmp_path / "x\udcff.mp4").write_bytes(good.read_bytes())
    manifest = make_manifest(source(tmp_path), tmp_path / "out/m.csv", "--max-quarantined=1")
    table = read_manifest(manifest)
    good_rows = table["key"].str.startswith("good/")
    assert good_rows.sum() == 3 and (table["status"] == "ok").equals(good_rows)
    reasons = dict(zip(table["key"], table["reason"], strict=True))
    for name in ("empty", "text", "list", "cut"):
        assert reasons.pop(f"{name}/~") in (FAULTS["video"], FAULTS["frames"]), name
    assert any("not UTF-8" in reason for reason in reasons.values())
    assert inside(str(Inside("/a.mp4", "video", fault="video"))) == Inside("/a.mp4", "video", 0, 0, "video")


@pytest.mark.hostile(
    "archive: a video whose end is missing, or of which pieces are damaged",
    outcome="the whole frames are used; how many are damaged is counted and reported",
)
def test_broken_tails_and_holes(tmp_path: Path) -> None:
    whole = clip(tmp_path / "a.mkv", "libx264", g="10", bf="2").read_bytes()
    (tmp_path / "a.mkv").write_bytes(whole[: len(whole) * 6 // 10])
    tail = [image.path for image in iter_images(every(tmp_path / "a.mkv"))]
    assert COUNT // 3 < len(tail) < COUNT
    with av.open(str(tmp_path / "a.mkv")) as container:
        container.streams.video[0].thread_type = "NONE"
        first = next(container.decode(video=0)).to_ndarray(format="rgb24").tobytes()
    assert shown(tail[0]) == first and all(map(shown, tail))
    holed = bytearray(clip(tmp_path / "b.ts", "mpeg2video", g="10").read_bytes())
    holed[len(holed) // 3 : len(holed) // 3 + 1500] = bytes(1500)
    (tmp_path / "b.ts").write_bytes(holed)
    left_out: Counter[str] = Counter()
    found = [image.path for image in iter_images(every(tmp_path / "b.ts"), left_out=left_out)]
    assert COUNT // 2 < len(found) <= COUNT
    seen = list(map(shown, found))
    for number in random.Random(1).sample(range(len(found)), 10):
        assert shown(found[number]) == seen[number]


def test_a_frame_as_a_file(tmp_path: Path) -> None:
    """What is copied for other tools: a BMP."""
    image = next(iter_images(every(clip(tmp_path / "a.mp4", count=2))))
    with open_picture(image.path) as stream:
        assert stream.read(2) == b"BM" and stream.seek(0, 2) == stream.size == 54 + 3 * WIDTH * HEIGHT
        assert stream.read() == b"" and len(stream.whole()) == stream.size
