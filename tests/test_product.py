"""A run's models for everyday use: which files they are, predictions on new pictures, polygons."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from miniature import detector_config, scenes, segmenter_config
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from maskdistill import cli, rle
from maskdistill.backbones.resnet import build_resnet
from maskdistill.cli import main, predict
from maskdistill.config import load_config
from maskdistill.detector.model import build_detector
from maskdistill.product.card import model_card
from maskdistill.product.coco import coco_annotations, polygons
from maskdistill.product.overlay import chosen_images
from maskdistill.product.trained_run import find_models
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import write_json
from maskdistill.segmenter.model import OUTPUT_STRIDE, DeepLab
from maskdistill.training.checkpoint import describe_model, model_metadata, save_model

K = 3
PLACE = "topk-0.4/k-3/seed-7"
SEGMENTER = f"{PLACE}/tau-0.25-bbox/hard-0.2/crf-1/segmenter/model.safetensors"
CONFIG: dict[str, Any] = {
    "run": "small", "seeds": [7], "data": {"kind": "scenes"}, "backbone": {"weights": "random"},
    "clusters": {"num_clusters": K}, "pseudo_labels": {"tau": 0.25, "type": "bbox"}, "crf": {"rounds": 1},
    "detector": detector_config(score_thresh=0.01).model_dump(mode="json"),
    "segmenter": segmenter_config(hard_pixels=0.2).model_dump(mode="json"),
}  # fmt: skip


def write_summary(folder: Path, **changes: Any) -> None:
    config = load_config(CONFIG | changes).model_dump(mode="json")
    counts = {"train": 5, "eval": 0, "quarantined": 1}
    write_json(folder / "summary.json", {"provenance": {"config": config}, "images": counts, "stages": {}})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose models are random."""
    folder = tmp_path_factory.mktemp("results") / "small"
    write_summary(folder)
    torch.manual_seed(0)
    config = load_config(CONFIG)
    provenance = {"inputs": {"manifest": "m"}, "params": {"seed": 7}, "version": "0", "libraries": {"torch": "t"}}
    detector = build_detector(config.detector, K, build_resnet(config.detector.arch))
    described = describe_model(config.detector, K, provenance | {"stage": "detector"})
    save_model(folder / f"{PLACE}/detector/model.safetensors", detector.state_dict(), described)
    segmenter = DeepLab(config.segmenter, K, build_resnet(config.segmenter.arch, OUTPUT_STRIDE))
    described = describe_model(config.segmenter, K, provenance | {"stage": "segmenter"})
    save_model(folder / SEGMENTER, segmenter.state_dict(), described)
    return folder


def test_the_main_models_follow_from_the_configuration(trained: Path) -> None:
    found = find_models(str(trained), None, None, None)
    assert found.detector == trained / PLACE / "detector/model.safetensors"
    assert found.segmenter == trained / SEGMENTER
    assert found.config is not None and found.config.run == "small"
    other = find_models(str(trained), None, str(found.detector), 7)
    assert (other.detector, other.segmenter) == (found.detector, found.detector)
    alone = find_models(None, str(found.detector), str(found.segmenter), None)
    assert (alone.detector, alone.segmenter, alone.config) == (found.detector, found.segmenter, None)


def test_models_that_are_ambiguous_or_missing_are_explained(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(MaskDistillError, match=r"give --run results/NAME, or both"):
        find_models(None, "a", None, None)
    with pytest.raises(MaskDistillError, match=r"no finished run: .*those that are there: small"):
        find_models(str(trained.parent / "other"), None, None, None)
    with pytest.raises(MaskDistillError, match=r"--detector nowhere: no such file"):
        find_models(str(trained), "nowhere", None, None)
    several = tmp_path / "several"
    shutil.copytree(trained, several)
    write_summary(several, seeds=[7, 8])
    with pytest.raises(MaskDistillError, match=r"models of 2 seeds \(7, 8\); say which ones: --seed 7"):
        find_models(str(several), None, None, None)
    assert find_models(str(several), None, None, 7).segmenter == several / SEGMENTER
    with pytest.raises(MaskDistillError, match=rf"(?s)seed-8/detector.* is not there.*there are:\n  {PLACE}/detector"):
        find_models(str(several), None, None, 8)


def test_polygons_filled_again_are_the_mask() -> None:
    """With holes, islands in holes, parts that touch at a corner, single pixels; against pycocotools' own filling."""
    rng = np.random.default_rng(0)
    holes = 0
    for number in range(60):
        height, width = (int(side) for side in rng.integers(1, 40, 2))
        mask: npt.NDArray[np.bool_] = rng.random((height, width)) < rng.random()
        if number % 2:
            mask = np.repeat(np.repeat(mask, 3, axis=0), 3, axis=1)
        rings = polygons(mask)
        if not mask.any():
            assert rings == []
            continue
        holes += any(len(ring) > 40 for ring in rings)
        filled = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(rings, *mask.shape)))
        np.testing.assert_array_equal(filled.astype(bool), mask)
    assert holes > 10
    assert polygons(np.ones((1, 1), dtype=bool)) == [[0.25, 0.25, 0.25, 0.75, 0.75, 0.75, 0.75, 0.25]]


