"""Ground truth of every source in one form, against pycocotools, the VOC files and slow repainting."""

import ast
import json
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from pycocotools.coco import COCO

import maskdistill
from maskdistill.cli import main
from maskdistill.config import ScenesData, VocData, load_config
from maskdistill.data.ground_truth import TrueObject, read_ground_truth
from maskdistill.data.listing import iter_images
from maskdistill.data.manifest import ImageRow, read_manifest
from maskdistill.data.planned import truth_listing
from maskdistill.data.scenes import CATEGORIES, generate_scene
from maskdistill.data.truth.coco import paint_semantic
from maskdistill.data.truth.voc import VOC_CLASSES, voc_objects
from maskdistill.data.truth_check import check_truth
from maskdistill.data.truth_types import Losses, Place
from maskdistill.formats import rle
from maskdistill.formats.label_png import read_label_png, write_label_png
from maskdistill.runtime.errors import MaskDistillError

SHARED = Path(__file__).parents[2] / "shared/data"


def real(name: str) -> Path:
    if not (SHARED / name).exists():
        pytest.skip(f"../shared/data/{name} is absent")
    return SHARED / name


def run(data: dict[str, Any], folder: Path, *options: str) -> int:
    """Manifest and ground truth of a data section into ``folder``; the exit status of the latter."""
    params = json.dumps(data)
    manifest = str(folder / "manifest.csv")
    assert (
        main(["manifest", "--params", params, "--output", manifest, "--max-quarantined", "0.5", *options])
        == 0
    )
    return main(
        ["ground_truth", "--params", params, "--manifest", manifest, "--output", str(folder / "groundtruth")]
    )


def truth(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "groundtruth/instances.json").read_text())
    assert [item["id"] for item in content["annotations"]] == list(range(1, len(content["annotations"]) + 1))
    return content


