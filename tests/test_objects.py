"""Objects of a run's own photographs: which are kept, where they are written, and what is never replaced."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported import HEIGHT, WIDTH, disc, record
from pycocotools.coco import COCO
from synthetic_run import Synthetic

from maskdistill.cli import main
from maskdistill.cli.show import objects_line
from maskdistill.config import ObjectsConfig
from maskdistill.data.manifest import ImageRow, image_rows, read_manifest
from maskdistill.formats import rle
from maskdistill.formats.export.coco import FORMAT
from maskdistill.formats.written import ObjectsRecord, read_objects
from maskdistill.product.objects import Choice, chosen_formats, pictures, relative_name, without_doubles
from maskdistill.report.files import files_section, own_files
from maskdistill.report.html import render
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import write_json
from maskdistill.runtime.json_stream import read_array, write_json_object


def test_no_two_objects_cover_the_same_whatever_their_categories() -> None:
    rng = np.random.default_rng(0)
    objects = [record(disc(*rng.uniform(15, 45, 2), rng.uniform(5, 14)), 1 + i % 3, 0.9) for i in range(40)]
    masks = [rle.decode(item.mask) for item in objects]
    kept: list[int] = []
    for place, mask in enumerate(masks):
        if all((mask & masks[other]).sum() <= 0.5 * (mask | masks[other]).sum() for other in kept):
            kept.append(place)
    assert without_doubles(objects, 0.5) == [objects[place] for place in kept] and len(kept) < 40
    assert without_doubles(objects[:1] * 2, 0.5) == objects[:1] and without_doubles([], 0.5) == []


def row(number: int, key: str, file: str) -> ImageRow:
    return ImageRow(number, key, file, WIDTH, HEIGHT, 0)


def test_pictures_keep_their_order_their_names_and_what_is_chosen() -> None:
    rows = [row(2, "a", "/p/a.jpg"), row(3, "b.png", "/p/b.png"), row(5, "c/d~2", "/p/c/d.JPG")]
    assert [relative_name(one) for one in rows] == ["a.jpg", "b.png", "c/d~2.JPG"]
    found = [
        {
            "image_id": number,
            "category_id": 1,
            "score": score,
            "segmentation": rle.encode(disc(20, 20, radius)),
        }
        for number, score, radius in ((2, 0.9, 9), (2, 0.8, 2), (2, 0.3, 9), (5, 0.7, 9))
    ]
    made = list(pictures(rows, found, {1: "x"}, Choice(0.5, "ge", min_area=20)))
    assert [[item.score for item in picture.objects] for picture in made] == [[0.9], [], [0.7]]
    assert made[0].objects[0].box == (11, 11, 19, 19) and made[0].objects[0].area == disc(20, 20, 9).sum()
    with pytest.raises(MaskDistillError, match=r"candidates of image 5, which the manifest does not list"):
        list(pictures(rows[:2], found, {1: "x"}, Choice(0.5, "ge")))


def test_an_array_is_read_item_by_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maskdistill.runtime.json_stream.CHUNK", 7)
    items = [{"a": number, "b": "]},{" * (number % 5)} for number in range(30)]
    for chosen in (items, []):
        with write_json_object(tmp_path / "x.json") as content:
            with content.array("items") as append:
                for item in chosen:
                    append(item)
            content.value("more", [1])
        assert list(read_array(tmp_path / "x.json", "items")) == chosen
    (tmp_path / "cut.json").write_text('{"items":[{"a":1},{"a"')
    for name in ("more", "items"):
        with pytest.raises(ValueError, match=r"its first key is not 'more'|the array 'items' has no end"):
            list(read_array(tmp_path / "cut.json", name))


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A finished run of six photographs, each with a disc (0.95), a square (0.75, which is tau) and a
    doubtful one.
    """
    return Synthetic(tmp_path / "run").finish({"0": "mug"})


