"""Tar archives in a bucket: the same pictures as in archives here, little read to list them, each read once,
also by a reader that is killed.
"""

import io
import json
import os
import shutil
import signal
import tarfile
import threading
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from object_server import ObjectServer, own_environment, serve_objects  # noqa: F401
from PIL import Image

from maskdistill.cli import main
from maskdistill.data.images import load_rgb
from maskdistill.data.listing import iter_images, listing_fingerprint, parse_data
from maskdistill.data.manifest import ok_images, photos, read_manifest
from maskdistill.data.picture_files import open_picture
from maskdistill.data.picture_refs import Inside, inside, remote_name, remote_url, shown_name
from maskdistill.data.sources.base import ImageSource
from maskdistill.runtime import remote_read, remote_stream
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.remote_stream import LEAST, MOST, ObjectStream

pytest.importorskip("requests_aws4auth", reason="the extra remote is not installed")
NAMES = ("a-08.tar", "a-09.tar", "a-10.tar")


def jpeg(seed: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def packed(first: int) -> bytes:
    """Two samples, one in a folder, each with a text beside the picture."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in (f"{first:04d}", f"ü b/{first + 1:04d}"):
            for suffix, content in ((".jpg", jpeg(int(name[-4:]))), (".txt", b"a text")):
                info = tarfile.TarInfo(name + suffix)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


ARCHIVES = {f"bkt/s t/{name}": packed(10 * number) for number, name in enumerate(NAMES)}


pytestmark = pytest.mark.usefixtures("own_environment")


@pytest.fixture
def server(own_environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectServer]:  # noqa: F811
    with serve_objects(
        ObjectServer(ARCHIVES | {"bkt/s t/x.jpg": b"", "bkt/other.tar": bytes(10240)})
    ) as found:
        monkeypatch.setenv("AWS_ENDPOINT_URL", found.url)
        yield found


def test_a_server_that_sends_more_than_was_asked_for_is_refused(
    server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it sends, a piece is all that comes into memory."""
    url = "s3://bkt/s%20t/a-08.tar"
    size = len(ARCHIVES["bkt/s t/a-08.tar"])
    ask = remote_read.get

    def generous(place: str, headers: dict[str, str], query: str = "") -> Any:
        return ask(place, headers | {"Range": "bytes=0-"}, query)

    monkeypatch.setattr(remote_read, "get", generous)
    monkeypatch.setattr(remote_stream, "LEAST", 512)
    with pytest.raises(remote_read.ObjectRefused, match=f"{size} bytes, more than 512"):
        ObjectStream(url, size).read(1)


def source(root: str, kind: str = "remote_tar") -> ImageSource:
    return parse_data(json.dumps({"kind": kind, "root": root}))


def make_manifest(data: ImageSource, output: Path) -> Path:
    listing = f"--listing={listing_fingerprint(data, kept=output.parent)}"
    given = [f"--params={data.model_dump_json()}", f"--output={output}", listing, "--threads=2"]
    assert main(["manifest", *given]) == 0
    return output


def test_archives_in_a_bucket_are_as_those_on_this_machine(server: ObjectServer, tmp_path: Path) -> None:
    """Keys, digests and pixels; a cut answer goes on; the next stage asks for nothing."""
    for name, content in ARCHIVES.items():
        path = tmp_path / name.rpartition("/")[2]
        path.write_bytes(content)
    server.cuts["bkt/s t/a-09.tar"] = [100, 700]
    ours = read_manifest(make_manifest(source(str(tmp_path), "tar"), tmp_path / "local/m.csv"))
    theirs = read_manifest(make_manifest(source("s3://bkt/s t"), tmp_path / "m/m.csv"))
    columns = ["key", "width", "height", "sha256", "shard", "status"]
    assert ours[columns].equals(theirs[columns]) and ours["key"][1] == "a-08/ü b/0001"
    found = photos(ok_images(theirs))
    assert shown_name(found[1]) == "s3://bkt/s t/a-08.tar::ü b/0001.jpg"
    asked, kept = len(server.asked), list((tmp_path / "m/archives").iterdir())
    assert len(kept) == 3, "an index an archive"
    server.objects = {}
    for mine, other in zip(photos(ok_images(ours)), found, strict=True):
        assert np.array_equal(np.asarray(load_rgb(mine)), np.asarray(load_rgb(other)))
    assert len(server.asked) == asked and not server.reads, "no archive was ever read as a whole"


def test_archives_by_number_and_one(server: ObjectServer) -> None:
    def keys(root: str) -> list[str]:
        return [image.key for image in iter_images(source(root))]

    assert keys("s3://bkt/s t/a-{09..10}.tar") == ["a-09/0010", "a-09/ü b/0011", "a-10/0020", "a-10/ü b/0021"]
    assert keys("s3://bkt/s t/a-08.tar") == ["a-08/0000", "a-08/ü b/0001"]
    for root, message in {
        "s3://bkt/s t/a-{09..11}.tar": r"s3://bkt/s t/a-11\.tar: not in the bucket",
        "s3://bkt/none": r"data\.root: no \.tar file below s3://bkt/none",
        "s3://bkt/other.tar": r"data\.root: no picture in s3://bkt/other\.tar",
    }.items():
        with pytest.raises(MaskDistillError, match=message):
            keys(root)
    server.objects["bkt/z/y.tar.gz"] = b""
    with pytest.raises(MaskDistillError, match=r"s3://bkt/z/y\.tar\.gz: is compressed \(gz\)"):
        keys("s3://bkt/z")


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ("https://example.org/a-{0..3}.tar", "begins with s3:// or gs://"),
        ("s3://b/a-{3..1}.tar", "name no archive"),
        ("s3://b/a-{0..9999}-{0..9999}.tar", "more than 1000000"),
        ("s3://b/a-{0..3}", r"ends in \.tar"),
    ],
)
def test_settings_that_are_refused(root: str, message: str) -> None:
    with pytest.raises(MaskDistillError, match=message):
        source(root)