def semantic(folder: Path, key: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return read_label_png(folder / f"groundtruth/semantic/{key}.png")


# ---------------------------------------------------------------- scenes


def test_scenes_are_rendered_again(tmp_path: Path) -> None:
    data = ScenesData.model_validate({"num_train": 1, "num_eval": 2, "size": 64, "seed": 5})
    for index in (1, 2, 3):
        path = tmp_path / f"scenes/scene-{index:05d}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(generate_scene(5, index, 64, 0.5).image).save(path, quality=95)
    assert run(data.model_dump(), tmp_path, "--scenes-dir", str(tmp_path / "scenes")) == 0
    content = truth(tmp_path)
    assert [image["file_name"] for image in content["images"]] == ["scene-00002", "scene-00003"]
    assert content["categories"] == [{"id": i, "name": name} for i, name in enumerate(CATEGORIES, start=1)]
    for image, index in zip(content["images"], (2, 3), strict=True):
        scene = generate_scene(5, index, 64, 0.5)
        np.testing.assert_array_equal(semantic(tmp_path, image["file_name"]), scene.semantic)
        mine = [item for item in content["annotations"] if item["image_id"] == image["id"]]
        assert [item["category_id"] for item in mine] == scene.labels.tolist()
        for item, mask in zip(mine, scene.masks, strict=True):
            np.testing.assert_array_equal(rle.decode(item["segmentation"]), mask)
            rows, columns = np.nonzero(mask)
            assert item["bbox"] == [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            assert item["area"] == mask.sum()
        assert image["has_masks"] and image["has_semantic"]
    assert not (tmp_path / "groundtruth/semantic/scene-00001.png").exists()


@pytest.mark.hostile(
    "ground truth: pictures of another size than the generated scenes",
    outcome="the stage stops and names the picture",
)
def test_scene_of_another_size_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = {"kind": "scenes", "num_train": 1, "num_eval": 1, "size": 64}
    (tmp_path / "scenes").mkdir()
    for index in (1, 2):
        Image.new("RGB", (99, 77)).save(tmp_path / f"scenes/scene-{index:05d}.jpg")
    assert run(data, tmp_path, "--scenes-dir", str(tmp_path / "scenes")) == 1
    assert "99x77" in capsys.readouterr().err and not (tmp_path / "groundtruth").exists()


def test_labels_of_training_images_for_the_probe(tmp_path: Path) -> None:
    data = ScenesData.model_validate({"num_train": 2, "num_eval": 1, "size": 64, "seed": 5})
    for index in (1, 2, 3):
        path = tmp_path / f"scenes/scene-{index:05d}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(generate_scene(5, index, 64, 0.5).image).save(path, quality=95)
    assert run(data.model_dump(), tmp_path, "--scenes-dir", str(tmp_path / "scenes")) == 0
    command = [
        "ground_truth",
        "--params",
        data.model_dump_json(),
        "--manifest",
        str(tmp_path / "manifest.csv"),
    ]
    assert main([*command, "--images", "train", "--output", str(tmp_path / "of-training")]) == 0
    written = sorted((tmp_path / "of-training/semantic").iterdir())
    assert [path.name for path in written] == ["scene-00001.png", "scene-00002.png"]
    np.testing.assert_array_equal(read_label_png(written[1]), generate_scene(5, 2, 64, 0.5).semantic)


# ---------------------------------------------------------------- COCO


def slow_semantic(masks: list[Any], ids: list[int], crowd: list[int], border: int) -> np.ndarray[Any, Any]:
    """Pixel by pixel: the smallest mask wins, then the band, then crowds."""
    height, width = masks[0].shape
    out = np.zeros((height, width), dtype=np.uint8)
    areas = [int(mask.sum()) for mask in masks]
    for y in range(height):
        for x in range(width):
            here = [i for i, mask in enumerate(masks) if mask[y, x] and not crowd[i]]
            if here:
                out[y, x] = ids[min(here, key=lambda i: (areas[i], -i))]
    painted = np.argwhere(out > 0)
    result = out.copy()
    for y in range(height):
        for x in range(width):
            near = len(painted) and ((painted - (y, x)) ** 2).sum(axis=1).min() <= border**2
            if border and out[y, x] == 0 and near:
                result[y, x] = 255
            if any(mask[y, x] and crowd[i] for i, mask in enumerate(masks)):
                result[y, x] = 255
    return result


@pytest.mark.parametrize("border", [0, 1, 3])
def test_paint_semantic_against_slow_painting(border: int) -> None:
    rng = np.random.default_rng(border)
    for _ in range(4):
        masks = []
        for _ in range(5):
            mask = np.zeros((24, 31), dtype=bool)
            y, x, h, w = rng.integers(0, 20), rng.integers(0, 25), rng.integers(1, 12), rng.integers(1, 12)
            mask[y : y + h, x : x + w] = rng.random(mask[y : y + h, x : x + w].shape) < 0.8
            masks.append(mask)
        ids, crowd = rng.integers(1, 9, 5).tolist(), [0, 0, 1, 0, 0]
        objects = [
            TrueObject(i, [0.0] * 4, 1.0, c, rle.encode(m)) for i, c, m in zip(ids, crowd, masks, strict=True)
        ]
        np.testing.assert_array_equal(
            paint_semantic(objects, (24, 31), border), slow_semantic(masks, ids, crowd, border)
        )


@pytest.mark.slow
@pytest.mark.hostile("ground truth: crowd RLE (COCO)", outcome="read; its pixels are ignored (255)")
def test_real_coco_with_crowds_agrees_with_pycocotools(tmp_path: Path) -> None:
    root = real("tinycoco")
    source = root / "instances_train2017.json"
    assert run({"kind": "coco", "images": str(root / "train2017"), "annotations": str(source)}, tmp_path) == 0
    content, reference = truth(tmp_path), COCO(str(source))
    assert len(content["images"]) == 32 and len(content["annotations"]) == 288
    assert sum(item["iscrowd"] for item in content["annotations"]) == 4
    names = [category["name"] for category in sorted(reference.cats.values(), key=lambda c: c["id"])]
    assert [category["name"] for category in content["categories"]] == names
    assert [category["id"] for category in content["categories"]] == list(range(1, len(names) + 1))
    by_stem = {Path(image["file_name"]).stem: image["id"] for image in reference.imgs.values()}
    for image in content["images"]:
        mine = [item for item in content["annotations"] if item["image_id"] == image["id"]]
        theirs = reference.imgToAnns[by_stem[image["file_name"]]]
        assert len(mine) == len(theirs)
        labels = semantic(tmp_path, image["file_name"])
        for item, other in zip(mine, theirs, strict=True):
            mask = reference.annToMask(other).astype(bool)
            np.testing.assert_array_equal(rle.decode(item["segmentation"]), mask)
            assert names[item["category_id"] - 1] == reference.cats[other["category_id"]]["name"]
            assert item["bbox"] == other["bbox"] and item["area"] == other["area"]
            if other["iscrowd"]:
                assert (labels[mask] == 255).all()
        assert set(np.unique(labels)) <= {0, 255, *(item["category_id"] for item in mine)}


def small_coco(folder: Path) -> dict[str, Any]:
    """Two pictures and a JSON: gapped ids out of order, a hole-free polygon, an uncompressed RLE, a box."""
    for name in ("a.jpg", "sub/b.jpg", "extra.jpg"):
        (folder / "im" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30, 20)).save(folder / "im" / name)
    return {
        "images": [
            {"id": 70, "file_name": "a.jpg", "width": 30, "height": 20},
            {"id": 71, "file_name": "b.jpg", "width": 30, "height": 20},
            {"id": 72, "file_name": "not-downloaded.jpg", "width": 9, "height": 9},
        ],
        "categories": [{"id": 90, "name": "late"}, {"id": 3, "name": "early"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 70,
                "category_id": 90,
                "segmentation": [[2, 2, 12, 2, 12, 9, 2, 9], [1, 1, 2, 2]],
            },
            {
                "id": 2,
                "image_id": 70,
                "category_id": 3,
                "segmentation": {"size": [20, 30], "counts": [0, 40, 560]},
            },
            {"id": 3, "image_id": 71, "category_id": 3, "segmentation": [], "bbox": [1, 2, 3, 4]},
        ],
    }


def write_coco(folder: Path, content: dict[str, Any]) -> dict[str, Any]:
    (folder / "truth.json").write_text(json.dumps(content))
    return {"kind": "coco", "images": str(folder / "im"), "annotations": str(folder / "truth.json")}


def test_coco_details(tmp_path: Path) -> None:
    assert run(write_coco(tmp_path, small_coco(tmp_path)), tmp_path) == 0
    content = truth(tmp_path)
    assert content["categories"] == [{"id": 1, "name": "early"}, {"id": 2, "name": "late"}]
    assert [(i["file_name"], i["has_masks"], i["has_semantic"]) for i in content["images"]] == [
        ("a", True, True),
        ("sub/b", False, False),
    ]
    polygon, columns, box = content["annotations"]
    expected = np.zeros((20, 30), dtype=bool)
    expected[2:9, 2:12] = True
    np.testing.assert_array_equal(rle.decode(polygon["segmentation"]), expected)
    assert (polygon["category_id"], polygon["bbox"], polygon["area"]) == (2, [2, 2, 10, 7], 70)
    assert (columns["category_id"], columns["bbox"], columns["area"]) == (1, [0, 0, 2, 20], 40)
    assert "segmentation" not in box and (box["bbox"], box["area"]) == ([1, 2, 3, 4], 12)
    labels = np.where(expected, 2, 0)
    labels[:, :2] = 1
    np.testing.assert_array_equal(semantic(tmp_path, "a"), labels)
    assert "path" not in json.dumps(content["provenance"]) and str(tmp_path) not in json.dumps(content)


def test_coco_border_is_ignored(tmp_path: Path) -> None:
    section = write_coco(tmp_path, small_coco(tmp_path))
    assert run({**section, "ignore_border": 2}, tmp_path) == 0
    labels = semantic(tmp_path, "a")
    assert labels[5, 12] == 255 and labels[5, 13] == 255 and labels[5, 14] == 0 and labels[5, 11] == 2


@pytest.mark.hostile(
    "ground truth: COCO with unknown category id, wrong image size, RLE of another size, neither mask nor "
    "box",
    outcome="the stage stops and names file and annotation",
)
@pytest.mark.hostile(
    "ground truth: COCO of other pictures, without a part, or with more than 254 categories",
    outcome="the stage stops and says so",
)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["annotations"][0].update(category_id=5), "unknown category_id 5"),
        (lambda c: c["images"][0].update(width=20, height=30), "'a' is 20x30, the upright picture 30x20"),
        (
            lambda c: c["annotations"][1]["segmentation"].update(size=[30, 20]),
            "(id 2): segmentation.size is [30, 20]",
        ),
        (
            lambda c: c["annotations"][1]["segmentation"].update(counts=[0, 40]),
            "(id 2): segmentation.counts does not",
        ),
        (lambda c: c["annotations"][2].pop("bbox"), "annotations[2] (id 3): has neither"),
        (lambda c: c.update(images=c["images"][2:]), "none of its images"),
        (lambda c: c.pop("categories"), "not a COCO instances JSON"),
        (lambda c: c.update(categories=[{"id": i, "name": str(i)} for i in range(300)]), "at most 254"),
    ],
)
def test_coco_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Any, message: str) -> None:
    content = small_coco(tmp_path)
    change(content)
    assert run(write_coco(tmp_path, content), tmp_path) == 1
    error = capsys.readouterr().err
    assert message in error and "truth.json" in error
    assert not (tmp_path / "groundtruth").exists()


