"""COCO files as people make them: what has one meaning is read, everything else is one message, and nothing
crashes.
"""

import copy
import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from maskdistill.config import CocoData
from maskdistill.data.coco_masks import LONGEST_OUTLINE, paint_mask, parse_mask
from maskdistill.data.coco_truth import CocoTruth
from maskdistill.data.ground_truth import read_ground_truth
from maskdistill.data.manifest import ImageRow
from maskdistill.data.truth_check import check_truth, upright_size
from maskdistill.data.truth_types import ImageTruth, Losses, Place
from maskdistill.formats import rle
from maskdistill.runtime.errors import MaskDistillError

FIXTURE = Path(__file__).parents[2] / "shared/data/fixtures/cocoeval/instances_val2014_100.json"
HEIGHT, WIDTH = 20, 30
SQUARE = [2, 3, 12, 3, 12, 9, 2, 9]
COLUMNS = {"size": [HEIGHT, WIDTH], "counts": [0, 40, 560]}
PLACE = Place("truth.json", "annotations[0]")
Content = dict[str, Any]
Result = tuple[list[str], list[ImageTruth], Losses]


def expected(*, square: bool) -> np.ndarray[Any, np.dtype[np.bool_]]:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[3:9, 2:12] = square
    mask[:, :2] |= not square
    return mask


def base() -> Content:
    """Three pictures: a polygon and an RLE, a compressed RLE, and nothing."""
    counts = rle.encode(expected(square=True))["counts"]
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "height": HEIGHT, "width": WIDTH} for i in (1, 2, 3)],
        "categories": [{"id": 5, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 5, "segmentation": [SQUARE], "bbox": [2, 3, 10, 6],
            "area": 60.0,
             "iscrowd": 0},
            {"id": 2, "image_id": 1, "category_id": 2, "segmentation": COLUMNS, "bbox": [0, 0, 2, 20],
            "iscrowd": 0},
            {"id": 3, "image_id": 2, "category_id": 2, "segmentation": {"size": [HEIGHT, WIDTH],
            "counts": counts}},
        ],
    }  # fmt: skip


def rows(*files: str, root: str = "/im") -> list[ImageRow]:
    names = files or ("1.jpg", "2.jpg", "3.jpg")
    return [
        ImageRow(i, name[:-4], f"{root}/{name}", WIDTH, HEIGHT, 0) for i, name in enumerate(names, start=1)
    ]


def read(folder: Path, content: Any, images: list[ImageRow] | None = None, limit: float = 1.0) -> Result:
    """Ground truth of a file with this content (JSON, or its bytes); all is walked through."""
    path = folder / "truth.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    losses = Losses(limit)
    section = CocoData(kind="coco", images="/im", annotations=str(path))
    names, truths = read_ground_truth(section, images or rows(), losses)
    found = list(truths)
    losses.refuse_many()
    return names, found, losses


def values(found: list[ImageTruth]) -> list[Any]:
    return [(truth.image_id, truth.objects, truth.has_masks, truth.semantic.tolist()) for truth in found]  # type: ignore[union-attr]


def test_the_base_is_read(tmp_path: Path) -> None:
    names, found, losses = read(tmp_path, base())
    assert names == ["cat", "dog"] and losses.dropped == []
    polygon, columns = found[0].objects
    np.testing.assert_array_equal(rle.decode(polygon.segmentation or {}), expected(square=True))
    np.testing.assert_array_equal(rle.decode(columns.segmentation or {}), expected(square=False))
    assert (polygon.category_id, columns.category_id) == (2, 1)
    assert (polygon.bbox, polygon.area, columns.bbox, columns.area) == ([2, 3, 10, 6], 60, [0, 0, 2, 20], 40)
    assert [len(truth.objects) for truth in found] == [2, 1, 0] and all(truth.has_masks for truth in found)


# ---------------------------------------------------------------- what has one meaning


def with_ids(kind: Callable[[int], Any]) -> Callable[[Content], Any]:
    """Changes the JSON type of the ids that refer, not of those that are referred to."""

    def change(content: Content) -> None:
        for annotation in content["annotations"]:
            annotation |= {name: kind(annotation[name]) for name in ("image_id", "category_id", "id")}

    return change


