"""The detector: schedule, data, model, exact resumption, learning, entry points."""

import json
import pickle
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from miniature import write_lines
from PIL import Image
from torch import Tensor, nn

from maskdistill import cli
from maskdistill.annotations.index import IndexBuilder, read_index
from maskdistill.backbones.students import build_student
from maskdistill.config import DetectorConfig
from maskdistill.detector import train as detector_train
from maskdistill.detector.data import AnnotatedImages, Batch, Example, detector_batches, example_of
from maskdistill.detector.examples import IndexedExamples
from maskdistill.detector.inference import detect, inference_config
from maskdistill.detector.model import build_detector, detector_lr, norm_parameter_groups
from maskdistill.detector.train import fastest_layout, train_detector
from maskdistill.formats import rle
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.json_stream import write_json_object
from maskdistill.training import compilation
from maskdistill.training.loop import LoopSettings, MetricRow

CPU = torch.device("cpu")
HEIGHT, WIDTH, IMAGES = 64, 80, 6


pytestmark = pytest.mark.usefixtures("one_thread")


def config(**changes: Any) -> DetectorConfig:
    values: dict[str, Any] = {
        "arch": "resnet_tiny", "weights": "random", "freeze_at": 0, "iters": 100, "steps": [70],
        "batch_size": 3,
        "lr": 0.02, "warmup_iters": 10, "min_size_train": [64], "min_size_test": 64, "max_size": 96,
        "anchor_sizes": [32, 48], "rpn_pre_nms": (200, 100), "rpn_post_nms": (40, 20), "rpn_batch": 32,
        "roi_batch": 12, "roi_pool": 8, "max_dets": 10, "precise_bn": 0, "workers": 0,
    }  # fmt: skip
    return DetectorConfig(**(values | changes))


VIT = {
    "arch": "vit_micro_patch8",
    "optimizer": "adamw",
    "lr": 2e-3,
    "weight_decay": 0.05,
    "head_channels": 32,
}
PYRAMID = {"pyramid": True, "head_channels": 32}
STUDENTS = pytest.mark.parametrize("student", [{}, PYRAMID, VIT], ids=["resnet", "pyramid", "vit"])


