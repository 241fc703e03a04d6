"""Pictures and weights whose times, inodes or rights changed: content decides whether anything is made
anew.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from maskdistill.config import FolderData, ListData
from maskdistill.data import settled
from maskdistill.data.images import Photo, load_rgb
from maskdistill.data.listed import ListedImage
from maskdistill.data.listing import iter_images, listing_fingerprint
from maskdistill.data.manifest import build_manifest, image_rows, photos, read_manifest, write_manifest
from maskdistill.data.settled import settled_listing
from maskdistill.data.sources import list as list_source
from maskdistill.runtime import contents
from maskdistill.runtime.contents import content_of, is_as_first_seen
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import read_json


class Source:
    """Six pictures in a folder or named by a list, and the manifest that was made of them."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.root, self.manifest = folder / "photos", folder / "data/manifest.csv"
        self.root.mkdir()
        for number in range(6):
            pixels = np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(self.root / f"{number}.bmp")
        (self.root / "7.bmp").write_bytes(b"no picture")
        names = [*(f"{number}.bmp" for number in range(6)), "7.bmp"]
        (folder / "names.txt").write_text("\n".join(f"photos/{name}" for name in names) + "\n")
        self.data: FolderData | ListData = FolderData(kind="folder", root=str(self.root))
        if kind == "list":
            self.data = ListData(kind="list", file=str(folder / "names.txt"))
        self.made = self.fingerprint()
        tables = list(build_manifest(self.images(), 7, 2, self.manifest.parent, max_quarantined=0.5))
        write_manifest(self.manifest, pd.concat(tables), listing=self.made)

    def images(self) -> Iterator[ListedImage]:
        return iter_images(self.data)

    def fingerprint(self) -> str:
        return listing_fingerprint(self.data)

    def settled(self) -> str:
        return settled_listing(self.fingerprint(), self.images, self.manifest)


