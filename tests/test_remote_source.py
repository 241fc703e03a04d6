"""Pictures in stores and on web servers: listed, read once, kept within bounds, given up in the end; no
secret is told.

The server is a process's thread on the loopback that answers as S3 does and checks signatures by its own
code.
"""

import io
import json
import os
import signal
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from object_server import KEY, REGION, SECRET, ObjectServer, own_environment, serve_objects  # noqa: F401
from PIL import Image

from maskdistill.cli import main
from maskdistill.data import object_index
from maskdistill.data.images import Photo, load_rgb
from maskdistill.data.listing import count_images, iter_images, listing_fingerprint, parse_data
from maskdistill.data.manifest import ok_images, photos, quarantine_path, read_manifest
from maskdistill.data.picture_files import MAX_BYTES, open_picture
from maskdistill.data.picture_refs import remote_name, remote_url, shown_name
from maskdistill.data.settled import settled_listing
from maskdistill.data.sources.base import ImageSource, Look
from maskdistill.runtime import object_cache, remote_access
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.remote_urls import checked, shown

pytest.importorskip("requests_aws4auth", reason="the extra remote is not installed")


def jpeg(seed: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


NAMES = ("a.jpg", "a.png", "b/c.JPG", "b/d.e.jpg", "ü b+c&%20.jpg")
PHOTOS = {f"bkt/p/{name}": jpeg(seed) for seed, name in enumerate(NAMES)}
OTHERS = {
    "bkt/p/.hidden/x.jpg": b"",
    "bkt/p/b/": b"",
    "bkt/p/x.dng": b"",
    "bkt/q.jpg": b"",
    "bkt/p/a.txt": b"",
}


pytestmark = pytest.mark.usefixtures("own_environment")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectServer]:
    with serve_objects(ObjectServer(PHOTOS | OTHERS)) as found:
        monkeypatch.setenv("AWS_ENDPOINT_URL", found.url)
        yield found


def source(**settings: str | Path) -> ImageSource:
    return parse_data(json.dumps({"kind": "remote"} | {name: str(value) for name, value in settings.items()}))


def make_manifest(data: ImageSource, output: Path, *options: str) -> Path:
    listing = f"--listing={listing_fingerprint(data)}"
    assert (
        main(["manifest", f"--params={data.model_dump_json()}", f"--output={output}", listing, *options]) == 0
    )
    return output


def entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")


# ---------------------------------------------------------------- listed and read


