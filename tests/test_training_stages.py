"""What detector and segmenter training must do alike: stop on NaN, leave fixed norms alone, scale the
schedule, run in mixed precision, take batches that do not depend on the workers, and say in one line what is
wrong with a picture.
"""

import json
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from miniature import (
    NUM_CLUSTERS,
    detector_config,
    examples,
    label_files,
    scenes,
    segmenter_config,
    write_run,
)
from PIL import Image
from torch import nn

from maskdistill import cli
from maskdistill.backbones.resnet import FrozenBatchNorm2d, build_resnet
from maskdistill.backbones.weights import read_metadata, read_state_dict
from maskdistill.config import DetectorConfig, SegmenterConfig, parse_section
from maskdistill.detector.data import AnnotatedImages, detector_batches
from maskdistill.detector.model import build_detector, detector_lr
from maskdistill.detector.train import train_detector
from maskdistill.runtime.devices import pick_device
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import sha256_file
from maskdistill.runtime.provenance import ORACLE
from maskdistill.segmenter.data import LabelledImages, segmenter_batches
from maskdistill.segmenter.model import OUTPUT_STRIDE, DeepLab
from maskdistill.segmenter.train import train_segmenter
from maskdistill.training.checkpoint import load_state, save_model
from maskdistill.training.loop import LoopSettings, MetricRow
from maskdistill.training.scaling import detector_for_batch, segmenter_for_batch

CPU = torch.device("cpu")
STAGES = ("detector", "segmenter")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("run")
    write_run(found, scenes(8))
    return found