def test_a_runs_own_photographs_get_their_files(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["objects", str(finished), "--format", "coco,yolo"]
    assert (
        objects_line(finished)
        == f"objects: maskdistill objects {finished} --format coco,yolo (or cvat, label_studio, ...)"
    )
    assert main(command) == 0
    lines = [f"objects: {finished}/objects/{name} (12 objects, 6 pictures)" for name in ("coco", "yolo")]
    assert objects_line(finished) == "\n".join(lines)
    coco = COCO(str(finished / "objects/coco/coco.json"))
    rows = image_rows(read_manifest(finished / "data/manifest.csv"))[:6]
    assert [image["file_name"] for image in coco.imgs.values()] == [f"{one.key}.png" for one in rows]
    assert [one["score"] for one in coco.anns.values()] == [0.95, 0.75] * 6, (
        "of those at tau, the run's compare is ge"
    )
    assert [category["name"] for category in coco.cats.values()] == ["mug", "cluster-01", "cluster-02"]
    link = finished / f"objects/yolo/images/{rows[2].key}.png"
    assert link.is_symlink() and link.read_bytes() == Path(rows[2].file).read_bytes()
    summary = json.loads((finished / "objects/objects.json").read_text())
    assert (summary["pictures"], summary["objects"]) == (6, {"mug": 6, "cluster-01": 6})
    assert summary["formats"] == ["coco", "yolo"]

    before = {path: path.stat().st_mtime_ns for path in finished.rglob("objects/*/*")}
    (finished / "objects/objects.json").unlink()
    label = finished / f"objects/yolo/labels/{rows[0].key}.txt"
    label.write_text("corrected by hand")
    assert main(command) == 0 and label.read_text() == "corrected by hand"
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("objects/*/*")} == before
    after = json.loads((finished / "objects/objects.json").read_text())
    assert after["folders"]["yolo"] == summary["folders"]["yolo"] | {"changed": True}
    assert objects_line(finished) == "\n".join([lines[0], f"{lines[1]}: changed by hand, kept"])
    assert after["folders"]["coco"] == summary["folders"]["coco"] and after["objects"] == summary["objects"]

    assert main([*command, "--min-score=0.9"]) == 1
    assert "objects/yolo: was changed since it was written" in capsys.readouterr().err
    assert main(["objects", str(finished), "--min-score=0.9"]) == 0, "of coco nothing was changed"
    coco = COCO(str(finished / "objects/coco/coco.json"))
    assert [one["score"] for one in coco.anns.values()] == [0.95] * 6


