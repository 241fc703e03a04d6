"""Keys: what is made of one picture is never the file, or a folder in the path, of what is made of
another.
"""

import json
from collections import Counter
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from test_manifest import build_manifest, list_images, picture

from maskdistill.data.keys import DERIVED, fold, key_of_path, parts_of_keys
from maskdistill.data.listing import iter_images, parse_data, parse_support, with_support
from maskdistill.data.manifest import left_out_of, write_manifest
from maskdistill.data.picture_names import left_out_words
from maskdistill.runtime.errors import MaskDistillError


def keys(root: Path, left_out: Counter[str] | None = None) -> dict[str, str]:
    """Path below the root -> key."""
    data = parse_data(json.dumps({"kind": "folder", "root": str(root)}))
    return {
        image.path.relative_to(root).as_posix(): image.key for image in iter_images(data, left_out=left_out)
    }


def tree(root: Path, names: list[str]) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def assert_apart(found: list[str]) -> None:
    """All files derived from the keys are distinct, also where case does not count, and none is another's
    folder.
    """
    derived = [fold(key + end) for key in found for end in DERIVED]
    assert len(set(derived)) == len(derived)
    folders = {fold(str(parent)) for key in found for parent in PurePosixPath(key).parents}
    assert not folders & set(derived), folders & set(derived)


@pytest.mark.hostile(
    "photo: q.jpg beside a folder q.png, or names that differ in case or in the form of their accents alone",
    outcome="used: the extension, or `~2`, becomes part of the name",
)
@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["q.jpg", "q.png/x.png"], {"q.jpg": "q.jpg", "q.png/x.png": "q.png/x"}),
        (["q.tif", "q.jpg/x.png"], {"q.tif": "q.tif", "q.jpg/x.png": "q.jpg/x"}),
        (["q.jpg", "q.png/x", "q.jpg.png/x"], {"q.jpg": "q.jpg~2"}),
        (["Q.JPG", "q.PNG/x.png"], {"Q.JPG": "Q.JPG", "q.PNG/x.png": "q.PNG/x"}),
        (["A.jpg", "a.jpg"], {"A.jpg": "A.jpg", "a.jpg": "a.jpg~2"}),
        (["A/x.jpg", "a/x.jpg"], {"A/x.jpg": "A/x", "a/x.jpg": "a~2/x"}),
        (
            ["caf\u00e9.jpg", "cafe\u0301.jpg"],
            {"cafe\u0301.jpg": "cafe\u0301.jpg", "caf\u00e9.jpg": "caf\u00e9.jpg~2"},
        ),
        (["a.jpg", "a.png", "b.gif"], {"a.jpg": "a.jpg", "a.png": "a.png", "b.gif": "b"}),
        (["a.jpg", "a.jpg.jpg"], {"a.jpg": "a", "a.jpg.jpg": "a.jpg"}),
        (
            ["summary.json/a.jpg", "b/summary.json/a.jpg"],
            {"summary.json/a.jpg": "summary.json~2/a", "b/summary.json/a.jpg": "b/summary.json/a"},
        ),
        (["a.jpg", "a.jfif", "c.jpg"], {"a.jpg": "a.jpg", "a.jfif": "a.jfif", "c.jpg": "c"}),
    ],
)
def test_names_in_a_folder(tmp_path: Path, names: list[str], expected: dict[str, str]) -> None:
    found = keys(tree(tmp_path, names))
    assert found == expected
    assert_apart(list(found.values()))


def test_any_names_stay_apart() -> None:
    """Drawn from few letters and endings, so that clashes are the rule."""
    rng = np.random.default_rng(0)
    stems = ["a", "A", "a.png", "a.jpg", "a~2", "a.jpg~2", "\u00e9", "e\u0301", "a.png.png"]
    for _ in range(1000):
        pictures = {
            str(rng.choice(stems)) + str(rng.choice([".png", ".jpg", ".JPG", ".tif"])) for _ in range(5)
        }
        folders = {
            str(rng.choice(stems)) + str(rng.choice(["", ".png", ".jpg", ".PNG"])) for _ in range(3)
        } - pictures
        found = parts_of_keys(sorted(pictures), folders)
        assert found.keys() == pictures | folders
        assert_apart([found[name] for name in pictures] + [f"{found[name]}/x" for name in folders])
        parts = [fold(found[name]) for name in folders]
        assert len(set(parts)) == len(parts)


