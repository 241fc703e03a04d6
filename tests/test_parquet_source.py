"""Parquet and Arrow files as a source: the pictures as they are stored, in bounded memory; names; damaged
files.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from test_tar_source import jpeg, make_manifest

from maskdistill.data import table_rows
from maskdistill.data.images import load_rgb
from maskdistill.data.listing import count_images, iter_images, listing_fingerprint, parse_data, source_of
from maskdistill.data.manifest import ok_images, photos, read_manifest
from maskdistill.data.picture_files import open_picture
from maskdistill.data.picture_refs import Row, inside, shown_name
from maskdistill.data.settled import settled_listing
from maskdistill.data.sources.base import ImageSource
from maskdistill.product.photos import find_photos
from maskdistill.runtime.errors import MaskDistillError

pa = pytest.importorskip("pyarrow", reason="needs the extra parquet (make parquet)")
pq = pytest.importorskip("pyarrow.parquet")
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""As Hugging Face ``datasets`` stores its feature Image."""
PICTURES = [jpeg(number) for number in range(7)]


def table(pictures: list[Any], **columns: list[Any]) -> Any:
    kind = pa.binary() if any(isinstance(data, bytes) for data in pictures) else IMAGE
    return pa.table({"image": pa.array(pictures, kind), **columns})


def named(names: list[str | None], pictures: list[bytes] = PICTURES) -> Any:
    return table([{"bytes": data, "path": name} for data, name in zip(pictures, names, strict=False)])


def write(path: Path, content: Any, rows: int = 3) -> Path:
    """By its name Parquet, an Arrow stream as ``datasets`` writes it, or (``.index.arrow``) Arrow with an
    index.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(content, path, row_group_size=rows)
    else:
        new = pa.ipc.new_file if path.name.endswith(".index.arrow") else pa.ipc.new_stream
        with new(str(path), content.schema) as writer:
            writer.write_table(content, max_chunksize=rows)
    return path


def source(root: Path, **settings: str) -> ImageSource:
    return parse_data(json.dumps({"kind": "parquet", "root": str(root), **settings}))


def keys(root: Path, **settings: str) -> list[str]:
    return [image.key for image in iter_images(source(root, **settings))]


def content(path: str | Path) -> bytes:
    with open_picture(path) as stream:
        return stream.whole()


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.index.arrow"])
@pytest.mark.parametrize("whole", [2**26, 0])
def test_rows_are_the_pictures_in_any_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, whole: int
) -> None:
    """Row groups of three, read at once or, as far too large ones are, in pieces of two."""
    monkeypatch.setattr(table_rows, "WHOLE", whole)
    monkeypatch.setattr(table_rows, "PIECE", 2)
    data = source(write(tmp_path / name, named([f"{number}.jpg" for number in range(7)])))
    images = list(iter_images(data))
    assert [image.key for image in images] == [f"{name.rpartition('.')[0]}/{number}" for number in range(7)]
    assert count_images(data) == 7 and inside(images[4].path) == Row(
        str(tmp_path / name), "4.jpg", "image", 1, 1
    )
    assert shown_name(images[4].path) == f"{tmp_path / name}::4.jpg"
    assert [content(image.path) for image in images] == PICTURES
    reader = table_rows._tables._open
    assert reader is not None and reader[1].pieces == (5 if not whole and name == "a.parquet" else 3)
    for number in (6, 0, 5, 1, 4, 3, 3, 2):
        assert content(images[number].path) == PICTURES[number]


def test_the_manifest_is_that_of_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Plain binary in another column, one broken, one missing; labels are not read, and that is said."""
    pictures = [*PICTURES[:3], b"no picture", None]
    content = table(pictures, label=[0, 1, 0, 1, 0], caption=[""] * 5).rename_columns(
        ["pixels", "label", "caption"]
    )
    data = source(write(tmp_path / "in/x.parquet", content), column="pixels")
    manifest = make_manifest(data, tmp_path / "out/m.csv", "--max-quarantined=1")
    assert "no label may reach a run: label, caption" in capsys.readouterr().err
    found = read_manifest(manifest)
    assert found["key"].tolist() == [f"x/{number:08d}" for number in range(5)]
    assert found["sha256"].tolist()[:3] == [hashlib.sha256(data).hexdigest() for data in PICTURES[:3]]
    assert found["status"].tolist() == ["ok"] * 3 + ["quarantined"] * 2
    assert "not a picture" in found["reason"][3] and "the row holds no picture" in found["reason"][4]
    assert found["train"].all() and not found["eval"].any() and found["width"][0] == 48


