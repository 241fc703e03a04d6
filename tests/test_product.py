"""A run's models for everyday use: which files they are, predictions on new pictures, polygons, a kill in
between.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from finished_run import CONFIG, PLACE, SEGMENTER, VERDICT, K, write_summary
from miniature import scenes
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from maskdistill import cli
from maskdistill.backbones.weights import read_state_dict
from maskdistill.cli import main, predict, predictions
from maskdistill.config import CrfConfig, load_config
from maskdistill.config.roles import training_settings
from maskdistill.formats import rle
from maskdistill.formats.export.outlines import polygons
from maskdistill.formats.label_png import color_map, read_label_png
from maskdistill.product.card import Checked, model_card
from maskdistill.product.export_agreement import Agreement
from maskdistill.product.kinds.registry import KINDS
from maskdistill.product.overlay import chosen_images
from maskdistill.product.trained_run import find_models
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import write_json
from maskdistill.runtime.run_lock import hold_run, release_run
from maskdistill.training.checkpoint import model_metadata, save_model

KILLED = """
import os, signal, sys, threading
from maskdistill import cli
from maskdistill.cli import main, predict

predict.PER_SHARD = 2
run_stage, calls = cli.run_stage, []

def run_and_kill(stage, arguments, append_log=False):
    calls.append(stage)
    if calls[1:] == ["manifest", "candidates", "predictions", "candidates", "predictions"]:
        threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGKILL)).start()
    run_stage(stage, arguments, append_log)

cli.run_stage = run_and_kill
main(sys.argv[1:])
"""
"""A command that is killed 20 ms into the second shard's label maps."""


def test_the_main_models_follow_from_the_configuration(trained: Path) -> None:
    found = find_models(str(trained), None, None, None)
    assert found.detector == trained / PLACE / "detector/model.safetensors"
    assert found.segmenter == trained / SEGMENTER
    assert found.config is not None and found.config.run == "small"
    other = find_models(str(trained), None, str(found.detector), 7)
    assert (other.detector, other.segmenter) == (found.detector, found.detector)
    alone = find_models(None, str(found.detector), str(found.segmenter), None)
    assert (alone.detector, alone.segmenter, alone.config) == (found.detector, found.segmenter, None)
    assert found.trust == VERDICT and other.trust is None and alone.trust is None, "of the run's own models"


def test_the_detector_is_used_as_the_configuration_says(trained: Path, tmp_path: Path) -> None:
    """Its file does not know: of a run's model the run's own settings, of another the file's, else the
    run's.
    """

    def threshold(run: Path | None, detector: Path | None) -> float:
        segmenter = None if run else str(trained / SEGMENTER)
        found = find_models(run and str(run), detector and str(detector), segmenter, None)
        return float(json.loads(found.test_settings)["score_thresh"])

    run = tmp_path / "run"
    shutil.copytree(trained, run)
    changed = CONFIG["detector"] | {"score_thresh": 0.4}
    write_summary(run, detector=changed)
    inside = run / PLACE / "detector/model.safetensors"
    alone, telling = tmp_path / "alone.safetensors", tmp_path / "telling.safetensors"
    for path, settings in ((alone, training_settings(load_config(CONFIG).detector)), (telling, changed)):
        described = model_metadata(inside, "detector") | {"params": json.dumps(settings)}
        save_model(path, read_state_dict(inside), described)
    assert threshold(run, None) == threshold(None, inside) == threshold(trained, inside) == 0.4
    assert threshold(trained, None) == threshold(trained, alone) == 0.01
    assert threshold(None, telling) == threshold(trained, telling) == 0.4
    with pytest.raises(
        MaskDistillError, match=r"alone\.safetensors: the model does not record its settings at test time"
    ):
        threshold(None, alone)


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
    with pytest.raises(
        MaskDistillError, match=rf"(?s)seed-8/detector.* is not there.*there are:\n  {PLACE}/detector"
    ):
        find_models(str(several), None, None, 8)


def test_polygons_filled_again_are_the_mask() -> None:
    """With holes, islands in holes, parts that touch at a corner, single pixels; against pycocotools' own
    filling.
    """
    rng = np.random.default_rng(0)
    holes = 0
    for number in range(60):
        height, width = (int(side) for side in rng.integers(1, 40, 2))
        mask: npt.NDArray[np.bool_] = rng.random((height, width)) < rng.random()
        if number % 2:
            mask = np.repeat(np.repeat(mask, 3, axis=0), 3, axis=1)
        rings = polygons(rle.encode(mask))
        if not mask.any():
            assert rings == []
            continue
        holes += any(len(ring) > 40 for ring in rings)
        filled = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(rings, *mask.shape)))
        np.testing.assert_array_equal(filled.astype(bool), mask)
    assert holes > 10
    assert polygons(rle.encode(np.ones((1, 1), dtype=bool))) == [
        [0.25, 0.25, 0.25, 0.75, 0.75, 0.75, 0.75, 0.25]
    ]


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


