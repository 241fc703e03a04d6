"""Tar archives as a source: the same pictures as in a folder, never unpacked; hostile archives; nothing is
held.
"""

import io
import json
import os
import tarfile
import tracemalloc
from collections import Counter
from multiprocessing import get_context
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from maskdistill.cli import main
from maskdistill.data import tar_index
from maskdistill.data.images import load_rgb
from maskdistill.data.listing import count_images, iter_images, listing_fingerprint, parse_data, source_of
from maskdistill.data.manifest import image_rows, ok_images, photos, quarantine_path, read_manifest
from maskdistill.data.picture_files import open_picture
from maskdistill.data.picture_refs import FAULTS, Inside, file_of, inside, shown_name
from maskdistill.data.scenes import generate_scene
from maskdistill.data.settled import settled_listing
from maskdistill.data.sources.base import ImageSource
from maskdistill.product.photos import find_photos
from maskdistill.product.predicted import is_free
from maskdistill.report.images import read_images
from maskdistill.runtime.errors import MaskDistillError

Files = dict[str, bytes]


def jpeg(seed: int, side: int = 40) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side + 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, target
    return info


def pack(path: Path, files: Files | list[tuple[str, bytes]], *others: tarfile.TarInfo) -> Path:
    """A tar of files, then of headers without content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in files.items() if isinstance(files, dict) else files:
            tar.addfile(entry(name, size=len(content)), io.BytesIO(content))
        for info in others:
            tar.addfile(info)
    return path


def source(root: str | Path | list[str]) -> ImageSource:
    return parse_data(json.dumps({"kind": "tar", "root": root if isinstance(root, list) else str(root)}))


def keys(root: str | Path | list[str], left_out: Counter[str] | None = None) -> list[str]:
    return [image.key for image in iter_images(source(root), left_out=left_out)]


def make_manifest(data: ImageSource, output: Path, *options: str) -> Path:
    listing = f"--listing={listing_fingerprint(data)}"
    assert (
        main(["manifest", f"--params={data.model_dump_json()}", f"--output={output}", listing, *options]) == 0
    )
    return output


# ---------------------------------------------------------------- as in a folder


def test_the_same_pictures_in_a_tar_and_in_a_folder_give_the_same(tmp_path: Path) -> None:
    """Manifest, features and the report's counts; the archives lie below the manifest, so their paths are
    relative.
    """
    (tmp_path / "photos/sub").mkdir(parents=True)
    names = ["a.jpg", "b.png", "sub/c.jpg", "sub/d.jpg"]
    for number, name in enumerate(names):
        Image.fromarray(generate_scene(3, number, 64, 0.5).image).save(tmp_path / "photos" / name)
    (tmp_path / "photos/e.jpg").write_bytes(b"no picture")
    files = {name: (tmp_path / "photos" / name).read_bytes() for name in [*names, "e.jpg"]}
    pack(
        tmp_path / "tar/shards/s-000000.tar",
        {"./a.jpg": files["a.jpg"], "a.json": b"{}", "b.png": files["b.png"]},
    )
    pack(
        tmp_path / "tar/shards/s-000001.tar",
        {name: files[name] for name in ("e.jpg", "sub/c.jpg", "sub/d.jpg")},
    )
    folder = parse_data(json.dumps({"kind": "folder", "root": str(tmp_path / "photos")}))
    options = ("--num-shards=1", "--max-quarantined=1")
    one = make_manifest(folder, tmp_path / "folder/m.csv", *options)
    two = make_manifest(source(tmp_path / "tar/shards"), tmp_path / "tar/m.csv", *options)
    tables = [read_manifest(path).drop(columns=["path", "file"]) for path in (one, two)]
    assert tables[1]["key"].tolist() == [
        "s-000000/a",
        "s-000000/b",
        "s-000001/e",
        "s-000001/sub/c",
        "s-000001/sub/d",
    ]
    tables[1]["key"] = tables[1]["key"].str.replace(r"^s-\d+/", "", regex=True)
    assert tables[0].to_dict("list") == tables[1].to_dict("list") | {"key": ["a", "b", "e", "sub/c", "sub/d"]}
    assert (
        read_manifest(two)["path"][0].startswith("shards/s-000000.tar::")
        and "e.jpg" in quarantine_path(two).read_text()
    )
    reports = [read_images(path, 3, np.zeros(0, np.int64)) for path in (one, two)]
    assert (reports[0].total, reports[0].usable, reports[0].examples) == (5, 4, reports[1].examples)
    assert reports[0].reasons == reports[1].reasons and reports[1].left_out == {".json": 1}
    assert sorted(path.name[:8] for path in (tmp_path / "tar/archives").iterdir()) == ["s-000000", "s-000001"]
    network = ["--arch=vit_micro_patch8", "--weights=random", "--device=cpu", "--threads=1", "--shard=0"]
    for path in (one, two):
        settings = '--params={"short_side": 32, "workers": 0}'
        assert (
            main(
                ["features", f"--manifest={path}", *network, settings, f"--output={path.with_suffix('.h5')}"]
            )
            == 0
        )
    with h5py.File(one.with_suffix(".h5")) as first, h5py.File(two.with_suffix(".h5")) as second:
        for name in ("keys", "cls_query", "grid", "image_hw", "image_id"):
            np.testing.assert_array_equal(first[name][:], second[name][:], name)


def test_keys_lie_below_the_archives_name(tmp_path: Path) -> None:
    for name in ("b/s-1.tar", "a.tar", "b/s-0.TAR", "c/d/s-0.tar", ".hidden/x.tar"):
        pack(tmp_path / name, {"x.jpg": b"", ".y.jpg": b"", "._x.jpg": b"", "in/x.png": b""})
    below = [f"{name}/{picture}" for name in ("a", "b/s-0", "b/s-1", "c/d/s-0") for picture in ("x", "in/x")]
    assert keys(tmp_path) == below and count_images(source(tmp_path)) == 8
    assert keys(tmp_path / "b/s-1.tar") == ["s-1/x", "s-1/in/x"]
    assert keys(tmp_path / "*/s-*.tar") == below[4:6]
    assert keys([str(tmp_path / "c"), str(tmp_path / "a.tar")]) == ["d/s-0/x", "d/s-0/in/x", "a/x", "a/in/x"]
    with pytest.raises(MaskDistillError, match=r"b/s-0\.TAR and .*c/d/s-0\.tar would lie in one folder, s-0"):
        keys([str(tmp_path / "b"), str(tmp_path / "c/d")])
    assert (
        source_of(tmp_path) == source(tmp_path)
        and find_photos([str(tmp_path)], tmp_path / "l").data.kind == "tar"
    )
    (tmp_path / "b/photo.jpg").touch()
    assert source_of(tmp_path).kind == "folder"


def test_a_sample_has_one_picture(tmp_path: Path) -> None:
    names = [
        "a.json",
        "a.png",
        "a.jpg",
        "a.seg.png",
        "a.cls",
        "d/b.c.JPG",
        "d/b.jpeg",
        "README",
        "x.averyverylongsuffix",
    ]
    left_out: Counter[str] = Counter()
    pack(tmp_path / "s.tar", dict.fromkeys(names, b""))
    assert keys(tmp_path / "s.tar", left_out) == ["s/a", "s/d/b"]
    chosen = [shown_name(image.path).rpartition("::")[2] for image in iter_images(source(tmp_path))]
    assert chosen == ["a.jpg", "d/b.jpeg"], "of an image and its label map the JPEG"
    assert left_out == {".json": 1, ".png": 1, ".*.png": 1, ".*.jpg": 1, ".cls": 1, "without a suffix": 2}
    with pytest.raises(MaskDistillError, match=r"no picture in .*further dot.*there are 1 \.\*\.jpg"):
        keys(pack(tmp_path / "t.tar", {"2021.05.jpg": b""}))


def test_names_of_pictures_in_archives() -> None:
    place = Inside("/a/s::x.tar", "d::e/ü\n.jpg", 512, 9)
    assert inside(str(place)) == place == inside(Path(str(place)))
    assert inside(str(Inside("s.tar", "l.jpg", fault="link"))) == Inside("s.tar", "l.jpg", 0, 0, "link")
    assert (
        inside("/a/s.tar") is None
        and file_of("/a/b.jpg") == "/a/b.jpg"
        and file_of(str(place)) == "/a/s::x.tar"
    )


def _digest(path: str) -> bytes:
    return np.asarray(load_rgb(path)).tobytes()


@pytest.mark.slow
def test_processes_that_share_an_open_archive_do_not_disturb_each_other(tmp_path: Path) -> None:
    pack(tmp_path / "s.tar", {f"{number}.jpg": jpeg(number) for number in range(8)})
    paths = [str(image.path) for image in iter_images(source(tmp_path))] * 5
    with get_context("fork").Pool(3) as pool:
        assert pool.map(_digest, paths, chunksize=1) == list(map(_digest, paths))
    with open_picture(paths[1]) as stream:
        assert stream.read(2) == b"\xff\xd8" and stream.seek(-2, os.SEEK_END) == stream.size - 2
        assert stream.read() == b"\xff\xd9" and stream.read(1) == b"" and stream.whole() == jpeg(1)


# ---------------------------------------------------------------- what is kept, and what changes


def test_headers_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = pack(tmp_path / "s.tar", {"a.jpg": jpeg(1), "a.txt": b"x", "b.jpg": jpeg(2)})
    reads: list[str] = []
    headers = tar_index._headers
    monkeypatch.setattr(
        tar_index, "_headers", lambda name, opened: reads.append(name) or headers(name, opened)
    )

    def listed(kept: Path | None) -> tuple[list[str], Counter[str]]:
        left_out: Counter[str] = Counter()
        return [
            str(image.path) for image in iter_images(source(archive), left_out=left_out, kept=kept)
        ], left_out

    first = listed(None)
    assert listed(tmp_path / "kept") == listed(tmp_path / "kept") == first and first[1] == {".txt": 1}
    assert len(reads) == 2
    (index,) = (tmp_path / "kept/archives").iterdir()
    index.write_bytes(index.read_bytes().replace(b"a.jpg", b"z.jpg"))
    assert listed(tmp_path / "kept") == first and len(reads) == 3, "damaged, and made again"
    os.utime(archive, ns=(1, 2))
    assert listed(tmp_path / "kept") == first and len(reads) == 4
    (tmp_path / "file").touch()
    assert listed(tmp_path / "file") == first, "where nothing can be kept"


@pytest.mark.hostile(
    "archive: a tar of photographs, replaced after the manifest was made",
    outcome="the manifest is made anew where a picture's bytes or place changed; else a stage that decodes "
    "one stops",
)
def test_a_changed_archive_is_noticed_as_a_changed_picture_is(tmp_path: Path) -> None:
    pictures = [(f"{number}.jpg", jpeg(number)) for number in range(3)]
    archive, data = pack(tmp_path / "s.tar", pictures), source(tmp_path / "s.tar")
    manifest = make_manifest(data, tmp_path / "data/m.csv")
    made = listing_fingerprint(data)

    def settled() -> str:
        return settled_listing(listing_fingerprint(data), lambda: iter_images(data), manifest)

    os.utime(archive, ns=(1, 2))
    assert listing_fingerprint(data) != made == settled(), "the same content, at the same places"
    other = bytearray(archive.read_bytes())
    place = inside(read_manifest(manifest)["file"][1])
    assert place is not None
    other[place.offset + place.size - 9] ^= 255
    archive.write_bytes(other)
    assert settled() == listing_fingerprint(data) != made
    table = ok_images(read_manifest(manifest))
    load_rgb(photos(table)[0])
    for file in (photos(table)[1], image_rows(table)[1].file):
        with pytest.raises(
            MaskDistillError, match=r"s\.tar::1\.jpg::\d+\+\d+: its content has changed since"
        ):
            load_rgb(file)
    archive.write_bytes(archive.read_bytes()[:3000])
    with pytest.raises(MaskDistillError, match=r"s\.tar::2\.jpg.*: the archive ends before it, at byte \d+"):
        load_rgb(photos(table)[2])
    archive.unlink()
    with pytest.raises(MaskDistillError, match=r"s\.tar::0\.jpg.*: cannot be read \(No such file"):
        load_rgb(photos(table)[0])


def test_what_is_kept_of_an_archive_does_not_make_a_folder_another_s(tmp_path: Path) -> None:
    """``predict`` keeps where pictures lie in its folder before it claims it."""
    archive = pack(tmp_path / "s.tar", {"a.jpg": jpeg(1)})
    count_images(source(archive), kept=tmp_path / "out")
    assert (tmp_path / "out/archives").is_dir() and is_free(tmp_path / "out")
    (tmp_path / "out/mine.txt").touch()
    assert not is_free(tmp_path / "out")


def test_listing_an_archive_takes_no_more_memory_the_longer_it_is(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        archive = pack(tmp_path / f"{count}.tar", {f"{number:06}.jpg": b"x" for number in range(count)})
        tracemalloc.start()
        assert sum(1 for _ in tar_index.pictures_of(archive, None, Counter())) == count
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(1000) - peak(100) < 50 * 900, "less than the names alone would take"


# ---------------------------------------------------------------- hostile archives


@pytest.mark.hostile(
    "archive: a tar of photographs with links, devices, sparse members, absolute names or `..`",
    outcome="the members are quarantined with archive, name and reason; the others are used",
)
def test_members_that_cannot_be_pictures_are_quarantined(tmp_path: Path) -> None:
    hostile = {
        "sym.jpg": ("link", entry("sym.jpg", tarfile.SYMTYPE, target="/etc/passwd")),
        "hard.jpg": ("link", entry("hard.jpg", tarfile.LNKTYPE, target="ok.jpg")),
        "fifo.jpg": ("device", entry("fifo.jpg", tarfile.FIFOTYPE)),
        "dev.jpg": ("device", entry("dev.jpg", tarfile.BLKTYPE)),
        "/etc/abs.jpg": ("name", entry("/etc/abs.jpg")),
        "a/../../up.jpg": ("name", entry("a/../../up.jpg")),
        f"{'x' * 300}/long.jpg": ("name", entry(f"{'x' * 300}/long.jpg")),
        "sparse.jpg": ("sparse", entry("sparse.jpg", tarfile.GNUTYPE_SPARSE)),
    }
    pack(
        tmp_path / "s.tar",
        {"ok.jpg": jpeg(1)},
        entry("ok", tarfile.DIRTYPE),
        *(info for _, info in hostile.values()),
    )
    manifest = make_manifest(source(tmp_path), tmp_path / "data/m.csv", "--max-quarantined=1")
    table = read_manifest(manifest)
    assert table["status"].tolist() == ["ok"] + ["quarantined"] * len(hostile)
    for (name, (fault, _)), reason, path in zip(
        hostile.items(), table["reason"][1:], table["path"][1:], strict=True
    ):
        assert reason == FAULTS[fault] and f"s.tar::{name}::{fault}" in path
    assert not any(".." in key or key.startswith("/") for key in table["key"]) and table["key"].is_unique


PICTURES = {"a.jpg": jpeg(1), "b.jpg": jpeg(2)}
BEHIND_A = 512 * (2 + len(PICTURES["a.jpg"]) // 512)
"""Where the second header begins."""


def packed(damage: int | None = None) -> bytes:
    """A tar of both pictures, a few bytes at a place overwritten."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in PICTURES.items():
            tar.addfile(entry(name, size=len(content)), io.BytesIO(content))
    found = bytearray(buffer.getvalue())
    if damage is not None:
        found[damage : damage + 20] = b"\xff" * 20
    return bytes(found)