@pytest.mark.hostile(
    "ground truth: none (a folder of photographs)",
    outcome="the run goes without scores; the stage alone refuses",
)
def test_sources_without_ground_truth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg")
    assert run({"kind": "folder", "root": str(tmp_path)}, tmp_path / "run") == 1
    assert "no usable image is to be scored" in capsys.readouterr().err


# ---------------------------------------------------------------- VOC


def test_voc_objects_by_majority() -> None:
    instances = np.array([[0, 1, 1, 1, 255], [2, 2, 1, 3, 3]], dtype=np.uint8)
    semantic_map = np.array([[0, 15, 15, 7, 255], [7, 255, 0, 255, 0]], dtype=np.uint8)
    losses = Losses(1)
    first, second = voc_objects(semantic_map, instances, Place("a.png"), losses)
    assert [(item.kind, item.entry) for item in losses.dropped] == [("annotation", "a.png: object 3")]
    assert (first.category_id, first.bbox, first.area) == (15, [1, 0, 3, 2], 4)
    assert (second.category_id, second.bbox, second.area) == (7, [0, 1, 2, 1], 2)
    np.testing.assert_array_equal(rle.decode(first.segmentation or {}), instances == 1)


@pytest.mark.slow
def test_real_voc(tmp_path: Path) -> None:
    root = real("voc2007/VOC2007")
    section = {"kind": "voc", "root": str(root), "eval_list": "Main/trainval"}
    assert run(section, tmp_path) == 0
    content = truth(tmp_path)
    assert [category["name"] for category in content["categories"]] == sorted(VOC_CLASSES) and len(
        VOC_CLASSES
    ) == 20
    masked = {path.stem for path in (root / "SegmentationObject").glob("*.png")}
    assert {image["file_name"] for image in content["images"] if image["has_masks"]} == masked
    assert {image["file_name"] for image in content["images"] if image["has_semantic"]} == masked
    assert len(content["images"]) == 473 and len(masked) == 20
    for image in content["images"]:
        mine = [item for item in content["annotations"] if item["image_id"] == image["id"]]
        if image["file_name"] not in masked:
            # read the XML as text, line by line, with no parser
            text = (root / f"Annotations/{image['file_name']}.xml").read_text()
            boxes = []
            for part in text.split("<object>")[1:]:
                corners = [
                    float(part.split(f"<{c}>")[1].split("<")[0]) for c in ("xmin", "ymin", "xmax", "ymax")
                ]
                x0, y0 = corners[0] - 1, corners[1] - 1
                boxes.append(
                    (part.split("<name>")[1].split("<")[0], [x0, y0, corners[2] - x0, corners[3] - y0])
                )
            assert boxes == [(VOC_CLASSES[item["category_id"] - 1], item["bbox"]) for item in mine]
            assert all("segmentation" not in item for item in mine)
            continue
        with Image.open(root / f"SegmentationClass/{image['file_name']}.png") as stored:
            classes = np.array(stored)
        with Image.open(root / f"SegmentationObject/{image['file_name']}.png") as stored:
            numbers = np.array(stored)
        np.testing.assert_array_equal(semantic(tmp_path, image["file_name"]), classes)
        union = np.zeros(classes.shape, dtype=np.uint8)
        for item in mine:
            mask = rle.decode(item["segmentation"])
            assert len(set(numbers[mask].tolist())) == 1
            union[mask] = item["category_id"]
        np.testing.assert_array_equal(union, np.where(classes == 255, 0, classes))
        assert len(mine) == len(set(numbers[(numbers > 0) & (numbers < 255)].tolist()))