def each_image(**fields: Any) -> Callable[[Content], Any]:
    """Changes fields of all images; a function is given the present value, None removes the field."""

    def change(content: Content) -> None:
        for image in content["images"]:
            for name, value in fields.items():
                image[name] = value(image[name]) if callable(value) else value
                if value is None:
                    del image[name]

    return change


def segmentation(index: int, change: Callable[[Any], Any]) -> Callable[[Content], Any]:
    def changed(content: Content) -> None:
        content["annotations"][index]["segmentation"] = change(content["annotations"][index]["segmentation"])

    return changed


def listed_twice(content: Content) -> None:
    """Every file under two ids, the annotations with the first."""
    content["images"] += [{**image, "id": image["id"] + 100} for image in content["images"]]


def halves(content: Content) -> None:
    """Every file under two ids, the second annotation with the second."""
    listed_twice(content)
    content["annotations"][1]["image_id"] += 100


SAME = [
    *(with_ids(kind) for kind in (str, float, lambda i: f"{i}.0", lambda i: f" {i} ", lambda i: f"{i:03d}")),
    each_image(id=str), each_image(id=float),
    each_image(file_name=lambda name: f"./{name}"), each_image(file_name=lambda name: f".\\{name}"),
    each_image(file_name=lambda name: f"/im/{name}"),
    each_image(file_name=lambda name: f"/elsewhere/im/{name}"),
    each_image(file_name=lambda name: f"C:\\photos\\{name}"),
    each_image(file_name=lambda name: f"x//../{name}"),
    each_image(height=None, width=None), each_image(height=None), each_image(height=str, width=float),
    segmentation(0, lambda value: value[0]), 
    segmentation(0, lambda value: np.reshape(value, (-1, 2)).tolist()),
    segmentation(0, lambda value: [np.reshape(value, (-1, 2)).tolist()]),
    segmentation(0, lambda value: np.array(value, float).tolist()), segmentation(1, lambda value: [value]),
    segmentation(2, lambda value: [value]), segmentation(1, lambda value: {"counts": value["counts"]}),
    segmentation(1, lambda value: {**value, "counts": [0.0, 40.0, 560.0]}),
    segmentation(2, lambda value: [value, SQUARE]),
    lambda c: c["annotations"][0].update(iscrowd=False), lambda c: c["annotations"][0].update(iscrowd="0"),
    lambda c: c["annotations"][0].pop("iscrowd"), lambda c: c["annotations"][0].update(iscrowd=None),
    lambda c: c["annotations"][0].pop("area"), lambda c: c["annotations"][0].update(area=None),
    lambda c: c["annotations"][0].pop("bbox"), lambda c: c["annotations"][0].update(bbox=[]),
    lambda c: c["annotations"][1].update(bbox=[0, 0, 0, 0]),
    lambda c: c["categories"].append({"id": "5", "name": "dog"}),
    lambda c: c["images"].append(c["images"][0]),
    listed_twice, halves,
    lambda c: c["images"].append({**c["images"][0], "id": 9, "file_name": "./1.jpg"}),
    lambda c: c["images"].append({**c["images"][0], "id": "1", "file_name": ".\\1.jpg"}),
]  # fmt: skip


@pytest.mark.hostile(
    'ground truth: COCO ids of another JSON type (`1`, `"1"`, `1.0`), `\\` or another Unicode form in '
    "`file_name`, "
    "paths with `./` or absolute ones",
    outcome="read: by their value",
)
@pytest.mark.hostile(
    "ground truth: COCO file listed under several image ids, with the annotations under any of them",
    outcome="read: the objects of all its entries, each once",
)
@pytest.mark.hostile(
    "ground truth: COCO masks as a flat polygon, as points, as an RLE in a list or without its size; no "
    "`height`, `width`, `area`, `bbox` or `iscrowd`",
    outcome="read: missing sizes are the picture's, missing boxes and areas the mask's",
)
@pytest.mark.parametrize("number", range(len(SAME)))
def test_what_has_one_meaning_is_read(tmp_path: Path, number: int) -> None:
    content = base()
    SAME[number](content)
    names, found, losses = read(tmp_path, content)
    right_names, right, _ = read(tmp_path, base())
    assert (names, values(found), losses.dropped) == (right_names, values(right), [])


