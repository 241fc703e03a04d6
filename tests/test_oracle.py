"""What the oracle makes perfect, against slow references; its marks, and who refuses them; its table."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from maskdistill.cli import main
from maskdistill.clusters.assignments import open_assignments
from maskdistill.config import CocoData, Config, SegmenterConfig, load_config
from maskdistill.data.manifest import image_rows, ok_images, read_manifest, write_manifest
from maskdistill.data.scenes import CATEGORIES, generate_scene
from maskdistill.data.truth_check import count_classes
from maskdistill.evaluation.ground_truth import TruthImage
from maskdistill.evaluation.oracle import CASES, best_objects, perfect_masks
from maskdistill.formats import rle
from maskdistill.formats.label_png import read_label_png
from maskdistill.product.trained_run import find_models
from maskdistill.report import oracle
from maskdistill.report.scores import Evaluation, read_evaluation
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import read_json, write_json
from maskdistill.runtime.provenance import make_provenance
from maskdistill.training.checkpoint import save_model, training_provenance

SIDE = 24
VALUES: dict[str, Any] = {
    "run": "r", "seeds": [3, 1], "data": {"kind": "scenes"}, "backbone": {"weights": "random"},
    "detector": {"weights": "random"}, "segmenter": {"weights": "random"},
}  # fmt: skip


def block(top: int, left: int, height: int, width: int) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[top : top + height, left : left + width] = True
    return mask


def test_the_best_object_is_that_of_the_highest_iou() -> None:
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 14, (24, 2)).tolist()
    shapes = [block(top, left, *rng.integers(2, 8, 2)) for top, left in corners]
    masks, objects = shapes[:18], shapes[18:]
    expected = []
    for mask in masks:
        overlaps = [(mask & other).sum() / (mask | other).sum() for other in objects]
        expected.append(int(np.argmax(overlaps)) if max(overlaps) > 0 else -1)
    assert -1 in expected and len(set(expected)) > 3
    codes = [rle.encode(shape) for shape in shapes]
    assert best_objects(codes[:18], codes[18:]).tolist() == expected
    assert best_objects(codes[:3], []).tolist() == [-1, -1, -1] and best_objects([], codes).shape == (0,)


def annotation(mask: np.ndarray, category: int, crowd: int = 0) -> dict[str, Any]:
    code = rle.encode(mask)
    return {"category_id": category, "bbox": [0, 0, 1, 1], "area": 1, "iscrowd": crowd, "segmentation": code}


def record(mask: np.ndarray, number: int = 7) -> dict[str, Any]:
    code = rle.encode(mask)
    return {
        "image_id": number, "key": "k", "segmentation": code, "bbox": rle.bbox(code), "area": rle.area(code),
        "score": 1.0, "source_patch": [0, 1], "coverage": 0.5,
    }  # fmt: skip


def truth_image(*objects: dict[str, Any], has_masks: bool = True) -> TruthImage:
    return TruthImage(7, "k", SIDE, SIDE, has_masks, True, True, objects)


def test_what_is_made_perfect() -> None:
    """Of four found masks two lie best on one object, one on nothing, one in a crowd alone."""
    small, large, unseen = block(2, 2, 6, 6), block(10, 2, 8, 8), block(2, 12, 3, 3)
    crowd = block(16, 16, 8, 8)
    image = truth_image(
        annotation(small, 2), annotation(crowd, 1, crowd=1), annotation(large, 3), annotation(unseen, 1)
    )
    found = [
        record(mask)
        for mask in (block(9, 2, 8, 8), block(20, 20, 2, 2), block(12, 4, 3, 3), block(3, 2, 6, 6))
    ]

    def made(case: str) -> list[tuple[list[list[bool]], int | None]]:
        records = perfect_masks(found, image, CASES[case])
        for item in records:
            assert item["bbox"] == rle.bbox(item["segmentation"]) and item["area"] == rle.area(
                item["segmentation"]
            )
            assert (item["image_id"], item["key"], item["score"]) == (7, "k", 1.0)
        return [(rle.decode(item["segmentation"]).tolist(), item.get("category_id")) for item in records]

    def expected(*pairs: tuple[np.ndarray, int | None]) -> list[tuple[list[list[bool]], int | None]]:
        return [(mask.tolist(), category) for mask, category in pairs]

    assert made("masks") == expected((large, None), (small, None))
    assert made("objects") == expected((small, None), (large, None), (unseen, None))
    assert made("annotations") == expected((small, 2), (large, 3), (unseen, 1))
    assert made("categories") == expected(
        (block(9, 2, 8, 8), 3), (block(12, 4, 3, 3), 3), (block(3, 2, 6, 6), 2)
    )
    assert all("category_id" not in mask for mask in found)
    for case in CASES.values():
        assert perfect_masks(found, truth_image(annotation(small, 2), has_masks=False), case) == []


DATA = {"kind": "scenes", "num_train": 3, "num_eval": 1, "size": 64, "seed": 5}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four scenes in two shards, found masks that are the objects moved by two pixels, and the truth of all.

    Of the second picture the ground truth has neither masks nor a label map.
    """
    folder = tmp_path_factory.mktemp("oracle")
    rows, masks = [], {0: [], 1: []}
    for number in range(1, 5):
        scene = generate_scene(5, number, 64, 0.5)
        height, width = scene.semantic.shape
        shard = (number - 1) // 2
        rows.append((number, f"scene-{number:05d}", f"scenes/{number}.jpg", width, height, "RGB", "", shard,
                     number < 4, number == 4, "ok", ""))  # fmt: skip
        for mask in scene.masks:
            code = rle.encode(np.roll(mask, 2, axis=1))
            masks[shard].append({"image_id": number, "key": rows[-1][1], "segmentation": code, "score": 1.0})
    names = ("image_id", "key", "path", "width", "height", "mode", "sha256", "shard", "train", "eval",
    "status",
             "reason")  # fmt: skip
    write_manifest(folder / "data/manifest.csv", pd.DataFrame(rows, columns=list(names)))
    for shard, found in masks.items():
        write_json(folder / f"masks/shard-000{shard}.json", {"masks": found})
    truth = folder / "oracle/groundtruth"
    given = [
        "--manifest",
        f"{folder}/data/manifest.csv",
        "--params",
        json.dumps(DATA),
        "--output",
        str(truth),
    ]
    assert main(["ground_truth", "--images", "all", *given]) == 0
    content = read_json(truth / "instances.json")
    assert [image["evaluated"] for image in content["images"]] == [True] * 4
    content["images"][1] |= {"has_masks": False, "has_semantic": False}
    write_json(truth / "instances.json", content)
    return folder