def small_voc(folder: Path) -> dict[str, Any]:
    """One picture with an XML, listed to train on and to score."""
    for name in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    Image.new("RGB", (30, 20)).save(folder / "JPEGImages/a.jpg")
    (folder / "ImageSets/Main/all.txt").write_text("a\n")
    (folder / "Annotations/a.xml").write_text(
        "<annotation><size><width>30</width><height>20</height></size><object><name>dog</name>"
        "<part><name>head</name><bndbox><xmin>9</xmin></bndbox></part>"
        "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>10</xmax><ymax>20</ymax></bndbox></object></annotation>"
    )
    return {"kind": "voc", "root": str(folder), "train_list": "Main/all", "eval_list": "Main/all"}


def test_voc_class_map_without_objects(tmp_path: Path) -> None:
    section = small_voc(tmp_path / "voc")
    labels = np.zeros((20, 30), dtype=np.uint8)
    labels[3:9] = 12
    write_label_png(tmp_path / "voc/SegmentationClass/a.png", labels)
    assert run(section, tmp_path) == 0
    content = truth(tmp_path)
    assert (content["images"][0]["has_masks"], content["images"][0]["has_semantic"]) == (False, True)
    assert [(item["category_id"], item["bbox"], item["area"]) for item in content["annotations"]] == [
        (12, [0, 1, 10, 19], 190)
    ]
    np.testing.assert_array_equal(semantic(tmp_path, "a"), labels)