def test_corrected_objects_come_back(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One object removed, a category renamed; what is written for ``data.annotations`` is what was
    corrected.
    """
    assert main(["objects", str(finished), "--format", "label_studio,coco"]) == 0
    file = finished / "objects/label_studio/tasks.json"
    tasks = json.loads(file.read_text().replace('"mug"', '"cup"'))
    del tasks[3]["predictions"][0]["result"][0]
    (tmp_path / "export.json").write_text(json.dumps(tasks[:5]))
    command = [
        "compare",
        str(finished),
        str(tmp_path / "export.json"),
        "--coco",
        str(tmp_path / "truth.json"),
    ]
    assert main([*command, "--log", str(tmp_path / "log")]) == 0
    found = json.loads((finished / "compare.json").read_text())
    assert (found["pictures"], found["run_pictures"], found["untouched"], found["format"]) == (
        5,
        6,
        0,
        "label_studio",
    )
    assert (found["objects"]["run"], found["objects"]["removed"], found["objects"]["mean_iou"]) == (
        10,
        1,
        1.0,
    )
    assert found["renamed"] == {"mug": "cup"} and found["unknown_categories"] == {"cup": 4}
    assert (
        found["provenance"]["params"] | {"min_score": 0.75, "compare": "ge"} == found["provenance"]["params"]
    )
    said = (tmp_path / "log").read_text()
    assert "5 of the run's 6 pictures compared, 0 unchanged" in said and "renamed: mug is now cup" in said
    coco = COCO(str(tmp_path / "truth.json"))
    assert len(coco.anns) == 9 and {one["name"] for one in coco.cats.values()} == {"cup", "cluster-01"}
    (tmp_path / "export.json").write_text("[]")
    assert main(command) == 1 and "none of its 0 pictures is one of" in capsys.readouterr().err


def line_of(run: Path, name: str) -> str:
    """What a terminal says of a format's folder."""
    (line,) = (line for line in objects_line(run).splitlines() if f"/{name} (" in line)
    return line


def stage(run: Path, names: Path | None = None, tau: float = 0.75, **objects: Any) -> ObjectsRecord:
    """The rule's command, after Snakemake has deleted its output; what it wrote."""
    record, seed = run / "objects/objects.json", run / "topk-0.4/k-3/seed-11"
    record.unlink(missing_ok=True)
    params = {"objects": objects, "pseudo_labels": {"tau": tau, "compare": "ge"}}
    shards = [str(seed / f"candidates/shard-000{shard}.json") for shard in (1, 0)]
    given = [f"--manifest={run}/data/manifest.csv", f"--clusters={seed}/clusters.json", f"--output={record}"]
    given += [f"--params={json.dumps(params)}", *([f"--names={names}"] if names else [])]
    assert main(["own_objects", *given, "--candidates", *shards]) == 0
    return read_objects(record)


def test_the_rule_writes_what_the_command_does(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tmp_path / "names.yaml"
    names.write_text("names: {0: mug}\nsizes: [0, 4, 1]\n")
    section = {"formats": ["coco:polygons", "yolo"], "simplify": 2, "class_agnostic_nms": 0.6, "min_area": 5}
    stage(finished, names, **section)
    options = ["--format=coco:polygons,yolo", "--simplify=2", "--class-agnostic-nms=0.6", "--min-area=5"]
    assert main(["objects", str(finished), *options, "--out", str(tmp_path / "by-hand")]) == 0
    rule, hand = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (finished / "objects", tmp_path / "by-hand")
    )
    assert rule == hand and len(rule) > 20
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("objects/*/*")}
    assert main(["objects", str(finished), "--format=geojson"]) == 0, (
        "by hand another format comes beside them"
    )
    record = stage(finished, names, **section)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert record["formats"] == ["coco", "geojson", "yolo"] and record["folders"]["geojson"]["current"]
    assert record["folders"]["yolo"]["current"] and "earlier" not in line_of(finished, "geojson")
    names.write_text("names: {0: cup}\nsizes: [0, 4, 1]\n")
    folder = stage(finished, names, **section)["folders"]
    assert {name: one["current"] for name, one in folder.items()} == {
        "coco": True, "geojson": False, "yolo": True,
    }  # fmt: skip
    assert line_of(finished, "geojson").endswith(": of an earlier state of the run")
    names.write_text("names: {0: mug}\nsizes: [4, 0, 1]\n")
    assert stage(finished, names, formats=[])["objects"] == {"cluster-00": 6, "cluster-01": 6}
    assert "names of another clustering; they are not used" in capsys.readouterr().err


@pytest.mark.parametrize("corrected", [False, True])
def test_a_format_written_by_hand_is_of_the_tau_of_then(
    finished: Path, tmp_path: Path, corrected: bool
) -> None:
    """Which the section does not name, so that no run writes it anew."""
    names = tmp_path / "names.yaml"
    names.write_text("names: {0: mug}\nsizes: [0, 4, 1]\n")
    assert main(["objects", str(finished), "--format=geojson", "--min-area=5"]) == 0
    if corrected:
        file = sorted((finished / "objects/geojson").rglob("*.geojson"))[0]
        file.write_text(file.read_text() + "\n")
    assert stage(finished, names)["folders"]["geojson"]["current"]
    folder = stage(finished, names, tau=0.9)["folders"]["geojson"]
    assert (folder["current"], folder["changed"]) == (False, corrected)
    assert line_of(finished, "geojson").endswith(
        "changed by hand, kept; the run has other objects now"
        if corrected
        else "of an earlier state of the run"
    )
    assert stage(finished, names)["folders"]["geojson"]["current"]


