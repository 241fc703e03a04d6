"""The linear probe: what is trained and what is not, its schedule, exact resumption, learning, entry
points.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from miniature import write_lines
from PIL import Image
from torch import Tensor, nn

from maskdistill import cli
from maskdistill.backbones.resnet import build_resnet
from maskdistill.config import ProbeConfig, SegmenterConfig
from maskdistill.evaluation import probe as probe_module
from maskdistill.evaluation.probe import make_probe, train_probe
from maskdistill.evaluation.semantic import Confusions, semantic_scores
from maskdistill.formats.label_png import read_label_png, write_label_png
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import write_json
from maskdistill.segmenter.data import LabelledImages, segmenter_batches
from maskdistill.segmenter.inference import segment
from maskdistill.segmenter.model import OUTPUT_STRIDE, DeepLab, segmenter_lr, steps_per_epoch
from maskdistill.training.checkpoint import describe_model, save_model
from maskdistill.training.loop import LoopSettings, MetricRow

CPU = torch.device("cpu")
CLUSTERS, CLASSES = 2, 3


pytestmark = pytest.mark.usefixtures("one_thread")


def segmenter_config() -> SegmenterConfig:
    return SegmenterConfig(
        arch="resnet_tiny",
        weights="random",
        head_channels=16,
        atrous_rates=(2, 4, 6),
        size=48,
        batch_size=2,
        workers=0,
    )


def segmenter() -> DeepLab:
    """Untrained, with batch norm statistics that a training step would change."""
    torch.manual_seed(0)
    config = segmenter_config()
    model = DeepLab(config, CLUSTERS, build_resnet(config.arch, OUTPUT_STRIDE))
    for name, buffer in model.named_buffers():
        if buffer.is_floating_point():
            buffer.copy_(torch.rand(buffer.shape) + (0.5 if name.endswith("var") else 0.0))
    return model


def probe_config(**changes: Any) -> ProbeConfig:
    values: dict[str, Any] = {"epochs": 3, "batch_size": 2, "drop_after": 2, "workers": 0, "log_every": 1}
    return ProbeConfig(**(values | changes))


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six training pictures and two to score: a blue, red or green block (classes 1, 2, 3) on grey; 6 lacks
    labels.
    """
    folder = tmp_path_factory.mktemp("run")
    lines = ["image_id,key,path,width,height,mode,sha256,shard,train,eval,status,reason"]
    colors = {1: (40, 80, 230), 2: (230, 60, 40), 3: (40, 210, 60)}
    images = []
    for index in range(9):
        rng = np.random.default_rng(index)
        photo = rng.integers(90, 130, (44, 60, 3), dtype=np.uint8)
        labels = np.zeros((44, 60), np.uint8)
        for place, label in enumerate(np.roll([1, 2, 3], index)):
            top = rng.integers(2, 20)
            block = (slice(top, top + 20), slice(18 * place + 4, 18 * place + 18))
            photo[block], labels[block] = colors[int(label)], label
        labels[:2] = 255
        Image.fromarray(photo).save(folder / f"{index}.png")
        train = index < 7
        if index != 6:
            write_label_png(folder / f"truth-{'train' if train else 'eval'}/semantic/sub/{index}.png", labels)
        lines.append(f"{index + 1},sub/{index},{index}.png,60,44,RGB,x,0,{train},{not train},ok,")
        if not train:
            images.append(
                {"id": index + 1, "file_name": f"sub/{index}", "width": 60, "height": 44, "has_masks": False,
                 "has_semantic": True, "evaluated": True}
            )  # fmt: skip
    write_lines(folder / "manifest.csv", lines)
    categories = [
        {"id": number, "name": name} for number, name in enumerate(("sea", "rose", "leaf"), start=1)
    ]
    for split in ("train", "eval"):
        content = {"images": images if split == "eval" else [], "annotations": [], "categories": categories}
        write_json(folder / f"truth-{split}/instances.json", content)
    return folder


def dataset(folder: Path, config: ProbeConfig, **changes: Any) -> LabelledImages:
    files: list[tuple[str | Path, str | Path]] = [
        (folder / f"{index}.png", folder / f"truth-train/semantic/sub/{index}.png") for index in range(6)
    ]
    augmentation = segmenter_config().model_copy(update={"batch_size": config.batch_size, **changes})
    return LabelledImages(files, CLASSES, augmentation, 7)


def fit(model: DeepLab, data: LabelledImages, config: ProbeConfig, state: Path) -> list[MetricRow]:
    steps = config.epochs * steps_per_epoch(len(data), config.batch_size)
    loop = LoopSettings(
        steps, state, "f", checkpoint_every=config.checkpoint_every, log_every=config.log_every
    )
    return train_probe(model, data, config, loop, CPU)