def test_another_ground_truth_of_voc_is_noticed(tmp_path: Path) -> None:
    demo = yaml.safe_load((Path(__file__).parents[1] / "config/demo.yaml").read_text())
    config = load_config(demo | {"data": small_voc(tmp_path / "voc")})
    seen = [truth_listing(config)]
    write_label_png(tmp_path / "voc/SegmentationClass/a.png", np.zeros((20, 30), dtype=np.uint8))
    seen.append(truth_listing(config))
    (tmp_path / "voc/Annotations/a.xml").unlink()
    seen.append(truth_listing(config))
    assert len(set(seen)) == 3
    Image.new("RGB", (30, 20), "red").save(tmp_path / "voc/JPEGImages/a.jpg")
    (tmp_path / "voc/Annotations/unlisted.xml").write_text("")
    assert truth_listing(config) == seen[2]
    assert truth_listing(load_config(demo)) == ""


def test_voc_instances_are_of_a_list_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """a is scored, b is in the list of instances, c in both; b's semantic map and a's masks do not count."""
    section = small_voc(tmp_path / "voc") | {"train_list": "Main/b", "instance_list": "Main/bc"}
    maps = {kind: tmp_path / f"voc/Segmentation{kind}" for kind in ("Class", "Object")}
    for name, value in (("a", 3), ("b", 12), ("c", 5)):
        Image.new("RGB", (30, 20)).save(tmp_path / f"voc/JPEGImages/{name}.jpg")
        labels = np.zeros((20, 30), dtype=np.uint8)
        labels[3:9] = value
        write_label_png(maps["Class"] / f"{name}.png", labels)
        write_label_png(maps["Object"] / f"{name}.png", (labels > 0).astype(np.uint8))
    for name, listed in (("all", "a\nc\n"), ("b", "b\n"), ("bc", "b\nc\n")):
        (tmp_path / f"voc/ImageSets/Main/{name}.txt").write_text(listed)
    assert run(section, tmp_path) == 0
    content = truth(tmp_path)
    flags = ("has_semantic", "has_masks", "evaluated")
    assert {image["file_name"]: tuple(image[flag] for flag in flags) for image in content["images"]} == {
        "a": (True, False, True), "b": (False, True, False), "c": (True, True, True),
    }  # fmt: skip
    assert [(item["category_id"], "segmentation" in item) for item in content["annotations"]] == [
        (3, False), (12, True), (5, True),
    ]  # fmt: skip
    assert sorted(path.stem for path in (tmp_path / "groundtruth/semantic").glob("*.png")) == ["a", "c"]
    (tmp_path / "voc/ImageSets/Main/bc.txt").write_text("b\nc\nd\n")
    assert run(section, tmp_path) == 1
    assert "data.instance_list: 1 of its 3 images are in no other list, e.g. d" in capsys.readouterr().err


