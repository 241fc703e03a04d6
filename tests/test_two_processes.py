"""Two processes that share each batch train what one process trains on the whole batch.

Compared with normalisation layers that are fixed: on CPUs torch has no synchronised batch normalisation, so
each process would normalise by its own half. On GPUs ``synchronise_norms`` puts it in. Pictures are of one
shape: those of a process are padded to the largest among them, which borders can feel.
"""

import signal
from pathlib import Path
from typing import Any

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
from torch import Tensor, nn

from maskdistill.backbones.resnet import FrozenBatchNorm2d, build_resnet
from maskdistill.detector.data import AnnotatedImages
from maskdistill.detector.losses import region_losses
from maskdistill.detector.model import build_detector
from maskdistill.detector.train import train_detector
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.segmenter.data import LabelledImages
from maskdistill.segmenter.model import OUTPUT_STRIDE, BatchDropout, DeepLab
from maskdistill.segmenter.train import train_segmenter
from maskdistill.training.distributed import HANDLED, data_parallel, gather_batch, launch, rank_and_world
from maskdistill.training.loop import LoopSettings, MetricRow

pytestmark = pytest.mark.slow  # two processes load torch
CPU = torch.device("cpu")
STEPS, BATCH, SIZE = 4, 4, 64
LINES = torch.arange(12, dtype=torch.float32).reshape(4, 3)


def fix_norms(module: nn.Module) -> None:
    """Replace every batch normalisation, in place, by a fixed one with random statistics and affine terms."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            for value, low, high in ((child.running_mean, -0.1, 0.1), (child.running_var, 0.8, 1.2)):
                assert value is not None
                value.uniform_(low, high)
            setattr(module, name, FrozenBatchNorm2d(child))
        else:
            fix_norms(child)


def train_detector_here(folder: Path, state: Path, steps: int) -> tuple[nn.Module, list[MetricRow]]:
    """The anchors' scores are spread out: where they nearly tie, as at first, rounding decides which of two
    proposals comes first, hence which one is sampled."""
    settings = detector_config(batch_size=BATCH, min_size_train=[SIZE], freeze_at=0, warmup_iters=0)
    torch.manual_seed(0)
    model = build_detector(settings, NUM_CLUSTERS, build_resnet(settings.arch))
    fix_norms(model)
    nn.init.normal_(model.rpn.head.cls_logits.weight)  # type: ignore[union-attr,arg-type]
    data = AnnotatedImages(examples(folder, scenes(8, SIZE, square=True)), 0.5, 7)
    return train_detector(model, data, settings, loop(state, steps), CPU)


def train_segmenter_here(folder: Path, state: Path, steps: int) -> tuple[nn.Module, list[MetricRow]]:
    settings = segmenter_config(batch_size=BATCH, freeze_at=0)
    torch.manual_seed(0)
    model = DeepLab(settings, NUM_CLUSTERS, build_resnet(settings.arch, OUTPUT_STRIDE))
    fix_norms(model)
    data = LabelledImages(label_files(folder, 8), NUM_CLUSTERS, settings, 7)
    return train_segmenter(model, data, settings, loop(state, steps), CPU)


TRAININGS = {"detector": train_detector_here, "segmenter": train_segmenter_here}


def loop(state: Path, steps: int) -> LoopSettings:
    return LoopSettings(steps, state, "f", checkpoint_every=2, log_every=2, rank=rank_and_world()[0])


def uneven_loss(place: int) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Losses of the regions of one process (3 with 2 positives, 5 with 1), or of all 8 for place 2; and
    gradients.
    """
    generator = torch.Generator().manual_seed(1)
    labels = torch.tensor([1, 2, 0, 0, 0, 1, 0, 0])
    outputs = [torch.randn(8, 3, generator=generator), torch.randn(8, 12, generator=generator)]
    masks = torch.randn(3, 2, 4, 4, generator=generator)
    targets, mask_targets = (
        torch.randn(8, 4, generator=generator),
        torch.rand(3, 4, 4, generator=generator).round(),
    )
    rows, positives = [(slice(3), slice(2)), (slice(3, 8), slice(2, 3)), (slice(8), slice(3))][place]
    inputs = [value.requires_grad_() for value in (*outputs, masks)]
    losses = region_losses(
        inputs[0][rows],
        inputs[1][rows],
        inputs[2][positives],
        labels[rows],
        targets[rows],
        mask_targets[positives],
    )
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    return {key: value.detach() for key, value in losses.items()}, [
        value.grad for value in inputs if value.grad is not None
    ]