@pytest.mark.hostile("ground truth: JSON in UTF-8 with a byte order mark, UTF-16 or UTF-32", outcome="read")
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    assert values(read(tmp_path, json.dumps(base()).encode(encoding))[1]) == values(read(tmp_path, base())[1])


def test_unicode_forms(tmp_path: Path) -> None:
    """As the file system has it, and as the JSON has it; two files that differ in the form alone stay
    apart.
    """
    content = base()
    for image, name in zip(content["images"], ("é.jpg", "u/ö.jpg", "3.jpg"), strict=True):
        image["file_name"] = unicodedata.normalize("NFC", name)
    for form in ("NFC", "NFD"):
        names = [unicodedata.normalize(form, name) for name in ("é.jpg", "u/ö.jpg", "3.jpg")]
        assert [len(truth.objects) for truth in read(tmp_path, content, rows(*names))[1]] == [2, 1, 0]
    both = [unicodedata.normalize(form, "é.jpg") for form in ("NFC", "NFD")]
    content["images"][1]["file_name"] = both[1]
    assert [len(truth.objects) for truth in read(tmp_path, content, rows(*both, "3.jpg"))[1]] == [2, 1, 0]


def test_folders_tell_equal_names_apart(tmp_path: Path) -> None:
    content = base()
    for image, name in zip(content["images"], ("a\\1.jpg", "b\\1.jpg", "c/1.jpg"), strict=True):
        image["file_name"] = name
    found = read(tmp_path, content, rows("c/1.jpg", "a/1.jpg", "b/1.jpg"))[1]
    assert [len(truth.objects) for truth in found] == [0, 2, 1]


@pytest.mark.hostile(
    "ground truth: COCO names of categories that are equal, `background`, numbers, or hold lone surrogates",
    outcome="read: told apart by the category's id, escaped",
)
def test_names_are_unlike_and_printable(tmp_path: Path) -> None:
    content = base()
    content["categories"] = [
        {"id": 2, "name": "background"}, {"id": 5, "name": "dog"}, {"id": "x", "name": "dog"},
        {"id": 7, "name": "a\ud800\n"}, {"id": 8, "name": 12}, {"id": 9, "name": "mañana क्‍ष"},
    ]  # fmt: skip
    names = read(tmp_path, content)[0]
    assert names == ["background (category 2)", "dog", "a\\ud800\\n", "12", "mañana क्‍ष", "dog (category x)"]
    "".join(names).encode()


# ---------------------------------------------------------------- what is dropped


EMPTY = {"category_id": 2, "segmentation": [], "bbox": [0, 0, 0, 0], "area": 0, "iscrowd": 0}
DROPPED: list[tuple[Callable[[Content], Any], str, str]] = [
    (lambda c: c["annotations"].append({**EMPTY, "id": 9, "image_id": 1}), "annotation", "its box is empty"),
    (lambda c: c["annotations"].append({**EMPTY, "id": 9, "image_id": 1, "bbox": [40, 2, 5, 5]}),
    "annotation",
     "lies outside of the picture"),
    (lambda c: c["annotations"].append({**EMPTY, "id": 9, "image_id": 4}), "annotation", "image_id 4 is no "
    "entry"),
    (lambda c: c["annotations"].append({**EMPTY, "id": 9, "image_id": 1, "segmentation": [[90, 90, 95, 90, 95,
    95]]}),
     "annotation", "no pixel of the picture"),
    (lambda c: c["annotations"].append({**EMPTY, "id": 9, "image_id": 1,
                                        "segmentation": {"size": [HEIGHT, WIDTH], "counts": [600]}}),
     "annotation", "no pixel of the picture"),
    (segmentation(0, lambda value: [*value, [1, 1, 2, 2]]), "polygon", "fewer than three points"),
    (lambda c: (listed_twice(c), c["annotations"].append({**c["annotations"][0], "id": 77, "image_id": 101})),
     "repetition", "counts once"),
    (lambda c: c["annotations"].append(c["annotations"][0]), "repetition", "counts once"),
]  # fmt: skip