def test_two_tensors_of_the_papers_shapes_are_trained() -> None:
    with torch.device("meta"):
        config = SegmenterConfig(weights="random")
        model = make_probe(DeepLab(config, 7, build_resnet("resnet50", OUTPUT_STRIDE)), 20, 0.01)
    trained = {name: tuple(value.shape) for name, value in model.named_parameters() if value.requires_grad}
    assert trained == {"classifier.4.weight": (21, 256, 1, 1), "classifier.4.bias": (21,)}
    assert not any(module.training for module in model.modules())


def test_the_fresh_classifier_is_normal_with_bias_zero() -> None:
    torch.manual_seed(0)
    wide = DeepLab(
        SegmenterConfig(arch="resnet_tiny", weights="random"), 2, build_resnet("resnet_tiny", OUTPUT_STRIDE)
    )
    last = make_probe(wide, 20, 0.01).classifier[-1]
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    assert not last.bias.any()
    values = last.weight.detach().flatten()
    assert float(values.std()) == pytest.approx(0.01, rel=0.05)
    assert abs(float(values.mean())) < 5e-4
    assert float((values.abs() < 0.01).float().mean()) == pytest.approx(0.683, abs=0.02)


def test_everything_else_is_bit_identical_after_training(run_folder: Path, tmp_path: Path) -> None:
    model = make_probe(segmenter(), CLASSES, 0.01)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    config = probe_config()
    fit(model, dataset(run_folder, config), config, tmp_path)
    after = model.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == {"classifier.4.weight", "classifier.4.bias"}
    assert sum("running_" in name for name in before) > 10
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize(("epoch", "rate"), [(0, 0.1), (24, 0.1), (25, 0.01), (44, 0.01)])
def test_learning_rate_of_the_paper(epoch: int, rate: float) -> None:
    config = ProbeConfig()
    steps = steps_per_epoch(10582, config.batch_size)
    assert (steps, config.epochs, config.batch_size) == (440, 45, 24)
    for step in (epoch * steps, (epoch + 1) * steps - 1):
        assert segmenter_lr(config, step, steps) == pytest.approx(rate)


def test_the_schedule_is_followed(run_folder: Path, tmp_path: Path) -> None:
    config = probe_config()
    rows = fit(make_probe(segmenter(), CLASSES, 0.01), dataset(run_folder, config), config, tmp_path)
    assert [row["lr"] for row in rows] == pytest.approx([0.1] * 6 + [0.01] * 3)