def with_size(size: bytes, kind: bytes = b"0") -> bytes:
    """A tar of one header that announces a size, and nothing behind it."""
    header = bytearray(entry("big.jpg").tobuf())
    header[124:136], header[156:157], header[148:156] = size, kind, b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + bytes(1024)


@pytest.mark.hostile(
    "archive: a tar of photographs that is compressed, cut short, damaged or no tar; a member longer than "
    "the file",
    outcome="the run does not start; the message names archive and last sound member, and what to do",
)
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("s.tar.gz", b"\x1f\x8b", r"s\.tar\.gz: is compressed .*decompress it"),
        ("s.tgz", b"", r"s\.tgz: is compressed"),
        ("s.tar", b"\x1f\x8b\x08", r"s\.tar: is compressed \(gzip\)"),
        ("s.tar", b"", r"s\.tar: not a whole tar"),
        ("s.tar", b"hello" * 999, r"s\.tar: not a whole tar.*up to its beginning"),
        ("s.tar", packed()[:700], r"s\.tar: not a whole tar archive \(unexpected end.*up to member 'a\.jpg'"),
        ("s.tar", packed()[:BEHIND_A], r"not a whole tar .*member 'a\.jpg'"),
        ("s.tar", packed(BEHIND_A), r"s\.tar: .*where the next member should begin.*'a\.jpg'"),
        ("s.tar", with_size(b"77777777777\0"), r"s\.tar: .*unexpected end of data.*member 'big\.jpg'"),
        ("s.tar", with_size(b"\xff" * 12), r"s\.tar: .*a header of -1 bytes"),
        ("s.tar", with_size(b"77777777777\0", b"x"), r"s\.tar: .*a header of 8589934591 bytes"),
    ],
)
def test_archives_that_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MaskDistillError, match=message):
        keys(tmp_path)