def hardest_gradient(inputs: Tensor, parallel: bool) -> Tensor:
    """Gradient of the mean of the two greatest losses of a batch; in one of two processes, of the batch of
    both.
    """
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    whole = data_parallel(model, CPU) if parallel else model
    losses = whole(inputs).square().flatten()
    (gather_batch(losses) if parallel else losses).topk(2).values.mean().backward()  # type: ignore[no-untyped-call]
    assert model.weight.grad is not None
    return model.weight.grad


def half(folder: Path) -> None:
    """Body of one of two processes: both trainings, stopped after half of the steps and resumed; one then
    fails.
    """
    torch.set_num_threads(1)
    rank, _ = rank_and_world()
    torch.manual_seed(9)
    saved: dict[str, Any] = {
        "dropped": BatchDropout(0.5)(torch.ones(2, 3, 4, 4)),
        "uneven": uneven_loss(rank),
    }
    saved["hardest"] = hardest_gradient(LINES[rank::2], True)
    for stage, training in TRAININGS.items():
        training(folder, folder / stage, STEPS // 2)
        torch.distributed.barrier()
        model, rows = training(folder, folder / stage, STEPS)
        saved[stage] = (model.state_dict(), rows)
    torch.save(saved, folder / f"{rank}.pt")
    torch.distributed.barrier()
    if rank == 1:
        raise MaskDistillError("said by rank 1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What both processes saved, and what they trained on."""
    found = tmp_path_factory.mktemp("run")
    write_run(found, scenes(8, SIZE, square=True))
    handlers = [signal.getsignal(one) for one in HANDLED]
    with pytest.raises(MaskDistillError, match="said by rank 1"):
        launch(half, 2, (found,), backend="gloo")
    assert [signal.getsignal(one) for one in HANDLED] == handlers
    return found


@pytest.mark.parametrize("stage", sorted(TRAININGS))
def test_two_processes_train_as_one_does(folder: Path, tmp_path: Path, stage: str) -> None:
    """Same global batches: equal but for float32 sums in another order. After four steps weights have moved
    by up to 0.09 and differ by up to 3e-8 on one processor and by a fiftieth of how far a tensor moved on
    another, whose kernels sum in blocks; allowed is a twentieth. A gradient of half of the batch would be
    apart by half of it.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    model, rows = TRAININGS[stage](folder, tmp_path, STEPS)
    torch.set_num_threads(before)
    first, second = (torch.load(folder / f"{rank}.pt")[stage] for rank in (0, 1))
    assert first[1] == second[1]
    assert [row["step"] for row in rows] == [row["step"] for row in first[1]] == [2, 4]
    for alone, shared in zip(rows, first[1], strict=True):
        assert shared == pytest.approx(alone, rel=1e-5)
    start = TRAININGS[stage](folder, tmp_path / "start", 0)[0].state_dict()
    changed = 0
    for key, value in model.state_dict().items():
        assert torch.equal(first[0][key], second[0][key]), key
        changed += not torch.equal(value, start[key])
        moved, apart = (float((value - other[key]).abs().max()) for other in (start, first[0]))
        assert apart <= 1e-7 + 0.05 * moved, key
    assert changed > 20


def test_uneven_shares_of_regions_give_the_losses_of_all(folder: Path) -> None:
    """Each process's numbers differ; their mean, which is what DDP takes of the gradients, is that of the
    whole.
    """
    shares = [torch.load(folder / f"{rank}.pt")["uneven"] for rank in (0, 1)]
    whole, gradients = uneven_loss(2)
    for key, value in whole.items():
        assert not torch.isclose(shares[0][0][key], value)
        torch.testing.assert_close((shares[0][0][key] + shares[1][0][key]) / 2, value)
    for place, gradient in enumerate(gradients):
        torch.testing.assert_close((shares[0][1][place] + shares[1][1][place]) / 2, gradient)


def test_gradients_are_of_the_whole_batch(folder: Path) -> None:
    """Also where the loss picks the hardest of it, whichever process has them."""
    for rank in (0, 1):
        shared = torch.load(folder / f"{rank}.pt")["hardest"]
        torch.testing.assert_close(shared, hardest_gradient(LINES, False))


def test_dropout_is_drawn_for_the_whole_batch(folder: Path) -> None:
    shares = [torch.load(folder / f"{rank}.pt")["dropped"] for rank in (0, 1)]
    torch.manual_seed(9)
    whole = BatchDropout(0.5)(torch.ones(4, 3, 4, 4))
    assert torch.equal(torch.stack(shares, dim=1).flatten(0, 1), whole)
    assert not torch.equal(*shares)
    assert set(whole.unique().tolist()) == {0.0, 2.0}
    assert 0.3 < (whole == 0).float().mean() < 0.7
    assert torch.equal(BatchDropout(0.5).eval()(whole), whole)