def test_first_step_is_the_formula(run_folder: Path, tmp_path: Path) -> None:
    """One step of SGD on the mean cross-entropy of all labelled pixels, computed in numpy from the
    features.
    """
    config = probe_config(epochs=1, batch_size=6, weight_decay=0.5)
    model = make_probe(segmenter(), CLASSES, 0.01)
    data = dataset(run_folder, config, size=40)
    seen: dict[str, Any] = {}
    last = model.classifier[-1]
    assert isinstance(last, nn.Conv2d) and last.bias is not None

    def watch(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        seen["features"] = given[0].detach().double()

    last.register_forward_pre_hook(watch)
    weight, bias = last.weight.detach().double().clone(), last.bias.detach().double().clone()
    (_, labels), *_ = segmenter_batches(data, 1, 0)
    rows = fit(model, data, config, tmp_path)
    enlarge = torch.nn.functional.interpolate
    features = enlarge(seen["features"], size=(40, 40), mode="bilinear", align_corners=False).numpy()
    x = features.transpose(0, 2, 3, 1).reshape(-1, 16)
    y = labels.numpy().ravel()
    x, y = x[y != 255], y[y != 255]
    w = weight.numpy()[:, :, 0, 0]
    scores = x @ w.T + bias.numpy()
    probability = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    assert rows[0]["loss"] == pytest.approx(-np.log(probability[np.arange(len(y)), y]).mean(), rel=1e-5)
    slope = (probability - np.eye(CLASSES + 1)[y]) / len(y)
    np.testing.assert_allclose(
        last.weight.detach().numpy()[:, :, 0, 0], w - 0.1 * (slope.T @ x + 0.5 * w), atol=1e-6
    )
    np.testing.assert_allclose(last.bias.detach().numpy(), bias.numpy() - 0.1 * slope.sum(0), atol=1e-6)


def test_a_model_with_more_to_train_is_refused(run_folder: Path, tmp_path: Path) -> None:
    config = probe_config()
    with pytest.raises(MaskDistillError, match="last convolution alone"):
        fit(segmenter().eval(), dataset(run_folder, config), config, tmp_path)
    with pytest.raises(MaskDistillError, match="in eval mode"):
        fit(make_probe(segmenter(), CLASSES, 0.01).train(), dataset(run_folder, config), config, tmp_path)


class Interrupted(Exception):
    """Stands for a kill."""


@pytest.mark.slow
def test_a_killed_probe_resumes_bit_for_bit(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = probe_config(checkpoint_every=2)
    whole, cut = (make_probe(segmenter(), CLASSES, 0.01) for _ in range(2))
    rows = fit(whole, dataset(run_folder, config), config, tmp_path / "whole")

    def until_step_5(*args: Any) -> Iterator[Any]:
        for number, batch in enumerate(segmenter_batches(*args)):
            if number == 5:
                raise Interrupted
            yield batch

    with monkeypatch.context() as patched:
        patched.setattr(probe_module, "segmenter_batches", until_step_5)
        with pytest.raises(Interrupted):
            fit(cut, dataset(run_folder, config), config, tmp_path / "cut")
    again = make_probe(segmenter(), CLASSES, 0.01)
    assert fit(again, dataset(run_folder, config), config, tmp_path / "cut") == rows
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


@pytest.mark.slow
def test_separable_features_give_a_high_miou(run_folder: Path, tmp_path: Path) -> None:
    """With the colours themselves as features the true classes are found on unseen pictures, without
    matching.
    """
    model = segmenter()
    model.backbone = nn.Identity()  # type: ignore[assignment]
    model.classifier = nn.Sequential(*(nn.Identity() for _ in range(4)), nn.Conv2d(3, CLUSTERS + 1, 1))
    probe = make_probe(model, CLASSES, 0.01)
    config = probe_config(epochs=30, drop_after=25, lr=0.5)
    fit(probe, dataset(run_folder, config, rotation=0.0, scale=(1.0, 1.0)), config, tmp_path)
    confusions = Confusions(CLASSES + 1, CLASSES + 1)
    for index in (7, 8):
        (found,) = segment(
            probe, [np.asarray(Image.open(run_folder / f"{index}.png"))], segmenter_config(), CPU
        )
        confusions.add(found, read_label_png(run_folder / f"truth-eval/semantic/sub/{index}.png"))
    assert semantic_scores(confusions.total, "none").miou > 0.9


# ---------------------------------------------------------------- entry points


def write_segmenter(path: Path) -> None:
    model, provenance = segmenter(), {"stage": "segmenter"}
    save_model(path, model.state_dict(), describe_model(segmenter_config(), CLUSTERS, provenance))


def call_probe(folder: Path, output: Path, truth: str = "truth-train", **changes: Any) -> int:
    model = output / "segmenter.safetensors"
    write_segmenter(model)
    inputs = ["--manifest", f"{folder}/manifest.csv", "--ground-truth", f"{folder}/{truth}/instances.json"]
    outputs = ["--output", f"{output}/model.safetensors", "--metrics", f"{output}/metrics.csv"]
    common = ["--state", f"{output}/state", "--seed", "3", "--device", "cpu", "--threads", "1"]
    params = probe_config(**changes).model_dump_json()
    return cli.main(["probe", *inputs, "--model", str(model), *outputs, *common, "--params", params])


@pytest.mark.slow
def test_entry_points_from_segmenter_to_score(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        assert call_probe(run_folder, tmp_path / name) == 0
    assert "1 of 7 training images have no label map" in capsys.readouterr().err
    model = tmp_path / "a/model.safetensors"
    assert model.read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()
    assert not (tmp_path / "a/state").exists()
    assert (tmp_path / "a/metrics.csv").read_text().startswith("step,lr,loss,")
    manifest = ["--manifest", f"{run_folder}/manifest.csv"]
    labels = tmp_path / "labels/shard-0"
    common = ["--device", "cpu", "--threads", "1", "--output", str(labels)]
    assert cli.main(["predictions", *manifest, "--shard", "0", "--model", str(model), *common]) == 0
    scores = tmp_path / "probe.json"
    truth = ["--ground-truth", f"{run_folder}/truth-eval/instances.json", "--label-dirs", str(labels)]
    options = ["--num-clusters", str(CLUSTERS), "--params", '{"bootstrap": 5}', "--output", str(scores)]
    assert cli.main(["evaluation", "--stage", "probe", *manifest, *truth, *options]) == 0
    result = json.loads(scores.read_text())
    assert result["stage"] == "probe" and result["corloc"] is None and result["ap"] is None
    assert result["matching"] == {str(label): label for label in range(CLASSES + 1)}
    confusions = Confusions(CLASSES + 1, CLASSES + 1)
    for index in (7, 8):
        found = read_label_png(labels / f"sub/{index}.png")
        confusions.add(found, read_label_png(run_folder / f"truth-eval/semantic/sub/{index}.png"))
    assert result["miou"] == pytest.approx(100 * semantic_scores(confusions.total, "none").miou)


def test_without_labels_of_training_images_it_says_what_to_do(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call_probe(run_folder, tmp_path, truth="truth-eval") == 1
    message = capsys.readouterr().err
    assert "no training image has a label map" in message and "--images train" in message
    assert not (tmp_path / "model.safetensors").exists()
