"""Official datasets: downloaded or linked, lists rebuilt; on miniatures in the official layouts and on real
lists.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import official_miniature as official
import pytest
from range_server import RangeServer, serve

from maskdistill.cli import main
from maskdistill.config import CocoData, VocData
from maskdistill.data.ground_truth import read_ground_truth
from maskdistill.data.listing import iter_images
from maskdistill.data.manifest import ImageRow, ok_images, read_manifest
from maskdistill.data.official_datasets import BUILDS, BUILT_IMAGES, DATASETS
from maskdistill.data.splits import SPLITS, check_split, list_md5, make_train_aug, read_coco_names, read_list
from maskdistill.data.stream import read_roles
from maskdistill.data.truth_types import Losses
from maskdistill.formats.label_png import read_label_png
from maskdistill.runtime.errors import MaskDistillError

SHARED = Path(__file__).parents[2] / "shared/data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data (see its README)")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return official.archives()


def md5_of(name: str, files: dict[str, bytes]) -> dict[str, str]:
    return {file.name: hashlib.md5(files[file.name]).hexdigest() for file in DATASETS[name].files}


def get(folder: Path, name: str, keep: bool = False, **params: Any) -> int:
    options = ["--keep-archives"] if keep else []
    return main([
        "dataset", "--name", name, "--params", json.dumps(params), "--downloads", str(folder / "downloads"),
        "--output", str(folder / "datasets" / name / "dataset.json"), *options,
    ])  # fmt: skip


def build(folder: Path, name: str, *options: str) -> int:
    records = [str(folder / f"datasets/{dataset}/dataset.json") for dataset in BUILDS[name]]
    command = [
        "build_data",
        "--build",
        name,
        "--datasets",
        *records,
        "--output",
        str(folder / name),
        *options,
    ]
    return main(command) or main([*command, "--truth"])


def copies(folder: Path) -> dict[str, Path]:
    """Unpacked copies of all datasets, as a user may have them."""
    names = {"voc2007": official.voc2007(), "voc2012": official.voc2012(), "sbd": official.sbd()}
    found = {name: official.unpack(members, folder / name) for name, members in names.items()}
    for members in official.coco2014().values():
        found["coco2014"] = official.unpack(members, folder / "coco")
    found["coco20k"] = official.unpack({"coco_20k_filenames.txt": official.coco20k_names()}, folder / "lost")
    return found


def state(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Everything below a folder: time stamp, mode, content."""
    return {
        path.relative_to(folder).as_posix(): (
            path.lstat().st_mtime_ns, path.lstat().st_mode, path.read_bytes() if path.is_file() else b"",
        )
        for path in sorted(folder.rglob("*"))
    }  # fmt: skip


# ---------------------------------------------------------------- getting a dataset


@pytest.mark.parametrize("name", DATASETS)
def test_a_dataset_is_downloaded_unpacked_and_kept(
    tmp_path: Path, files: dict[str, bytes], name: str
) -> None:
    with serve(RangeServer(b"", files=files)) as server:
        mirror = server.url.rpartition("/")[0]
        assert get(tmp_path, name, mirror=mirror, md5=md5_of(name, files)) == 0
        asked = len(server.requests)
        record = tmp_path / f"datasets/{name}/dataset.json"
        first = json.loads(record.read_text())
        record.unlink()
        assert get(tmp_path, name, mirror=mirror, md5=md5_of(name, files)) == 0
        assert (
            asked == len(server.requests) == len(DATASETS[name].files)
        )  # what is unpacked is not fetched again
    assert json.loads(record.read_text()) == first
    assert all((record.parent / first["root"] / needed).exists() for needed in DATASETS[name].needed)
    assert {file: found["md5"] for file, found in first["files"].items()} == md5_of(name, files)
    assert not list((tmp_path / "downloads").iterdir())  # archives are removed


def test_archives_are_kept_on_request_and_used(tmp_path: Path, files: dict[str, bytes]) -> None:
    archive = tmp_path / "downloads/benchmark.tgz"
    archive.parent.mkdir()
    archive.write_bytes(files["benchmark.tgz"])  # put there by hand
    nowhere = "http://127.0.0.1:9/none"
    assert get(tmp_path, "sbd", keep=True, mirror=nowhere, md5=md5_of("sbd", files)) == 0
    assert archive.read_bytes() == files["benchmark.tgz"]