def list_of(folder: Path, *lines: str) -> list[str]:
    (folder / "names.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    data = parse_data(json.dumps({"kind": "list", "file": str(folder / "names.txt")}))
    return [image.key for image in iter_images(data)]


@pytest.mark.hostile(
    "photo: a list of which two lines would be kept under one name (`/a/x.png` and `a/x.png`), or one in the "
    "other",
    outcome="refused; the message names both lines",
)
@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["/a/x.png", "a/x.png"], r"lines 1 and 2 would overwrite each other: .*/a/x\.png and .*'a/x\.png'"),
        (["b.png", "a//x.png", "a/./x.png"], "lines 2 and 3 name the same picture"),
        (["./a.png", "b.png", "a.png"], "lines 1 and 3 name the same picture"),
        (["q.jpg", "c.jpg", "q.jpg.png/x.png"], r"lines 1 and 3 would overwrite each other: .*q\.jpg'"),
        (["d/q.jpg.jpg/e/x.png", "d/q.jpg"], r"lines 1 and 2 would overwrite each other"),
        (["a.png", "/summary.json/a.png"], r"line 2 .* results have a file of that folder's name"),
        (["a.png", "/"], "line 2 .* names no picture"),
        (["a.png", "."], "line 2 .* names no picture"),
        (["a\0.png"], "line 1 is not the name of a picture"),
        (["a.png", "x" * 20_000], "line 2 is not the name of a picture"),
    ],
)
def test_lines_of_a_list(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(MaskDistillError, match=message):
        list_of(tmp_path, *lines)


def test_lists_that_are_in_order(tmp_path: Path) -> None:
    found = list_of(tmp_path, "q.png", "q.png.d/x.png", "/q.jpg", "s/q.png/y.jpg", "a/b.png")
    assert found == ["q.png", "q.png.d/x.png", "q.jpg", "s/q.png/y.jpg", "a/b.png"]
    assert_apart(found)
    assert key_of_path("//server/./a//b.png") == "server/a/b.png"


@pytest.mark.hostile(
    "photo: a folder `support` in data, and a support set beside",
    outcome="refused: both would be kept in one folder",
)
def test_the_support_set_has_a_folder_of_its_own(tmp_path: Path) -> None:
    data = parse_data(
        json.dumps({"kind": "folder", "root": str(tree(tmp_path / "data", ["support/a.jpg", "b.jpg"]))})
    )
    more = parse_support(json.dumps({"kind": "folder", "root": str(tree(tmp_path / "more", ["a.jpg"]))}))
    with pytest.raises(MaskDistillError, match=r"support/a\.jpg: the folder support/ would hold"):
        list(with_support(iter_images(data), more))
    assert [image.key for image in with_support(iter_images(data), None)] == ["b", "support/a"]


@pytest.mark.hostile(
    "photo: files beside that look like pictures and are not decoded (.dng, .psd, .jpg_large, ...)",
    outcome="counted by suffix in the log, by init and doctor, and in the report",
)
def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    root = tree(
        tmp_path / "p", ["a.jpg", "b.dng", "in/c.DNG", "in/d.psd", "e.jpg_large", "f.txt", ".g.dng", "h.jfif"]
    )
    left_out: Counter[str] = Counter()
    assert set(keys(root, left_out)) == {"a.jpg", "h.jfif"}
    assert left_out == {".dng": 2, ".psd": 1, ".jpg_large": 1}
    assert left_out_words(left_out) == "2 .dng, 1 .jpg_large, 1 .psd"
    only = tree(tmp_path / "raw", ["a.dng", "b.dng"])
    with pytest.raises(
        MaskDistillError, match=r"no picture below .*there are 2 \.dng, which are not decoded"
    ):
        keys(only)


def test_the_manifest_keeps_the_count(tmp_path: Path) -> None:
    picture(tmp_path / "p/a.jpg")
    (tmp_path / "p/b.dng").touch()
    data = parse_data(json.dumps({"kind": "folder", "root": str(tmp_path / "p")}))
    table = build_manifest(list_images(data), 1, tmp_path)
    write_manifest(tmp_path / "m.csv", table, {".dng": 1})
    assert left_out_of(tmp_path / "m.csv") == {".dng": 1} and left_out_of(tmp_path / "none.csv") == {}