def test_the_rule_keeps_what_was_corrected(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert stage(finished)["folders"]["coco"] == {
        "reader": FORMAT.reader, "pictures": 6, "objects": 12, "current": True, "changed": False,
    }  # fmt: skip
    file = finished / "objects/coco/coco.json"
    written = file.read_bytes()
    file.write_text("corrected by hand")
    record = stage(finished, min_score=0.9)
    assert file.read_text() == "corrected by hand"
    assert record["objects"] == {"cluster-00": 6}, "what the run has now"
    assert record["folders"]["coco"]["changed"] and not record["folders"]["coco"]["current"]
    said = capsys.readouterr().err
    assert f"WARNING {finished}/objects/coco: was changed since it was written" in said
    assert f"move it elsewhere and give maskdistill objects {finished}" in said
    assert objects_line(finished).endswith("changed by hand, kept; the run has other objects now")
    assert stage(finished)["folders"]["coco"]["current"], "made from what the run has, and then corrected"
    file.parent.rename(finished / "mine")
    assert not stage(finished)["folders"]["coco"]["changed"] and file.read_bytes() == written
    file.parent.rename(finished / "again")
    file.parent.mkdir()
    (file.parent / "notes.txt").write_text("mine")
    (finished / "objects/.coco.json").unlink()
    assert stage(finished)["folders"]["coco"] == record["folders"]["coco"] | {
        "pictures": None,
        "objects": None,
    }
    assert (file.parent / "notes.txt").read_text() == "mine"


def test_a_kill_is_no_correction(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between a folder and its record: the next job knows the folder for its own."""
    stage(finished)

    def killed(path: Path, value: Mapping[str, Any]) -> None:
        if "key" in value:
            raise KeyboardInterrupt
        write_json(path, value)

    monkeypatch.setattr("maskdistill.product.objects.write_json", killed)
    with pytest.raises(AssertionError):
        stage(finished, min_score=0.9)
    monkeypatch.undo()
    for objects in ({"min_score": 0.8}, {}):
        folder = stage(finished, **objects)["folders"]["coco"]
        assert folder["current"] and not folder["changed"]


def test_pictures_keep_their_names_with_their_endings(finished: Path) -> None:
    """In every format, wherever one names a picture."""
    formats = ["coco", "voc", "label_studio", "cvat", "huggingface", "fiftyone", "yolo", "geojson"]
    stage(finished, formats=formats)
    names = [Path(row.file).name for row in image_rows(read_manifest(finished / "data/manifest.csv"))[:6]]
    for name in formats:
        files = [path for path in (finished / "objects" / name).rglob("*") if path.is_file()]
        said = "\n".join([*map(str, files), *(path.read_text() for path in files if path.suffix in TEXTS)])
        assert [one for one in names[1:] if one not in said] == [], name


TEXTS = (".json", ".jsonl", ".xml", ".txt", ".geojson")


def test_the_report_links_the_files(finished: Path) -> None:
    record = stage(finished)
    files = own_files(record, str(finished / "objects/objects.json"), str(finished / "report.html"))
    section = files_section(files)
    assert (section["objects"], section["pictures"], section["run"]) == ("12", "6", str(finished))
    assert [(row["folder"], row["objects"], row["remark"]) for row in section["rows"]] == [
        ("objects/coco/", "12", "")
    ]
    assert files_section(None) == {}
    section["rows"] += [section["rows"][0] | {"name": "yolo"}]
    said = render("sections/objects", {"objects": section})
    assert "Further formats (cvat, label_studio, voc" in said and "--format cvat" in said


def test_a_format_that_there_is_not_is_refused() -> None:
    assert chosen_formats(ObjectsConfig(formats=[])) == []
    with pytest.raises(MaskDistillError, match=r"objects\.formats kitti: unknown; there are coco, cvat,"):
        chosen_formats(ObjectsConfig(formats=["coco", "kitti"]))


def test_equal_runs_give_equal_bytes(finished: Path, tmp_path: Path) -> None:
    command = [
        "objects",
        str(finished),
        "--format=coco:polygons,yolo,voc,label_studio,cvat,geojson,huggingface,fiftyone",
    ]
    found = []
    for name in ("one", "two"):
        assert main([*command, "--pictures=copy", "--simplify=2", "--out", str(tmp_path / name)]) == 0
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        found.append({path.relative_to(tmp_path / name): path.read_bytes() for path in files})
    assert found[0] == found[1] and len(found[0]) > 60
