"""init, doctor and export: a configuration from a folder, what is missing, the segmenter as ONNX."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from miniature import SPEEDS
from PIL import Image

from maskdistill.cli import export, main
from maskdistill.cli import init as init_stage
from maskdistill.cli.config import check_file
from maskdistill.config import load_config
from maskdistill.data.official_datasets import BUILT_IMAGES
from maskdistill.product import inspection
from maskdistill.product.checks import RESERVE, disk_need
from maskdistill.product.suggestions import Found, set_nested, suggest_clusters, suggest_shards, write_config
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.workflow.commands import make
from maskdistill.workflow.layout import DETECTOR, SEGMENTER, main_values, value_name
from maskdistill.workflow.needed_weights import weights_path

CONFIGS = Path(__file__).parents[1] / "config"


@pytest.fixture(autouse=True)
def nothing_is_timed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(init_stage, "timed", lambda found, config: SPEEDS)
    monkeypatch.setattr(init_stage, "RESULTS", tmp_path / "results")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """24 small pictures, one of them unreadable, below a folder whose name YAML could misread."""
    folder = tmp_path / "yes: my 'photos' #1"
    folder.mkdir()
    for number in range(23):
        Image.new("RGB", (40 + number, 30)).save(folder / f"{number:02d}.png")
    (folder / "23.jpg").write_bytes(b"")
    return folder


FITTED = {
    "detector": {
        "arch", "weights", "batch_size", "iters", "steps", "warmup_iters", "workers", "min_size_train",
        "min_size_test",
        "max_size", "anchor_sizes",
    },
    "segmenter": {"arch", "weights", "batch_size", "epochs", "drop_after", "workers", "size"},
    "backbone": {"arch"}, "features": {"short_side"}, "clusters": {"num_clusters"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("options", "template"),
    [
        (["--weights", "shipped"], "folder.yaml"),
        ([], "photos.yaml"),
        (["--settings", "paper"], "config.yaml"),
    ],
)
def test_a_configuration_is_its_template_with_what_was_found_and_fitted(
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    template: str,
) -> None:
    monkeypatch.setattr(init_stage, "visible_gpus", list)
    monkeypatch.setattr(init_stage, "_without_crf", dict)
    output = tmp_path / "new/holiday.yaml"
    assert main(["init", str(photos), "--output", str(output), *options]) == 0
    written, original = (check_file(path).model_dump() for path in (output, CONFIGS / template))
    assert written["run"] == "holiday"
    assert written["data"] == {"kind": "folder", "root": str(photos)}
    assert written["num_shards"] == 1 and written["seeds"] == [1234]
    assert written["clusters"]["num_clusters"] == 3
    assert written["baselines"]["masks"] == []
    if template == "photos.yaml":
        assert (
            written["backbone"]["arch"]
            == written["detector"]["arch"]
            == written["segmenter"]["arch"]
            == "dino_vits8"
        )
    if template == "config.yaml":
        assert written["detector"] == original["detector"] and written["segmenter"] == original["segmenter"]
    for values in (written, original):
        for key in ("run", "data", "datasets", "num_shards", "seeds", "baselines"):
            del values[key]
        for section, keys in FITTED.items():
            for key in keys:
                del values[section][key]
    assert written == original
    text, printed = output.read_text(), capsys.readouterr().out
    assert "for 24 pictures" in text and "40 to 62 pixels wide and 30 to 30 high" in text
    assert "# Cannot be used: '23.jpg' (empty file (0 bytes))\n# The run leaves it out and lists it." in text
    assert "cannot be used: '23.jpg' (empty file (0 bytes)). The run leaves it out" in printed
    assert f"snakemake --cores all --configfile {output}" in printed
    assert ("--weights dino" in printed) == ("shipped" in options)
    assert ("--weights shipped" in printed) == (template != "config.yaml" and "shipped" not in options)
    for told in (text, printed):
        assert ("rehearsal: weights that never saw a photograph" in told) == ("shipped" in options)
        assert ("It will take about" in told) == (template != "config.yaml")
        assert ("no commercial use" in told) == (template == "config.yaml") and "Apache-2.0" in told
    assert ("without a network fetch https://dl.fbaipublicfiles.com/dino/" in printed) == (
        "shipped" not in options
    )
    assert "missing:" not in printed  # weights are downloaded or ship with the project


def test_what_holds_no_pictures_is_named(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.txt").write_text("")
    for given, message in (
        (tmp_path / "nowhere", "nowhere: no such file or folder"),
        (tmp_path / "empty.txt", "empty.txt: neither a folder of pictures nor a file that holds some"),
        (photos / "01.png", "01.png: neither a folder of pictures nor a file that holds some"),
    ):
        assert main(["init", str(given), "--output", str(tmp_path / "mine.yaml")]) == 1
        assert message in capsys.readouterr().err and not (tmp_path / "mine.yaml").exists()


def test_more_unusable_pictures_than_a_run_tolerates(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "22.png").write_bytes(b"no picture")
    output = tmp_path / "mine.yaml"
    assert main(["init", str(photos), "--output", str(output), "--weights", "shipped"]) == 0
    refuses = "The run refuses more than 1 such picture of 24: repair or remove them, or set max_quarantined"
    assert (
        refuses in output.read_text()
        and f"and 1 more, named in {output}. {refuses}" in capsys.readouterr().out
    )


def test_a_file_is_not_overwritten(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "mine.yaml"
    output.write_text("precious")
    arguments = ["init", str(photos), "--output", str(output), "--weights", "shipped", "--run", "other"]
    assert main(arguments) == 1
    assert "exists already" in capsys.readouterr().err and output.read_text() == "precious"
    assert main([*arguments, "--force"]) == 0
    assert check_file(output).run == "other"
    assert main(["init", str(photos), "--output", str(tmp_path / "b.yaml"), "--run", "a/b"]) == 1
    assert "run:" in capsys.readouterr().err and not (tmp_path / "b.yaml").exists()


def test_a_gpu_decides_for_other_networks(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for gpus, arch in (([], "dino_vits8"), (["GPU-1"], "resnet50")):
        monkeypatch.setattr(init_stage, "visible_gpus", lambda gpus=gpus: gpus)
        output = tmp_path / f"{arch}.yaml"
        assert main(["init", str(photos), "--output", str(output)]) == 0
        assert check_file(output).detector.arch == arch


def test_what_cannot_be_timed(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """GPUs that torch cannot use: settings for them all the same, but no time can be kept."""
    monkeypatch.setattr(init_stage, "visible_gpus", lambda: ["GPU-1"])
    monkeypatch.setattr(init_stage, "timed", lambda found, config: None)
    arguments = ["init", str(photos), "--output", str(tmp_path / "mine.yaml"), "--force"]
    assert main(arguments) == 0
    assert "was not measured" in capsys.readouterr().out
    assert main([*arguments, "--minutes", "9"]) == 1
    assert "torch cannot use this machine's GPUs" in capsys.readouterr().err
    assert main([*arguments, "--minutes", "9", "--settings", "paper"]) == 1
    assert "leave out --weights and --minutes" in capsys.readouterr().err


def test_a_cluster_is_told_of_the_papers_settings(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(init_stage, "visible_gpus", list)
    monkeypatch.setenv("PATH", str(tmp_path))
    arguments = ["init", str(photos), "--output", str(tmp_path / "mine.yaml"), "--force"]
    for sbatch in (False, True):
        if sbatch:
            (tmp_path / "sbatch").touch(mode=0o755)
        assert main(arguments) == 0
        assert ("--settings paper --force" in capsys.readouterr().out) == sbatch
    assert main([*arguments, "--settings", "paper"]) == 0
    assert "--settings paper" not in capsys.readouterr().out


def test_suggestions_stay_within_bounds() -> None:
    assert [suggest_clusters(count) for count in (1, 2, 8, 150, 169, 800, 10**6)] == [1, 2, 2, 9, 9, 20, 20]
    for count, gpus, cores, shards in (
        (1, 0, 8, 1),
        (150, 0, 2, 2),
        (150, 0, 64, 6),
        (150, 1, 64, 1),
        (5000, 0, 2, 10),
    ):
        found = Found("r", count, [], [], gpus, cores)
        assert suggest_shards(found) == shards
        text = write_config((CONFIGS / "folder.yaml").read_text(), found, "r", {}, {}, [])
        assert load_config(yaml.safe_load(text)).num_shards == shards


def test_values_of_a_yaml_text_are_set() -> None:
    """Others and comments stay; what is not there is added."""
    text = "# head\nclusters: # of what\n  k: 1 # why\n  sides: [1, 2]\nother:\n  k: 2\n"
    assert set_nested(text, "clusters", "k", 1) == text
    assert set_nested(text, "clusters", "k", 3, "so") == text.replace("k: 1 # why", "k: 3 # so")
    assert set_nested(text, "other", "k", 3) == text.replace("k: 2", "k: 3")
    found = yaml.safe_load(
        set_nested(set_nested(text, "other", "l", "yes: it is"), "third", "m", [0.5, None])
    )
    assert found == {
        "clusters": {"k": 1, "sides": [1, 2]}, "other": {"k": 2, "l": "yes: it is"}, "third": {"m": [0.5,
        None]},
    }  # fmt: skip


def values(**changes: Any) -> dict[str, Any]:
    weights = {"weights": "random"}
    scenes = {"kind": "scenes"}
    return {"run": "r", "data": scenes, "backbone": weights, "detector": weights, "segmenter": weights,
            "crf": {"rounds": 0}} | changes  # fmt: skip


def examine(folder: Path, capsys: pytest.CaptureFixture[str], **changes: Any) -> tuple[int, str, str]:
    path = folder / "c.yaml"
    path.write_text(yaml.safe_dump(values(**changes)))
    status = main(["doctor", "--config", str(path)])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_the_doctor_finds_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "visible_gpus", list)
    monkeypatch.setattr(inspection, "find_spec", lambda name: None)
    monkeypatch.chdir(tmp_path)
    status, out, _ = examine(tmp_path, capsys)
    assert status == 0 and "wrong" not in out
    assert "note  extra crf" in out and f"-> {make('crf')}" in out and "random: for comparison only" in out
    status, out, error = examine(tmp_path, capsys, crf={"rounds": 1}, detector={"weights": "nowhere.pth"})
    assert status == 1 and "2 required things are missing or wrong: extra crf, detector weights" in error
    assert "detector.weights: nowhere.pth: no such file" in out
    status, out, error = examine(tmp_path, capsys, data={"kind": "folder", "root": "absent"})
    assert status == 1 and "absent is not a folder" in out and "pictures" in error
    status, out, error = examine(tmp_path, capsys, clusters={"num_clusters": 900})
    assert (
        status == 1 and "clusters.num_clusters: 900 clusters are too many" in out and "wrong pictures" in out
    )
    status, out, error = examine(tmp_path, capsys, objects={"formats": ["coco", "yoloo"]})
    assert status == 1 and "objects.formats yoloo: unknown" in out and error.endswith(": formats\n")
    assert main(["config", "--check", str(tmp_path / "c.yaml")]) == 1
    assert "objects.formats yoloo: unknown" in capsys.readouterr().err
    status, out, error = examine(tmp_path, capsys, objects={"formats": ["parquet"]})
    assert status == 1 and "wrong extra parquet" in out
    by_hand = {"arch": "dinov3_vits16", "weights": "official"}
    status, out, _ = examine(tmp_path, capsys, backbone=by_hand)
    assert status == 1 and "accept the DINOv3 License" in out and "downloaded when the run starts" not in out
    status, out, error = examine(tmp_path, capsys, topk=0.4)
    assert status == 1 and "topk: unknown key" in out and "configuration" in error


def test_the_doctor_judges_data_as_the_workflow_does(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "visible_gpus", list)
    monkeypatch.setattr(inspection, "disk", lambda need: inspection.Check("disk", "ok", f"{need:.0f}"))
    monkeypatch.setattr(inspection, "find_spec", lambda name: name)
    monkeypatch.chdir(tmp_path)
    assert main(["doctor", "--config", str(CONFIGS / "voc.yaml")]) == 0
    assert f"{BUILT_IMAGES['voc'][0]}, which the workflow brings here" in capsys.readouterr().out
    folder = {"kind": "folder", "root": str(photos)}
    status, out, _ = examine(
        tmp_path, capsys, data=folder, clusters={"num_clusters": 40}, masks={"max_masks": 5}
    )
    assert status == 0, "several masks a picture make up for few pictures"
    status, out, _ = examine(
        tmp_path, capsys, data={"kind": "scenes", "num_train": 9}, clusters={"num_clusters": 12}
    )
    assert status == 1 and "12 clusters need as many masks, and 9 training images" in out
    coco = {"kind": "coco", "images": str(photos), "annotations": "/nope/x.json"}
    status, out, error = examine(tmp_path, capsys, data=coco)
    assert (
        status == 1
        and "data.annotations: /nope/x.json: no such file" in out
        and error.endswith(": annotations\n")
    )
    with monkeypatch.context() as broken:
        broken.setattr(inspection, "count_planned", lambda *given: {}["column"])
        status, out, _ = examine(tmp_path, capsys, data=folder)
        assert status == 1 and "KeyError: 'column'" in out, "as of another package's source"
    few = {"num_clusters": 3, "names": "nowhere.yaml"}
    status, out, error = examine(tmp_path, capsys, clusters=few)
    assert status == 1 and "nowhere.yaml: no such file" in out and error.endswith(": cluster names\n")
    (tmp_path / "nowhere.yaml").write_text("names: {0: toad}")
    coco |= {"annotations": "x.json"}
    (tmp_path / "x.json").write_text("{}")
    status, out, _ = examine(tmp_path, capsys, data=coco, clusters=few)
    assert status == 1 and "x.json: not a COCO instances JSON" in out
    images = [{"id": 1, "file_name": "00.png"}]
    content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "toad"}]}
    (tmp_path / "x.json").write_text(json.dumps(content))
    status, out, _ = examine(tmp_path, capsys, data=coco, clusters=few)
    assert status == 0 and "1 in nowhere.yaml" in out and "x.json: 0 objects in 23 pictures" in out


def test_disk_space_and_versions_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(values())
    assert disk_need(config, 10) == RESERVE + 10 * 40 * 53 * 384 * 4, "keys of 640 x 848 pixels at patch 16"
    assert disk_need(load_config(values(features={"store": False})), 10) == RESERVE
    monkeypatch.setattr(
        inspection, "requires", lambda name: ["numpy<1", "torch>=2", "no-such-library>=3", "x; extra == 'y'"]
    )
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": RESERVE / 2}))
    monkeypatch.setattr(inspection, "visible_gpus", list)
    monkeypatch.chdir(tmp_path)
    assert main(["doctor"]) == 1
    printed = capsys.readouterr()
    assert "3 required things are missing or wrong: numpy, no-such-library, disk" in printed.err
    assert f"{make('install')} (wanted numpy<1)" in printed.out and "1 GB free" in printed.out


def test_paths_and_weights_of_a_run() -> None:
    """The names that results have had since the first version, spelled out."""
    config = load_config(values(pseudo_labels={"tau": 0.2, "type": "grabcut"}, clusters={"overcluster": 3}))
    place = main_values(config) | {"seed": 1234}
    assert DETECTOR.format(**place) == "topk-0.4/k-60/seed-1234/detector/model.safetensors"
    round_folder = "topk-0.4/k-60/seed-1234/tau-0.2-grabcut/hard-0.2/crf-0"
    assert SEGMENTER.format(**place) == f"{round_folder}/segmenter/model.safetensors"
    pretrained = load_config(values(backbone={"arch": "vit_small_patch8", "weights": "pretrain"}))
    assert (
        weights_path(pretrained, "clusters", pretrained.backbone) == "results/r/pretrain/backbone.safetensors"
    )
    assert weights_path(config, "backbone", config.backbone) is None
    by_hand = load_config(values(backbone={"arch": "dinov3_vits16", "weights": "official"})).backbone
    with pytest.raises(
        MaskDistillError, match=r"backbone\.weights: resources/weights/dinov3.*accept the DINOv3 License"
    ):
        weights_path(config, "backbone", by_hand)


@pytest.mark.parametrize(
    ("value", "name"),
    [(0.4, "0.4"), (1.0, "1"), (0.0, "0"), (1e-5, "0.00001"), (1 / 3, "0.3333333333333333"), (0.95, "0.95")],
)
def test_a_swept_value_comes_back_from_its_path(value: float, name: str) -> None:
    assert value_name(value) == name and float(name) == value


def test_absent_onnx_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "find_spec", lambda name: None if name == "onnxruntime" else name)
        assert main(["export", "--run", str(tmp_path), "--out", str(tmp_path / "x")]) == 1
    assert "export needs onnxruntime, which are not installed: pip install" in capsys.readouterr().err