@pytest.fixture(params=["folder", "list"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    return Source(tmp_path, request.param)


def swap(path: Path, in_place: bool) -> None:
    """Another picture of equal size in pixels and bytes, with the same modification time."""
    stat = path.stat()
    content = path.read_bytes()
    other = content[:-3] + bytes(255 - value for value in content[-3:])
    if in_place:
        path.write_bytes(other)
    else:
        path.with_suffix(".new").write_bytes(other)
        path.with_suffix(".new").replace(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size and path.stat().st_mtime_ns == stat.st_mtime_ns


def test_nothing_happened(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settled, "is_unchanged", lambda *_: pytest.fail("no picture need be read"))
    assert source.settled() == source.made


@pytest.mark.hostile(
    "photo: replaced, with equal size and time", outcome="the manifest and what follows is made anew"
)
@pytest.mark.parametrize("in_place", [True, False])
def test_a_replaced_picture_changes_the_listing(source: Source, in_place: bool) -> None:
    swap(source.root / "3.bmp", in_place)
    assert source.settled() == source.fingerprint() != source.made


@pytest.mark.hostile(
    "photo: copied, touched or given other rights, with the same content", outcome="nothing to be done"
)
@pytest.mark.parametrize("what", ["touch", "rights", "copy"])
def test_the_same_content_with_other_times_changes_nothing(
    source: Source, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    for path in source.root.iterdir():
        if what == "touch":
            os.utime(path, ns=(1, 2))
        elif what == "rights":
            path.chmod(0o600)
        else:
            shutil.copyfile(path, path.with_suffix(".copy"))
            path.with_suffix(".copy").replace(path)
    assert source.fingerprint() != source.made
    assert source.settled() == source.made
    monkeypatch.setattr(settled, "is_unchanged", lambda *_: pytest.fail("pictures are read once"))
    assert source.settled() == source.made
    os.utime(source.root / "0.bmp", ns=(3, 4))
    monkeypatch.undo()
    swap(source.root / "5.bmp", False)
    assert source.settled() == source.fingerprint() != source.made


def test_pictures_that_came_or_went_are_noticed_without_reading_any(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settled, "_is_same", lambda _: pytest.fail("no picture need be read"))
    if isinstance(source.data, ListData):
        names = Path(source.data.file)
        lines = names.read_text().splitlines()
        names.write_text("\n".join(lines[:-1]) + "\n")
    else:
        (source.root / "0.bmp").rename(source.root / "00.bmp")
    assert source.settled() == source.fingerprint() != source.made
    (source.root / "8.bmp").write_bytes(b"")
    if isinstance(source.data, ListData):
        names.write_text("\n".join([*lines, "photos/8.bmp"]) + "\n")
    assert source.settled() == source.fingerprint() != source.made


def test_without_a_sound_manifest_the_listing_stands_for_itself(source: Source) -> None:
    os.utime(source.root / "0.bmp", ns=(1, 2))
    content = source.manifest.read_bytes()
    source.manifest.write_bytes(content.replace(b"ok", b"no"))
    assert source.settled() == source.fingerprint() != source.made
    source.manifest.write_bytes(content)
    assert source.settled() == source.made
    source.manifest.with_name(settled.NOTE).write_bytes(b"{}\n")
    assert source.settled() == source.made
    source.manifest.unlink()
    assert source.settled() == source.fingerprint()


def test_the_pictures_changed_last_are_read_first(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replaced picture is found at once, however many only look changed."""
    monkeypatch.setattr(settled, "FIRST", 1)
    seen: list[str] = []
    original = settled._is_same
    monkeypatch.setattr(settled, "_is_same", lambda pair: seen.append(pair.path.name) or original(pair))
    for path in sorted(source.root.iterdir()):
        os.utime(path, ns=(1, 2))
    swap(source.root / "4.bmp", True)
    assert source.settled() != source.made
    assert "4.bmp" in seen and len(seen) < 4


def test_a_list_of_very_many_pictures_is_not_looked_at_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source(tmp_path, "list")
    monkeypatch.setattr(list_source, "STATTED", 6)
    before = source.fingerprint()
    os.utime(source.root / "0.bmp", ns=(1, 2))
    assert source.fingerprint() == before
    monkeypatch.setattr(list_source, "STATTED", 7)
    assert source.fingerprint() != before


# ---------------------------------------------------------------- while they are decoded


def test_a_photo_remembers_what_the_manifest_saw(tmp_path: Path) -> None:
    import pickle

    source = Source(tmp_path, "folder")
    rows = image_rows(read_manifest(source.manifest, 0))
    digest = hashlib.sha256((source.root / "0.bmp").read_bytes()).hexdigest()
    assert isinstance(rows[0].file, Photo) and rows[0].file.sha256 == digest
    assert rows[0].file == str(source.root / "0.bmp") and Path(rows[0].file).name == "0.bmp"
    assert photos(read_manifest(source.manifest, 0))[0].sha256 == digest
    again = pickle.loads(pickle.dumps(rows[0].file))
    assert isinstance(again, Photo) and (again, again.sha256) == (rows[0].file, digest)
    assert load_rgb(again).size == (24, 20)
    swap(source.root / "0.bmp", True)
    with pytest.raises(
        MaskDistillError, match=r"0\.bmp: its content has changed since the manifest .*--forcerun man"
    ):
        load_rgb(again)
    assert load_rgb(str(again)).size == (24, 20), "a plain path is any picture"
    assert load_rgb(Photo(str(again))).size == (24, 20)


# ---------------------------------------------------------------- weights


def test_content_is_hashed_once_while_the_stamp_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, cache = tmp_path / "w.pth", tmp_path / "cache/contents.json"
    path.write_bytes(b"abc")
    # SHA-256 of "abc", FIPS 180-2 appendix B.1
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert content_of(path, cache) == digest and not cache.exists(), "too young to be remembered"
    monkeypatch.setattr(contents, "_RACY_NS", 0)
    assert content_of(path, cache) == digest
    assert read_json(cache)[str(path)]["sha256"] == digest
    monkeypatch.setattr(contents, "sha256_file", lambda _: pytest.fail("it need not be read"))
    assert content_of(path, cache) == digest


@pytest.mark.hostile("weights: replaced by a file with an older time", outcome="what they shape is made anew")
@pytest.mark.parametrize("in_place", [True, False])
def test_other_weights_are_noticed_whatever_their_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_place: bool
) -> None:
    monkeypatch.setattr(contents, "_RACY_NS", 0)
    path, cache = tmp_path / "w.pth", tmp_path / "contents.json"
    path.write_bytes(b"abc")
    os.utime(path, ns=(10**18, 10**18))
    before = content_of(path, cache)
    other = path if in_place else tmp_path / "other.pth"
    other.write_bytes(b"abd")
    os.utime(other, ns=(10**18, 10**18 if in_place else 10**17))
    other.replace(path)
    assert content_of(path, cache) == hashlib.sha256(b"abd").hexdigest() != before
    path.write_bytes(b"abc")
    assert content_of(path, cache) == before
    cache.write_bytes(cache.read_bytes()[:-9])
    assert content_of(path, cache) == before, "a damaged cache is made anew"
    with pytest.raises(FileNotFoundError):
        content_of(tmp_path / "none.pth", cache)


def test_a_download_that_became_another_file_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "vit.pth"
    assert is_as_first_seen(path, "a" * 64) and is_as_first_seen(path, "a" * 64)
    assert not is_as_first_seen(path, "b" * 64)
    assert is_as_first_seen(tmp_path / "other.pth", "b" * 64) and is_as_first_seen(path, "a" * 64)