@pytest.mark.hostile(
    "archive: a tar of photographs that names a member twice, or a folder as a picture's result",
    outcome="the run does not start; the message names archives and members",
)
@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.jpg", "a.jpg"], r"s\.tar: member 'a\.jpg' is there twice"),
        (
            ["a.jpg", "b.jpg", "./a.jpg"],
            r"member 'a\.jpg' of .*s\.tar and of member '\./a\.jpg' of .*overwrite",
        ),
        (["a.jpg", "b.jpg", "a.png"], r"member 'a\.jpg' of .*and of member 'a\.png'"),
        (["a.jpg", "a.png/b.jpg"], r"member 'a\.jpg' of .*and of member 'a\.png/b\.jpg'"),
    ],
)
def test_names_that_stand_for_one_result(tmp_path: Path, names: list[str], message: str) -> None:
    pack(tmp_path / "s.tar", [(name, b"") for name in names])
    with pytest.raises(MaskDistillError, match=message):
        keys(tmp_path)


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ("none", r"data\.root: .*none: no such file or folder"),
        ("*.tar", r"data\.root: .*no \.tar file there"),
        ("empty", r"data\.root: .*no \.tar file there"),
        ("in/summary.json.tar", r"results have a file called summary\.json; rename it"),
    ],
)
def test_no_archive(tmp_path: Path, root: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    pack(tmp_path / "in/summary.json.tar", {"a.jpg": b""})
    with pytest.raises(MaskDistillError, match=message):
        keys(tmp_path / root)