def test_annotations_are_measured_on_the_mask_and_thresholded() -> None:
    mask = np.zeros((5, 6), dtype=bool)
    mask[1:3, 2:5] = True
    record = {"image_id": 4, "category_id": 2, "bbox": [0, 0, 6, 5], "segmentation": rle.encode(mask)}
    found = [*coco_annotations([record | {"score": score} for score in (0.9, 0.5, 0.49)], 0.5, 11)]
    assert [(item["id"], item["score"]) for item in found] == [(11, 0.9), (12, 0.5)]
    assert found[0]["bbox"] == [2, 1, 3, 2] and found[0]["area"] == 6 and found[0]["iscrowd"] == 0


def test_overlays_are_spread_over_all_pictures() -> None:
    assert chosen_images(10, 5) == {1, 3, 5, 7, 9}
    assert chosen_images(3, 50) == {1, 2, 3}
    assert chosen_images(3, 0) == set()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five pictures, one of them unreadable, one below a folder."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "below").mkdir()
    for number, scene in enumerate(scenes(4)):
        Image.fromarray(scene.image).save(folder / ("below/a b.jpg" if number == 1 else f"{number}.png"))
    (folder / "4.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "PER_SHARD", 2)


def command(trained: Path, photos: Path, out: Path, *more: str) -> list[str]:
    common = ["--out", str(out), "--device=cpu", "--threads=1", "--overlays=2", "--min-score=0.02"]
    return ["predict", "--run", str(trained), str(photos), *common, *more]


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_names_of_clusters_become_categories(trained: Path, photos: Path, tmp_path: Path) -> None:
    """By default those that the run's report had, else those of a file; two clusters may share one."""
    (tmp_path / "photos").mkdir()
    shutil.copy(photos / "0.png", tmp_path / "photos")
    summary = json.loads((trained / "summary.json").read_text()) | {"clusters": {"names": {"1": "mug"}}}
    named = shutil.copytree(trained, tmp_path / "named")
    write_json(named / "summary.json", summary)
    assert find_models(str(named), None, None, None).names == {1: "mug"}
    other = named / PLACE / "detector/model.safetensors"
    assert find_models(str(named), str(other), None, None).names == {}
    (tmp_path / "names.yaml").write_text("names: {0: cup, 2: cup}")
    for options, expected in (
        ([], ["cluster-00", "mug", "cluster-02"]),
        (["names.yaml"], ["cup", "cluster-01", "cup"]),
    ):
        out = tmp_path / f"out{len(options)}"
        more = ["--names", *(str(tmp_path / name) for name in options)] if options else []
        assert main(command(named, tmp_path / "photos", out, *more)) == 0
        for name in ("coco.json", "coco_polygons.json"):
            found = json.loads((out / name).read_text())
            assert [category["name"] for category in found["categories"]] == expected
        counted = json.loads((out / "summary.json").read_text())
        assert counted["objects"].keys() == set(expected)
        assert sum(counted["objects"].values()) == len(found["annotations"])
        assert counted["pixel_shares"].keys() == {"background", *expected}
    assert main([*command(named, tmp_path / "photos", tmp_path / "x"), "--names", str(tmp_path / "none.yaml")]) == 1


@pytest.mark.usefixtures("small_shards")
def test_predictions_import_into_pycocotools_and_survive_interruption(
    trained: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert main(command(trained, photos, out)) == 0
    exact, outlined = COCO(str(out / "coco.json")), COCO(str(out / "coco_polygons.json"))
    names = {image["file_name"]: image for image in exact.loadImgs(exact.getImgIds())}
    assert sorted(names) == ["0.png", "2.png", "3.png", "below/a b.jpg"]
    assert [category["name"] for category in exact.loadCats(exact.getCatIds())] == [f"cluster-0{i}" for i in range(K)]
    assert exact.anns and exact.anns.keys() == outlined.anns.keys()
    for key, annotation in exact.anns.items():
        mask = exact.annToMask(annotation)
        np.testing.assert_array_equal(mask, outlined.annToMask(outlined.anns[key]))
        rows, columns = np.nonzero(mask)
        x, y = columns.min(), rows.min()
        assert annotation["bbox"] == [x, y, columns.max() - x + 1, rows.max() - y + 1]
        assert annotation["area"] == mask.sum() and annotation["score"] >= 0.02
    for name, image in names.items():
        with Image.open(photos / name) as photo, Image.open(out / f"labels/{name.rpartition('.')[0]}.png") as labels:
            assert photo.size == labels.size == (image["width"], image["height"])
            assert labels.mode == "P" and np.asarray(labels).max() <= K
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["images"], summary["quarantined"]) == (4, 1)
    assert sum(summary["objects"].values()) == len(exact.anns)
    assert len([*(out / "overlays").rglob("*.jpg")]) == 2 and not (out / predict.UNFINISHED).exists()

    calls: list[str] = []
    run_stage = cli.run_stage

    def interrupted(stage: str, arguments: Any, append_log: bool = False) -> None:
        calls.extend([stage] if stage != "predict" else [])
        if len(calls) == 5:
            raise KeyboardInterrupt
        run_stage(stage, arguments, append_log)

    def counted(stage: str, arguments: Any, append_log: bool = False) -> None:
        calls.append(stage)
        run_stage(stage, arguments, append_log)

    monkeypatch.setattr(cli, "run_stage", interrupted)
    again = command(trained, photos, tmp_path / "again")
    with pytest.raises(KeyboardInterrupt):
        main(again)
    assert calls == ["manifest", "candidates", "predictions", "candidates", "predictions"]
    calls.clear()
    monkeypatch.setattr(cli, "run_stage", counted)
    assert main(again) == 0
    assert calls[1:] == ["predictions", "candidates", "predictions"], "what was finished is not computed again"
    assert content(tmp_path / "again") == content(out)
    assert main(again) == 0 and calls[4:] == ["predict"], "a finished folder is left alone"


@pytest.mark.usefixtures("small_shards")
def test_folders_that_must_not_be_written_are_refused(
    trained: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(trained, photos, photos / "out")) == 1
    assert "whose pictures are read; give another folder" in capsys.readouterr().err
    (tmp_path / "mine.txt").write_text("precious")
    assert main(command(trained, photos, tmp_path)) == 1
    assert "holds something else" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_card_says_what_it_is(trained: Path) -> None:
    models = find_models(str(trained), None, None, None)
    segmenter, detector = model_metadata(models.segmenter, "segmenter"), model_metadata(models.detector, "detector")
    names = ["background", "cluster-00", "cluster-01", "cluster-02"]
    scored = models.summary | {"stages": {"segmenter": {"miou": 26.94}}}
    card = model_card(
        segmenter, detector, models.config, scored, names, "equal", "pictures", {"segmenter.onnx": "ab" * 32}
    )
    for wanted in (
        "of the run `small`", "float32 (B, 3, 48, 48)", "float32 (B, 4, 48, 48)", "3 cluster-02", "ab" * 32,
        "| segmenter | miou | 26.9 |", "no ONNX of the detector", "Apache-2.0", "seed 7, began with random weights",
        "5 to train on, 1 unusable", "  tau: 0.25", "numbers, not meanings",
    ):  # fmt: skip
        assert wanted in card
    without = model_card(segmenter, detector, None, {}, names, "equal", "pictures", {})
    assert "None: there was no ground truth" in without and "## Configuration" not in without