@pytest.mark.hostile(
    "ground truth: COCO objects without mask and box, outside of the picture, of no image, or there twice; "
    "polygons of two points",
    outcome="dropped, counted, and listed in the log, in `dropped.json` and in the report; above "
    "`max_dropped` (default 0.05) the run stops before anything is trained",
)
@pytest.mark.parametrize(("change", "kind", "reason"), DROPPED)
def test_what_is_dropped(tmp_path: Path, change: Callable[[Content], Any], kind: str, reason: str) -> None:
    content = base()
    change(content)
    _, found, losses = read(tmp_path, content)
    assert [item.kind for item in losses.dropped] == [kind]
    assert reason in losses.dropped[0].reason
    assert "truth.json: annotations[" in losses.dropped[0].entry
    assert values(found) == values(read(tmp_path, base())[1])


def test_a_box_among_masks_loses_its_picture_a_word(tmp_path: Path) -> None:
    content = base()
    content["annotations"].append({"id": 9, "image_id": 3, "category_id": 2, "bbox": [1, 2, 3, 4]})
    _, found, losses = read(tmp_path, content)
    assert [(item.kind, item.entry[-22:]) for item in losses.dropped] == [
        ("mask", ": annotations[3] (id 9)"[-22:])
    ]
    assert [truth.has_masks for truth in found] == [True, True, False] and found[2].semantic is None


@pytest.mark.hostile(
    "ground truth: COCO boxes without a single mask",
    outcome="read; a warning and the report say that mIoU and AP miss",
)
def test_boxes_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = base()
    for annotation in content["annotations"]:
        annotation |= {"segmentation": [], "bbox": [1, 2, 3, 4]}
    _, found, losses = read(tmp_path, content)
    assert losses.dropped == [] and "boxes alone, no masks: mIoU and AP are not scored" in caplog.text
    assert [item.bbox for item in found[0].objects] == [[1, 2, 3, 4]] * 2


def test_too_much_dropped_stops(tmp_path: Path) -> None:
    """One object a picture and as many empty ones, as in the issue; then a single one, which is tolerated."""
    content = base()
    content["annotations"] += [{**EMPTY, "id": 10 + i, "image_id": i} for i in (1, 2, 3)]
    message = (
        r"3 annotations of 6 annotations would be dropped, more than the 1 tolerated \(max_dropped: 0\.05\)"
    )
    with pytest.raises(MaskDistillError, match=message) as refused:
        read(tmp_path, content, limit=0.05)
    assert "truth.json: annotations[3] (id 11): it has no mask, and its box is empty" in str(refused.value)
    assert values(read(tmp_path, content, limit=0.5)[1]) == values(read(tmp_path, base())[1])
    del content["annotations"][4:]
    assert len(read(tmp_path, content, limit=0.05)[2].dropped) == 1
    with pytest.raises(MaskDistillError, match="max_dropped: 0"):
        read(tmp_path, content, limit=0)


def test_names_that_differ_are_lost_images_and_names_left_over_are_not(tmp_path: Path) -> None:
    """Part of the pictures has no entry: no loss.

    Neither have entries pictures: their names are not the same.
    """
    others = [f"x{i}.jpg" for i in range(9)]
    assert read(tmp_path, base(), rows("1.jpg", *others))[2].counts == {"image": 2, "unscored image": 9}
    content = base()
    del content["images"][1:], content["annotations"][2:]
    losses = read(tmp_path, content, rows("1.jpg", *others), limit=0)[2]
    assert losses.counts == {"unscored image": 9} and losses.text() == "9 unscored images"
    assert read(tmp_path, base(), rows("1.jpg"))[2].counts == {}
    write_pictures(tmp_path)
    there = [row._replace(file=f"{tmp_path}/im/{row.key}.jpg") for row in rows("1.jpg", "x.jpg", "y.jpg")]
    (tmp_path / "truth.json").write_text(json.dumps(base()))
    section = CocoData(kind="coco", images=str(tmp_path / "im"), annotations=str(tmp_path / "truth.json"))
    losses = Losses(0)
    assert len(list(read_ground_truth(section, there, losses)[1])) == 1
    assert losses.counts == {"unscored image": 2}, "2.jpg and 3.jpg are there: they were quarantined"
    with pytest.raises(
        MaskDistillError, match=r"(?s)2 images of 3 images would be dropped.*no picture is '2\.jpg'"
    ):
        read(tmp_path, base(), rows("1.jpg", "x.jpg", "y.jpg", "z.jpg"), limit=0.05)