def test_a_cut_download_is_continued(tmp_path: Path, files: dict[str, bytes], capsys: Any) -> None:
    with serve(RangeServer(b"", files=files, cuts=[5000])) as server:
        mirror = server.url.rpartition("/")[0]
        assert get(tmp_path, "voc2007", mirror=mirror, md5=md5_of("voc2007", files)) == 1
        assert "cut after 5,000 of" in capsys.readouterr().err
        assert get(tmp_path, "voc2007", mirror=mirror, md5=md5_of("voc2007", files)) == 0
    assert server.requests == ["", "bytes=5000-"]


def test_an_unknown_checksum_is_told(tmp_path: Path, files: dict[str, bytes]) -> None:
    log = tmp_path / "log"
    found = md5_of("coco2014", files)
    known = {"train2014.zip": found["train2014.zip"]}
    with serve(RangeServer(b"", files=files)) as server:
        params = json.dumps({"mirror": server.url.rpartition("/")[0], "md5": known})
        places = ["--downloads", str(tmp_path / "downloads"), "--output", str(tmp_path / "coco/dataset.json")]
        assert main(["dataset", "--name", "coco2014", "--params", params, *places, "--log", str(log)]) == 0
    assert f"no checksum is known; its MD5 is {found['annotations_trainval2014.zip']}" in log.read_text()
    record = json.loads((tmp_path / "coco/dataset.json").read_text())["files"]
    assert [record[name]["checked"] for name in ("train2014.zip", "annotations_trainval2014.zip")] == [
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("content", "content_type", "message"),
    [
        (official.as_tar({"VOCdevkit/../../evil": b"x"}), "", "'VOCdevkit/../../evil' leads outside"),
        (official.as_tar(official.voc2007() | {"other/evil": b"x"}), "", "'other/evil' does not lie below "
        "VOCdevkit/"),
        (official.as_tar(official.voc2007())[:8_000], "", "cut short or damaged"),
        (official.as_tar({"VOCdevkit/VOC2007/JPEGImages/a.jpg": b"x"}), "", "lacks Annotations, "
        "ImageSets/Main/"),
        (b"<!DOCTYPE html><html>moved</html>", "", "answered with a web page"),
        (b"<html>moved</html>", "text/html", "answers with a web page"),
        (b"no archive", "", "cut short or damaged"),
    ],
    ids=["zip-slip", "unexpected", "truncated", "incomplete", "html", "html-type", "text"],
)  # fmt: skip
def test_wrong_archives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, content_type: str, message: str
) -> None:
    kind = content_type or "application/octet-stream"
    with serve(RangeServer(content, content_type=kind)) as server:
        md5 = {"VOCtrainval_06-Nov-2007.tar": hashlib.md5(content).hexdigest()}
        assert get(tmp_path, "voc2007", mirror=server.url.rpartition("/")[0], md5=md5) == 1
    told = capsys.readouterr().err
    assert message in told and "Traceback" not in told
    assert not (tmp_path / "datasets/voc2007/dataset.json").exists() and not list(tmp_path.rglob("evil"))


def test_a_wrong_md5(tmp_path: Path, files: dict[str, bytes], capsys: pytest.CaptureFixture[str]) -> None:
    """The published sum is the one that is compared unless the configuration gives another."""
    with serve(RangeServer(b"", files=files)) as server:
        assert get(tmp_path, "voc2012", mirror=server.url.rpartition("/")[0]) == 1
    told = capsys.readouterr().err
    assert (
        "wrong checksum: MD5 of what" in told
        and "6cd6e144f989b92b3379bac3b3de84fd" in told
        and "discarded" in told
    )
    assert get(tmp_path, "voc2012", md5={"other.tar": "0" * 32}) == 1
    assert (
        "datasets.voc2012.md5: other.tar is none of its files (VOCtrainval_11-May-2012.tar)"
        in capsys.readouterr().err
    )
    assert get(tmp_path, "voc2012", md5={"other.tar": "0"}) == 1
    assert "md5.other.tar" in capsys.readouterr().err