@pytest.mark.hostile(
    "ground truth: VOC with unknown class or label, wrong size, broken XML",
    outcome="the stage stops and names the file",
)
def test_voc_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    section = small_voc(tmp_path / "voc")
    xml = tmp_path / "voc/Annotations/a.xml"
    good = xml.read_text()
    for text, message in [
        (good.replace("dog", "unicorn"), "unknown class 'unicorn'"),
        (good.replace("<width>30", "<width>31"), "31x20, the upright picture 30x20"),
        (good[:-20], "not a VOC annotation"),
        (good.replace("<xmax>10", "<xmax>ten"), "not a VOC annotation"),
    ]:
        xml.write_text(text)
        assert run(section, tmp_path) == 1
        error = capsys.readouterr().err
        assert message in error and "a.xml" in error
    xml.unlink()
    assert run(section, tmp_path) == 1
    assert "data.eval_list: Main/all" in capsys.readouterr().err
    write_label_png(tmp_path / "voc/SegmentationClass/a.png", np.full((20, 30), 21, dtype=np.uint8))
    assert run(section, tmp_path) == 1
    assert "a.png: label 21" in capsys.readouterr().err
    write_label_png(tmp_path / "voc/SegmentationClass/a.png", np.zeros((30, 20), dtype=np.uint8))
    assert run(section, tmp_path) == 1
    assert "20x30" in capsys.readouterr().err


def voc_row(key: str = "a") -> ImageRow:
    return ImageRow(1, key, f"/{key}.jpg", 30, 20, 0)


def read_voc(folder: Path, section: dict[str, Any], limit: float = 1.0) -> tuple[list[TrueObject], Losses]:
    """Objects of the one picture, and what was dropped."""
    losses = Losses(limit)
    (only,) = read_ground_truth(VocData.model_validate(section), [voc_row()], losses)[1]
    losses.refuse_many()
    return only.objects, losses


@pytest.mark.hostile(
    "ground truth: VOC XML with a byte order mark, in UTF-16, or without its size", outcome="read"
)
def test_voc_xml_as_people_save_it(tmp_path: Path) -> None:
    section = small_voc(tmp_path)
    xml = tmp_path / "Annotations/a.xml"
    good, right = xml.read_text(), read_voc(tmp_path, section)
    for content in (
        good.encode("utf-8-sig"), f'<?xml version="1.0" encoding="utf-16"?>{good}'.encode("utf-16"),
        good.replace("<size><width>30</width><height>20</height></size>", "").encode(),
        good.replace("<xmin>1<", "<xmin> 1.0 <").replace(">dog<", ">\n dog <").encode(),
    ):  # fmt: skip
        xml.write_bytes(content)
        assert read_voc(tmp_path, section)[0] == right[0] and not right[1].dropped


