"""The segmenter: architecture, loss, augmentation, schedule, exact resumption, learning, entry points."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from miniature import write_lines
from PIL import Image
from torch import Tensor

from maskdistill import cli
from maskdistill.backbones.resnet import build_resnet
from maskdistill.config import CrfConfig, SegmenterConfig
from maskdistill.formats.label_png import read_label_png, write_label_png
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.provenance import make_provenance
from maskdistill.segmenter import train as segmenter_train
from maskdistill.segmenter.crf import refine
from maskdistill.segmenter.data import (
    LabelledImages,
    augment,
    find_label_files,
    resize_labels,
    segmenter_batches,
)
from maskdistill.segmenter.inference import class_probabilities, logits_of, segment
from maskdistill.segmenter.loss import hard_pixel_loss
from maskdistill.segmenter.model import OUTPUT_STRIDE, DeepLab, segmenter_lr, steps_per_epoch
from maskdistill.segmenter.train import train_segmenter
from maskdistill.training import compilation
from maskdistill.training.checkpoint import describe_model, save_model
from maskdistill.training.loop import LoopSettings, MetricRow

CPU = torch.device("cpu")
UInt8 = np.ndarray[Any, np.dtype[np.uint8]]


pytestmark = pytest.mark.usefixtures("one_thread")


def config(**changes: Any) -> SegmenterConfig:
    values: dict[str, Any] = {
        "arch": "resnet_tiny", "weights": "random", "freeze_at": 0, "head_channels": 32, "atrous_rates": (2,
        4, 6),
        "epochs": 2, "batch_size": 2, "reference_batch": 2, "lr": 0.02, "drop_after": 1, "size": 48,
        "workers": 0, "log_every": 1,
    }  # fmt: skip
    return SegmenterConfig(**(values | changes))


def fresh(settings: SegmenterConfig, num_clusters: int = 2) -> DeepLab:
    torch.manual_seed(0)
    return DeepLab(settings, num_clusters, build_resnet(settings.arch, OUTPUT_STRIDE))


@torch.inference_mode()
def test_logits_are_in_full_precision_under_autocast() -> None:
    """bfloat16 maps, then the last convolution and the enlargement in float32: no two equal largest
    logits.
    """
    model = fresh(config(), num_clusters=20).eval()
    images = torch.randn(1, 3, 64, 64)
    kept: list[Tensor] = []
    model.classifier[-2].register_forward_hook(lambda *passed: kept.append(passed[-1]))
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(images)
    assert kept[0].dtype == torch.bfloat16 and logits.dtype == torch.float32
    small = F.conv2d(kept[0].float(), model.classifier[-1].weight, model.classifier[-1].bias)
    expected = F.interpolate(small, (64, 64), mode="bilinear", align_corners=False)
    torch.testing.assert_close(logits, expected)
    largest = logits.topk(2, dim=1).values
    assert (largest[:, 0] > largest[:, 1]).all()


def test_a_trained_network_runs_in_the_precision_of_its_settings() -> None:
    """With labels, probabilities and logits alike; float32 is the default whatever the device."""
    model = fresh(config()).eval()
    seen: list[torch.dtype] = []
    model.backbone.layer4.register_forward_hook(lambda *passed: seen.append(passed[-1].dtype))
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    low = config(precision="bfloat16")
    plain, other = (logits_of(model, [image], one, CPU) for one in (config(), low))
    segment(model, [image], low, CPU)
    list(class_probabilities(model, [image], low, CPU))
    assert seen == [torch.float32, torch.bfloat16, torch.bfloat16, torch.bfloat16]
    assert not torch.equal(plain, other)
    torch.testing.assert_close(plain, other, rtol=0.1, atol=0.1)


@pytest.mark.slow
def test_it_is_torchvisions_deeplab_layer_for_layer() -> None:
    torch.manual_seed(0)
    reference = torchvision.models.segmentation.deeplabv3_resnet50(
        weights=None, weights_backbone=None, num_classes=21, aux_loss=None
    ).eval()
    for key, value in reference.state_dict().items():
        if key.endswith(("running_mean", "running_var")):
            value.copy_(torch.rand(value.shape) + 0.5)
    own = DeepLab(
        SegmenterConfig(weights="random", freeze_at=0), 20, build_resnet("resnet50", OUTPUT_STRIDE)
    ).eval()
    own.load_state_dict(reference.state_dict())
    images = torch.rand(1, 3, 40, 56)
    with torch.inference_mode():
        assert torch.equal(own(images), reference(images)["out"])


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "size"), [("resnet50", 128), ("resnet_tiny", 512)])
def test_maps_have_an_eighth_of_the_sides_before_upsampling(arch: str, size: int) -> None:
    settings = SegmenterConfig(arch=arch, weights="random")
    model = DeepLab(settings, 20, build_resnet(arch, OUTPUT_STRIDE)).eval()
    seen: list[Tensor] = []
    model.backbone.register_forward_hook(lambda *passed: seen.append(passed[-1]))
    with torch.inference_mode():
        logits = model(torch.zeros(1, 3, size, size))
    assert seen[0].shape[-2:] == (size // 8, size // 8) and logits.shape == (1, 21, size, size)


def slow_loss(logits: Tensor, labels: Tensor, fraction: float) -> float:
    """Eq. 4 pixel by pixel, in float64."""
    losses, pixels = [], 0
    for image, label in zip(logits.double().numpy(), labels.numpy(), strict=True):
        for row in range(label.shape[0]):
            for column in range(label.shape[1]):
                pixels += 1
                if label[row, column] != 255:
                    scores = image[:, row, column]
                    losses.append(np.log(np.exp(scores).sum()) - scores[label[row, column]])
    count = min(max(1, int(fraction * pixels)), len(losses))
    return float(np.mean(sorted(losses)[len(losses) - count :])) if count else 0.0


@pytest.mark.parametrize("fraction", [0.001, 0.05, 0.2, 0.7, 1.0])
@pytest.mark.parametrize("ignored", [0.0, 0.5, 0.95, 1.0])
def test_hard_pixel_loss_equals_a_slow_reference(fraction: float, ignored: float) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 4, 7, 5, generator=generator) * 3
    labels = torch.randint(0, 4, (2, 7, 5), generator=generator)
    labels[torch.rand(2, 7, 5, generator=generator) < ignored] = 255
    loss = hard_pixel_loss(logits, labels, fraction)
    assert float(loss) == pytest.approx(slow_loss(logits, labels, fraction), rel=1e-5)


def test_all_pixels_give_the_plain_mean_and_ignored_ones_no_gradient() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 6, 6, requires_grad=True)
    labels = torch.randint(0, 3, (2, 6, 6))
    labels[:, :3] = 255
    loss = hard_pixel_loss(logits, labels, 1.0)
    torch.testing.assert_close(loss, F.cross_entropy(logits, labels, ignore_index=255))
    hard_pixel_loss(logits, labels, 0.1).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    touched = logits.grad.abs().sum(1) > 0
    assert int(touched.sum()) == int(0.1 * 72)
    assert not touched[:, :3].any()


def test_hard_pixels_are_taken_over_the_batch_not_an_image() -> None:
    logits = torch.zeros(2, 2, 4, 4, requires_grad=True)
    with torch.no_grad():
        logits[0, 1] = 5.0
    labels = torch.zeros(2, 4, 4, dtype=torch.long)
    hard_pixel_loss(logits, labels, 0.25).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert (logits.grad[0].abs().sum(0) > 0).sum() == 8
    assert (logits.grad[1] == 0).all()


@pytest.mark.parametrize(
    ("epoch", "rate"), [(0, 2e-3), (39, 2e-3), (40, 2e-4), (44, 2e-4)]
)  # fmt: skip
def test_learning_rate_of_the_paper(epoch: int, rate: float) -> None:
    steps = steps_per_epoch(10582, 16)
    assert steps == 661
    settings = SegmenterConfig(weights="random")
    for step in (epoch * steps, (epoch + 1) * steps - 1):
        assert segmenter_lr(settings, step, steps) == pytest.approx(rate)


def test_fewer_images_than_a_batch_still_make_an_epoch() -> None:
    assert steps_per_epoch(3, 16) == 1


def picture(height: int = 50, width: int = 70) -> tuple[UInt8, UInt8]:
    """A white image, a bright left half labelled 1 and a dark right half labelled 2."""
    labels = np.ones((height, width), np.uint8)
    labels[:, width // 2 :] = 2
    return np.repeat((255 - 100 * (labels[..., None] - 1)).astype(np.uint8), 3, axis=2), labels


def test_without_augmentation_only_the_squash_remains() -> None:
    image, labels = picture()
    settings = config(rotation=0.0, scale=(1.0, 1.0), flip=0.0, size=64)
    out, out_labels = augment(image, labels, settings, np.random.default_rng(0))
    assert np.array_equal(out, cv2.resize(image, (64, 64), interpolation=cv2.INTER_CUBIC))
    columns = np.minimum(((np.arange(64) + 0.5) * 70 / 64).astype(int), 69)
    rows = np.minimum(((np.arange(64) + 0.5) * 50 / 64).astype(int), 49)
    assert np.array_equal(out_labels, labels[rows][:, columns])


@pytest.mark.parametrize(("how", "offset"), [("nearest_exact", 0.5), ("nearest", 0.0)])
@pytest.mark.parametrize(
    "shape", [(50, 70, 64, 64), (375, 500, 512, 512), (63, 65, 375, 500), (97, 31, 13, 211)]
)
def test_labels_are_resized_by_either_nearest_neighbour(
    how: str, offset: float, shape: tuple[int, ...]
) -> None:
    """The formula of each, but where a label's border is met exactly, which rounding decides."""
    height, width, rows, columns = shape
    labels = np.random.default_rng(0).integers(0, 256, (height, width), dtype=np.uint8)
    y, x = ((np.arange(n) + offset) * m / n for n, m in ((rows, height), (columns, width)))
    row, column = (np.flatnonzero(np.abs(at - at.round()) > 1e-6) for at in (y, x))
    expected = labels[y[row].astype(int)][:, x[column].astype(int)]
    assert np.array_equal(resize_labels(labels, rows, columns, how)[row][:, column], expected)
    assert expected.size > 0.8 * rows * columns


