"""Objects that come back from other tools: what was corrected is told, and they score as ground truth."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from exported import HEIGHT, NAMES, WIDTH, disc, iou, record, sample, write
from test_export_formats import brush_decoded

from maskdistill.config import CocoData
from maskdistill.data.corrected.base import NamedMask
from maskdistill.data.corrected.brush import brush_mask
from maskdistill.data.corrected.registry import READERS, read_corrected
from maskdistill.data.ground_truth import read_ground_truth
from maskdistill.data.manifest import ImageRow
from maskdistill.data.truth_types import Losses, Place
from maskdistill.evaluation.average_precision import average_precision
from maskdistill.evaluation.instances import image_instances
from maskdistill.formats import rle
from maskdistill.formats.export.label_studio import brush_rle
from maskdistill.formats.export.records import Picture
from maskdistill.product.agreement import Agreement, AgreementRecord, pair_objects, table
from maskdistill.product.corrected import find_pictures, sides
from maskdistill.runtime.errors import MaskDistillError

SAME = {"removed": 0, "added": 0, "changed": 0, "moved": 0}


@pytest.fixture
def pictures(tmp_path: Path) -> list[Picture]:
    return sample(tmp_path / "photos")


def rows_of(pictures: list[Picture]) -> list[ImageRow]:
    return [ImageRow(one.image_id, one.key, str(one.source), one.width, one.height, 0) for one in pictures]


def compared(path: Path, pictures: list[Picture]) -> tuple[AgreementRecord, Losses, list[str]]:
    """What a file says beside the pictures: agreement, what is left out, and pictures that are unknown."""
    losses = Losses(1.0, logged=0)
    reader, _, corrections = read_corrected(path, losses)
    found, unknown = find_pictures(corrections, rows_of(pictures))
    agreement = Agreement([*NAMES.values()], 2, reader.as_written)
    for picture, own, corrected in sides(pictures, corrections, found):
        agreement.add(picture.key, own, corrected)
    return agreement.record(), losses, [entry.file_name for entry in unknown]


@pytest.mark.parametrize(
    ("choice", "reader"),
    [
        ("coco", "coco"), ("coco:polygons", "coco"), ("cvat", "coco"), ("cvat:masks", "coco"), ("fiftyone",
        "coco"),
        ("label_studio", "label_studio"), ("label_studio:brush:prefix=s3://mine/", "label_studio"), ("yolo",
        "yolo"),
    ],
)  # fmt: skip
def test_what_is_written_comes_back(
    tmp_path: Path, pictures: list[Picture], choice: str, reader: str
) -> None:
    """Every mask pixel for pixel, but for the cuts of YOLO."""
    out = write(tmp_path / "out", choice, pictures)
    found, losses, unknown = compared(out, pictures)
    assert (found["pictures"], unknown, losses.dropped) == (3, [], [])
    assert read_corrected(out, losses)[0].name == reader
    numbers = found["objects"]
    assert (numbers["run"], numbers["corrected"], numbers["matched_75"]) == (6, 6, 6)
    assert numbers | SAME == numbers and found["untouched"] == 3 and found["worst"] == []
    assert numbers["mean_iou"] == 1.0 if reader != "yolo" else numbers["mean_iou"] > 0.99


@pytest.mark.parametrize("simplify", [0, 1, 3])
def test_yolos_cuts_between_many_parts_are_no_change(tmp_path: Path, simplify: float) -> None:
    """They are a pixel wide; a part that is gone is a change all the same."""
    corners = [(8, 8), (8, 75), (52, 8), (52, 75), (30, 42)]
    parts = np.logical_or.reduce([disc(y, x, 5) for y, x in corners])
    (picture, *_) = sample(tmp_path / "photos")
    whole = replace(picture, objects=(record(parts, 1, 0.9),))
    out = write(tmp_path / "out", "yolo", [whole], simplify)
    corrections = read_corrected(out, Losses(1.0, logged=0))[2]
    (read,) = corrections.objects(corrections.pictures, (HEIGHT, WIDTH))
    cut = rle.decode(read.mask)
    assert iou(cut, parts) < 0.98, "so that the cuts alone would count"
    assert compared(out, [whole])[0]["untouched"] == 1
    fewer = replace(picture, objects=(record(parts | disc(30, 8, 5), 1, 0.9),))
    assert compared(out, [fewer])[0]["objects"]["changed"] == 1


def test_simplified_outlines_are_no_change(tmp_path: Path, pictures: list[Picture]) -> None:
    for choice in ("coco:polygons", "label_studio", "yolo"):
        found = compared(write(tmp_path / choice.replace(":", "-"), choice, pictures, simplify=2), pictures)[
            0
        ]
        assert found["untouched"] == 3 and found["objects"]["mean_iou"] < 1


def test_every_correction_is_told(tmp_path: Path, pictures: list[Picture]) -> None:
    """Of six objects one is gone, one has shrunk, one is another thing, a category has another name; one is
    new.
    """
    out = write(tmp_path / "out", "coco", pictures)
    content = json.loads((out / "coco.json").read_text())
    entries = content["annotations"]
    shrunk = disc(20, 65, 9)
    entries[2] |= {"segmentation": rle.encode(shrunk), "bbox": rle.bbox(rle.encode(shrunk))}
    entries[0]["category_id"] = 2
    added = rle.encode(disc(10, 10, 6))
    entries.append(
        {"id": 90, "image_id": 2, "category_id": 1, "bbox": rle.bbox(added), "area": 1, "segmentation": added}
    )
    del entries[4]
    content["categories"][2]["name"] = "lamp"
    content["images"].append({"id": 77, "file_name": "elsewhere.png", "width": 5, "height": 5})
    content["images"][0]["file_name"] = "/their/server/sub/a b.jpg"
    entries += [
        {"id": 91, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9]},
        {**entries[0], "image_id": 404},
    ]
    (tmp_path / "corrected.json").write_text(json.dumps(content), encoding="utf-8-sig")

    found, losses, unknown = compared(tmp_path / "corrected.json", pictures)
    numbers = found["objects"]
    was = rle.decode(pictures[0].objects[2].mask)
    iou = (shrunk & was).sum() / (shrunk | was).sum()
    assert 0.5 < iou < 0.75
    wanted = {
        "run": 6,
        "corrected": 6,
        "matched_50": 5,
        "matched_75": 4,
        "removed": 1,
        "added": 1,
        "changed": 1,
        "moved": 3,
    }
    assert numbers == wanted | {"mean_iou": pytest.approx((4 + iou) / 5)}
    assert unknown == ["elsewhere.png"]
    assert [item.reason for item in losses.dropped] == [
        "image_id 404 is no entry of images",
        "it has only a box, no mask",
    ]
    assert found["renamed"] == {"cluster-02": "lamp"}, "of cup & saucer one object is still one"
    by_name = {item["name"]: item for item in found["categories"]}
    assert by_name["cup & saucer"]["became"] == {"Bär": 1, "cup & saucer": 1}
    assert (by_name["Bär"]["removed"], by_name["cup & saucer"]["added"], by_name["lamp"]["corrected"]) == (
        1,
        1,
        2,
    )
    assert [item["key"] for item in found["worst"]] == ["b", "c"]
    assert found["worst"][1]["quality"] == pytest.approx(2 / 2.5), (
        "panoptic quality of two pairs and one removed"
    )
    said = table(found)
    assert said[3].endswith("Bär (1)") and said[-2] == "b: quality 0.00; 1 added"
    assert "c: quality 0.80; 1 removed, 2 moved" in said


def test_pairs_are_those_of_the_largest_sum() -> None:
    """Against all permutations; of masks on top of each other the one of the same name is meant."""
    from itertools import permutations

    rng = np.random.default_rng(1)
    masks = [disc(*rng.uniform(25, 35, 2), rng.uniform(12, 20)) for _ in range(8)]
    own, other = ([NamedMask("x", rle.encode(mask)) for mask in half] for half in (masks[:4], masks[4:]))
    iou = np.array([[(a & b).sum() / (a | b).sum() for b in masks[4:]] for a in masks[:4]])
    worth = np.where(iou >= 0.5, iou + 0.01, 0)
    best = max(permutations(range(4)), key=lambda order: worth[range(4), order].sum())
    assert [pair.corrected for pair in pair_objects(own, other)] == [
        j for i, j in enumerate(best) if iou[i, j] >= 0.5
    ]
    code = rle.encode(masks[0])
    twins = [NamedMask(name, code) for name in ("a", "b", "c")]
    assert [pair.corrected for pair in pair_objects(twins, [twins[2], twins[0], twins[1]])] == [1, 2, 0]
    assert pair_objects([], own) == pair_objects(own, []) == []


def test_label_studios_annotations_count_and_not_its_predictions(
    tmp_path: Path, pictures: list[Picture]
) -> None:
    """The newest annotation of a task; tasks that nobody annotated are not compared. Uploads are renamed."""
    tasks = json.loads((write(tmp_path / "out", "label_studio", pictures) / "tasks.json").read_text())
    first, second, third = tasks
    result = first["predictions"][0]["result"]
    old = {"result": [], "updated_at": "2026-01-01T00:00:00Z"}
    box = {"type": "rectanglelabels", "value": {"x": 1, "rectanglelabels": ["Bär"]}}
    new = {"result": [*result[1:], box], "updated_at": "2026-01-02T00:00:00Z"}
    cancelled = {"result": [], "updated_at": "2026-01-03T00:00:00Z", "was_cancelled": True}
    first["annotations"] = [new, old, cancelled]
    second["annotations"] = [cancelled]
    third["annotations"] = [{"result": third["predictions"][0]["result"]}]
    third["data"] = {"image": "/data/upload/7/0123abcd-c.jpeg"}
    path = tmp_path / "project-7.json"
    path.write_text(json.dumps(tasks))
    found, losses, unknown = compared(path, pictures)
    assert (found["pictures"], unknown, found["objects"]["run"], found["objects"]["removed"]) == (2, [], 6, 1)
    assert [(item.kind, item.reason) for item in losses.dropped] == [
        ("repetition", "of 2 annotations the newest counts"),
        ("annotation", "'rectanglelabels' is neither polygonlabels nor brushlabels"),
    ]


def test_brush_masks_of_the_tool_are_read() -> None:
    """Half transparent edges, single values and runs, against the reader of bits of another test."""
    rng = np.random.default_rng(0)
    mask = disc(20, 22, 15)
    data = brush_rle(mask)
    np.testing.assert_array_equal(brush_mask(data, mask.shape, Place("x")), mask)
    noisy = rng.random((9, 13)) > 0.5
    again = brush_mask(brush_rle(noisy), noisy.shape, Place("x"))
    np.testing.assert_array_equal(again, brush_decoded(brush_rle(noisy)).reshape(9, 13))
    np.testing.assert_array_equal(again, noisy)


def test_yolo_of_other_tools(tmp_path: Path, pictures: list[Picture]) -> None:
    """Subfolders of a split, a list of names, boxes; a picture without a text has no object."""
    out = write(tmp_path / "out", "yolo", pictures)
    (out / "labels/train").mkdir()
    for name in ("b", "c"):
        (out / f"labels/{name}.txt").rename(out / f"labels/train/{name}.txt")
    (out / "data.yaml").write_text(
        yaml.safe_dump({"names": [NAMES[1], NAMES[2], "lamp"]}, allow_unicode=True)
    )
    label = out / "labels/sub/a b.txt"
    label.write_text("".join(label.read_text().splitlines(True)[1:]) + "1 0.5 0.5 0.2 0.2\n\n")
    found, losses, unknown = compared(out / "data.yaml", pictures)
    assert (found["pictures"], found["objects"]["removed"], unknown) == (3, 1, [])
    assert found["renamed"] == {"cluster-02": "lamp"}
    assert [item.reason for item in losses.dropped] == ["it has only a box, no outline"]


@pytest.mark.hostile(
    "corrected objects: an unknown format, a ZIP, JSON-MIN, damaged brush masks, unknown classes, shares"
    " that are none, pictures of another size, boxes alone",
    outcome="refused, file, entry and field are named; boxes alone are listed",
)
@pytest.mark.parametrize(
    ("choice", "change", "said"),
    [
        ("coco", {"images": {"width": 99}},
        r"images\[0\].*'sub/a b.jpg' is 99x61 here, the run's picture 84x61"),
        ("label_studio", {"data": 3}, r"task 0: is no task with data; export as JSON, not JSON-MIN"),
        ("label_studio", {"predictions": [7]}, r"task 0: annotations is \[7\], not a list of annotations"),
        ("label_studio:brush", {"rle": [1, 2]}, r"task 0: result 0: value.rle is cut off, or damaged"),
        ("label_studio:brush", {"rle": brush_rle(disc(3, 3, 2, 9, 9))}, r"holds 81 pixels, its picture 5124"),
        ("label_studio:brush", {"rle": [300]}, r"value.rle is \[300\], not a list of bytes"),
        ("label_studio", {"points": [[1, 2], ["x", 3]]}, r"value.points is 'x', not a number"),
        ("yolo", "9 0.1 0.1 0.5 0.5 0.1 0.5", r"line 1: unknown class '9'; there are 0, 1, 2"),
        ("yolo", "0 0.1 0.1 0.5 0.5 0.1 7", r"line 1: holds numbers outside of 0 to 1"),
        ("yolo", "0 0.1 0.1 nan 0.5 0.1 0.5", r"line 1: holds numbers outside of 0 to 1"),
        ("yolo", "0 0.1 x", r"line 1: holds '0.1 x', not numbers"),
        ("yolo", "0 0.1 0.1 0.3", r"has 3 numbers behind its class"),
    ],
)  # fmt: skip
def test_damaged_corrections_are_refused(
    tmp_path: Path, pictures: list[Picture], choice: str, change: Any, said: str
) -> None:
    out = write(tmp_path / "out", choice, pictures)
    if choice == "yolo":
        (out / "labels/sub/a b.txt").write_text(change)
    else:
        file = out / ("coco.json" if choice == "coco" else "tasks.json")
        content = json.loads(file.read_text())
        if choice == "coco":
            content["images"][0] |= change["images"]
        elif change.keys() & {"rle", "points"}:
            content[0]["predictions"][0]["result"][0]["value"] |= change
        else:
            content[0] |= change
        file.write_text(json.dumps(content))
    with pytest.raises(MaskDistillError, match=said):
        compared(out, pictures)


def test_what_is_in_no_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "export.zip").write_bytes(b"PK\x03\x04 and so on")
    (tmp_path / "notes.txt").write_text("x")
    for name, said in (
        ("export.zip", "a ZIP archive; unpack it"),
        ("notes.txt", "coco: a COCO JSON; label_studio: "),
    ):
        with pytest.raises(MaskDistillError, match=said):
            read_corrected(tmp_path / name, Losses(1.0))
    with pytest.raises(MaskDistillError, match="no such file or folder"):
        read_corrected(tmp_path / "nothing", Losses(1.0))
    assert [*READERS] == ["coco", "label_studio", "yolo"]


@pytest.mark.parametrize("choice", ["coco", "coco:polygons", "cvat"])
def test_what_is_written_is_ground_truth_of_the_evaluation(
    tmp_path: Path, pictures: list[Picture], choice: str
) -> None:
    """``data.annotations`` takes the file as it is; the objects themselves have an AP of 100 beside it."""
    out = write(tmp_path / "out", choice, pictures)
    file = out / ("annotations/instances_default.json" if choice == "cvat" else "coco.json")
    data = CocoData(kind="coco", images=str(tmp_path / "photos"), annotations=str(file))
    losses = Losses(0.0)
    names, truths = read_ground_truth(data, rows_of(pictures), losses)
    assert (names, losses.dropped) == ([*NAMES.values()], [])
    found = []
    for picture, truth in zip(pictures, truths, strict=True):
        assert truth.has_masks and truth.semantic is not None
        detections: Any = [
            {
                "category_id": item.category_id,
                "score": item.score,
                "bbox": item.box,
                "segmentation": item.mask,
            }
            for item in picture.objects
        ]
        objects: Any = [item._asdict() for item in truth.objects]
        found.append(image_instances(picture.image_id, detections, objects))
    result = average_precision(found)
    assert result.stats[0] == 1.0 and {label: ap[0] for label, ap in result.by_class.items()} == {
        1: 1,
        2: 1,
        3: 1,
    }