# ---------------------------------------------------------------- what is refused


FAR = [[0, 0, 1e9, 0, 1e9, 1e9]]
REFUSED: list[tuple[Callable[[Content], Any], str]] = [
    (
        segmentation(0, lambda _: FAR),
        r"annotations\[0\] \(id 1\): segmentation\[0\] holds 1000000000.0, outside of",
    ),
    (segmentation(0, lambda _: [[0, 0, 1e7, 0, 1e7, 1e7]]), r"segmentation\[0\] holds 10000000.0"),
    (segmentation(0, lambda _: [[0, 0, float("inf"), 0, 5, 5]]), r"segmentation\[0\] holds inf"),
    (segmentation(0, lambda _: [[0, 0, float("nan"), 0, 5, 5]]), r"segmentation\[0\] holds nan"),
    (segmentation(0, lambda _: [[0, 0, -(10**40), 0, 5, 5]]), r"segmentation\[0\] holds -10000"),
    (
        segmentation(0, lambda _: [SQUARE, [0, 0, 5, 0, 5]]),
        r"segmentation\[1\] has 5 coordinates, an odd number",
    ),
    (segmentation(0, lambda _: [SQUARE, "x"]), r"segmentation\[1\] is 'x', neither a polygon nor an RLE"),
    (segmentation(0, lambda _: ["1", "2"]), r"segmentation holds '1', not a number"),
    (segmentation(0, lambda _: [0, 0, 299, 299] * 10_000), "pixels long, more than 4000000"),
    (segmentation(0, lambda _: "x"), "segmentation is 'x', neither polygons nor an RLE"),
    (segmentation(1, lambda rle: {**rle, "counts": [0, -40, 640]}), r"segmentation\.counts holds -40"),
    (
        segmentation(1, lambda rle: {**rle, "counts": [0, 40]}),
        "counts does not cover its image: 40 pixels of 600",
    ),
    (segmentation(1, lambda rle: {**rle, "counts": [0.5, 599.5]}), r"segmentation\.counts holds 0\.5"),
    (segmentation(1, lambda rle: {**rle, "counts": [float("nan")]}), r"segmentation\.counts holds nan"),
    (
        segmentation(1, lambda rle: {**rle, "size": [WIDTH, HEIGHT]}),
        r"size is \[30, 20\], its image has \[20, 30\]",
    ),
    (
        segmentation(1, lambda rle: {**rle, "size": [20]}),
        r"segmentation\.size is \[20\], not \[height, width\]",
    ),
    (segmentation(1, lambda rle: {"size": rle["size"]}), r"segmentation\.counts is None"),
    (segmentation(2, lambda rle: {**rle, "counts": rle["counts"][:-1]}), "counts does not cover its image"),
    (segmentation(2, lambda rle: {**rle, "counts": "\ud800"}), r"counts is '\\ud800', neither run lengths"),
    (segmentation(2, lambda rle: {**rle, "counts": ""}), "counts does not cover its image"),
    (
        lambda c: c["annotations"][0].update(bbox=[1, 2, float("nan"), 4]),
        r"id 1\): bbox\[2\] is nan, not a number",
    ),
    (lambda c: c["annotations"][0].update(bbox=[1, 2, -3, 4]), "of negative width or height"),
    (
        lambda c: c["annotations"][0].update(bbox=[1, 2, 3]),
        r"bbox is \[1, 2, 3\], not \[x, y, width, height\]",
    ),
    (
        lambda c: c["annotations"][0].update(bbox=[50, 50, 3, 3]),
        "lies outside of the picture, and the mask does not",
    ),
    (lambda c: c["annotations"][0].update(area=-1), "area is -1, not a number of pixels"),
    (lambda c: c["annotations"][0].update(area=float("nan")), "area is nan"),
    (lambda c: c["annotations"][0].update(iscrowd="no"), "iscrowd is 'no', not a whole number from 0 to 1"),
    (lambda c: c["annotations"][0].update(iscrowd=2), "iscrowd is 2"),
    (lambda c: c["annotations"][0].update(image_id=None), "image_id is None, neither a number nor a text"),
    (lambda c: c["annotations"][0].update(category_id=True), "category_id is True"),
    (lambda c: c["annotations"][0].update(category_id=[5]), r"category_id is \[5\]"),
    (lambda c: c["annotations"][0].update(category_id=1.5), "category_id is 1.5"),
    (lambda c: c.update(annotations={}), r"annotations is \{\}, not a list"),
    (lambda c: c.update(images=None), "images is None, not a list"),
    (lambda c: c.update(categories=[]), "categories is empty"),
    (lambda c: c["annotations"].append(7), r"annotations\[3\]: is 7, not an object"),
    (lambda c: c["images"][1].pop("file_name"), r"images\[1\] \(id 2\): file_name is None"),
    (lambda c: c["images"][1].pop("id"), r"images\[1\]: id is None"),
    (lambda c: c["images"][1].update(id=1), r"images\[1\] \(id 1\): id is that of images\[0\] \(id 1\) too"),
    (lambda c: c["images"][1].update(width=0), "width is 0, not a whole number"),
    (lambda c: c["images"][1].update(height=10**30), "height is 1000"),
    (lambda c: c["images"][1].update(width=31), "ground truth of '2' is 31x20, the upright picture 30x20"),
    (lambda c: c["categories"][0].pop("name"), r"categories\[0\] \(id 5\): name is None"),
    (
        lambda c: c["categories"][0].update(id=2),
        r"categories\[1\] \(id 2\): id is that of the category 'dog' too",
    ),
]