def stage(name: str, made: Path, case: str, output: str, *options: str) -> dict[str, Any]:
    """Run an oracle's stage; the file it wrote."""
    manifest = made / ("data/manifest.csv" if name == "oracle_manifest" else f"oracle/{case}/manifest.csv")
    path = made / f"oracle/{case}/{output}"
    assert main([name, "--manifest", str(manifest), "--output", str(path), *options]) == 0
    content: dict[str, Any] = read_json(path) if path.suffix == ".json" else {}
    return content


def test_stages_go_on_from_what_is_perfect(made: Path) -> None:
    """Manifest, masks of two shards, categories and the annotations that the detector is given: true values,
    marked.
    """
    case = "annotations"
    truth = ["--ground-truth", f"{made}/oracle/groundtruth/instances.json", "--case", case]
    stage("oracle_manifest", made, case, "manifest.csv", *truth)
    table = read_manifest(made / f"oracle/{case}/manifest.csv")
    assert table["train"].tolist() == [True, False, True, False] and table["segmenter"].tolist() == [
        True
    ] * 3 + [False]
    assert Path(table["file"][0]).resolve() == made / "data/scenes/1.jpg"
    assert (
        table["path"][0] == "../../data/scenes/1.jpg"
    )  # no folder of this machine, so equal runs give equal bytes
    shards = ["--masks", f"{made}/masks/shard-{{shard}}.json", "--shard", "{shard}"]
    for shard in ("0000", "0001"):
        options = [option.format(shard=shard) for option in shards]
        content = stage("oracle_masks", made, case, f"masks/shard-{shard}.json", *truth, *options)
        assert content["provenance"]["oracle"] == case
    masks = [f"{made}/oracle/{case}/masks/shard-{{0000..0001}}.json"]
    given = ["--num-clusters", str(len(CATEGORIES)), "--masks", *masks]
    stage("oracle_categories", made, case, "assignments.h5", *given)
    with open_assignments(made / f"oracle/{case}/assignments.h5", len(CATEGORIES)) as assigned:
        assert json.loads(assigned.file.attrs["provenance"])["oracle"] == case
    more = [
        "--assignments",
        f"{made}/oracle/{case}/assignments.h5",
        "--index",
        f"{made}/oracle/{case}/annotations.h5",
    ]
    content = stage("annotations", made, case, "annotations.json", *given, *more)
    assert content["provenance"]["oracle"] == case
    found = [(item["image_id"], item["category_id"], item["segmentation"]) for item in content["annotations"]]
    scenes = {number: generate_scene(5, number, 64, 0.5) for number in (1, 3)}
    assert found == [
        (number, int(label), rle.encode(mask))
        for number, scene in scenes.items()
        for label, mask in zip(scene.labels, scene.masks, strict=True)
    ]
    plain = read_json(made / "oracle/groundtruth/dropped.json")["provenance"]
    assert "oracle" not in plain and "oracle" not in make_provenance(
        "x", {}, {"manifest": made / "data/manifest.csv"}
    )


