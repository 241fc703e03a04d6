"""Every format is read again by its tool's own reader or by its documented rules: masks, names and scores."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import yaml
from exported import HEIGHT, NAMES, WIDTH, Mask, disc, iou, record, sample, write
from matplotlib.path import Path as Outline
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from maskdistill.formats import rle
from maskdistill.formats.export.label_studio import brush_rle
from maskdistill.formats.export.outlines import outlines, polygons
from maskdistill.formats.export.records import ObjectRecord, Picture
from maskdistill.runtime.errors import MaskDistillError


@pytest.fixture
def pictures(tmp_path: Path) -> list[Picture]:
    return sample(tmp_path / "photos")


def objects_of(pictures: list[Picture]) -> list[ObjectRecord]:
    return [item for picture in pictures for item in picture.objects]


def seen(picture: Picture) -> list[Mask]:
    """What of each object no more confident one covers."""
    covered, found = np.zeros((HEIGHT, WIDTH), bool), []
    for item in picture.objects:
        mask = rle.decode(item.mask)
        found.append(mask & ~covered)
        covered |= mask
    return found


def check_coco(path: Path, pictures: list[Picture], names: list[str], least: float = 1.0) -> COCO:
    coco = COCO(str(path))
    assert [coco.imgs[picture.image_id]["file_name"] for picture in pictures] == names
    assert {key: entry["name"] for key, entry in coco.cats.items()} == NAMES
    for picture in pictures:
        found = coco.loadAnns(coco.getAnnIds(imgIds=[picture.image_id]))
        assert len(found) == len(picture.objects)
        for annotation, item in zip(found, picture.objects, strict=True):
            mask = rle.decode(item.mask)
            assert iou(coco.annToMask(annotation).astype(bool), mask) >= least
            assert (annotation["score"], annotation["area"]) == (item.score, mask.sum())
            assert coco.cats[annotation["category_id"]]["name"] == item.name
    return coco


@pytest.mark.parametrize(
    ("choice", "simplify", "least"), [("coco", 0, 1), ("coco:polygons", 0, 1), ("coco:polygons", 2, 0.98)]
)
def test_coco(tmp_path: Path, pictures: list[Picture], choice: str, simplify: float, least: float) -> None:
    out = write(tmp_path / "out", choice, pictures, simplify)
    coco = check_coco(out / "coco.json", pictures, ["sub/a b.jpg", "b.png", "c.jpeg"], least)
    assert all(
        isinstance(one["segmentation"], list if "polygons" in choice else dict) for one in coco.anns.values()
    )


@pytest.mark.parametrize("simplify", [0, 2])
def test_yolo(tmp_path: Path, pictures: list[Picture], simplify: float) -> None:
    """As Ultralytics reads it: labels beside images, shares times sides, rounded down, filled with the edge.

    supervision rounds to the nearest.
    """
    out = write(tmp_path / "out", "yolo", pictures, simplify)
    data = yaml.safe_load((out / "data.yaml").read_text(encoding="utf-8"))
    assert "path" not in data, "it would be relative to the working directory"
    assert data["names"] == {category - 1: name for category, name in NAMES.items()}
    for picture in pictures:
        image = out / data["train"] / f"{picture.key}{picture.ending}"
        with Image.open(image) as photo:
            assert photo.size == (WIDTH, HEIGHT) and photo.filename
        label = Path(str(image).replace("/images/", "/labels/")).with_suffix(".txt")
        lines = label.read_text().splitlines()
        scores = (out / f"scores/{picture.key}.txt").read_text().split()
        assert [float(score) for score in scores] == [item.score for item in picture.objects]
        for line, item in zip(lines, picture.objects, strict=True):
            number, *values = line.split()
            assert data["names"][int(number)] == item.name
            ring = np.array(values, dtype=np.float32).reshape(-1, 2)
            assert ring.min() >= 0 and ring.max() <= 1 and len(ring) >= 3
            filled = np.zeros((HEIGHT, WIDTH), np.uint8)
            cv2.fillPoly(filled, [(ring * (WIDTH, HEIGHT)).astype(np.int32)], 1)
            np.testing.assert_array_equal(
                (ring * (WIDTH, HEIGHT)).round(), (ring * (WIDTH, HEIGHT)).astype(np.int32)
            )
            mask = rle.decode(item.mask)
            cuts = filled.astype(bool) & ~mask
            assert iou(filled.astype(bool), mask) >= 0.98
            if not simplify:
                assert not (mask & ~filled.astype(bool)).any() and cuts.sum() <= 12, "exact but for the cuts"


def test_voc(tmp_path: Path, pictures: list[Picture]) -> None:
    out = write(tmp_path / "out", "voc", pictures)
    keys = (out / "ImageSets/Segmentation/train.txt").read_text().splitlines()
    assert keys == (out / "ImageSets/Main/train.txt").read_text().splitlines() == ["sub/a b", "b", "c"]
    label_map = (out / "labelmap.txt").read_text(encoding="utf-8").splitlines()
    assert label_map[1:3] == ["background:0,0,0::", "cup & saucer:128,0,0::"]
    for key, picture in zip(keys, pictures, strict=True):
        root = ElementTree.parse(out / f"Annotations/{key}.xml").getroot()
        assert (out / "JPEGImages" / str(root.findtext("filename"))).is_file()
        assert [root.findtext(f"size/{side}") for side in ("width", "height")] == [str(WIDTH), str(HEIGHT)]
        maps = [
            np.asarray(Image.open(out / kind / f"{key}.png"))
            for kind in ("SegmentationClass", "SegmentationObject")
        ]
        found = root.findall("object")
        for number, (element, item, mask) in enumerate(
            zip(found, picture.objects, seen(picture), strict=True), 1
        ):
            np.testing.assert_array_equal(maps[1] == number, mask)
            assert set(maps[0][mask]) == {item.category_id} and element.findtext("name") == item.name
            assert float(element.findtext("attributes/attribute/value", "")) == item.score
            ys, xs = np.nonzero(rle.decode(item.mask))
            box = [int(element.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax")]
            assert box == [xs.min() + 1, ys.min() + 1, xs.max() + 1, ys.max() + 1]
        assert ((maps[0] > 0) == (maps[1] > 0)).all() and maps[1].max() == len(found)


@pytest.mark.parametrize("key", ["n\nl", "bell\x07", "next\x85", "line\u2028"])
def test_voc_refuses_what_neither_a_list_nor_xml_can_hold(tmp_path: Path, key: str) -> None:
    picture = replace(sample(tmp_path / "photos")[0], key=key)
    with pytest.raises(MaskDistillError, match="voc lists pictures by name") as error:
        write(tmp_path / "out", "voc", [picture])
    assert repr(key) in str(error.value)


def test_voc_names_without_the_colon_that_separates_fields(tmp_path: Path) -> None:
    (picture, *_) = sample(tmp_path / "photos")
    objects = tuple(replace(item, name="traffic: light") for item in picture.objects)
    out = write(
        tmp_path / "out", "voc", [replace(picture, objects=objects)], 0.0, {1: "traffic: light", 2: "b"}
    )
    labels = (out / "labelmap.txt").read_text().splitlines()[1:]
    assert [line.split(":")[0] for line in labels] == ["background", "traffic- light", "b"]
    assert {line.count(":") for line in labels} == {3}
    root = ElementTree.parse(out / f"Annotations/{picture.key}.xml").getroot()
    assert {element.findtext("name") for element in root.findall("object")} == {"traffic- light"}


def brush_decoded(data: list[int]) -> Mask:
    """Label Studio's run lengths, bit by bit by their rule: bool (H * W,)."""
    bits = "".join(f"{byte:08b}" for byte in data)
    place = 0

    def read(count: int) -> int:
        nonlocal place
        place += count
        return int(bits[place - count : place], 2)

    count, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < count:
        repeated = read(1)
        length = read(sizes[read(2)]) + 1
        values += [read(word)] * length if repeated else [read(word) for _ in range(length)]
    return np.array(values[3::4]) == 255