def test_a_folder_of_tables(tmp_path: Path) -> None:
    for name in ("train/0.parquet", "train/1.parquet", "b.arrow"):
        write(tmp_path / name, named(["x.png", "in/y.JPG"]))
    below = [f"{name}/{picture}" for name in ("b", "train/0", "train/1") for picture in ("x", "in/y")]
    assert keys(tmp_path) == below and keys(tmp_path / "train/*.parquet") == [
        "0/x",
        "0/in/y",
        "1/x",
        "1/in/y",
    ]
    assert source_of(tmp_path) == source(tmp_path)
    assert find_photos([str(tmp_path / "b.arrow")], tmp_path / "l").data == source(tmp_path / "b.arrow")


@pytest.mark.parametrize(
    "names",
    [
        ["a.jpg", None],
        ["a.jpg", "a.png"],
        ["a.jpg", "../b.jpg"],
        ["a.jpg", "/b.jpg"],
        ["a.jpg", "x" * 300],
        ["", "b"],
    ],
)
def test_names_that_do_not_fit_are_numbers(tmp_path: Path, names: list[str | None]) -> None:
    images = list(iter_images(source(write(tmp_path / "a.parquet", named(names)))))
    assert [image.key for image in images] == ["a/00000000", "a/00000001"]
    assert shown_name(images[1].path).endswith("a.parquet::00000001.jpg"), "tools want an ending"


def test_names_that_stand_for_one_result(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", named(["b.png/c.jpg", "b.jpg"]))
    with pytest.raises(
        MaskDistillError, match=r"a\.parquet::b\.png/c\.jpg.* and of .*b\.jpg.*would overwrite"
    ):
        keys(tmp_path)


def test_a_changed_table_is_noticed(tmp_path: Path) -> None:
    names: list[str | None] = ["a.jpg", "b.jpg"]
    path = write(tmp_path / "a.parquet", named(names))
    manifest = make_manifest(source(path), tmp_path / "data/m.csv")
    made = listing_fingerprint(source(path))
    rows = photos(ok_images(read_manifest(manifest)))
    load_rgb(rows[1])

    def settled() -> str:
        data = source(path)
        return settled_listing(listing_fingerprint(data), lambda: iter_images(data), manifest)

    write(path, named(names), rows=9)
    assert listing_fingerprint(source(path)) != made == settled(), "other groups, the same pictures"
    write(path, named(names, PICTURES[1:]))
    assert settled() != made
    with pytest.raises(MaskDistillError, match=r"b\.jpg::image#0\.1: its content has changed since"):
        load_rgb(rows[1])
    write(path, named(names[:1]))
    with pytest.raises(MaskDistillError, match="damaged or was replaced"):
        load_rgb(rows[1])


@pytest.mark.hostile(
    "archive: a Parquet or Arrow file that is cut off, damaged, none at all, or has no such column of "
    "pictures",
    outcome="the run does not start; the message names the file, or the columns that there are",
)
def test_tables_that_are_refused(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.parquet", named(["a.jpg"])).read_bytes()
    with pytest.raises(
        MaskDistillError, match=r"data\.column: .*no column 'img' of pictures.*that may: image"
    ):
        keys(tmp_path, column="img")
    for name, content in (
        ("a.parquet", whole[: len(whole) // 2]),
        ("a.parquet", b""),
        ("b.arrow", b"hello" * 99),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(MaskDistillError, match=rf"{name}: cannot be read as an? (Arrow|Parquet) file"):
            keys(tmp_path / name)
    write(tmp_path / "c.parquet", pa.table({"image": [1]}))
    with pytest.raises(MaskDistillError, match="no column of it does"):
        keys(tmp_path / "c.parquet")
    with pytest.raises(MaskDistillError, match="the tables have no row"):
        keys(write(tmp_path / "d.parquet", named([])))


@pytest.mark.hostile(
    "archive: a Parquet file with damaged pages",
    outcome="rows that cannot be read are quarantined with the reason",
)
def test_damaged_pages_are_quarantined(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", named([f"{number}.jpg" for number in range(6)]))
    with pq.ParquetFile(path) as file:
        meta = file.metadata.row_group(0).column(0)
        place = meta.dictionary_page_offset or meta.data_page_offset
    damaged = bytearray(path.read_bytes())
    damaged[place : place + 40] = b"\xff" * 40
    path.write_bytes(damaged)
    found = read_manifest(make_manifest(source(path), tmp_path / "out/m.csv", "--max-quarantined=1"))
    assert found["status"].tolist() == ["quarantined"] * 3 + ["ok"] * 3
    assert "from the table, which is damaged" in found["reason"][0]