@pytest.mark.hostile(
    "ground truth: VOC boxes that are NaN, infinite, huge or end before they begin, XML of 10 nested "
    "entities or in an unknown encoding",
    outcome="the stage stops and names file, object and field",
)
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<xmax>10", "<xmax>nan", "bndbox/xmax is 'nan', not a number"),
        ("<xmax>10", "<xmax>inf", "bndbox/xmax is 'inf'"),
        ("<xmin>1<", "<xmin>-1e300<", "bndbox/xmin is '-1e300'"),
        ("<ymin>2</ymin>", "", "bndbox/ymin is missing"),
        ("<xmax>10", "<xmax>0", "bndbox ends at 0, 20, before it begins at 1, 2"),
        ("<width>30", "<width>nan", "size/width is 'nan'"),
        ("<width>30</width>", "", "size/width is missing"),
        ("<annotation>", '<?xml version="1.0" encoding="klingon"?><annotation>', "not a VOC annotation"),
        ("<annotation>", "\0<annotation>", "not a VOC annotation"),
        (
            "<annotation>",
            "<!DOCTYPE x [<!ENTITY a0 'aaaaaaaaaa'>"
            + "".join(f"<!ENTITY a{i + 1} '{f'&a{i};' * 10}'>" for i in range(9))
            + "]><annotation><x>&a9;</x>",
            "not a VOC annotation",
        ),
    ],
)
def test_voc_xml_that_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    section = small_voc(tmp_path)
    xml = tmp_path / "Annotations/a.xml"
    text = xml.read_text()
    assert text.count(old) == 1
    xml.write_text(text.replace(old, new))
    with pytest.raises(MaskDistillError) as refused:
        read_voc(tmp_path, section)
    assert message in str(refused.value) and "Annotations/a.xml" in str(refused.value)
    with pytest.raises(MaskDistillError):
        check_truth(VocData.model_validate(section), 1)


@pytest.mark.hostile(
    "ground truth: VOC boxes outside of the picture, objects without a class, listed images without ground "
    "truth",
    outcome="dropped, counted and listed; above `max_dropped` the run stops before anything is trained",
)
def test_voc_losses(tmp_path: Path) -> None:
    section = small_voc(tmp_path)
    xml = tmp_path / "Annotations/a.xml"
    box = (
        "<object><name>cat</name><bndbox><xmin>31</xmin><ymin>2</ymin><xmax>40</xmax><ymax>9</ymax>"
        "</bndbox></object>"
    )
    good = xml.read_text()
    xml.write_text(good.replace("</annotation>", f"{box}{box}</annotation>"))
    objects, losses = read_voc(tmp_path, section)
    assert len(objects) == 1 and [item.entry.partition("a.xml: ")[2] for item in losses.dropped] == [
        "object[1]", "object[2]",
    ]  # fmt: skip
    with pytest.raises(MaskDistillError, match="2 annotations of 3 annotations would be dropped"):
        check_truth(VocData.model_validate(section), 0.05)
    xml.write_text(good)
    losses = Losses(0.05)
    rows = [voc_row(key) for key in ("a", "b", "c")]
    assert len(list(read_ground_truth(VocData.model_validate(section), rows, losses)[1])) == 1
    with pytest.raises(
        MaskDistillError, match=r"2 images of 3 images would be dropped(?s:.*): b: neither Segm"
    ):
        Losses.refuse_many(losses)