def draw(index: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """A grey picture with one blue disc (even index) or red rectangle (odd), and its mask."""
    rng = np.random.default_rng(index)
    image = rng.integers(90, 130, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    row, column, size = rng.integers(22, 42), rng.integers(22, 58), rng.integers(14, 21)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    if index % 2:
        mask = (abs(y - row) < size) & (abs(x - column) < size * 0.8)
        image[mask] = (230, 60, 40)
    else:
        mask = (y - row) ** 2 + (x - column) ** 2 < size * size
        image[mask] = (40, 80, 230)
    return image, mask


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> list[Example]:
    folder = tmp_path_factory.mktemp("shapes")
    found = []
    for index in range(IMAGES):
        image, mask = draw(index)
        Image.fromarray(image).save(folder / f"{index}.png")
        coded = rle.encode(mask)
        found.append(Example(folder / f"{index}.png", (tuple(rle.bbox(coded)),), (1 + index % 2,), (coded,)))
    return found


def fresh(settings: DetectorConfig) -> nn.Module:
    torch.manual_seed(0)
    return build_detector(settings, 2, build_student(settings.arch))


def fit(examples: list[Example], state: Path, settings: DetectorConfig) -> tuple[nn.Module, list[MetricRow]]:
    loop = LoopSettings(settings.iters, state, "f", checkpoint_every=settings.checkpoint_every, log_every=2)
    return train_detector(fresh(settings), AnnotatedImages(examples, 0.5, 7), settings, loop, CPU)


@pytest.mark.parametrize(
    ("step", "rate"),
    [(0, 0.02 * 0.001), (50, 0.02 * (0.001 * 0.5 + 0.5)), (99, 0.02 * (0.001 * 0.01 + 0.99)), (100, 0.02),
     (19999, 0.02), (20000, 0.002), (21999, 0.002), (22000, 0.0002), (23999, 0.0002)],
)  # fmt: skip
def test_learning_rate_of_the_paper(step: int, rate: float) -> None:
    assert detector_lr(DetectorConfig(weights="random"), step) == pytest.approx(rate)


def test_channels_come_last_but_for_c4_on_a_cpu() -> None:
    c4, pyramid = DetectorConfig(weights="random"), DetectorConfig(weights="random", pyramid=True)
    vit = DetectorConfig(weights="random", arch="vit_micro_patch8")
    assert [fastest_layout(one, CPU) for one in (c4, pyramid, vit)] == [
        torch.contiguous_format,
        *[torch.channels_last] * 2,
    ]
    assert fastest_layout(c4, torch.device("cuda")) == torch.channels_last


def test_norm_layers_have_no_weight_decay() -> None:
    model = fresh(config(freeze_at=2))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, plain = norm_parameter_groups(model, 1e-4)
    assert (decayed["weight_decay"], plain["weight_decay"]) == (1e-4, 0.0)
    norm_names = {names[id(p)] for p in plain["params"]}  # type: ignore[attr-defined]
    other_names = {names[id(p)] for p in decayed["params"]}  # type: ignore[attr-defined]
    assert "roi_heads.box_head.1.weight" in norm_names
    assert "backbone.layer2.0.bn1.bias" in norm_names
    assert "backbone.layer2.0.conv1.weight" in other_names
    assert "rpn.head.cls_logits.bias" in other_names
    assert not any(name.startswith(("backbone.conv1", "backbone.bn1",
    "backbone.layer1")) for name in names.values() if
                   name in norm_names | other_names)  # fmt: skip
    assert len(norm_names) + len(other_names) == sum(p.requires_grad for p in model.parameters())


def coco(examples: list[Example]) -> dict[str, Any]:
    images = [
        {"id": i + 1, "file_name": str(i), "width": WIDTH, "height": HEIGHT} for i in range(len(examples))
    ]
    annotations = [
        {"id": i + 1, "image_id": i + 1, "category_id": e.labels[0], "bbox": list(e.boxes[0]),
         "segmentation": e.masks[0], "area": rle.area(e.masks[0]), "iscrowd": 0, "score": 1.0}
        for i, e in enumerate(examples)
    ]  # fmt: skip
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }


def write_annotations(folder: Path, content: dict[str, Any]) -> None:
    """The dataset and its index."""
    index = IndexBuilder()
    with write_json_object(folder / "annotations.json") as stream, stream.array("annotations") as append:
        for item in content["annotations"]:
            index.add(item["image_id"], *append(item))
    index.write(folder / "annotations.h5", len(content["categories"]))


def write_pictures(folder: Path, examples: list[Example]) -> None:
    """Copies of the pictures, and their manifest."""
    lines = ["image_id,key,path,width,height,mode,sha256,shard,train,eval,status,reason"]
    for index, example in enumerate(examples):
        shutil.copy(example.file, folder / f"{index}.png")
        lines.append(f"{index + 1},{index},{index}.png,{WIDTH},{HEIGHT},RGB,x,{index // 3},True,False,ok,")
    write_lines(folder / "manifest.csv", lines)


def indexed(folder: Path) -> IndexedExamples:
    return IndexedExamples(
        read_index(folder / "annotations.json", folder / "annotations.h5"), folder / "manifest.csv"
    )


def test_examples_leave_out_images_without_annotations(examples: list[Example], tmp_path: Path) -> None:
    write_pictures(tmp_path, examples)
    annotations = coco(examples)
    second = annotations["annotations"][4] | {"id": 77, "category_id": 2}
    annotations["annotations"].insert(5, second)
    del annotations["annotations"][2]
    write_annotations(tmp_path, annotations)
    found = indexed(tmp_path)
    expected = [replace(e, file=tmp_path / f"{i}.png") for i, e in enumerate(examples)]
    expected[4] = replace(
        expected[4],
        boxes=expected[4].boxes * 2,
        labels=(expected[4].labels[0], 2),
        masks=expected[4].masks * 2,
    )
    del expected[2]
    expected = [replace(example, file=str(example.file)) for example in expected]
    assert (
        len(found) == 5
        and list(found) == expected
        and found[1:3] == expected[1:3]
        and found[-1] == expected[-1]
    )
    assert pickle.loads(pickle.dumps(found))[3] == expected[3]
    with pytest.raises(IndexError):
        found[5]


def test_squares_are_grouped_with_portraits_as_in_detectron2(examples: list[Example], tmp_path: Path) -> None:
    """detectron2's AspectRatioGroupedDataset: ``0 if width > height else 1``."""
    sizes = [(60, 40), (40, 60), (50, 50), (51, 50), (50, 51), (1, 1)]
    write_pictures(tmp_path, examples)
    write_annotations(tmp_path, coco(examples))
    lines = (tmp_path / "manifest.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    lines[1:] = [
        ",".join([*row[:3], str(w), str(h), *row[5:]]) for row, (w, h) in zip(rows, sizes, strict=True)
    ]
    write_lines(tmp_path / "manifest.csv", lines)
    found = indexed(tmp_path).portrait
    assert found.tolist() == [0 if width > height else 1 for width, height in sizes] == [0, 1, 1, 0, 1, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"category_id": 3}, r"3 is not in 1\.\.2"),
        ({"bbox": [1, 1, 0, 4]}, "no area"),
    ],
)
def test_bad_annotations_are_refused(examples: list[Example], change: dict[str, Any], message: str) -> None:
    items = [coco(examples)["annotations"][1], coco(examples)["annotations"][1] | {"id": 8} | change]
    with pytest.raises(MaskDistillError, match=rf"annotation 8 of image 2: .*{message}"):
        example_of(items, examples[1].file, 2)