@pytest.mark.hostile(
    "ground truth: COCO polygons with huge, infinite or NaN coordinates, negative runs, runs that miss "
    "pixels, NaN or negative boxes, negative areas, parts that are no lists, entries that are no objects, "
    "ids of two things",
    outcome="the stage stops and names file, entry and field; pycocotools never sees them",
)
@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_what_is_refused(tmp_path: Path, change: Callable[[Content], Any], message: str) -> None:
    content = base()
    change(content)
    with pytest.raises(MaskDistillError, match=message) as refused:
        read(tmp_path, content)
    assert str(refused.value).startswith(f"{tmp_path}/truth.json: ") and "\n" not in str(refused.value)


@pytest.mark.hostile(
    "ground truth: file that is nested too deeply, holds a number of 5000 digits, is Latin-1, a sparse file "
    "of 1 TB, a device or a folder",
    outcome="the stage stops and names the file; it is not read to its end",
)
def test_files_that_are_no_json(tmp_path: Path) -> None:
    for content, message in [
        (b"", "not valid JSON"), (b"[" * 100_000, "nested too deeply"), (b'{"a": ' + b"9" * 5000 + b"}",
        "digits"),
        (b'{"a": "\xe9"}', "utf-8"), (b"images: []", "begins with 'i'"), (b"[]", "not a COCO instances JSON"),
    ]:  # fmt: skip
        with pytest.raises(MaskDistillError, match=message):
            read(tmp_path, content)
    sparse = tmp_path / "sparse.json"
    with open(sparse, "wb") as stream:
        stream.truncate(1 << 40)
    for path, message in [
        (sparse, "not valid JSON"), (Path("/dev/zero"), "not a regular file"), (tmp_path, "not a regular "
        "file"),
        (tmp_path / "absent.json", "no such file"),
    ]:  # fmt: skip
        section = CocoData(kind="coco", images="/im", annotations=str(path))
        with pytest.raises(MaskDistillError, match=f"{path}: {message}"):
            read_ground_truth(section, rows(), Losses(1))