@pytest.mark.parametrize("below", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_a_copy_is_found_where_it_lies(tmp_path: Path, below: str) -> None:
    copy = copies(tmp_path / "mine")["voc2012"]
    assert get(tmp_path, "voc2012", path=str(copy / below)) == 0
    record = json.loads((tmp_path / "datasets/voc2012/dataset.json").read_text())
    assert record["root"] == str(copy / "VOCdevkit/VOC2012")


def test_a_copy_that_is_not_complete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = copies(tmp_path / "mine")["voc2012"]
    (copy / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt").unlink()
    assert get(tmp_path, "voc2012", path=str(copy)) == 1
    told = capsys.readouterr().err
    assert (
        "datasets.voc2012:" in told and "not a complete copy: ImageSets/Segmentation/val.txt missing" in told
    )
    assert get(tmp_path, "voc2012", path=str(tmp_path / "none")) == 1
    assert "none: no such folder; give the folder of a copy, or leave path out" in capsys.readouterr().err


# ---------------------------------------------------------------- building


def linked(tmp_path: Path, names: tuple[str, ...], **other: Path) -> dict[str, Path]:
    """Records of copies."""
    found = copies(tmp_path / "mine") | other
    for name in names:
        assert get(tmp_path, name, path=str(found[name])) == 0
    return found


def test_voc_is_built_from_copies_that_stay_as_they_are(tmp_path: Path) -> None:
    linked(tmp_path, BUILDS["voc"])
    before = state(tmp_path / "mine")
    assert build(tmp_path, "voc", "--any-lists") == 0
    assert state(tmp_path / "mine") == before
    built = tmp_path / "voc"
    expected = {
        "Main/trainval2007": official.VOC2007, "Main/trainval2012": official.MAIN2012,
        "Main/trainval": [*official.VOC2007, *official.MAIN2012], "Segmentation/train": official.SEG_TRAIN,
        "Segmentation/val": official.SEG_VAL,
        "Segmentation/trainval": sorted(official.SEG_TRAIN + official.SEG_VAL),
        "Segmentation/train_aug": official.TRAIN_AUG,
    }  # fmt: skip
    assert {name: read_list(built / f"ImageSets/{name}.txt") for name in expected} == expected
    data = VocData(kind="voc", root=str(built), train_list="Main/trainval", eval_list="Segmentation/val")
    images = list(iter_images(data))
    assert {image.key for image in images if image.train} == {*official.VOC2007, *official.MAIN2012}
    assert data.scored_keys() == set(official.SEG_VAL)
    listed = {*official.VOC2007, *official.MAIN2012, *official.TRAIN_AUG, *official.SEG_VAL}
    links = sorted((built / "JPEGImages").iterdir())
    assert [link.stem for link in links] == sorted(listed)  # not the pictures that no list names
    assert all(link.is_symlink() and link.read_bytes().startswith(b"\xff\xd8") for link in links)
    # labels: VOC2012's own where there are any, SBD's for the rest of train_aug, none else
    maps = {path.stem: int(read_label_png(path).max()) for path in (built / "SegmentationClass").iterdir()}
    own = dict.fromkeys(official.SEG_TRAIN + official.SEG_VAL, 12)
    assert maps == dict.fromkeys(official.TRAIN_AUG, 8) | own
    assert (read_label_png(built / "SegmentationClass/2010_000001.png") == official.labels(8)).all()
    rows = [
        ImageRow(i, image.key, str(image.path), 48, 40, 0)
        for i, image in enumerate(images)
        if image.key in official.SEG_VAL
    ]
    truths = list(read_ground_truth(data, rows, Losses(0))[1])
    assert [[item.category_id for item in truth.objects] for truth in truths] == [[12], [12]]


def test_downloaded_data_is_linked_relatively(
    tmp_path: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the project's folder may be moved."""
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    here = Path("resources")
    with serve(RangeServer(b"", files=files)) as server:
        for name in BUILDS["voc"]:
            assert get(here, name, mirror=server.url.rpartition("/")[0], md5=md5_of(name, files)) == 0
    assert build(here, "voc", "--any-lists") == 0
    moved = tmp_path / "moved"
    project.rename(moved)
    links = list((moved / "resources/voc/JPEGImages").iterdir())
    assert len(links) == 11 and all(not os.path.isabs(os.readlink(link)) and link.is_file() for link in links)


def test_coco20k_is_built(tmp_path: Path) -> None:
    linked(tmp_path, BUILDS["coco20k"])
    assert build(tmp_path, "coco20k", "--any-lists") == 0
    built = tmp_path / "coco20k"
    names = {kind: sorted(path.name for path in (built / kind).iterdir()) for kind in ("images", "support")}
    assert names == {
        "images": [f"COCO_train2014_{number:012d}.jpg" for number in sorted(official.COCO20K)],
        "support": [f"COCO_train2014_{number:012d}.jpg" for number in sorted(official.COCO_OTHERS)],
    }
    content = json.loads((built / "truth/instances.json").read_text())
    assert sorted(image["id"] for image in content["images"]) == sorted(official.COCO20K)
    assert sorted(item["image_id"] for item in content["annotations"]) == sorted(official.COCO20K)
    data = CocoData(
        kind="coco", images=str(built / "images"), annotations=str(built / "truth/instances.json")
    )
    rows = [ImageRow(i, image.key, str(image.path), 48, 40, 0) for i, image in enumerate(iter_images(data))]
    categories, truths = read_ground_truth(data, rows, Losses(0))
    assert categories == ["dog"]
    assert [len(truth.objects) for truth in truths] == [1, 1, 1]


@pytest.mark.parametrize("name", BUILDS)
def test_other_lists_than_the_published_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    linked(tmp_path, BUILDS[name])
    assert build(tmp_path, name) == 1
    told = capsys.readouterr().err
    first, published = {"voc": ("VOC2007 Main/trainval", "5,011"), "coco20k": ("COCO20k", "19,817")}[name]
    assert f"{first}: 3 images" in told and f"the published list has {published}" in told
    assert "datasets.check_lists" in told and not (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("name", "lost", "message"),
    [
        (
            "voc",
            "voc2012/VOCdevkit/VOC2012/JPEGImages/2010_000001.jpg",
            "2010_000001.jpg is missing, and 0 others",
        ),
        ("voc", "voc2012/VOCdevkit/VOC2012/SegmentationObject/2007_000033.png", "2007_000033.png is missing"),
        ("voc", "sbd/benchmark_RELEASE/dataset/cls/2008_000004.mat", "2008_000004.mat: no such file"),
        ("coco20k", "coco/train2014/COCO_train2014_000000000036.jpg", "000000000036.jpg is missing"),
    ],
)
def test_files_that_are_listed_and_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, lost: str, message: str
) -> None:
    linked(tmp_path, BUILDS[name])
    (tmp_path / "mine" / lost).unlink()
    assert build(tmp_path, name, "--any-lists") == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / name).exists() or not (tmp_path / name / "truth").exists()


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("voc", "voc2012/VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt", b"\n", "lists no image"),
        ("voc", "sbd/benchmark_RELEASE/dataset/val.txt", b"a\nb\na\n", "lists 'a' twice"),
        ("voc", "sbd/benchmark_RELEASE/dataset/val.txt", b"\xff\xfe", "not a text file"),
        ("voc", "sbd/benchmark_RELEASE/dataset/cls/2008_000004.mat", b"<html>", "not a label map of SBD"),
        ("coco20k", "lost/coco_20k_filenames.txt", b"val2014/COCO_val2014_000000000042.jpg\n", "is no name "
        "such as"),
        ("coco20k", "coco/annotations/instances_train2014.json", b"{}", "not a COCO instances JSON"),
        ("coco20k", "coco/annotations/instances_train2014.json", b'{"images": [7], "annotations": [], '
        b'"categories": 0}',
         "not train2014's"),
        ("coco20k", "coco/annotations/instances_train2014.json",
         b'{"images": [], "annotations": [], "categories": []}', "has no entry for image 9"),
    ],
)  # fmt: skip
def test_damaged_lists(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, file: str, content: bytes, message: str
) -> None:
    linked(tmp_path, BUILDS[name])
    (tmp_path / "mine" / file).write_bytes(content)
    assert build(tmp_path, name, "--any-lists") == 1
    told = capsys.readouterr().err
    assert message in told and Path(file).name in told and "Traceback" not in told