@pytest.mark.parametrize("brush", [False, True])
def test_label_studio(tmp_path: Path, pictures: list[Picture], brush: bool) -> None:
    choice = "label_studio:brush:prefix=s3://mine/" if brush else "label_studio"
    out = write(tmp_path / "out", choice, pictures)
    tasks = json.loads((out / "tasks.json").read_text())
    assert [unquote(task["data"]["image"]) for task in tasks] == [
        ("s3://mine/" if brush else "/data/local-files/?d=") + picture.file for picture in pictures
    ]
    interface = ElementTree.parse(out / "interface.xml").getroot()
    control = interface.find("BrushLabels" if brush else "PolygonLabels")
    assert control is not None and [label.get("value") for label in control] == list(NAMES.values())
    for task, picture in zip(tasks, pictures, strict=True):
        regions: dict[str, list[dict[str, Any]]] = {}
        for region in task["predictions"][0]["result"]:
            assert (region["from_name"], region["to_name"]) == (control.get("name"), control.get("toName"))
            assert (region["original_width"], region["original_height"]) == (WIDTH, HEIGHT)
            regions.setdefault(region["id"].rpartition("-")[0], []).append(region)
        for found, item in zip(regions.values(), picture.objects, strict=True):
            assert {region["value"][region["type"]][0] for region in found} == {item.name}
            assert {region["score"] for region in found} == {item.score}
            mask = rle.decode(item.mask)
            if brush:
                again = brush_decoded(found[0]["value"]["rle"]).reshape(HEIGHT, WIDTH)
            else:
                rings = [np.array(region["value"]["points"]) / 100 * (WIDTH, HEIGHT) for region in found]
                filled = coco_mask.frPyObjects([ring.ravel().tolist() for ring in rings], HEIGHT, WIDTH)
                again = coco_mask.decode(coco_mask.merge(filled)).astype(bool)
            np.testing.assert_array_equal(again, mask)