@pytest.mark.slow
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
    assert (
        main([*command(named, tmp_path / "photos", tmp_path / "x"), "--names", str(tmp_path / "none.yaml")])
        == 1
    )


@pytest.mark.slow
@pytest.mark.usefixtures("small_shards")
def test_predictions_import_into_pycocotools_and_survive_a_kill(
    trained: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert main(command(trained, photos, out)) == 0
    exact, outlined = COCO(str(out / "coco.json")), COCO(str(out / "coco_polygons.json"))
    names = {image["file_name"]: image for image in exact.loadImgs(exact.getImgIds())}
    assert sorted(names) == ["0.png", "2.png", "3.png", "below/a b.jpg"]
    assert [category["name"] for category in exact.loadCats(exact.getCatIds())] == [
        f"cluster-0{i}" for i in range(K)
    ]
    assert exact.anns and exact.anns.keys() == outlined.anns.keys()
    for key, annotation in exact.anns.items():
        mask = exact.annToMask(annotation)
        np.testing.assert_array_equal(mask, outlined.annToMask(outlined.anns[key]))
        rows, columns = np.nonzero(mask)
        x, y = columns.min(), rows.min()
        assert annotation["bbox"] == [x, y, columns.max() - x + 1, rows.max() - y + 1]
        assert annotation["area"] == mask.sum() and annotation["score"] >= 0.02
    for name, image in names.items():
        with (
            Image.open(photos / name) as photo,
            Image.open(out / f"labels/{name.rpartition('.')[0]}.png") as labels,
        ):
            assert photo.size == labels.size == (image["width"], image["height"])
            assert labels.mode == "P" and np.asarray(labels).max() <= K
            assert labels.getpalette() == color_map().ravel().tolist()
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["images"], summary["quarantined"], summary["trust"]) == (4, 1, VERDICT)
    assert sum(summary["objects"].values()) == len(exact.anns)
    assert len([*(out / "overlays").rglob("*.jpg")]) == 2 and not (out / predict.UNFINISHED).exists()

    again = command(trained, photos, tmp_path / "again")
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *again], stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL and " predictions on Python" in killed.stderr
    assert (tmp_path / "again" / predict.UNFINISHED).exists() and not (tmp_path / "again/coco.json").exists()
    calls: list[str] = []
    run_stage = cli.run_stage

    def counted(stage: str, arguments: Any, append_log: bool = False) -> None:
        calls.append(stage)
        run_stage(stage, arguments, append_log)

    monkeypatch.setattr(cli, "run_stage", counted)
    assert main(again) == 0
    assert calls[1:] == ["predictions", "candidates", "predictions"], (
        "what was finished is not computed again"
    )
    assert content(tmp_path / "again") == content(out)
    assert main(again) == 0 and calls[4:] == ["predict"], "a finished folder is left alone"