def test_a_bucket_is_listed_as_a_folder_is_and_read_once_a_stage(
    server: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bad and missing pictures are quarantined; requests are signed, and what is written holds no
    credentials.
    """
    folder = tmp_path / "photos"
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(PHOTOS[f"bkt/p/{name}"])
    for name, value in {"ACCESS_KEY_ID": KEY, "SECRET_ACCESS_KEY": SECRET, "REGION": REGION}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    server.signed, data, left_out = True, source(root="s3://bkt/p/"), Counter[str]()
    images = list(iter_images(data, left_out=left_out))
    assert [image.key for image in images] == [
        image.key for image in iter_images(parse_data(json.dumps({"kind": "folder", "root": str(folder)})))
    ] == ["a.jpg", "a.png", "b/c", "b/d.e", "ü b+c&%20"]  # fmt: skip
    assert [shown_name(image.path) for image in images] == [f"s3://bkt/p/{name}" for name in NAMES]
    assert left_out == {".dng": 1} and server.lists == 3, "three names a page"
    server.objects |= {"bkt/p/bad.jpg": b"no picture", "bkt/p/c//d.jpg": jpeg(9), "bkt/p/gone.jpg": b""}
    server.statuses["bkt/p/gone.jpg"] = [404]
    manifest = make_manifest(data, tmp_path / "m/m.csv", "--max-quarantined=1", "--threads=2")
    table = read_manifest(manifest)
    assert table["reason"][table["status"] != "ok"].str.slice(0, 13).tolist() == [
        "not a picture", "its name has ", "the server an",
    ]  # fmt: skip
    assert "/s3:/bkt/p/gone.jpg" in quarantine_path(manifest).read_text()
    found = photos(ok_images(table))
    assert {name.rpartition("/")[2] for name in map(shown_name, found)} >= {"ü b+c&%20.jpg", "c.JPG"}
    for photo in found:
        load_rgb(photo)
    assert server.reads == dict.fromkeys([*PHOTOS, "bkt/p/bad.jpg"], 1) and not server.unchanged
    written = "".join(path.read_text() for path in entries(tmp_path / "m"))
    assert SECRET not in written and KEY not in written


def test_a_list_of_urls(server: ObjectServer, tmp_path: Path) -> None:
    """On a web server, where nothing is listed, and in buckets; relative names are below the root."""
    names = tmp_path / "urls.txt"
    names.write_text(
        f"# all\na.jpg\n{server.url}/bkt/p/b/c.JPG\n{server.url}/bkt/q.jpg?w=9\ns3://bkt/p/%C3%BC.jpg\n"
    )
    data = source(root=f"{server.url}/bkt/p", file=names)
    host = server.url.partition("://")[2]
    images = list(iter_images(data))
    assert [image.key for image in images] == [
        "a.jpg",
        "b/c.JPG",
        f"{host}/bkt/q.jpg?w=9",
        "bkt/p/%C3%BC.jpg",
    ]
    assert [shown_name(image.path) for image in images][2:] == [
        f"{server.url}/bkt/q.jpg?w=9",
        "s3://bkt/p/%C3%BC.jpg",
    ]
    assert load_rgb(images[1].path).size == (48, 40) and count_images(data) == 4 and server.lists == 0
    made = listing_fingerprint(data)
    names.write_text("a.jpg\n")
    assert listing_fingerprint(data) != made
    for line, message in (
        ("../x.jpg", "line 1: .* names no picture"), ("ftp://h/x.jpg", r"1: .ftp://h/x.jpg. is not a URL"),
        ("a.jpg\n./a.jpg", "results of .*a.jpg and of .*a.jpg would overwrite"), ("summary.json/a.jpg",
        "results have"),
        ("https://u:pw@h/x.jpg", r"line 1: https://\.\.\.@h/x\.jpg holds a name or password"),
        ("https://h/x.jpg?X-Amz-Signature=0f", r"line 1: https://h/x\.jpg\?\.\.\. is signed"),
    ):  # fmt: skip
        names.write_text(line)
        with pytest.raises(MaskDistillError, match=message) as error:
            list(iter_images(data))
        assert "pw" not in str(error.value).replace("password", "") and "0f" not in str(error.value)


@pytest.mark.parametrize("root", ["s3://bkt", "s3://bkt/", "s3://bkt/p", "http://host", "https://host:81/p/"])
def test_names_relative_to_a_whole_bucket_or_server(root: str, tmp_path: Path) -> None:
    names, top = tmp_path / "urls.txt", root.rstrip("/")
    names.write_text(f"a/b.jpg\n/c.jpg\n{top}/d/e.jpg\n")
    images = list(iter_images(source(root=root, file=names)))
    assert [image.key for image in images] == ["a/b.jpg", "c.jpg", "d/e.jpg"]
    assert [remote_url(image.path) for image in images] == [f"{top}/{n}.jpg" for n in ("a/b", "c", "d/e")]


def test_names_of_objects() -> None:
    for url in (
        "s3://b/a//b.jpg",
        "s3://b/./../x.jpg",
        "gs://b/ü %.jpg",
        "https://h:8/a%20b.jpg?w=1",
        "s3://b/x..jpg",
    ):
        one = checked(url)
        name = remote_name(one)
        assert str(Path("/else") / name) == name and remote_url(name) is not None
        assert shown_name(Path(name)) == shown(one) == url
    assert remote_url("/a/s3:/b/c.jpg") is None and remote_url("s3://b/c.jpg") is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "a web server does not list"),
        ({"root": "https://h/x"}, "a web server does not list"),
        ({"root": "ftp://h/x"}, "begins with s3"),
        ({"root": "s3:///x"}, "not a bucket name"),
        ({"root": "https://user:pw@h/x", "file": "l"}, r"https://\.\.\.@h/x holds a name or password"),
        ({"root": "https://h/x?sig=pw", "file": "l"}, r"no query; .*\(got 'https://h/x\?\.\.\.'\)"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(MaskDistillError, match=message) as error:
        source(**settings)
    assert "pw" not in str(error.value).replace("password", "")


# ---------------------------------------------------------------- what changes


def test_a_changed_object_is_noticed_and_the_same_content_is_not(
    server: ObjectServer, tmp_path: Path
) -> None:
    data, kept = source(root="s3://bkt/p"), tmp_path / "data"
    manifest = make_manifest(data, kept / "m.csv")
    made = listing_fingerprint(data)

    def settled() -> str:
        return settled_listing(listing_fingerprint(data), lambda: iter_images(data), manifest)

    server.objects["bkt/p/z.txt"] = b"not a picture"
    assert settled() == made
    before = Counter(server.reads)
    server.objects["bkt/p/a.jpg"] = jpeg(7)
    assert settled() == listing_fingerprint(data) != made
    assert server.reads - before == {"bkt/p/a.jpg": 1}, "others are asked for changes alone"
    rows = photos(ok_images(read_manifest(manifest)))
    with pytest.raises(
        MaskDistillError, match=r"^s3://bkt/p/a\.jpg: its content has changed since the manifest"
    ):
        load_rgb(rows[0])
    load_rgb(rows[1])
    del server.objects["bkt/p/a.jpg"]
    with pytest.raises(MaskDistillError, match=r"^s3://bkt/p/a\.jpg: the server answers 404"):
        load_rgb(rows[0])


def test_a_listing_is_kept_for_a_while(
    server: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = source(root="s3://bkt/p")
    first = [image.key for image in iter_images(data, kept=tmp_path)]
    assert count_images(data, kept=tmp_path) == 5 and server.lists == 3
    assert listing_fingerprint(data, kept=tmp_path) == listing_fingerprint(data)
    server.lists = 0
    (kept,) = (tmp_path / "listings").iterdir()
    kept.write_bytes(kept.read_bytes().replace(b"a.jpg", b"z.jpg"))
    assert [image.key for image in iter_images(data, kept=tmp_path)] == first and server.lists == 3, "damaged"
    os.utime(kept, (1, 1))
    assert count_images(data, kept=tmp_path) == 5 and server.lists == 3, (
        "a process sees the same all the time"
    )
    monkeypatch.setattr(object_index, "_listed", set())
    assert count_images(data, kept=tmp_path) == 5 and server.lists == 6, "too old"
    (tmp_path / "file").touch()
    assert count_images(data, kept=tmp_path / "file") == 5, "where nothing can be kept"


# ---------------------------------------------------------------- what fails


def test_failures_that_pass_are_waited_for_and_a_cut_transfer_goes_on(server: ObjectServer) -> None:
    path = remote_name(checked("s3://bkt/p/a.jpg"))
    content = PHOTOS["bkt/p/a.jpg"]
    server.statuses["bkt/p/a.jpg"], server.cuts["bkt/p/a.jpg"] = [503], [1000]
    with open_picture(path) as stream:
        assert stream.whole() == content and stream.read() == content
    assert server.asked == ["bytes=1000-"] and server.reads["bkt/p/a.jpg"] == 1


@pytest.mark.hostile(
    "remote: a server that fails for longer than is waited for, or is not there",
    outcome="the stage ends with the URL, the reason and the number of tries; no picture is quarantined for "
    "it",
)
def test_a_server_that_goes_on_failing_ends_the_stage(server: ObjectServer, tmp_path: Path) -> None:
    data = source(root="s3://bkt/p")
    server.statuses["bkt/p/a.jpg"] = [500] * 3
    command = ["manifest", f"--params={data.model_dump_json()}", f"--output={tmp_path / 'm.csv'}"]
    assert main([*command, f"--log={tmp_path / 'log'}"]) == 1 and not (tmp_path / "m.csv").exists()
    assert "s3://bkt/p/a.jpg: cannot be fetched: the server answers 500" in (tmp_path / "log").read_text()
    with serve_objects(ObjectServer({})) as gone:
        pass
    for url, reason in (
        (gone.url, "refused"),
        (server.url.replace("http://", "https://"), "cannot be fetched|trusted"),
    ):
        with pytest.raises(MaskDistillError, match=reason):
            load_rgb(remote_name(checked(f"{url}/a.jpg")))


@pytest.mark.hostile(
    "remote: no such bucket, no right to list or read, another region, an answer that is no store's",
    outcome="said once when the run is planned, and by `doctor`; the message names the bucket and what to "
    "set",
)
def test_what_concerns_the_whole_bucket_is_said_before_anything_is_computed(
    server: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusal(root: str) -> str:
        remote_access.forget()
        with pytest.raises(MaskDistillError) as error:
            count_images(source(root=root))
        return str(error.value)

    assert "s3://none: there is no such bucket" in refusal("s3://none/x")
    assert "no picture below s3://bkt/empty" in refusal("s3://bkt/empty")
    server.signed = True
    assert "to a request without credentials" in refusal("s3://bkt/p")
    shared = tmp_path / "credentials"
    shared.write_text(f"[other]\naws_access_key_id = {KEY}\naws_secret_access_key = wrong\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(shared))
    monkeypatch.setenv("AWS_PROFILE", "other")
    said = refusal("s3://bkt/p")
    assert "403 Forbidden (SignatureDoesNotMatch) to a signed request" in said and "wrong" not in said
    shared.write_text(f"[other]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n")
    monkeypatch.setenv("AWS_REGION", REGION)
    remote_access.forget()
    data = source(root="s3://bkt/p")
    assert "s3://bkt/p/a.jpg, the first one, can be read" in data.reach(Look())
    server.signed = False
    server.statuses["bkt/p/a.jpg"] = [404]
    with pytest.raises(
        MaskDistillError, match=r"s3://bkt/p/a\.jpg, the first picture, cannot be read: .*404"
    ):
        data.reach(Look())
    server.objects["bkt/page.jpg"] = b"<html>"
    monkeypatch.setattr(server, "_list", lambda handler, *_: server.answer_page(handler), raising=False)
    monkeypatch.setattr(ObjectServer, "answer_page", _answer_page, raising=False)
    assert "the answer is not that of an object store" in refusal("s3://bkt/p")


def _answer_page(self: ObjectServer, handler: object) -> None:
    from object_server import send

    send(handler, 200, b"<html><body>Log in</body></html>")  # type: ignore[arg-type]


def test_where_requests_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    assert remote_access.web_address("s3://bkt/a%20b") == "https://bkt.s3.eu-central-1.amazonaws.com/a%20b"
    assert remote_access.web_address("s3://b.kt/a") == "https://s3.eu-central-1.amazonaws.com/b.kt/a"
    assert remote_access.web_address("gs://bkt/a") == "https://storage.googleapis.com/bkt/a"
    assert remote_access.web_address("https://h/a?b") == "https://h/a?b"


# ---------------------------------------------------------------- the cache


def test_the_cache_is_bounded_and_what_is_open_is_not_lost(server: ObjectServer, tmp_path: Path) -> None:
    server.objects = {f"bkt/{number:02}.jpg": bytes([number]) * 10_000 for number in range(16)}
    cache = object_cache.ObjectCache(tmp_path / "cache", 50_000)
    held, size = cache.open("s3://bkt/00.jpg")
    old = time.time() - 100
    for number in range(1, 16):
        os.close(cache.open(f"s3://bkt/{number:02}.jpg")[0])
        for path in entries(cache.folder):
            os.utime(path, (old, old)) if path.stat().st_mtime > old + 50 else None
        os.close(cache.open("s3://bkt/05.jpg", "")[0]) if number > 5 else None
        assert sum(path.stat().st_size for path in entries(cache.folder)) <= 50_000 + 11_000
    assert os.pread(held, size, 0) == bytes(10_000), "removed meanwhile, and still open"
    os.close(held)
    assert server.reads["bkt/05.jpg"] == 1 and server.unchanged["bkt/05.jpg"] == 10, (
        "used all the time, so kept"
    )
    (left,) = [path for path in entries(cache.folder) if path.read_bytes().startswith(bytes([5]) * 9)]
    left.write_bytes(left.read_bytes()[:-3])
    assert (
        os.pread(cache.open("s3://bkt/05.jpg")[0], 9, 0) == bytes([5]) * 9 and server.reads["bkt/05.jpg"] == 2
    )


@pytest.mark.hostile(
    "remote: a cache whose folder cannot be written to, or whose size is no number",
    outcome="the stage ends; the message names the folder or the variable",
)
def test_a_cache_that_cannot_be(
    server: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = remote_name("s3://bkt/p/a.jpg")
    (tmp_path / "file").touch()
    monkeypatch.setenv("MASKDISTILL_CACHE", str(tmp_path / "file"))
    with pytest.raises(
        MaskDistillError, match=r"file: objects cannot be kept there .*set MASKDISTILL_CACHE to"
    ):
        load_rgb(path)
    monkeypatch.setenv("MASKDISTILL_CACHE_GB", "much")
    with pytest.raises(MaskDistillError, match="MASKDISTILL_CACHE_GB='much': give gigabytes"):
        load_rgb(path)


def test_a_large_object_is_refused_before_it_is_read(
    server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maskdistill.data.picture_files.MAX_BYTES", 1000)
    with pytest.raises(MaskDistillError, match=r"a\.jpg: \d+ bytes, more than 1000: save it smaller"):
        load_rgb(remote_name("s3://bkt/p/a.jpg"))
    assert MAX_BYTES > 1000


def _read(paths: list[str]) -> list[int]:
    return [load_rgb(path).width for path in paths]


def test_a_killed_reader_goes_on_where_it_was(server: ObjectServer, tmp_path: Path) -> None:
    """What was complete is kept and not read again; of what was not, nothing lies under its name."""
    paths, stuck = [remote_name(checked(f"s3://{name}")) for name in PHOTOS], "bkt/p/b/c.JPG"
    wanted = [Photo(path, sha256_of(PHOTOS[name])) for path, name in zip(paths, PHOTOS, strict=True)]
    server.hold[stuck] = threading.Event()
    reader = get_context("fork").Process(target=_read, args=(wanted,))
    reader.start()
    while not server.reads[stuck]:
        time.sleep(0.005)
    assert reader.pid is not None
    os.kill(reader.pid, signal.SIGKILL)
    reader.join()
    server.hold.pop(stuck).set()
    assert [path.name.startswith(".") for path in entries(tmp_path / "cache")].count(False) == 2
    assert _read(wanted) == [48] * 5
    assert server.reads == dict.fromkeys(PHOTOS, 1) | {stuck: 2}
    assert not [path for path in entries(tmp_path / "cache") if path.name.startswith(".")], (
        "its leftover is gone"
    )


def sha256_of(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()


def test_processes_share_the_cache(server: ObjectServer) -> None:
    wanted = [
        Photo(remote_name(checked(f"s3://{name}")), sha256_of(content)) for name, content in PHOTOS.items()
    ]
    _read(wanted[:1])
    with get_context("fork").Pool(3) as pool:
        assert pool.map(_read, [wanted] * 6, chunksize=1) == [[48] * 5] * 6
    assert server.reads["bkt/p/a.jpg"] == 1 and max(server.reads.values()) <= 3


def test_listing_takes_no_more_memory_the_longer_it_is(server: ObjectServer) -> None:
    server.page = 100

    def peak(count: int) -> int:
        server.objects = {f"bkt/{number:05}.jpg": b"x" for number in range(count)}
        tracemalloc.start()
        assert sum(1 for _ in object_index.pictures_below("s3://bkt/", None, Counter())) == count
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    first = peak(100)
    assert peak(400) < 2 * first


def test_doctor_asks_for_the_first_picture(
    server: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    config = {"run": "r", "data": {"kind": "remote", "root": "s3://bkt/p"}, "backbone": {"weights": "random"}}
    Path("c.yaml").write_text(
        json.dumps(config | {name: {"weights": "random"} for name in ("detector", "segmenter")})
    )
    main(["doctor", "--config", "c.yaml"])
    told = capsys.readouterr().out
    assert "data elsewhere" in told and "s3://bkt/p/a.jpg, the first one, can be read" in told