def test_annotations_of_unknown_images_and_of_none_are_refused(
    examples: list[Example], tmp_path: Path
) -> None:
    write_pictures(tmp_path, examples[:4])
    write_annotations(tmp_path, coco(examples))
    with pytest.raises(
        MaskDistillError, match=r"image 5 is annotated, but .*manifest\.csv has no usable image"
    ):
        indexed(tmp_path)
    write_annotations(tmp_path, coco(examples) | {"annotations": []})
    with pytest.raises(MaskDistillError, match="no image has an annotation"):
        indexed(tmp_path)


def test_a_picture_of_another_size_than_its_mask_is_refused(examples: list[Example], tmp_path: Path) -> None:
    Image.new("RGB", (50, 50)).save(tmp_path / "small.png")
    example = Example(
        tmp_path / "small.png", *[getattr(examples[0], name) for name in ("boxes", "labels", "masks")]
    )
    with pytest.raises(MaskDistillError, match=r"small\.png: 50x50 pixels, but its mask has 80x64"):
        AnnotatedImages([example], 0.0, 0)[0, 0]


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_image_box_and_mask_are_mirrored_together(examples: list[Example], flip: float) -> None:
    image, target = AnnotatedImages(examples, flip, 0)[3, 5]
    pixels, mask = draw(3)
    if flip:
        pixels, mask = pixels[:, ::-1], mask[:, ::-1]
    rows, columns = np.nonzero(mask)
    assert np.array_equal(image.permute(1, 2, 0).numpy(), pixels)
    assert np.array_equal(target["masks"][0].numpy().astype(bool), mask)
    assert target["boxes"].tolist() == [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]
    assert target["labels"].tolist() == [2]


def flat(batches: Iterator[Batch]) -> list[Tensor]:
    return [tensor for images, targets in batches for tensor in [*images, *(t["boxes"] for t in targets)]]


def test_batches_do_not_depend_on_workers(examples: list[Example]) -> None:
    dataset = AnnotatedImages(examples, 0.5, 7)
    alone, shared = (flat(detector_batches(dataset, 3, 6, 1, workers)) for workers in (0, 2))
    assert len(alone) == len(shared) == 5 * 3 * 2
    assert all(torch.equal(a, b) for a, b in zip(alone, shared, strict=True))


def test_training_sizes_are_drawn_and_the_test_size_is_fixed() -> None:
    transform: Any = fresh(config(min_size_train=[32, 48], min_size_test=64)).transform
    image = torch.rand(3, HEIGHT, WIDTH)

    def size(seed: int) -> tuple[int, int]:
        target = {
            "boxes": torch.tensor([[4.0, 4.0, 40.0, 50.0]]),
            "masks": torch.ones(1, HEIGHT, WIDTH, dtype=torch.uint8),
            "seed": torch.tensor(seed),
        }
        found: tuple[int, int] = transform([image], [target])[0].image_sizes[0]
        return found

    drawn = [size(seed) for seed in range(20)]
    assert set(drawn) == {(32, 40), (48, 60)}
    assert drawn == [size(seed) for seed in range(20)]
    assert transform.eval()([image])[0].image_sizes == [(64, 80)]


