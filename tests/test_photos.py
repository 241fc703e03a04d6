"""What predict is given: pictures one by one, folders, lists, and what only looks like one of them."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from maskdistill.cli import main, predict
from maskdistill.config import FolderData, ListData
from maskdistill.data.listing import count_images, iter_images, listing_fingerprint
from maskdistill.product.photos import find_photos, is_list
from maskdistill.runtime.errors import MaskDistillError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "my photos"
    (place / "below").mkdir(parents=True)
    for name in ("a.jpg", "below/b c.png", "#1.jpg"):
        Image.new("RGB", (64, 48), (200, 30, 30)).save(place / name)
    return place


LISTS = {
    "plain": b"a.jpg\nbelow/b c.png\n",
    "no newline at the end": b"a.jpg\nbelow/b c.png",
    "byte order mark": b"\xef\xbb\xbfa.jpg\nbelow/b c.png\n",
    "Windows": b"\xef\xbb\xbfa.jpg\r\nbelow/b c.png\r\n",
    "blank lines": b"\n\na.jpg\n  \t\n\nbelow/b c.png\n\n",
    "comments": b"# my pictures\na.jpg\n#below/x.jpg\nbelow/b c.png\n",
    "dots": b"./a.jpg\nbelow//./b c.png\n",
}


@pytest.mark.hostile(
    "photo: a list with a byte order mark, blank lines, comments, Windows line ends",
    outcome="read as it is meant",
)
@pytest.mark.parametrize("text", LISTS.values(), ids=LISTS)
def test_lists(folder: Path, text: bytes) -> None:
    file = folder / "list.txt"
    file.write_bytes(text)
    data = ListData(kind="list", file=str(file))
    assert [(image.key, image.path.is_file()) for image in iter_images(data)] == [
        ("a.jpg", True),
        ("below/b c.png", True),
    ]
    assert count_images(data) == 2
    found = find_photos([str(file)], folder / "unused")
    assert (found.data, found.folder, found.named) == (data, folder, ())


def test_a_list_may_lie_elsewhere(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("a.jpg\n")
    here, there = (
        ListData(kind="list", file=str(tmp_path / "list"), root=root) for root in (None, str(folder))
    )
    assert [image.path for image in iter_images(there)] == [folder / "a.jpg"]
    assert listing_fingerprint(here) != listing_fingerprint(there)


@pytest.mark.hostile(
    "photo: a list line with # that is the name of a picture; a list in UTF-16, empty or of comments only",
    outcome="refused; the message names the line and what to write",
)
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"a.jpg\n#1.jpg\n", r"line 2 .*comment.*'\./#1\.jpg'"),
        ("a.jpg\n".encode("utf-16"), "not UTF-8; save the list as UTF-8"),
        (b"# nothing\n\n", "names no picture"),
        (b"", "names no picture"),
    ],
)
def test_lists_that_are_refused(folder: Path, text: bytes, said: str) -> None:
    (folder / "list.txt").write_bytes(text)
    with pytest.raises(MaskDistillError, match=said):
        count_images(ListData(kind="list", file=str(folder / "list.txt")))
    (folder / "list.txt").write_bytes(b"./#1.jpg\n")
    assert [image.key for image in iter_images(ListData(kind="list", file=str(folder / "list.txt")))] == [
        "#1.jpg"
    ]


def test_pictures_and_lists_are_told_apart_by_what_they_hold(folder: Path) -> None:
    (folder / "names.jpg").write_text("a.jpg\n")
    (folder / "error.jpg").write_text("<html>404</html>\n")
    (folder / "latin").write_bytes("caf\u00e9.jpg\n".encode("latin-1"))
    (folder / "empty.png").write_bytes(b"")
    (folder / "bare").write_bytes((folder / "a.jpg").read_bytes())
    lists = {path.name for path in folder.iterdir() if path.is_file() and is_list(path)}
    assert lists == {"names.jpg", "latin"}


def test_pictures_one_by_one(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    one = find_photos(["a.jpg"], tmp_path / "list")
    assert (one.folder, one.named) == (folder, ("a.jpg",))
    several = find_photos(
        ["a.jpg", "below/b c.png", "#1.jpg", "./a.jpg", str(folder / "a.jpg")], tmp_path / "list"
    )
    assert (several.folder, several.named) == (folder, ("a.jpg", "below/b c.png", "#1.jpg"))
    several.write_list(tmp_path / "list")
    assert [image.path for image in iter_images(several.data)] == [folder / name for name in several.named]
    before = one.state()
    os.utime("a.jpg", ns=(1, 1))
    assert one.state() != before
    assert find_photos(["."], tmp_path / "list").data == FolderData(kind="folder", root=str(folder))


@pytest.mark.hostile(
    "photo: predict is given nothing that is there, a pipe, or a folder beside pictures",
    outcome="refused before anything is written; the message names it",
)
@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["none.jpg"], r"none\.jpg: no such file or folder"),
        (["a.jpg", "none.jpg"], r"none\.jpg: no such file or folder"),
        (["pipe"], "pipe: neither a file nor a folder"),
        (["a.jpg", "below"], "below is a folder, which must be given alone"),
        (["list.txt", "a.jpg"], r"list\.txt is a list, which must"),
        (["two\nlines.jpg"], "this name cannot stand in a list"),
        (["$NONE_SUCH/a.jpg"], "NONE_SUCH is not set"),
        ([""], "give the path"),
    ],
)
def test_what_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], said: str) -> None:
    monkeypatch.chdir(folder)
    (folder / "list.txt").write_text("a.jpg\n")
    (folder / "two\nlines.jpg").write_bytes((folder / "a.jpg").read_bytes())
    os.mkfifo(folder / "pipe")
    with pytest.raises(MaskDistillError, match=said):
        find_photos(given, folder / "x")


def test_predict_takes_one_picture(
    trained: Path,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    common = ["predict", "--run", str(trained), "--device=cpu", "--threads=1", "--out", str(tmp_path / "out")]
    assert main([*common, "a.jpg", "below/b c.png"]) == 0
    found = json.loads((tmp_path / "out/coco.json").read_text())
    assert [image["file_name"] for image in found["images"]] == ["a.jpg", "below/b c.png"]
    assert found["provenance"]["params"] == {"min_score": 0.25, "compare": "gt", "crf": None}
    with Image.open(tmp_path / "out/labels/a.jpg.png") as labels:
        assert labels.size == (64, 48)
    assert not (tmp_path / "out" / predict.UNFINISHED).exists()
    assert main([*common, "a.jpg"]) == 1
    assert "predictions of other pictures" in capsys.readouterr().err
    for option in (
        "--min-score=nan",
        "--min-score=1.1",
        "--overlays=-5",
        "--threads=0",
        "--gpus=-1",
        "--seed=-1",
    ):
        with pytest.raises(SystemExit):
            main([*common, "a.jpg", option])
        assert f"argument {option.partition('=')[0]}: " in capsys.readouterr().err