# ---------------------------------------------------------------- any value in any place


HOSTILE = [
    None, True, False, 0, -1, 1, 1.5, -1e9, 1e9, 1e308, float("nan"), float("inf"), -float("inf"), 10**30,
    -(10**400),
    "", "1", "x", "\ud800", "\u0000", "1e5", "../../etc/passwd", "é" * 1000, [], {}, [[]], [{}], [None], [1],
    [1, 2, 3, 4],    [[1, 1, 2, 2]], [["a"] * 6], [[float("nan")] * 6], FAR, [SQUARE], [COLUMNS], COLUMNS,
    {"size": [1, 1], "counts": "1"},    {"size": None, "counts": None}, {"counts": [-5, 605]},
    {"counts": "0" * 500},
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a value can be put into a JSON; of long lists of numbers only at both ends."""
    items = list(
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, item in items if len(items) < 4 or isinstance(value, dict) else (items[0], items[-1]):
        yield (*path, key)
        yield from places(item, (*path, key))


def put(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    changed = copy.deepcopy(content)
    target = changed
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return changed


@pytest.mark.slow
@pytest.mark.parametrize("part", ["images", "categories", "annotations"])
def test_any_value_in_any_place_is_read_or_refused_in_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    content, refused, used = base(), 0, 0
    changed: Content = {}
    monkeypatch.setattr(
        "maskdistill.data.coco_file.read_user_json", lambda path: changed
    )  # no thousand files
    section = CocoData(kind="coco", images="/im", annotations=str(tmp_path / "truth.json"))
    for path in [place for place in places(content) if place[0] == part]:
        for value in HOSTILE:
            changed, losses = put(content, path, value), Losses(1, logged=0)
            try:
                names, truths = read_ground_truth(section, rows(), losses)
                found = list(truths)
            except MaskDistillError as error:
                refused += 1
                assert "truth.json" in str(error) and len(str(error)) < 700, (path, value)
                assert not re.search("delete|remove", str(error)), (path, value)
                str(error).encode()
                continue
            used += 1
            assert len({"background", *names}) == len(names) + 1
            json.dumps([losses.dropped, names]).encode()
            for item in (item for truth in found for item in truth.objects):
                assert 1 <= item.category_id <= len(names) and np.isfinite([*item.bbox, item.area]).all()
                assert min(item.bbox[2:]) > 0 <= item.area, (path, value)
                if item.segmentation is not None:
                    assert rle.decode(item.segmentation).any()
    assert refused > 100 and used > 20


def test_the_check_before_the_run_finds_what_the_stage_finds(tmp_path: Path) -> None:
    for change, kind, reason in DROPPED:
        content = base()
        change(content)
        (tmp_path / "truth.json").write_text(json.dumps(content))
        losses = Losses(1)
        CocoTruth(
            CocoData(kind="coco", images="/im", annotations=str(tmp_path / "truth.json")), rows(), losses
        ).check()
        assert [item.kind for item in losses.dropped] == [kind] and reason in losses.dropped[0].reason
    for change, message in REFUSED:
        content = base()
        change(content)
        (tmp_path / "truth.json").write_text(json.dumps(content))
        section = CocoData(kind="coco", images="/im", annotations=str(tmp_path / "truth.json"))
        with pytest.raises(MaskDistillError, match=message):
            CocoTruth(section, rows(), Losses(1)).check()


# ---------------------------------------------------------------- masks against pycocotools


@pytest.mark.slow
def test_masks_of_real_coco_are_those_of_pycocotools() -> None:
    if not FIXTURE.exists():
        pytest.skip("../shared/data/fixtures is absent")
    coco = COCO(str(FIXTURE))
    chosen = [
        item
        for i, item in enumerate(coco.anns.values())
        if i % 5 == 0 or isinstance(item["segmentation"], dict)
    ]
    for annotation in chosen:
        image = coco.imgs[annotation["image_id"]]
        size = (image["height"], image["width"])
        mask = parse_mask(annotation["segmentation"], size, PLACE)
        np.testing.assert_array_equal(rle.decode(paint_mask(mask, size) or {}), coco.annToMask(annotation))


@pytest.mark.hostile(
    "ground truth: COCO polygons that reach out of their picture", outcome="read: cut at its border"
)
def test_polygons_that_reach_out_are_cut() -> None:
    inside = paint_mask(parse_mask([[0, 3, 30, 3, 30, 9, 0, 9]], (HEIGHT, WIDTH), PLACE), (HEIGHT, WIDTH))
    wide = paint_mask(
        parse_mask([[-200, 3, 290, 3, 290, 9, -200, 9]], (HEIGHT, WIDTH), PLACE), (HEIGHT, WIDTH)
    )
    assert inside == wide and rle.area(wide or {}) == 180


def test_the_longest_outline_is_painted_in_little_memory() -> None:
    """The most that is let through: pycocotools neither crashes nor takes much."""
    size = (2000, 2000)
    sweeps = LONGEST_OUTLINE // 40_000 - 1
    zigzag = [[-20_000 if i % 2 else 20_000, i] for i in range(sweeps)] + [[0, 2000]]
    mask = paint_mask(parse_mask([zigzag], size, PLACE), size)
    assert 0 < rle.area(mask or {}) < 4_000_000


def test_runs_whose_sum_wraps_around_are_refused() -> None:
    """Run lengths near 2**60 that add up to the picture's pixels modulo 2**64."""

    def compress(number: int) -> str:
        text = ""
        while True:
            bits = number & 31
            number >>= 5
            more = number != (-1 if bits & 16 else 0)
            text += chr(48 + (bits | 32 if more else bits))
            if not more:
                return text

    runs = [1 << 58] * 64 + [600]
    stored = [*runs[:3], *(now - before for now, before in zip(runs[3:], runs[1:], strict=False))]
    encoded = {"size": [HEIGHT, WIDTH], "counts": "".join(map(compress, stored))}
    assert sum(runs) % (1 << 64) == 600
    with pytest.raises(MaskDistillError, match="do not cover"):
        rle.decode(encoded)


# ---------------------------------------------------------------- before the run


def write_pictures(folder: Path) -> None:
    (folder / "im").mkdir()
    for number in (1, 2, 3):
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / f"im/{number}.jpg")