def test_mask_loss_reads_the_mask_of_the_true_class(examples: list[Example]) -> None:
    """With K mask channels, class k owns channel k - 1: only that channel gets a gradient."""
    model: Any = fresh(config())
    model.train()
    image, target = AnnotatedImages(examples, 0.0, 0)[1, 0]
    losses = model([image.float() / 255], [target])
    losses["loss_mask"].backward()
    gradient = model.roi_heads.mask_predictor.mask_fcn_logits.weight.grad.abs().sum(dim=(1, 2, 3))
    assert target["labels"].tolist() == [2]
    assert gradient[0] == 0
    assert gradient[1] > 0
    assert set(losses) == {
        "loss_classifier",
        "loss_box_reg",
        "loss_mask",
        "loss_objectness",
        "loss_rpn_box_reg",
    }


def test_frozen_stages_do_not_change_in_training(examples: list[Example], tmp_path: Path) -> None:
    settings = config(freeze_at=2, iters=2, batch_size=2)
    before = {key: value.clone() for key, value in fresh(settings).state_dict().items()}
    after = fit(examples, tmp_path, settings)[0].state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    frozen = ("backbone.conv1", "backbone.bn1", "backbone.layer1")
    assert not any(key.startswith(frozen) for key in changed)
    assert {"backbone.layer2.0.bn1.running_mean", "roi_heads.box_head.0.0.conv1.weight"} <= changed