def fit(
    stage: str, folder: Path, state: Path, steps: int, **changes: Any
) -> tuple[nn.Module, list[MetricRow]]:
    """Train for some steps, with a state and a metric row after each."""
    loop = LoopSettings(steps, state, "f", checkpoint_every=1, log_every=1, name=stage)
    torch.manual_seed(0)
    if stage == "detector":
        settings = detector_config(**changes)
        model = build_detector(settings, NUM_CLUSTERS, build_resnet(settings.arch))
        return train_detector(
            model, AnnotatedImages(examples(folder, scenes(8)), 0.5, 7), settings, loop, CPU
        )
    chosen = segmenter_config(**changes)
    data = LabelledImages(label_files(folder, 8), NUM_CLUSTERS, chosen, 7)
    deeplab = DeepLab(chosen, NUM_CLUSTERS, build_resnet(chosen.arch, OUTPUT_STRIDE))
    return train_segmenter(deeplab, data, chosen, loop, CPU)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_divergence_stops_and_keeps_the_last_good_state(folder: Path, tmp_path: Path, stage: str) -> None:
    """A rate that is far too high makes the weights, and then the loss, overflow by itself."""
    with pytest.raises(
        MaskDistillError, match=rf"^{stage}: .* by step \d+; the last good state is kept in .* Lower"
    ):
        fit(stage, folder, tmp_path, 8, lr=100)
    saved = load_state(tmp_path / "state.pt", "f")
    assert saved is not None and 1 <= saved[0] < 8
    for tensor in saved[1]["modules"][stage].values():
        assert bool(torch.isfinite(tensor).all())
    assert [row["step"] for row in saved[1]["curve"]["rows"]] == list(range(1, saved[0] + 1))
    assert all(np.isfinite(row["loss"]) for row in saved[1]["curve"]["rows"])


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_fixed_norms_keep_every_bit_and_the_others_learn(folder: Path, tmp_path: Path, stage: str) -> None:
    """Weight decay, momentum and train() could all reach them; two steps from a third on a state of the
    second.
    """
    start = fit(stage, folder, tmp_path / "start", 0)[0]
    before = {key: value.clone() for key, value in start.state_dict().items()}
    frozen = {
        f"{name}.{buffer}"
        for name, module in start.named_modules()
        if isinstance(module, FrozenBatchNorm2d)
        for buffer, _ in module.named_buffers()
    }
    fit(stage, folder, tmp_path / "run", 2, weight_decay=0.1)
    after = fit(stage, folder, tmp_path / "run", 3, weight_decay=0.1)[0].state_dict()
    assert len(frozen) == 4 * {"detector": 6, "segmenter": 11}[stage]
    assert all(torch.equal(before[key], after[key]) for key in frozen)
    fixed = {name for name, parameter in start.named_parameters() if not parameter.requires_grad}
    assert fixed and all(torch.equal(before[key], after[key]) for key in fixed)
    assert not any(torch.equal(before[key], after[key]) for key in before if key.endswith("running_mean")
                   and key not in frozen)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_bfloat16_trains_nearly_the_same(folder: Path, tmp_path: Path, stage: str) -> None:
    """The setting's other value, on any device: autocast over maps in the stage's layout, channels_last but
    for C4 on a CPU; losses stay in float32.
    """
    seen: set[tuple[torch.dtype, bool]] = set()
    channels_last = stage == "segmenter"

    def watch(_: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        seen.add((output.dtype, inputs[0].is_contiguous(memory_format=torch.channels_last)))

    handle = nn.modules.module.register_module_forward_hook(
        lambda module, inputs, output: (
            watch(module, inputs, output) if isinstance(module, nn.BatchNorm2d) else None
        )
    )
    plain = fit(stage, folder, tmp_path / "plain", 2)[1]
    assert seen == {(torch.float32, channels_last)}, "the default: the paper's"
    model, mixed = fit(stage, folder, tmp_path / "mixed", 2, precision="bfloat16")
    handle.remove()
    assert (torch.bfloat16, channels_last) in seen
    assert all(value.dtype == torch.float32 for value in model.parameters())
    for one, other in zip(plain, mixed, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=0.05)
        assert other["loss"] != one["loss"]


def test_float32_is_float32_on_gpus_too() -> None:
    """torch alone would let convolutions round their inputs to TF32."""
    torch.backends.cudnn.allow_tf32 = True
    assert pick_device("cpu") == CPU and not torch.backends.cudnn.allow_tf32


def batches(stage: str, folder: Path, workers: int) -> Iterator[Any]:
    if stage == "detector":
        return detector_batches(AnnotatedImages(examples(folder, scenes(8)), 0.5, 7), 2, 6, 1, workers)
    data = LabelledImages(label_files(folder, 8), NUM_CLUSTERS, segmenter_config(workers=workers), 7)
    return segmenter_batches(data, 6, 1)


def tensors(batch: Any) -> list[torch.Tensor]:
    """All tensors of a batch, in order."""
    if isinstance(batch, torch.Tensor):
        return [batch]
    values = batch.values() if isinstance(batch, dict) else batch
    return [tensor for value in values for tensor in tensors(value)]


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_batches_do_not_depend_on_the_number_of_workers(folder: Path, stage: str) -> None:
    alone, one, two = ([tensors(batch) for batch in batches(stage, folder, workers)] for workers in (0, 1, 2))
    assert len(alone) == len(one) == len(two) == 5
    for here, there, elsewhere in zip(alone, one, two, strict=True):
        assert len(here) == len(there) == len(elsewhere) >= 2
        for a, b, c in zip(here, there, elsewhere, strict=True):
            assert torch.equal(a, b) and torch.equal(a, c)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stage", STAGES)
def test_a_bad_picture_is_named_without_a_traceback(
    folder: Path, tmp_path: Path, stage: str, workers: int
) -> None:
    """Raised in a loading process, the message is the same one line."""
    write_run(tmp_path, scenes(8))
    for number in range(1, 9):
        Image.new("RGB", (10, 10)).save(tmp_path / f"{number}.png")
    with pytest.raises(MaskDistillError) as caught:
        next(batches(stage, tmp_path, workers))
    assert multiprocessing.active_children() == [], "they end with the iterator"
    message = str(caught.value)
    assert message.startswith(str(tmp_path)) and "10x10" in message
    assert "\n" not in message and "Traceback" not in message


@pytest.mark.parametrize(
    ("batch", "lr", "iters", "steps", "warmup"),
    [(16, 0.02, 24000, [20000, 22000], 100), (8, 0.01, 48000, [40000, 44000], 200),
     (4, 0.005, 96000, [80000, 88000], 400), (2, 0.0025, 192000, [160000, 176000], 800),
     (32, 0.04, 12000, [10000, 11000], 50)],
)  # fmt: skip
def test_linear_scaling_of_the_detector(
    batch: int, lr: float, iters: int, steps: list[int], warmup: int
) -> None:
    """LR 0.02 b / 16, iterations and steps times 16 / b [method §5-scaling]: the same epochs at every batch
    size.
    """
    config = detector_for_batch(DetectorConfig(weights="random", batch_size=batch))
    assert config.lr == pytest.approx(lr)
    assert (config.iters, config.steps, config.warmup_iters) == (iters, steps, warmup)
    assert config.batch_size * config.iters == 384000
    table = {
        0: lr / 1000,
        warmup: lr,
        steps[0] - 1: lr,
        steps[0]: lr / 10,
        steps[1] - 1: lr / 10,
        steps[1]: lr / 100,
    }
    for step, rate in table.items():
        assert detector_lr(config, step) == pytest.approx(rate)
    assert detector_for_batch(config) == config
    assert parse_section(DetectorConfig, config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("batch", "reference", "lr"), [(16, 16, 2e-3), (4, 16, 5e-4), (4, 4, 2e-3), (32, 16, 4e-3)]
)
def test_linear_scaling_of_the_segmenter(batch: int, reference: int, lr: float) -> None:
    config = segmenter_for_batch(
        SegmenterConfig(weights="random", batch_size=batch, reference_batch=reference)
    )
    assert config.lr == pytest.approx(lr)
    assert (config.epochs, config.drop_after) == (45, 40)
    assert segmenter_for_batch(config) == config


def train_by_hand(folder: Path, out: Path, params: DetectorConfig, *options: str) -> int:
    """The entry point of the detector on a folder of ``write_run``."""
    names = {"manifest": "manifest.csv", "annotations": "annotations.json", "index": "annotations.h5"}
    files = [f"--{option}={folder / name}" for option, name in names.items()]
    outputs = [f"--output={out / 'm.safetensors'}", f"--metrics={out / 'm.csv'}", f"--state={out / 's'}"]
    deterministic = torch.are_deterministic_algorithms_enabled()
    arguments = [*files, *outputs, "--device", "cpu", "--threads", "1", *options, "--params"]
    code = cli.main(["detector", *arguments, params.model_dump_json()])
    torch.use_deterministic_algorithms(deterministic)
    return code


@pytest.mark.slow
def test_scaling_is_applied_recorded_and_logged(folder: Path, tmp_path: Path) -> None:
    params = detector_config(iters=1, steps=[1], reference_batch=4, lr=0.01, warmup_iters=0, log_every=1)
    log = tmp_path / "log.txt"
    assert train_by_hand(folder, tmp_path, params, "--log", str(log)) == 0
    lines = (tmp_path / "m.csv").read_text().splitlines()
    assert [line.split(",")[:2] for line in lines[1:-1]] == [["1.0", "0.005"], ["2.0", "0.005"]]
    assert (
        "linear scaling from a batch of 4 to 2: lr 0.005, 2 iterations, steps [2], warmup 0"
        in log.read_text()
    )
    recorded = DetectorConfig.model_validate_json(read_metadata(tmp_path / "m.safetensors")["params"])
    assert (recorded.lr, recorded.iters, recorded.reference_batch) == (0.005, 2, 2)


@pytest.mark.slow
def test_a_round_of_self_training_goes_on_from_the_model_before(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With hardly any learning rate its weights stay; what starts otherwise, or fits not, is told apart."""
    still = {"iters": 1, "steps": [], "warmup_iters": 0, "lr": 1e-9}
    first, second = tmp_path / "first", tmp_path / "second"
    assert train_by_hand(folder, first, detector_config(**still | {"lr": 0.1})) == 0
    model = str(first / "m.safetensors")
    assert train_by_hand(folder, second, detector_config(**still), "--seed=5", "--start", model) == 0
    before, after = (read_state_dict(out / "m.safetensors") for out in (first, second))
    learnt = [name for name in before if "running" not in name and "num_batches" not in name]
    for name in learnt:
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-6)
    recorded = json.loads(read_metadata(second / "m.safetensors")["provenance"])["inputs"]
    assert (
        recorded["start"] == sha256_file(model)
        and "start" not in json.loads(read_metadata(model)["provenance"])["inputs"]
    )
    assert train_by_hand(folder, tmp_path, detector_config(**still, roi_pool=5), "--start", model) == 1
    assert "m.safetensors: a detector of another form (roi_pool)" in capsys.readouterr().err
    assert train_by_hand(folder, tmp_path, detector_config(**still), "--start", model, model) == 1
    assert "--start: one detector, not 2" in capsys.readouterr().err
    marked = read_metadata(model)
    marked["provenance"] = json.dumps(json.loads(marked["provenance"]) | {ORACLE: "annotations"})
    save_model(tmp_path / "oracle.safetensors", read_state_dict(model), marked)
    oracle = str(tmp_path / "oracle.safetensors")
    assert train_by_hand(folder, tmp_path, detector_config(**still), "--start", oracle) == 1
    assert "an oracle's model (annotations)" in capsys.readouterr().err