def test_the_setting_reaches_training_labels_and_enlarged_predictions() -> None:
    """On label maps like those of photographs the two differ in about a pixel of a hundred, along borders."""
    y, x = np.mgrid[:375, :500]
    labels = sum(
        ((y - r) ** 2 + (x - c) ** 2 < s**2).astype(np.uint8) for r, c, s in ((180, 150, 90), (200, 350, 70))
    )
    image = np.repeat(labels[..., None] * np.uint8(100), 3, axis=2)
    settings = [config(rotation=0.0, scale=(1.0, 1.0), flip=0.0, size=512, resize_labels=how)
                for how in ("nearest_exact", "nearest")]  # fmt: skip
    (_, exact), (_, plain) = (augment(image, labels, one, np.random.default_rng(0)) for one in settings)
    assert 0.0005 < (exact != plain).mean() < 0.01
    assert np.array_equal(plain, cv2.resize(labels, (512, 512), interpolation=cv2.INTER_NEAREST))

    class Given(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            small = torch.from_numpy(cv2.resize(labels, (512, 512), interpolation=cv2.INTER_NEAREST_EXACT))
            return torch.nn.functional.one_hot(small.long(), 2).permute(2, 0, 1)[None].float()

    first, second = (segment(Given(), [image], one, CPU)[0] for one in settings)
    assert first.shape == second.shape == labels.shape and 0.0005 < (first != second).mean() < 0.02


def test_certain_flip_mirrors_both() -> None:
    image, labels = picture()
    plain, mirrored = (
        augment(image, labels, config(rotation=0.0, scale=(1.0, 1.0), flip=flip), np.random.default_rng(0))
        for flip in (0.0, 1.0)
    )
    assert np.array_equal(plain[0], mirrored[0][:, ::-1])
    assert np.array_equal(plain[1], mirrored[1][:, ::-1])
    assert not np.array_equal(plain[1], mirrored[1])


@pytest.mark.parametrize("border", [0, 255])
def test_zooming_out_brings_in_black_with_the_border_label(border: int) -> None:
    image, labels = picture(64, 64)
    settings = config(rotation=0.0, scale=(0.5, 0.5), flip=0.0, size=64, border_label=border)
    out, out_labels = augment(image, labels, settings, np.random.default_rng(0))
    inside = np.zeros((64, 64), bool)
    inside[17:47, 17:47] = True
    outside = np.ones((64, 64), bool)
    outside[14:50, 14:50] = False
    assert (out[outside] == 0).all()
    assert (out_labels[outside] == border).all()
    assert set(np.unique(out_labels[inside])) == {1, 2}
    assert (out[inside] > 100).all()


def test_rotation_turns_image_and_labels_together_within_its_range() -> None:
    image, labels = picture(64, 64)
    settings = config(rotation=5.0, scale=(1.0, 1.0), flip=0.0, size=64)
    angles = []
    for seed in range(40):
        out, out_labels = augment(image, labels, settings, np.random.default_rng(seed))
        core = (slice(6, 58), slice(6, 58))
        bright = out[core][..., 0] > 205
        assert (bright == (out_labels[core] == 1)).mean() > 0.97
        edge = [int((out_labels[row] == 1).sum()) for row in (12, 52)]
        angles.append(np.degrees(np.arctan2(edge[1] - edge[0], 40)))
    assert max(map(abs, angles)) < 6.5
    assert max(angles) > 2.5
    assert min(angles) < -2.5


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifest, pictures and label maps in two shards: blue discs (1) and red squares (2) on grey."""
    folder = tmp_path_factory.mktemp("run")
    lines = ["image_id,key,path,width,height,mode,sha256,shard,train,eval,status,reason"]
    for index in range(8):
        rng = np.random.default_rng(index)
        image = rng.integers(90, 130, (44, 60, 3), dtype=np.uint8)
        labels = np.zeros((44, 60), np.uint8)
        row, column = rng.integers(14, 30), rng.integers(14, 46)
        y, x = np.mgrid[:44, :60]
        inside = (
            (y - row) ** 2 + (x - column) ** 2 < 144
            if index % 2
            else (abs(y - row) < 11) & (abs(x - column) < 11)
        )
        image[inside] = (40, 80, 230) if index % 2 else (230, 60, 40)
        labels[inside] = 1 if index % 2 else 2
        Image.fromarray(image).save(folder / f"{index}.png")
        shard = index // 4
        write_label_png(folder / f"labels/shard-{shard}/sub/{index}.png", labels)
        train, evaluated = index < 6, index >= 6
        lines.append(f"{index + 1},sub/{index},{index}.png,60,44,RGB,x,{shard},{train},{evaluated},ok,")
    write_lines(folder / "manifest.csv", lines)
    return folder


def pairs(folder: Path) -> list[tuple[str | Path, str | Path]]:
    return [(folder / f"{i}.png", folder / f"labels/shard-{i // 4}/sub/{i}.png") for i in range(6)]


def fit(folder: Path, state: Path, settings: SegmenterConfig) -> tuple[Any, list[MetricRow]]:
    dataset = LabelledImages(pairs(folder), 2, settings, 7)
    steps = settings.epochs * steps_per_epoch(len(dataset), settings.batch_size)
    loop = LoopSettings(
        steps, state, "f", checkpoint_every=settings.checkpoint_every, log_every=settings.log_every
    )
    return train_segmenter(fresh(settings), dataset, settings, loop, CPU)


def test_label_files_are_found_in_any_folder_and_a_missing_one_is_named(run_folder: Path) -> None:
    folders = [run_folder / "labels/shard-0", run_folder / "labels/shard-1"]
    keys = [f"sub/{index}" for index in range(8)]
    assert find_label_files(keys, folders)[5] == folders[1] / "sub/5.png"
    with pytest.raises(
        MaskDistillError, match=r"4 of 8 training images have no label map, such as sub/4\.png"
    ):
        find_label_files(keys, folders[:1])


def test_labels_that_do_not_fit_are_refused(run_folder: Path, tmp_path: Path) -> None:
    write_label_png(tmp_path / "high.png", np.full((44, 60), 3, np.uint8))
    write_label_png(tmp_path / "ignore.png", np.full((44, 60), 255, np.uint8))
    write_label_png(tmp_path / "small.png", np.zeros((10, 10), np.uint8))
    files = [(run_folder / "0.png", tmp_path / name) for name in ("high.png", "ignore.png", "small.png")]
    dataset = LabelledImages(files, 2, config(), 0)
    with pytest.raises(MaskDistillError, match=r"high\.png: holds label 3, but there are 2 clusters"):
        dataset[0, 0]
    assert int(dataset[1, 0][1].max()) == 255
    with pytest.raises(MaskDistillError, match=r"small\.png: 10x10 pixels, but the picture has 60x44"):
        dataset[2, 0]


def test_batches_do_not_depend_on_workers(run_folder: Path) -> None:
    alone, shared = (
        list(segmenter_batches(LabelledImages(pairs(run_folder), 2, config(workers=workers), 7), 5, 1))
        for workers in (0, 2)
    )
    assert len(alone) == len(shared) == 4
    assert alone[0][0].shape == (2, 3, 48, 48)
    for one, other in zip(alone, shared, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


def test_frozen_stages_do_not_change_in_training(run_folder: Path, tmp_path: Path) -> None:
    settings = config(freeze_at=3, epochs=1)
    before = {key: value.clone() for key, value in fresh(settings).state_dict().items()}
    after = fit(run_folder, tmp_path, settings)[0].state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    frozen = ("backbone.conv1", "backbone.bn1", "backbone.layer1", "backbone.layer2")
    assert not any(key.startswith(frozen) for key in changed)
    assert {"backbone.layer3.0.bn1.running_mean", "classifier.4.weight"} <= changed


@pytest.mark.slow
def test_a_compiled_network_learns_the_same(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compilation, "BACKEND", "aot_eager")  # inductor takes minutes on CPUs
    settings = config(epochs=1)
    plain, rows = fit(run_folder, tmp_path / "plain", settings)
    compiled, compiled_rows = fit(
        run_folder, tmp_path / "compiled", settings.model_copy(update={"compile": True})
    )
    assert compiled._compiled_call_impl is not None and plain._compiled_call_impl is None
    assert [row["loss"] for row in compiled_rows] == pytest.approx([row["loss"] for row in rows], rel=1e-3)
    assert compiled.state_dict().keys() == plain.state_dict().keys()


class Interrupted(Exception):
    """Stands for a kill."""


@pytest.mark.slow
def test_two_runs_agree_and_a_killed_one_resumes_bit_for_bit(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(checkpoint_every=2)
    whole, rows = fit(run_folder, tmp_path / "whole", settings)
    assert [row["lr"] for row in rows] == pytest.approx([0.02] * 3 + [0.002] * 3)

    def cut(*args: Any) -> Iterator[Any]:
        for number, batch in enumerate(segmenter_batches(*args)):
            if number == 3:
                raise Interrupted
            yield batch

    with monkeypatch.context() as patched:
        patched.setattr(segmenter_train, "segmenter_batches", cut)
        with pytest.raises(Interrupted):
            fit(run_folder, tmp_path / "cut", settings)
    assert (tmp_path / "cut/state.pt").exists()
    resumed, resumed_rows = fit(run_folder, tmp_path / "cut", settings)
    assert resumed_rows == rows
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


@pytest.mark.slow
def test_batches_without_a_valid_pixel_teach_nothing_and_the_state_after_them_is_sound(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The state is kept between two rows, so that it holds their sums."""

    def cut(at: int | None) -> Callable[..., Iterator[Any]]:
        def batches(*args: Any) -> Iterator[Any]:
            for number, (images, labels) in enumerate(segmenter_batches(*args)):
                if number == at:
                    raise Interrupted
                yield images, torch.full_like(labels, 255)

        return batches

    monkeypatch.setattr(logging.getLogger("maskdistill"), "handlers", [caplog.handler])
    caplog.set_level("INFO", "maskdistill")
    settings = config(checkpoint_every=2, log_every=3)
    monkeypatch.setattr(segmenter_train, "segmenter_batches", cut(5))
    with pytest.raises(Interrupted):
        fit(run_folder, tmp_path, settings)
    monkeypatch.setattr(segmenter_train, "segmenter_batches", cut(None))
    _, rows = fit(run_folder, tmp_path, settings)
    assert "damaged" not in caplog.text and "resumed after step 4" in caplog.text
    assert [(row["loss"], row["agreement"]) for row in rows] == [(0, 0)] * 2


def test_a_batch_of_one_is_refused(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(MaskDistillError, match=r"batch_size 1.*at least 2"):
        fit(run_folder, tmp_path, config(batch_size=1))


@pytest.mark.slow
def test_it_learns_and_predicts_unseen_pictures_at_their_size(run_folder: Path, tmp_path: Path) -> None:
    settings = config(epochs=40, batch_size=3, drop_after=32)
    model, rows = fit(run_folder, tmp_path, settings)
    assert rows[-1]["loss"] < rows[0]["loss"] / 2
    images = [np.asarray(Image.open(run_folder / f"{index}.png")) for index in (6, 7)]
    for index, labels in zip((6, 7), segment(model, images, settings, CPU), strict=True):
        truth = read_label_png(run_folder / f"labels/shard-1/sub/{index}.png")
        assert labels.shape == truth.shape
        inside = truth > 0
        assert (labels[inside] == truth[inside]).mean() > 0.7
        assert (labels == truth).mean() > 0.85


def call_segmenter(folder: Path, output: Path, shards: tuple[int, ...] = (0, 1)) -> int:
    labels = [str(folder / f"labels/shard-{shard}") for shard in shards]
    inputs = ["--manifest", str(folder / "manifest.csv"), "--labels", *labels, "--num-clusters", "2"]
    outputs = ["--output", str(output / "model.safetensors"), "--metrics", str(output / "metrics.csv")]
    common = ["--state", str(output / "state"), "--seed", "3", "--device", "cpu", "--threads", "1"]
    params = config(epochs=1, checkpoint_every=1).model_dump_json()
    return cli.main(["segmenter", *inputs, *outputs, *common, "--params", params])


@pytest.mark.slow
def test_entry_points_are_deterministic_and_complete(run_folder: Path, tmp_path: Path) -> None:
    deterministic = torch.are_deterministic_algorithms_enabled()
    for name in ("a", "b"):
        assert call_segmenter(run_folder, tmp_path / name) == 0
    torch.use_deterministic_algorithms(deterministic)
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b"))
    assert first == second
    assert not (tmp_path / "a/state").exists()
    assert (tmp_path / "a/metrics.csv").read_text().startswith("step,lr,loss,")
    arguments = [
        "--manifest",
        str(run_folder / "manifest.csv"),
        "--model",
        str(tmp_path / "a/model.safetensors"),
    ]
    common = ["--shard", "1", "--device", "cpu", "--threads", "1"]
    for more, keys in ([], {"6", "7"}), (["--images", "all"], {"4", "5", "6", "7"}):
        assert cli.main(["predictions", *arguments, *common, *more, "--output", str(tmp_path / "out")]) == 0
        written = {path.stem: read_label_png(path) for path in (tmp_path / "out/sub").glob("*.png")}
        assert set(written) == keys
        assert all(labels.shape == (44, 60) and labels.max() <= 2 for labels in written.values())
        summary = json.loads((tmp_path / "out/summary.json").read_text())
        assert summary["images"] == len(keys)
        covered = np.mean([(labels > 0).mean() for labels in written.values()])
        assert summary["mean_coverage"] == pytest.approx(covered, abs=1e-5)


def test_probabilities_are_those_of_enlarged_logits() -> None:
    """Against OpenCV's bilinear resizing and a softmax in NumPy."""
    model = fresh(config()).eval()
    images = [
        np.random.default_rng(seed).integers(0, 256, (50, 70 + seed, 3), dtype=np.uint8) for seed in range(2)
    ]
    logits = logits_of(model, images, config(), CPU).numpy()
    for image, raw, found in zip(
        images, logits, class_probabilities(model, images, config(), CPU), strict=True
    ):
        enlarged = np.stack(
            [cv2.resize(one, (image.shape[1], 50), interpolation=cv2.INTER_LINEAR) for one in raw]
        )
        likely = np.exp(enlarged - enlarged.max(axis=0))
        assert found.shape == (3, *image.shape[:2]) and found.dtype == np.float32
        np.testing.assert_allclose(found, likely / likely.sum(axis=0), atol=1e-5)


@pytest.mark.slow
def test_a_crf_sharpens_the_training_images_alone(run_folder: Path, tmp_path: Path) -> None:
    """In one process and in two, the same as the CRF of the model's probabilities."""
    pytest.importorskip("pydensecrf.densecrf", reason="pydensecrf2 is not installed")
    torch.manual_seed(0)
    settings = config(epochs=8, batch_size=3, drop_after=7)
    model, _ = fit(run_folder, tmp_path / "state", settings)
    metadata = describe_model(settings, 2, make_provenance("segmenter", {}, {}))
    save_model(tmp_path / "model.safetensors", model.state_dict(), metadata)
    crf = CrfConfig(iters=3)
    arguments = [
        "--manifest",
        str(run_folder / "manifest.csv"),
        "--model",
        str(tmp_path / "model.safetensors"),
    ]
    arguments += ["--shard", "1", "--device", "cpu", "--images", "train", "--crf", crf.model_dump_json()]
    for threads in ("1", "2"):
        output = ["--threads", threads, "--output", str(tmp_path / threads)]
        assert cli.main(["predictions", *arguments, *output]) == 0
    torch.set_num_threads(1)
    images = [np.array(Image.open(run_folder / f"{index}.png")) for index in (4, 5)]
    expected = [
        refine(image, likely, crf)
        for image, likely in zip(images, class_probabilities(model, images, config(), CPU), strict=True)
    ]
    plain = segment(model, images, settings, CPU)
    assert any((one != other).any() for one, other in zip(plain, expected, strict=True))
    for folder in ("1", "2"):
        written = {path.stem: read_label_png(path) for path in (tmp_path / folder / "sub").glob("*.png")}
        assert set(written) == {"4", "5"}
        for index, labels in zip(("4", "5"), expected, strict=True):
            assert (written[index] == labels).mean() > 0.999
    assert (tmp_path / "1/sub/4.png").read_bytes() == (tmp_path / "2/sub/4.png").read_bytes()


def test_a_missing_label_map_stops_the_training(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call_segmenter(run_folder, tmp_path, shards=(0,)) == 1
    assert "2 of 6 training images have no label map" in capsys.readouterr().err
    assert not (tmp_path / "model.safetensors").exists()