@pytest.mark.slow
def test_a_compiled_network_learns_the_same(
    examples: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Traced alone: inductor takes minutes on CPUs. That a compiled network has gradients is the segmenter's
    # test too.
    monkeypatch.setattr(compilation, "BACKEND", "eager")
    settings = config(iters=2, batch_size=2)
    plain, rows = fit(examples, tmp_path / "plain", settings)
    compiled, compiled_rows = fit(
        examples, tmp_path / "compiled", settings.model_copy(update={"compile": True})
    )
    assert compiled.backbone._compiled_call_impl is not None and plain.backbone._compiled_call_impl is None
    assert [row["loss"] for row in compiled_rows] == pytest.approx([row["loss"] for row in rows], rel=1e-3)
    assert compiled.state_dict().keys() == plain.state_dict().keys()


class Interrupted(Exception):
    """Stands for a kill."""


@pytest.mark.slow
@STUDENTS
def test_two_runs_agree_and_a_killed_one_resumes_bit_for_bit(
    examples: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, student: dict[str, Any]
) -> None:
    settings = config(**student, iters=5, batch_size=2, min_size_train=[48, 64], checkpoint_every=2)
    whole, rows = fit(examples, tmp_path / "whole", settings)

    def cut(*args: Any) -> Iterator[Batch]:
        for number, batch in enumerate(detector_batches(*args)):
            if number == 3:
                raise Interrupted
            yield batch

    with monkeypatch.context() as patched:
        patched.setattr(detector_train, "detector_batches", cut)
        with pytest.raises(Interrupted):
            fit(examples, tmp_path / "cut", settings)
    assert (tmp_path / "cut/state.pt").exists()
    resumed, resumed_rows = fit(examples, tmp_path / "cut", settings)
    assert resumed_rows == rows
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


@pytest.mark.slow
@pytest.mark.parametrize("student", [PYRAMID, VIT], ids=["pyramid", "vit"])
def test_the_detector_learns_a_few_images(
    examples: list[Example], tmp_path: Path, student: dict[str, Any]
) -> None:
    """For a ResNet without a pyramid see test_overfitting."""
    settings = config(**student, iters=60, steps=[42])
    model, rows = fit(examples, tmp_path, settings)
    assert rows[-1]["loss"] < rows[0]["loss"] / 2
    overlaps = []
    for index, example in enumerate(examples):
        best = detect(model, torch.from_numpy(draw(index)[0]).permute(2, 0, 1), CPU)[0]
        assert best["category_id"] == example.labels[0]
        found, truth = rle.decode(best["segmentation"]), rle.decode(example.masks[0])
        overlaps.append((found & truth).sum() / (found | truth).sum())
    assert np.mean(overlaps) > 0.65


def test_candidates_are_sorted_and_inside_the_image() -> None:
    model = fresh(config(score_thresh=0.0, nms=0.9, min_size_test=32)).eval()
    found = detect(model, torch.from_numpy(draw(0)[0]).permute(2, 0, 1), CPU)
    assert 1 < len(found) <= 10
    scores = [candidate["score"] for candidate in found]
    assert scores == sorted(scores, reverse=True)
    for candidate in found:
        x, y, w, h = candidate["bbox"]
        assert candidate["category_id"] in (1, 2)
        assert min(x, y) >= 0 and x + w <= WIDTH + 0.002 and y + h <= HEIGHT + 0.002
        assert candidate["segmentation"]["size"] == [HEIGHT, WIDTH]
        assert rle.area(candidate["segmentation"]) > 0


def test_an_image_without_detections_has_no_candidates() -> None:
    model = fresh(config(score_thresh=1.0)).eval()
    assert detect(model, torch.zeros(3, HEIGHT, WIDTH, dtype=torch.uint8), CPU) == []


def test_inference_settings_come_from_params_and_the_rest_from_the_model() -> None:
    trained = config()
    changed = inference_config(trained, '{"score_thresh": 0.3, "max_dets": 7, "iters": 5}')
    assert (changed.score_thresh, changed.max_dets) == (0.3, 7)
    assert changed.iters == trained.iters
    assert inference_config(trained, "{}") == trained
    with pytest.raises(MaskDistillError, match=r"roi_pool is 14, but the model was trained with 8"):
        inference_config(trained, '{"roi_pool": 14}')
    with pytest.raises(MaskDistillError, match="unknown key"):
        inference_config(trained, '{"score_treshold": 0.3}')


@pytest.fixture(scope="module")
def run_folder(examples: list[Example], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, manifest and annotations."""
    folder = tmp_path_factory.mktemp("run")
    write_pictures(folder, examples)
    write_annotations(folder, coco(examples))
    return folder


def call_detector(folder: Path, output: Path, *more: str, **changes: Any) -> int:
    inputs = ["--manifest", str(folder / "manifest.csv"), "--annotations", str(folder / "annotations.json")]
    inputs += ["--index", str(folder / "annotations.h5")]
    outputs = ["--output", str(output / "model.safetensors"), "--metrics", str(output / "metrics.csv")]
    common = ["--state", str(output / "state"), "--seed", "3", "--device", "cpu", "--threads", "1"]
    settings = config(
        iters=2, batch_size=2, reference_batch=2, score_thresh=0.0, checkpoint_every=1, **changes
    )
    params = settings.model_dump_json()
    return cli.main(["detector", *inputs, *outputs, *common, "--params", params, *more])


@pytest.mark.slow
@STUDENTS
def test_entry_points_are_deterministic_and_complete(
    run_folder: Path, tmp_path: Path, student: dict[str, Any]
) -> None:
    deterministic = torch.are_deterministic_algorithms_enabled()
    for name in ("a", "b"):
        assert call_detector(run_folder, tmp_path / name, **student) == 0
    torch.use_deterministic_algorithms(deterministic)
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b"))
    assert first == second
    assert str(tmp_path).encode() not in first
    assert not (tmp_path / "a/state").exists()
    assert (tmp_path / "a/metrics.csv").read_text().startswith("step,lr,loss,")
    arguments = [
        "--manifest",
        str(run_folder / "manifest.csv"),
        "--model",
        str(tmp_path / "a/model.safetensors"),
    ]
    common = ["--shard", "1", "--device", "cpu", "--threads", "1", "--params", '{"max_dets": 2}']
    assert cli.main(["candidates", *arguments, *common, "--output", str(tmp_path / "shard.json")]) == 0
    written = json.loads((tmp_path / "shard.json").read_text())
    per_image = [candidate["image_id"] for candidate in written["candidates"]]
    assert set(per_image) == {4, 5, 6}
    assert max(per_image.count(image) for image in per_image) <= 2
    assert set(written["candidates"][0]) == {"image_id", "category_id", "score", "bbox", "segmentation"}
    assert written["provenance"]["params"]["max_dets"] == 2


def test_candidates_without_a_model_say_what_to_run(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "--manifest",
        str(run_folder / "manifest.csv"),
        "--model",
        str(tmp_path / "none.safetensors"),
    ]
    status = cli.main(
        ["candidates", *arguments, "--shard", "0", "--output", str(tmp_path / "o.json"), "--device", "cpu"]
    )
    assert status == 1
    assert "run the detector stage first" in capsys.readouterr().err
    assert not (tmp_path / "o.json").exists()