@pytest.mark.hostile(
    "remote: an archive in a bucket that is cut short, or replaced after it was listed",
    outcome="the stage that reads it ends; the message names archive and member, as of one on this machine",
)
def test_archives_that_change(server: ObjectServer, tmp_path: Path) -> None:
    name = "bkt/s t/a-10.tar"
    theirs = read_manifest(make_manifest(source("s3://bkt/s t"), tmp_path / "m/m.csv"))
    last = photos(ok_images(theirs))[-1]
    shutil.rmtree(tmp_path / "cache")
    server.objects[name] = packed(30)
    with pytest.raises(MaskDistillError, match=r"0021\.jpg: its content has changed since the manifest"):
        load_rgb(last)
    place = inside(last)
    assert isinstance(place, Inside)
    server.objects[name] = ARCHIVES[name][: place.offset + 10]
    for end in (place.offset, place.offset + 10):
        server.objects[name] = ARCHIVES[name][:end]
        with pytest.raises(MaskDistillError, match=rf"the archive ends before it, at byte {end}: replace"):
            load_rgb(last)
    with pytest.raises(MaskDistillError, match=r"s3://bkt/s t/a-10\.tar: not a whole tar archive"):
        list(iter_images(source("s3://bkt/s t")))


def _read(paths: list[str]) -> list[int]:
    return [load_rgb(path).width for path in paths]


def test_a_killed_reader_goes_on_where_it_was(server: ObjectServer, tmp_path: Path) -> None:
    """Of six pictures five are asked for once, and the one that was on its way twice."""
    found = photos(ok_images(read_manifest(make_manifest(source("s3://bkt/s t"), tmp_path / "m/m.csv"))))
    shutil.rmtree(tmp_path / "cache")
    server.asked.clear()
    stuck = "bkt/s t/a-09.tar"
    server.hold[stuck] = threading.Event()
    reader = get_context("fork").Process(target=_read, args=(found,))
    reader.start()
    while len(server.asked) < 3:
        time.sleep(0.005)
    assert reader.pid is not None
    os.kill(reader.pid, signal.SIGKILL)
    reader.join()
    server.hold.pop(stuck).set()
    assert _read(list(found)) == [48] * 6 and len(server.asked) == 7


def test_large_members_are_passed_over_and_small_ones_read_in_large_pieces(
    server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    least, most = LEAST // 64, MOST // 64
    monkeypatch.setattr(remote_stream, "LEAST", least)
    monkeypatch.setattr(remote_stream, "MOST", most)
    content = np.random.default_rng(0).bytes(3 * most)
    server.objects["bkt/big"] = content

    def pieces(step: int) -> list[int]:
        server.asked.clear()
        stream, place = ObjectStream("s3://bkt/big", len(content)), 0
        while place < len(content):
            stream.seek(place)
            assert stream.read(8) == content[place : place + 8]
            place += step
        asked = [list(map(int, text.removeprefix("bytes=").split("-"))) for text in server.asked]
        return [last - first + 1 for first, last in asked]

    assert pieces(most) == [least] * 3, "a large member a step"
    small = pieces(least // 2)
    assert small[:7] == [least << power for power in range(7)] and len(small) < 10 and max(small) == most


def test_names_of_pictures_in_archives_elsewhere() -> None:
    place = Inside("/s3:/bkt/a.tar", "x.jpg", 512, 7)
    assert remote_url(str(place)) == "s3://bkt/a.tar" and shown_name(str(place)) == "s3://bkt/a.tar::x.jpg"
    odd = remote_name("https://example.org/a.tar::x.jpg::512+7")
    assert inside(odd) is None and remote_url(odd) == "https://example.org/a.tar%3A%3Ax.jpg%3A%3A512+7"
    with open_picture(str(Inside("/s3:/bkt/a.tar", "x.jpg", 512, 0))) as stream:
        assert stream.whole() == b"", "an empty member is not asked for"