def test_the_check_before_the_run(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    data = CocoData(kind="coco", images=str(tmp_path / "im"), annotations=str(tmp_path / "truth.json"))
    (tmp_path / "truth.json").write_text(json.dumps(base()))
    assert check_truth(data, 0.05) == "3 objects in 3 pictures"
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (HEIGHT, WIDTH)).save(tmp_path / "im/1.jpg", exif=turned)
    assert upright_size(tmp_path / "im/1.jpg") == (WIDTH, HEIGHT)
    Image.new("RGB", (2000, 20)).save(tmp_path / "long.png")
    assert upright_size(tmp_path / "long.png") is None, "the manifest quarantines it"
    assert check_truth(data, 0.05) == "3 objects in 3 pictures"
    Image.new("RGB", (HEIGHT, WIDTH)).save(tmp_path / "im/1.jpg")
    with pytest.raises(MaskDistillError, match="ground truth of '1' is 30x20, the upright picture 20x30"):
        check_truth(data, 0.05)
    (tmp_path / "im/1.jpg").write_bytes(b"no picture, which the manifest will quarantine")
    assert check_truth(data, 0.05) == "1 objects in 2 pictures"
    content = base()
    content["annotations"] += [{**EMPTY, "id": 9, "image_id": 2}, {**EMPTY, "id": 10, "image_id": 2}]
    (tmp_path / "truth.json").write_text(json.dumps(content))
    assert check_truth(data, 1) == "1 objects in 2 pictures, dropped: 2 annotations"
    with pytest.raises(MaskDistillError, match="2 annotations of 3 annotations would be dropped"):
        check_truth(data, 0.05)