def test_label_maps_of_images_without_truth_are_left_out(made: Path) -> None:
    truth = ["--ground-truth", f"{made}/oracle/groundtruth/instances.json", "--case", "labels"]
    stage("oracle_manifest", made, "labels", "manifest.csv", *truth)
    table = read_manifest(made / "oracle/labels/manifest.csv")
    rows = image_rows(ok_images(table, segmenter=True))
    assert [row.image_id for row in rows] == [1, 3] and table["train"].tolist() == [True, True, True, False]
    for row in rows:
        labels = read_label_png(made / f"oracle/groundtruth/semantic/{row.key}.png")
        np.testing.assert_array_equal(labels, generate_scene(5, row.image_id, 64, 0.5).semantic)


@pytest.mark.hostile(
    "ground truth: of no training image what a case of the oracle needs",
    outcome="refused before anything is trained",
)
def test_a_case_without_truth_is_refused(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = read_json(made / "oracle/groundtruth/instances.json")
    content["images"] = [image | {"has_masks": False} for image in content["images"]]
    write_json(tmp_path / "instances.json", content)
    given = ["--manifest", f"{made}/data/manifest.csv", "--output", f"{tmp_path}/m.csv", "--case", "objects"]
    assert main(["oracle_manifest", *given, "--ground-truth", f"{tmp_path}/instances.json"]) == 1
    said = capsys.readouterr().err
    assert (
        "oracle: objects: the ground truth has masks of all objects of none of the 3 training images" in said
    )
    assert not (tmp_path / "m.csv").exists()


def test_masks_without_categories_are_no_clusters(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--manifest", f"{made}/data/manifest.csv", "--output", f"{made}/no.h5", "--num-clusters", "6"]
    assert main(["oracle_categories", *given, "--masks", f"{made}/masks/shard-0000.json"]) == 1
    assert (
        "shard-0000.json: a mask has no category of 1..6; make it with oracle_masks"
        in capsys.readouterr().err
    )


def test_an_oracles_model_is_applied_handed_out_and_built_on_by_nothing(made: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    config = SegmenterConfig(weights=str(path))
    write_manifest(tmp_path / "m.csv", read_manifest(made / "data/manifest.csv"), oracle="labels")
    for manifest, refused in ((made / "data/manifest.csv", False), (tmp_path / "m.csv", True)):
        own = training_provenance("segmenter", SegmenterConfig(weights="random"), 1, {"manifest": manifest})
        save_model(
            path, {"x": torch.zeros(1)}, {"provenance": json.dumps(own), "params": "{}", "num_clusters": "2"}
        )
        said = ""
        for use in (
            lambda: find_models(None, str(path), str(path), None),
            lambda: training_provenance("segmenter", config, 1, {}),
        ):
            try:
                use()
            except MaskDistillError as error:
                said = str(error)
            assert ("an oracle's model (labels): ground truth made it" in said) == refused, said
            said = ""


def test_classes_are_counted_before_anything_is_made(tmp_path: Path) -> None:
    voc = {"kind": "voc", "root": str(tmp_path)}
    coco = {"kind": "coco", "images": str(tmp_path), "annotations": str(tmp_path / "c.json")}
    categories = [{"id": number, "name": f"c{number}"} for number in (3, 9)]
    (tmp_path / "c.json").write_text(json.dumps({"images": [], "annotations": [], "categories": categories}))
    counts = [count_classes(load_config(VALUES | {"data": data})) for data in ({"kind": "scenes"}, voc, coco)]
    assert counts == [len(CATEGORIES), 20, 2]
    config = load_config(VALUES)
    built = config.model_copy(
        update={
            "datasets": config.datasets.model_copy(update={"build": "coco20k"}),
            "data": CocoData(kind="coco", images="i", annotations=str(tmp_path / "not-yet.json")),
        }
    )
    assert count_classes(built) == 80


# ---------------------------------------------------------------- the table


def evaluation(folder: Path, case: str | None, seed: int, name: str, **scores: float) -> Evaluation:
    mark = {} if case is None else {"oracle": case}
    below = {"masks": "", "detector": "tau-0.9", "segmenter": "tau-0.9/hard-0.2/crf-0"}[name]
    path = folder / str(case) / f"k-6/seed-{seed}" / below / f"evaluation/{name}.json"
    write_json(path, {"stage": name, **scores, "provenance": {"params": {}, **mark}})
    return read_evaluation(path)


def made_rows(folder: Path, config: Config) -> list[oracle.Row]:
    files = []
    for seed, shift in ((1, -1.0), (3, 1.0)):
        for case, masks, detector, segmenter in (
            (None, 30.0, 32.0, 34.0), ("masks", 40.0, 45.0, 47.0), ("annotations", 100.0, 60.0, 64.0),
        ):  # fmt: skip
            files += [
                evaluation(folder, case, seed, "masks", miou=masks, ap75=masks / 10, purity=50.0),
                evaluation(folder, case, seed, "detector", miou=detector, ap50=70.0, ap75=5.0),
                evaluation(folder, case, seed, "segmenter", miou=segmenter + shift),
            ]
        files.append(evaluation(folder, "labels", seed, "segmenter", miou=70.0 + shift))
    return oracle.rows(files, {"labels": 4}, config)


def test_the_table_says_which_stage_loses_what(tmp_path: Path) -> None:
    config = load_config(VALUES | {"oracle": {"cases": ["labels", "annotations", "masks"]}})
    found = made_rows(tmp_path, config)
    assert [row.case for row in found] == [None, "labels", "annotations", "masks"]
    assert [row.left_out for row in found] == [0, 4, 0, 0]
    assert oracle.losses(found) == {"masks and categories": 30.0, "detector": 6.0, "segmenter": 30.0}
    said = oracle.verdict(found)
    assert "mIoU of 34.0" in said[0] and said[0].endswith("Most are lost by: masks and categories.")
    assert said[1] == "One at a time they would add: perfect masks +13.0."
    records = {item["case"]: item for item in oracle.records(found)}
    assert records["masks"]["stages"]["detector"]["gain"] == {"miou": 13.0, "ap50": 0.0, "ap75": 0.0}
    assert records["annotations"]["stages"]["masks"]["mean"] == {"miou": 100.0, "ap75": 10.0, "purity": 50.0}
    assert records["labels"]["stages"].keys() == {"segmenter"}
    assert records["labels"]["stages"]["segmenter"]["per_seed"] == [
        {"seed": 1, "miou": 69.0}, {"seed": 3, "miou": 71.0},
    ]  # fmt: skip
    assert records[None]["stages"]["segmenter"]["std"]["miou"] == pytest.approx(2**0.5)
    assert records[None]["stages"]["segmenter"]["gain"] == {}
    assert oracle.losses([row for row in found if row.case != "annotations"]) == {}


def test_the_page_and_its_numbers(made: Path, tmp_path: Path) -> None:
    config = load_config(VALUES | {"oracle": {"cases": ["labels", "annotations", "masks"]}})
    made_rows(tmp_path, config)
    files = sorted(map(str, tmp_path.rglob("evaluation/*.json")))
    table = read_manifest(made / "data/manifest.csv")
    narrowed = table.assign(segmenter=table["segmenter"] & (table["image_id"] != 2))
    write_manifest(tmp_path / "labels.csv", narrowed, oracle="labels")
    out = [f"--{name}={tmp_path / f'out.{kind}'}" for name, kind in
           (("output", "html"), ("summary", "json"), ("csv", "csv"))]  # fmt: skip
    given = [
        "--run-name",
        "r",
        "--config",
        config.model_dump_json(),
        "--manifest",
        f"{made}/data/manifest.csv",
    ]
    given += ["--oracle-manifests", f"{tmp_path}/labels.csv", "--evaluations", *files]
    assert main(["oracle", *given, *out]) == 0
    with open(tmp_path / "out.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["case"], row["left_out"]) for row in rows] == [
        ("as it is", "0"), ("labels", "1"), ("annotations", "0"), ("masks", "0"),
    ]  # fmt: skip
    assert (rows[1]["segmenter_miou"], rows[1]["segmenter_miou_gain"], rows[1]["detector_miou"]) == (
        "70.0",
        "36.0",
        "",
    )
    assert read_json(tmp_path / "out.json")["losses"]["segmenter"] == 30.0
    page = (tmp_path / "out.html").read_text()
    assert '<td class="n">70.0 ± 1.4<small>+36.0</small></td>' in page
    assert "Most are lost by: masks and categories." in page and page.count("<svg") == 2