@pytest.mark.slow
@pytest.mark.hostile("output: of predict, deleted or damaged since", outcome="made again by the same command")
@pytest.mark.usefixtures("small_shards")
def test_what_was_deleted_or_damaged_since_is_predicted_again(
    trained: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Only the shards whose label maps or overlays are wrong; all of them where a file of the whole is."""
    out = tmp_path / "out"
    assert main(command(trained, photos, out)) == 0
    before = content(out)
    overlay = next(name for name in sorted(before) if name.startswith("overlays/"))
    calls: list[str] = []
    run_stage = cli.run_stage

    def counted(stage: str, arguments: Any, append_log: bool = False) -> None:
        calls.append(stage)
        run_stage(stage, arguments, append_log)

    monkeypatch.setattr(cli, "run_stage", counted)
    one, everything = ["candidates", "predictions"], ["candidates", "predictions"] * 3
    cases: dict[str, tuple[str, list[str]]] = {
        "flip": ("labels/0.png", one), "delete": ("labels/2.png", one), "cut": (overlay, one),
        "zero": ("coco.json", everything), "gone": ("manifest.csv", ["manifest", *everything]),
    }  # fmt: skip
    for what, (name, expected) in cases.items():
        path, data = out / name, before[name]
        middle = len(data) // 2
        harmed = {
            "flip": data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :],
            "zero": data[:middle] + b"\0" * 8 + data[middle + 8 :], "cut": data[:-9],
        }  # fmt: skip
        path.unlink()
        if what in harmed:
            path.write_bytes(harmed[what])
        calls.clear()
        assert main(command(trained, photos, out)) == 0, what
        assert calls[1:] == expected, what
        assert content(out) == before, what
    calls.clear()
    assert main(command(trained, photos, out, "--format=coco,yolo", "--pictures=copy")) == 0 and calls == [
        "predict"
    ]
    assert (
        json.loads((out / "objects/coco/coco.json").read_bytes())["annotations"]
        == json.loads(before["coco.json"])["annotations"]
    )
    named = {path.relative_to(out).as_posix() for path in (out / "objects/yolo/images").rglob("*.*")}
    assert named == {f"objects/yolo/images/{name}" for name in ("0.png", "2.png", "3.png", "below/a b.jpg")}
    calls.clear()
    assert main(command(trained, photos, out)) == 0 and calls == ["predict"]
    for path in photos.rglob("*"):
        os.utime(path, ns=(1, 2))
    assert main(command(trained, photos, out)) == 0 and calls == ["predict"] * 2, "the same pictures, touched"


@pytest.mark.slow
def test_one_call_at_a_time_writes_into_a_folder(
    trained: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hold_run(tmp_path / "out")
    assert main(command(trained, photos, tmp_path / "out")) == 1
    said = capsys.readouterr().err
    assert f"out: another run is at work here (process {os.getpid()} on " in said
    assert "Wait until it has ended, or give another folder as --out" in said
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".lock"]
    release_run(tmp_path / "out")
    assert main(command(trained, photos, tmp_path / "out")) == 0
    assert (tmp_path / "out/.lock").read_text() == "" and (tmp_path / "out/coco.json").is_file()


@pytest.mark.slow
@pytest.mark.usefixtures("small_shards")
def test_a_dense_crf_sharpens_the_label_maps(
    trained: Path,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pydensecrf.densecrf", None)
        assert main(command(trained, photos, out, "--crf")) == 1
    assert "the dense CRF needs pydensecrf: `make crf`" in capsys.readouterr().err and not out.exists()

    given: list[CrfConfig] = []

    def inverted(pair: tuple[npt.NDArray[Any], npt.NDArray[Any]], config: CrfConfig) -> npt.NDArray[np.uint8]:
        given.append(config)
        assert pair[0].shape[:2] == pair[1].shape[1:]
        return np.asarray(pair[1].argmin(0), np.uint8)

    monkeypatch.setattr(predict, "load_pydensecrf", lambda: None)
    monkeypatch.setattr(predictions, "refine_pair", inverted)
    assert main(command(trained, photos, out, "--crf")) == 0
    assert given == [CrfConfig(**CONFIG["crf"])] * 4, "the run's settings"
    assert main(command(trained, photos, tmp_path / "plain")) == 0
    for path in (tmp_path / "plain/labels").rglob("*.png"):
        sharpened = read_label_png(out / path.relative_to(tmp_path / "plain"))
        assert (sharpened != read_label_png(path)).all()
    annotated = [
        json.loads((folder / "coco.json").read_text())["annotations"] for folder in (out, tmp_path / "plain")
    ]
    assert annotated[0] == annotated[1], "objects are the detector's"
    assert (
        main(command(trained, photos, out)) == 1
        and "of other pictures, models or settings" in capsys.readouterr().err
    )


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
    segmenter, detector = (
        model_metadata(models.segmenter, "segmenter"),
        model_metadata(models.detector, "detector"),
    )
    names = ["background", "cluster-00", "cluster-01", "cluster-02"]
    scored = models.summary | {"stages": {"segmenter": {"miou": 26.94}}}
    exported = [
        Checked(KINDS["onnx"], Agreement(8, 1.0, 0.9995, 1.0, 10, 10, 10, 1.0)),
        Checked(KINDS["pt2"], Agreement(8, 0.9995, 0.999, 0.99, 10, 4, 8, 0.95)),
    ]
    files = {"segmenter.onnx": "ab" * 32, "detector.onnx": "cd" * 32}
    described = segmenter, detector, exported
    card = model_card(*described, models.config, scored, names, "pictures", files, models.trust)
    for wanted in (
        "of the run `small`", "squashed to 48 x 48 pixels", "uint8 (B, H, W, 3)", "3 cluster-02", "ab" * 32,
        "| segmenter | miou | 26.9 |", "shortest side at 64", "Apache-2.0", "seed 7, began with random "
        "weights",
        "5 to train on, 1 unusable", "  tau: 0.25", "numbers, not meanings",
        "**look first**\n\n- edges are faint (1.30)", "onnx against predict: on 8 pictures 100.000 %",
        "8 are found again (boxes with an IoU of at least 0.5)",
    ):  # fmt: skip
        assert wanted in card
    without = model_card(*described, None, {}, names, "pictures", {})
    assert "None: there was no ground truth" in without and "## Configuration" not in without