@pytest.mark.hostile(
    "ground truth: label map (PNG) that is cut off, huge by its header alone, RGB, or no PNG",
    outcome="the stage stops and names the file, which is spared; nothing is decoded before its size is "
    "known",
)
def test_voc_maps_that_are_refused(tmp_path: Path) -> None:
    section = small_voc(tmp_path)
    path = tmp_path / "SegmentationClass/a.png"
    write_label_png(path, np.arange(600, dtype=np.uint8).reshape(20, 30) % 20)
    whole = path.read_bytes()
    Image.new("RGB", (30, 20)).save(tmp_path / "rgb.png")
    huge = whole[:16] + (100_000).to_bytes(4) * 2 + whole[24:29]
    for content, message in [
        (whole[:-30], "not a readable PNG"), (b"", "not a readable PNG"), (b"GIF89a", "not a readable PNG"),
        (whole[:60] + b"\xff" * 20 + whole[80:], "not a readable PNG"),
        (huge + zlib.crc32(huge[12:]).to_bytes(4) + whole[33:],
        "not a readable PNG (DecompressionBombError)"),
        ((tmp_path / "rgb.png").read_bytes(), "this PNG has mode RGB"),
    ]:  # fmt: skip
        path.write_bytes(content)
        with pytest.raises(MaskDistillError) as refused:
            read_voc(tmp_path, section)
        assert message in str(refused.value) and "SegmentationClass/a.png" in str(refused.value)
        assert "delete" not in str(refused.value)


@pytest.mark.hostile("ground truth: VOC list with a byte order mark, or in UTF-16", outcome="read")
def test_voc_lists_as_people_save_them(tmp_path: Path) -> None:
    section = small_voc(tmp_path)
    listed = tmp_path / "ImageSets/Main/all.txt"
    for encoding in ("utf-8-sig", "utf-16"):
        listed.write_text("a\r\n\r\n", encoding=encoding)
        assert [image.key for image in iter_images(VocData.model_validate(section))] == ["a"]
    listed.write_bytes(b"\xe9\n")
    with pytest.raises(MaskDistillError, match=r"all\.txt: not UTF-8 at byte 0; save it as UTF-8"):
        list(iter_images(VocData.model_validate(section)))


@pytest.mark.slow
def test_no_remedy_costs_a_file_that_the_run_did_not_make() -> None:
    """What people give is never to be deleted: of all messages that say so, each is about files of a run."""
    of_a_run = {
        "runtime/files.py", "runtime/download.py", "training/checkpoint.py", "report/collect.py",
        "annotations/index.py", "data/stream.py", "data/manifest.py", "config/backbone.py",
    }  # fmt: skip
    package = Path(maskdistill.__file__).parent
    found = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and "; " in node.value:
                said = node.value.partition("; ")[2]
                if re.search(r"\b(delete|remove) (it|them|the file|the folder)\b", said):
                    found.add(path.relative_to(package).as_posix())
    assert found <= of_a_run


def test_dropped_things_are_listed_and_stop_the_stage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = small_coco(tmp_path)
    content["annotations"] += [
        {"id": 9, "image_id": 70, "category_id": 3, "segmentation": [], "bbox": [0, 0, 0, 0]}
    ]
    section = write_coco(tmp_path, content)
    assert run(section, tmp_path) == 0
    error = capsys.readouterr().err
    assert "dropped annotation:" in error and "1 annotation, 1 image, 1 mask, 1 polygon; listed in" in error
    written = json.loads((tmp_path / "groundtruth/dropped.json").read_text())
    assert written["counts"] == {"annotation": 1, "image": 1, "mask": 1, "polygon": 1}
    assert written["of"] == {"images": 2, "has_masks": 1, "has_semantic": 1}
    assert [item["kind"] for item in written["dropped"]] == ["image", "polygon", "annotation", "mask"]
    command = ["ground_truth", "--params", json.dumps(section), "--manifest", str(tmp_path / "manifest.csv")]
    assert main([*command, "--output", str(tmp_path / "other"), "--max-dropped", "0"]) == 1
    assert "1 annotations of 4 annotations would be dropped" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
    with pytest.raises(SystemExit):
        main([*command, "--output", str(tmp_path / "other"), "--max-dropped", "5"])
    assert "give a number from 0 to 1" in capsys.readouterr().err


def test_output_is_deterministic(tmp_path: Path) -> None:
    section = write_coco(tmp_path, small_coco(tmp_path))
    assert run(section, tmp_path) == 0
    first = (tmp_path / "groundtruth/instances.json").read_bytes()
    assert run(section, tmp_path) == 0
    assert (tmp_path / "groundtruth/instances.json").read_bytes() == first
    assert read_manifest(tmp_path / "manifest.csv").key.tolist() == ["a", "extra", "sub/b"]