def test_a_record_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    linked(tmp_path, ("voc2012",))
    record = str(tmp_path / "datasets/voc2012/dataset.json")
    assert (
        main(["build_data", "--build", "voc", "--datasets", record, "--output", str(tmp_path / "voc")]) == 1
    )
    assert "voc is built from voc2007, sbd too" in capsys.readouterr().err


def test_ground_truth_is_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What unsupervised stages need is built without opening a label."""
    found = linked(tmp_path, BUILDS["voc"])
    records = [str(tmp_path / f"datasets/{dataset}/dataset.json") for dataset in BUILDS["voc"]]
    command = ["build_data", "--build", "voc", "--datasets", *records, "--output", str(tmp_path / "voc")]
    assert main([*command, "--truth"]) == 1
    assert "nothing is built there; run the same command without --truth first" in capsys.readouterr().err
    for labels in (
        *found["sbd"].rglob("*.mat"),
        *found["voc2012"].rglob("*.png"),
        *found["voc2012"].rglob("*.xml"),
    ):
        labels.unlink()
    assert main([*command, "--any-lists"]) == 0
    assert sorted(path.name for path in (tmp_path / "voc").iterdir()) == [
        "ImageSets",
        "JPEGImages",
        "build.json",
    ]


def test_the_segmenter_may_learn_from_a_list_of_its_own(tmp_path: Path) -> None:
    """The paper's: detector and K-means on Main/trainval of both years, DeepLab on train_aug, scores on
    val.
    """
    linked(tmp_path, BUILDS["voc"])
    assert build(tmp_path, "voc", "--any-lists") == 0
    data = {"kind": "voc", "root": str(tmp_path / "voc"), "segmenter_list": "Segmentation/train_aug"}
    path = tmp_path / "manifest.csv"
    assert main(["manifest", "--params", json.dumps(data), "--num-shards", "2", "--output", str(path)]) == 0
    table = read_manifest(path)
    lists = {
        "train": [*official.VOC2007, *official.MAIN2012],
        "segmenter": official.TRAIN_AUG,
        "eval": set(official.SEG_VAL) - {*official.VOC2007, *official.MAIN2012, *official.TRAIN_AUG},
    }
    for role, names in lists.items():
        assert ok_images(table, **{role: True})["key"].tolist() == sorted(names)
    assert len(table) == 11 == len(ok_images(table, support=False))  # none is taken for the support set
    shard = read_manifest(path, 1)
    assert shard["segmenter"].tolist() == [key in official.TRAIN_AUG for key in shard["key"]]
    roles = read_roles(path)
    fitted = [key for key, used in zip(table["key"], roles.fitted, strict=True) if used]
    assert fitted == sorted(lists["train"])


# ---------------------------------------------------------------- the published lists


def test_train_aug_by_hand() -> None:
    found = make_train_aug(official.SEG_TRAIN, official.SEG_VAL, official.SBD_TRAIN, official.SBD_VAL)
    assert found == official.TRAIN_AUG


def test_a_list_of_right_length_and_wrong_names() -> None:
    names = [f"2007_{number:06d}" for number in range(1_449)]
    with pytest.raises(MaskDistillError, match=r"1,449 images with MD5 \w{32}, .* 1,449 with MD5 5510db06"):
        check_split("VOC2012 Segmentation/val", names)
    free = [f"2007_{number:06d}" for number in range(1_464)]  # only its count is known
    assert check_split("VOC2012 Segmentation/train", free) == list_md5(free)
    assert list_md5(["a", "b"]) == hashlib.md5(b"a\nb\n").hexdigest()


def test_counts_fit_together() -> None:
    """[method §0.1, §0.2]: 16,551 to train on, 313 of train_aug and 327 of val outside them, the two
    disjoint.
    """
    count = {name: split.images for name, split in SPLITS.items()}
    assert count["VOC2012 Main/trainval"] + count["VOC2007 Main/trainval"] == 16_551
    assert BUILT_IMAGES["voc"] == (16_551 + 313 + 327, 0)
    assert BUILT_IMAGES["coco20k"] == (count["COCO20k"], count["COCO train2014"] - count["COCO20k"])
    segmentation = {part: count[f"VOC2012 Segmentation/{part}"] for part in ("train", "val", "trainval")}
    assert segmentation["train"] + segmentation["val"] == segmentation["trainval"] == 2_913


@needs_shared
def test_coco20k_equals_the_published_list() -> None:
    path = SHARED / "fixtures/lost/coco_20k_filenames.txt"
    assert hashlib.md5(path.read_bytes()).hexdigest() == DATASETS["coco20k"].files[0].md5
    assert path.stat().st_size == DATASETS["coco20k"].files[0].size
    numbers = read_coco_names(path)
    assert (len(numbers), numbers[0], numbers[-1]) == (19_817, 36, 581_860)
    assert check_split("COCO20k", [str(number) for number in numbers]) == "59f1ad3849e029a24d2ccb3436e5420d"


@needs_shared
def test_voc2007_equals_the_images_of_lost() -> None:
    boxes = json.loads((SHARED / "fixtures/lost/voc2007_boxes_xyxy.json").read_text())
    check_split("VOC2007 Main/trainval", sorted(Path(name).stem for name in boxes))


@needs_shared
def test_the_real_excerpt_of_voc2007_stands_for_the_whole(tmp_path: Path) -> None:
    """Real files in the real layout: linked, listed, with the pictures' own bytes."""
    real = SHARED / "voc2007"
    linked(tmp_path, BUILDS["voc"], voc2007=real)
    assert build(tmp_path, "voc", "--any-lists") == 0
    wanted = read_list(real / "VOC2007/ImageSets/Main/trainval.txt")
    assert read_list(tmp_path / "voc/ImageSets/Main/trainval2007.txt") == wanted and len(wanted) == 473
    first = tmp_path / f"voc/JPEGImages/{wanted[0]}.jpg"
    assert np.array_equal(
        np.frombuffer(first.read_bytes(), np.uint8),
        np.frombuffer((real / f"VOC2007/JPEGImages/{wanted[0]}.jpg").read_bytes(), np.uint8),
    )