def test_brush_lengths_of_every_size() -> None:
    """Runs of 1, 2, 3 and 64 pixels, and of more than 16 bits tell."""
    for lengths in ([1, 2, 3, 64, 65], [1, 20000, 2, 40001]):
        mask = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
        np.testing.assert_array_equal(brush_decoded(brush_rle(mask[None])), mask)


@pytest.mark.parametrize("masks", [False, True])
def test_cvat(tmp_path: Path, pictures: list[Picture], masks: bool) -> None:
    out = write(tmp_path / "out", "cvat:masks" if masks else "cvat", pictures)
    names = ["sub/a b.jpg", "b.png", "c.jpeg"]
    coco = check_coco(out / "annotations/instances_default.json", pictures, names)
    labels = json.loads((out / "labels.json").read_text())
    assert [label["name"] for label in labels] == list(NAMES.values())
    assert all(label["attributes"][0]["name"] == "score" for label in labels)
    assert all(
        annotation["attributes"] == {"score": annotation["score"]} for annotation in coco.anns.values()
    )


def test_labels_of_cvat_are_unique(
    tmp_path: Path, pictures: list[Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(NAMES, 3, NAMES[1])
    pictures[2] = Picture(**(vars(pictures[2]) | {"objects": (record(disc(9, 9, 5), 3, 0.5),)}))
    out = write(tmp_path / "out", "cvat", pictures)
    assert [label["name"] for label in json.loads((out / "labels.json").read_text())] == [NAMES[1], NAMES[2]]
    coco = COCO(str(out / "annotations/instances_default.json"))
    assert set(coco.cats) == {1, 2} and [one["category_id"] for one in coco.imgToAnns[3]] == [1]


def test_geojson(tmp_path: Path, pictures: list[Picture]) -> None:
    """Centres of pixels inside of outer rings and outside of holes; rings closed and turned as RFC 7946
    says.
    """
    out = write(tmp_path / "out", "geojson", pictures)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    centres = np.stack([columns.ravel(), rows.ravel()], axis=1) + 0.5
    kinds = []
    for picture in pictures:
        content = json.loads((out / f"{picture.key}.geojson").read_text())
        assert content["type"] == "FeatureCollection" and content["properties"]["file"] == picture.file
        for feature, item in zip(content["features"], picture.objects, strict=True):
            kinds.append(feature["geometry"]["type"])
            parts = feature["geometry"]["coordinates"]
            again = np.zeros(HEIGHT * WIDTH, bool)
            for rings in parts if kinds[-1] == "MultiPolygon" else [parts]:
                inside = [Outline(ring).contains_points(centres) for ring in rings]
                again |= inside[0] & ~np.any([np.zeros_like(again), *inside[1:]], axis=0)
                for place, ring in enumerate(rings):
                    x, y = np.array(ring).T
                    assert ring[0] == ring[-1] and (x[:-1] @ y[1:] - y[:-1] @ x[1:] > 0) == (place == 0)
            np.testing.assert_array_equal(again.reshape(HEIGHT, WIDTH), rle.decode(item.mask))
            assert (feature["properties"]["category"], feature["properties"]["score"]) == (
                item.name,
                item.score,
            )
    assert kinds[:3] == ["Polygon", "MultiPolygon", "Polygon"]


def test_huggingface(tmp_path: Path, pictures: list[Picture]) -> None:
    out = write(tmp_path / "out", "huggingface", pictures)
    id2label = {int(key): name for key, name in json.loads((out / "id2label.json").read_text()).items()}
    assert id2label == {0: "background", **NAMES}
    lines = (out / "metadata.jsonl").read_text().splitlines()
    assert all(line.startswith('{"file_name"') for line in lines), (
        "else datasets shows the annotation as the image"
    )
    rows = [json.loads(line) for line in lines]
    for row, picture in zip(rows, pictures, strict=True):
        assert (out / row["file_name"]).read_bytes() == picture.source.read_bytes()
        drawn = np.asarray(Image.open(out / row["annotation_file_name"]))
        columns = row["objects"]
        assert columns["score"] == [item.score for item in picture.objects]
        assert columns["bbox"] == [list(item.box) for item in picture.objects]
        for number, (item, mask) in enumerate(zip(picture.objects, seen(picture), strict=True), start=1):
            np.testing.assert_array_equal(drawn[..., 1] == number, mask)
            assert set(drawn[mask][:, 0]) == {item.category_id} and id2label[item.category_id] == item.name
            assert columns["segmentation"][number - 1] == item.mask


def test_fiftyone(tmp_path: Path, pictures: list[Picture]) -> None:
    out = write(tmp_path / "out", "fiftyone", pictures)
    names = ["sub/a b.jpg", "b.png", "c.jpeg"]
    check_coco(out / "labels.json", pictures, names)
    assert all((out / "data" / name).read_bytes() for name in names)


def test_parquet(tmp_path: Path, pictures: list[Picture], monkeypatch: pytest.MonkeyPatch) -> None:
    """Read by pyarrow: a row an object, in several row groups; masks, names and scores as they are."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="make parquet installs it")
    monkeypatch.setattr("maskdistill.formats.export.parquet.ROWS", 2)
    out = write(tmp_path / "out", "parquet", pictures)
    assert parquet.ParquetFile(out / "objects.parquet").num_row_groups == 2, "no picture is split"
    rows = parquet.read_table(out / "objects.parquet").to_pylist()
    wanted = [(picture, item) for picture in pictures for item in picture.objects]
    for row, (picture, item) in zip(rows, wanted, strict=True):
        assert (row["key"], row["file_name"], row["image_id"]) == (
            picture.key,
            picture.file,
            picture.image_id,
        )
        assert (row["width"], row["height"], row["area"]) == (WIDTH, HEIGHT, item.area)
        assert (row["category_id"], row["category"], row["score"]) == (
            item.category_id,
            item.name,
            item.score,
        )
        assert tuple(row["bbox"]) == item.box
        again = coco_mask.decode({**row["segmentation"], "counts": row["segmentation"]["counts"].encode()})
        np.testing.assert_array_equal(again, rle.decode(item.mask))


def test_parquet_says_what_it_needs(
    tmp_path: Path, pictures: list[Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MaskDistillError, match=r"needs pyarrow.*make parquet"):
        write(tmp_path / "out", "parquet", pictures)


def test_outlines_for_correcting_have_few_vertices() -> None:
    """12 objects as a detector pastes them, of 200 to 400 pixels: exact ones have hundreds of vertices."""
    rng = np.random.default_rng(3)
    exact, few, near = [], [], []
    for _ in range(12):
        small = cv2.GaussianBlur(rng.random((28, 28)).astype(np.float32), (0, 0), 4)
        small[[0, -1]] = small[:, [0, -1]] = 0
        side = int(rng.integers(200, 400))
        mask = cv2.resize(small, (side, side)) > np.median(small)
        code = rle.encode(mask)
        exact.append(sum(len(ring) // 2 for ring in polygons(code)))
        rings = polygons(code, 4.0)
        few.append(sum(len(ring) // 2 for ring in rings))
        filled = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(rings, side, side))).astype(bool)
        near.append(iou(filled, mask))
    assert np.median(exact) > 400 and np.median(few) <= 60 and min(near) >= 0.98


def test_small_objects_keep_their_outlines() -> None:
    for mask in (disc(20, 20, 0.5), disc(20, 20, 2), disc(20, 20, 9) & ~disc(20, 20, 7)):
        code = rle.encode(mask)
        filled = coco_mask.merge(coco_mask.frPyObjects(polygons(code, 8.0), HEIGHT, WIDTH))
        assert iou(coco_mask.decode(filled).astype(bool), mask) >= 0.98
    assert [len(part.holes) for part in outlines(code, 8.0)] == [1]
