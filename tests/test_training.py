"""The shared training loop: data order, resumption, refusals, several processes, model files."""

import re
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.progress import progress, seconds_left
from maskdistill.training.checkpoint import load_model, load_state, save_model, save_state
from maskdistill.training.curves import LIVE, Curve, keep_times, read_curve, write_metrics
from maskdistill.training.loop import LoopSettings, MetricRow, finish, train
from maskdistill.training.order import StepSampler
from maskdistill.training.precise_bn import precise_statistics

pytestmark = pytest.mark.usefixtures("one_thread")


def batches_of(**kwargs: Any) -> list[list[tuple[int, int]]]:
    return list(StepSampler(**kwargs))


def test_every_epoch_visits_every_image_once_and_differently() -> None:
    visits = [
        item for batch in batches_of(num_images=7, batch_size=3, total_steps=7, seed=5) for item in batch
    ]
    epochs = [[index for index, _ in visits[start : start + 7]] for start in (0, 7, 14)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(7))] * 3
    assert epochs[0] != epochs[1] != epochs[2]
    assert [draw for _, draw in visits] == list(range(21))


def test_a_later_start_continues_the_same_order() -> None:
    whole = batches_of(num_images=5, batch_size=4, total_steps=9, seed=1)
    assert batches_of(num_images=5, batch_size=4, total_steps=9, seed=1, start_step=6) == whole[6:]
    assert whole != batches_of(num_images=5, batch_size=4, total_steps=9, seed=2)


def test_processes_split_each_batch() -> None:
    whole = batches_of(num_images=10, batch_size=4, total_steps=5)
    parts = [
        batches_of(num_images=10, batch_size=4, total_steps=5, rank=rank, world_size=2) for rank in (0, 1)
    ]
    for step, batch in enumerate(whole):
        assert sorted(parts[0][step] + parts[1][step]) == sorted(batch)
        assert not set(parts[0][step]) & set(parts[1][step])


def test_impossible_orders_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        StepSampler(num_images=0, batch_size=1, total_steps=1)
    with pytest.raises(ValueError, match="not divisible"):
        StepSampler(num_images=4, batch_size=3, total_steps=1, world_size=2)


def test_a_batch_is_of_one_group_and_comes_when_it_is_full() -> None:
    groups = np.array([0, 1, 0, 0, 1, 0, 0, 0, 1], dtype=np.int8)
    settings: dict[str, Any] = {"num_images": 9, "batch_size": 2, "total_steps": 11, "seed": 3}
    plain = [visit for batch in batches_of(**settings | {"total_steps": 40}) for visit in batch]
    expected: list[list[tuple[int, int]]] = []
    waiting: list[list[tuple[int, int]]] = [[], []]
    for visit in plain:  # the same visits in the same order, each to those of its kind
        kind = waiting[groups[visit[0]]]
        kind.append(visit)
        if len(kind) == 2:
            expected.append(kind.copy())
            kind.clear()
    whole = batches_of(**settings, groups=groups)
    assert whole == expected[:11] and whole != batches_of(**settings)
    assert batches_of(**settings, groups=groups, start_step=7) == whole[7:]
    split = [batches_of(**settings, groups=groups, rank=rank, world_size=2) for rank in (0, 1)]
    assert [a + b for a, b in zip(*split, strict=True)] == whole


class Spread(nn.Module):
    """Normalisation before and after a convolution, one layer used twice, one fixed, one that no batch
    reaches.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first, self.fixed, self.idle = nn.BatchNorm2d(3), nn.BatchNorm2d(3).eval(), nn.BatchNorm2d(3)
        self.inner = nn.Conv2d(3, 2, 1)
        self.second = nn.BatchNorm2d(2, momentum=0.3)

    def forward(self, maps: Tensor) -> Tensor:
        out: Tensor = self.second(2 * self.second(self.inner(self.fixed(self.first(maps)))) + 1)
        return out


@pytest.mark.parametrize(("batch_size", "sides"), [(16, (3, 3)), (2, (3, 3)), (2, (2, 7)), (5, (1, 4))])
def test_precise_statistics_are_those_of_all_values(batch_size: int, sides: tuple[int, int]) -> None:
    """Against NumPy in float64 over every input that a layer saw, in batches of two sizes around changing
    means.
    """
    torch.manual_seed(0)
    model = Spread()
    model.idle.running_var.fill_(7)  # type: ignore[union-attr]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    precise_statistics(model, [], model)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    batches = [100 + torch.randn(batch_size, 3, side, side) + torch.randn(1, 3, 1, 1) for side in sides * 3]
    seen: dict[str, list[np.ndarray]] = {"first": [], "second": []}
    handles = [
        getattr(model, name).register_forward_hook(
            lambda _, x, __, of=of: of.append(x[0].detach().double().numpy())
        )
        for name, of in seen.items()
    ]
    precise_statistics(model, batches, model)
    for handle in handles:
        handle.remove()
    for name, inputs in seen.items():
        values = np.concatenate([x.transpose(1, 0, 2, 3).reshape(x.shape[1], -1) for x in inputs], axis=1)
        layer = getattr(model, name)
        np.testing.assert_allclose(layer.running_mean, values.mean(axis=1), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(layer.running_var, values.var(axis=1), rtol=1e-4)
    assert (model.first.momentum, model.second.momentum) == (0.1, 0.3)
    assert not model.first._forward_hooks and not model.second._forward_hooks
    after = model.state_dict()
    assert all(
        torch.equal(before[name], after[name]) for name in before if name.split(".")[0] in ("fixed", "idle")
    )


@pytest.mark.parametrize(("batch_size", "ratio"), [(16, 1 - 1 / 16), (2, 1 - 1 / 2), (4, 1 - 1 / 4)])
def test_the_mean_of_the_batches_own_variances_would_be_too_small(batch_size: int, ratio: float) -> None:
    """Pictures of constant colour: a batch of n sees ``(n - 1) / n`` of their variance around its own
    mean.
    """
    torch.manual_seed(0)
    colours = torch.randn(400 * batch_size, 3, 1, 1).expand(-1, -1, 8, 8)
    layer = nn.BatchNorm2d(3)
    batches = list(colours.split(batch_size))
    precise_statistics(layer, batches, layer)
    within = torch.stack([batch.transpose(0, 1).flatten(1).var(1) for batch in batches]).mean(0)
    assert layer.running_var is not None
    np.testing.assert_allclose(within / layer.running_var, ratio, rtol=0.06)
    np.testing.assert_allclose(layer.running_var, colours[..., 0, 0].double().var(0, correction=0), rtol=1e-5)


def test_an_interrupted_pass_puts_momenta_and_hooks_back() -> None:
    layer = nn.BatchNorm2d(3)

    def fails(_: Tensor) -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        precise_statistics(layer, [torch.zeros(2, 3, 2, 2)], fails)
    assert layer.momentum == 0.1 and not layer._forward_hooks


def test_compiled_layers_take_on_the_same_statistics() -> None:
    """Compiled before there are hooks, it runs as written here."""
    torch.manual_seed(0)
    plain = Spread()
    compiled = Spread()
    compiled.load_state_dict(plain.state_dict())
    compiled.compile(backend="eager")
    batches = [torch.randn(4, 3, 3, 3) for _ in range(3)]
    compiled(batches[0])
    plain(batches[0])
    for model in (plain, compiled):
        precise_statistics(model, batches, model)
        assert model.second.running_var is not None
    for name in ("first.running_var", "second.running_mean", "second.running_var"):
        assert torch.equal(plain.state_dict()[name], compiled.state_dict()[name])


class Toy(nn.Module):
    """Batch normalisation (buffers) and dropout (random numbers) before a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.linear = nn.BatchNorm1d(4), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(torch.dropout(self.norm(x), 0.5, self.training))
        return out


class Interrupted(Exception):
    """Stands for a kill."""


def run_toy(
    state: Path,
    stop_at: int | None = None,
    nan_at: int | None = None,
    spoil_at: int | None = None,
    full_at: int | None = None,
    steps: int = 13,
) -> tuple[Toy, list[MetricRow]]:
    torch.manual_seed(0)
    model = Toy()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    settings = LoopSettings(steps, state, "f", seed=3, checkpoint_every=4, log_every=3, name="toy")

    def batches(start: int) -> Iterator[Tensor]:
        for step in range(start, steps):
            if step == stop_at:
                raise Interrupted
            if step == full_at:
                resource.setrlimit(
                    resource.RLIMIT_FSIZE, (1000, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
                )
            yield torch.from_numpy(np.random.default_rng(step).normal(size=(8, 4)).astype(np.float32))

    def step_fn(step: int, batch: Tensor) -> dict[str, Tensor]:
        loss = model(batch).square().mean()
        if step == spoil_at:
            loss.register_hook(lambda gradient: gradient * torch.inf)
        return {"loss": loss * torch.nan if step == nan_at else loss, "other": loss.detach() * 2}

    rows = train(settings, {"toy": model}, optimizer, batches, step_fn, lambda step: 0.1 / (1 + step))
    return model, rows


def test_a_killed_training_resumes_bit_for_bit(tmp_path: Path) -> None:
    whole, whole_rows = run_toy(tmp_path / "whole")
    with pytest.raises(Interrupted):
        run_toy(tmp_path / "cut", stop_at=10)
    live = tmp_path / "cut" / LIVE
    assert read_curve(live, sealed=False).rows == whole_rows[:3], (
        "of steps 3, 6 and 9, of which the state has two"
    )
    assert load_state(tmp_path / "cut/state.pt", "f") is not None
    resumed, resumed_rows = run_toy(tmp_path / "cut")
    assert resumed_rows == whole_rows
    assert read_curve(live, sealed=False).rows == whole_rows, "none is missing, or there twice"
    assert [row["step"] for row in whole_rows] == [3, 6, 9, 12, 13]
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


def test_rows_hold_means_since_the_last_row(tmp_path: Path) -> None:
    every, last = run_toy(tmp_path / "a", steps=3)[1], run_toy(tmp_path / "b", steps=2)[1]
    assert every[0]["other"] == pytest.approx(2 * every[0]["loss"])
    assert last[0]["step"] == 2
    assert every[0]["lr"] == pytest.approx(0.1 / 3)


def test_nan_names_the_remedy_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    with pytest.raises(
        MaskDistillError, match=r"toy: the loss became nan by step 6.*Lower the learning rate"
    ):
        run_toy(tmp_path, nan_at=5)
    saved = load_state(tmp_path / "state.pt", "f")
    assert saved is not None
    assert saved[0] == 4
    assert all(bool(torch.isfinite(value).all()) for value in saved[1]["modules"]["toy"].values())


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    """A finite loss may still have a gradient that is not, here in the update that the checkpoint of step 8
    follows.
    """
    with pytest.raises(
        MaskDistillError, match=r"toy: norm\.weight became NaN or infinite by step 8.*Lower the learn"
    ):
        run_toy(tmp_path, spoil_at=7)
    saved = load_state(tmp_path / "state.pt", "f")
    assert saved is not None and saved[0] == 4
    with pytest.raises(MaskDistillError, match=r"by step 13"):
        run_toy(tmp_path / "last", spoil_at=12)


def test_a_state_of_other_settings_is_not_resumed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "state.pt"
    assert load_state(path, "f") is None
    assert not caplog.records
    save_state(path, "f", 4, {"value": torch.ones(2)})
    loaded = load_state(path, "f")
    assert loaded is not None and loaded[0] == 4 and torch.equal(loaded[1]["value"], torch.ones(2))
    with caplog.at_level("INFO"):
        assert load_state(path, "g") is None
    assert "state.pt belongs to other settings or data; training starts over" in caplog.text


@pytest.mark.hostile("hdf5: training state cut off", outcome="said in the log; the training starts over")
@pytest.mark.parametrize("length", [0, 1, 40, 600, -500, -1])
def test_a_state_that_is_cut_off_is_reported_and_not_resumed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, length: int
) -> None:
    path = tmp_path / "state.pt"
    save_state(path, "f", 4, {"value": torch.ones(200)})
    path.write_bytes(path.read_bytes()[:length])
    assert load_state(path, "f") is None
    assert "state.pt is damaged" in caplog.text and "training starts over" in caplog.text
    assert len(caplog.messages) == 1 and "\n" not in caplog.messages[0]


@pytest.mark.parametrize(
    "content", [{"fingerprint": "f"}, {"step": 4, "state": {}}, [1, 2], [], 7, "text", None]
)
def test_a_file_that_is_no_state_is_reported_and_not_resumed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: Any
) -> None:
    torch.save(content, tmp_path / "state.pt")
    assert load_state(tmp_path / "state.pt", "f") is None
    assert "state.pt is damaged" in caplog.text


def test_a_training_with_a_damaged_state_starts_anew(tmp_path: Path) -> None:
    whole, whole_rows = run_toy(tmp_path / "whole")
    with pytest.raises(Interrupted):
        run_toy(tmp_path / "cut", stop_at=10)
    state = tmp_path / "cut/state.pt"
    state.write_bytes(state.read_bytes()[:-300])
    again, rows = run_toy(tmp_path / "cut")
    assert rows == whole_rows
    assert torch.equal(again.linear.weight, whole.linear.weight)


@pytest.mark.hostile(
    "hdf5: training state, one bit flipped", outcome="said in the log; the state before it is used"
)
def test_one_flipped_bit_anywhere_takes_the_state_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """States of steps 4 and 8; whatever bit of the later one is wrong, the training ends as if nothing had
    been.
    """
    whole, whole_rows = run_toy(tmp_path / "whole")
    with pytest.raises(Interrupted):
        run_toy(tmp_path / "cut", stop_at=10)
    state = tmp_path / "cut/state.pt"
    content = state.read_bytes()
    sound = load_state(state, "f")
    assert sound is not None and sound[0] == 8
    for place in np.random.default_rng(0).choice(len(content), 100, replace=False).tolist():
        state.write_bytes(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
        found = load_state(state, "f")
        assert found is not None and found[0] == 4 and not state.exists(), place
    state.write_bytes(content[:2048] + bytes(512) + content[2560:])
    caplog.clear()
    resumed, rows = run_toy(tmp_path / "cut")
    assert rows == whole_rows and torch.equal(resumed.linear.weight, whole.linear.weight)
    assert "state.pt is damaged (its content is not" in caplog.text
    assert "the previous state, " in caplog.text


@pytest.mark.hostile(
    "hdf5: training states, both damaged", outcome="said in the log; the training starts over"
)
def test_with_both_states_damaged_the_training_starts_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole, whole_rows = run_toy(tmp_path / "whole")
    with pytest.raises(Interrupted):
        run_toy(tmp_path / "cut", stop_at=10)
    for state in (tmp_path / "cut").iterdir():
        content = bytearray(state.read_bytes())
        content[len(content) // 2] ^= 1
        state.write_bytes(content)
    again, rows = run_toy(tmp_path / "cut")
    assert rows == whole_rows and torch.equal(again.linear.weight, whole.linear.weight)
    assert caplog.text.count("is damaged (") == 2 and "training starts over" in caplog.text


@pytest.mark.hostile(
    "hdf5: training state with a momentum of NaN", outcome="said in the log; the state before is used"
)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_momentum_that_is_not_finite_is_no_state(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, value: float
) -> None:
    path = tmp_path / "state.pt"
    save_state(path, "f", 4, {"optimizer": {"state": {0: {"momentum_buffer": torch.ones(2)}}}})
    save_state(path, "f", 8, {"optimizer": {"state": {0: {"momentum_buffer": torch.tensor([1.0, value])}}}})
    found = load_state(path, "f")
    assert found is not None and found[0] == 4
    assert "it holds NaN or infinity" in caplog.text and not path.exists()


def test_a_momentum_that_became_infinite_is_not_saved(tmp_path: Path) -> None:
    settings = LoopSettings(2, tmp_path, "f", checkpoint_every=1)
    weight = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(weight.parameters(), lr=0.0, momentum=0.9)

    def step_fn(step: int, batch: Any) -> dict[str, Tensor]:
        return {"loss": weight.weight.sum()}

    def spoil(step: int) -> None:
        if step == 1:
            optimizer.state[weight.weight]["momentum_buffer"].fill_(torch.inf)

    with pytest.raises(
        MaskDistillError, match=r"momentum became NaN or infinite by step 2; the last good state is"
    ):
        train(
            settings,
            {"toy": weight},
            optimizer,
            lambda start: [0] * (2 - start),
            step_fn,
            lambda _: 0.0,
            spoil,
        )
    saved = load_state(tmp_path / "state.pt", "f")
    assert saved is not None and saved[0] == 1


def test_two_states_are_kept(tmp_path: Path) -> None:
    for step in (4, 8, 12):
        save_state(tmp_path / "state.pt", "f", step, {"value": torch.full((2,), float(step))})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state.previous.pt", "state.pt"]
    steps = []
    while (found := load_state(tmp_path / "state.pt", "f")) is not None:
        steps.append(found[0])
        next(
            path for path in (tmp_path / "state.pt", tmp_path / "state.previous.pt") if path.exists()
        ).unlink()
    assert steps == [12, 8]


def test_a_full_disk_keeps_the_state_before(tmp_path: Path) -> None:
    """Files may not grow beyond 1 kB from step 6 on: the kernel refuses the write of step 8, as a full disk
    does.
    """
    whole, whole_rows = run_toy(tmp_path / "whole")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(
            MaskDistillError, match=r"state\.pt: the state after step 8 could not be written .*Free some"
        ):
            run_toy(tmp_path / "full", full_at=6)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    saved = load_state(tmp_path / "full/state.pt", "f")
    assert saved is not None and saved[0] == 4
    assert sorted(path.name for path in (tmp_path / "full").iterdir()) == ["metrics.csv", "state.pt"]
    resumed, rows = run_toy(tmp_path / "full")
    assert rows == whole_rows
    assert torch.equal(resumed.linear.weight, whole.linear.weight)


def test_finish_removes_the_state(tmp_path: Path) -> None:
    settings = LoopSettings(1, tmp_path / "state", "f")
    save_state(settings.state_dir / "state.pt", "f", 1, {})
    finish(settings)
    assert not settings.state_dir.exists()


def test_metrics_are_csv(tmp_path: Path) -> None:
    write_metrics(tmp_path / "metrics.csv", [{"step": 2.0, "loss": 0.5}, {"step": 4.0, "loss": 0.25}])
    text = (tmp_path / "metrics.csv").read_text()
    assert text.startswith("step,loss\n2.0,0.5\n4.0,0.25\n# sha256 ") and text.count("\n") == 4


def test_a_curve_has_the_seconds_of_training_and_images_a_second(tmp_path: Path) -> None:
    """Of 8 images a step; the second attempt goes on 12 s after its state, and takes back the third row."""
    live, now = tmp_path / "state" / LIVE, [100.0]
    curve = Curve(live, 8, clock=lambda: now[0])
    saved = None
    for step, seconds in ((20, 10.0), (40, 5.0), (60, 4.0)):
        now[0] += seconds
        curve.add({"step": float(step), "lr": 0.1, "loss": 1 / step})
        saved = curve.state() if step == 40 else saved
    assert saved is not None and saved["spent"] == 15 and curve.said() == "lr 0.1, loss 0.01667"
    text = live.read_text()
    assert text.startswith(
        "step,seconds,images_per_second,lr,loss\n20.0,10.0,16.0,0.1,0.05\n40.0,15.0,32.0,0.1,0.025\n"
    )
    saved = {"rows": saved["rows"][:2], "seconds": saved["seconds"][:2], "spent": 15.0}
    now[0] = 5000.0
    again = Curve(live, 8, saved, clock=lambda: now[0])
    assert live.read_text() == "".join(text.splitlines(keepends=True)[:3])
    now[0] += 2.0
    again.add({"step": 60.0, "lr": 0.1, "loss": 0.5})
    assert live.read_text().splitlines()[3] == "60.0,17.0,80.0,0.1,0.5"
    with open(live, "a") as stream:
        stream.write("80.0,19.0,8")
    written = read_curve(live, sealed=False)
    assert written.rows == again.rows and [one["seconds"] for one in written.times] == [10, 15, 17]
    keep_times(live, tmp_path / "benchmarks/seed-0.csv")
    assert (tmp_path / "benchmarks/seed-0.csv").read_bytes() == live.read_bytes()
    assert Curve(live, 8).said() == "" and not live.exists(), "a training that begins anew"


def test_other_ranks_show_no_curve(tmp_path: Path) -> None:
    weight = nn.Linear(1, 1)
    settings = LoopSettings(1, tmp_path / "state", "f", rank=1)
    optimizer = torch.optim.SGD(weight.parameters(), lr=0.0)
    rows = train(
        settings, {"toy": weight}, optimizer, lambda _: [0], lambda *_: {"loss": weight.bias.sum()}, float
    )
    assert [row["step"] for row in rows] == [1] and not settings.state_dir.exists()


def test_losses_stand_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        assert list(progress(range(3), 3, "toy", "step", every=0.0, note=lambda: "loss 0.5")) == [0, 1, 2]
    first, *_, last = caplog.messages
    assert re.fullmatch(r"toy: 1/3 step, \S+ step/s, loss 0\.5, \d+ s left", first), first
    assert seconds_left([last]) == 0


def test_equal_models_give_equal_bytes(tmp_path: Path) -> None:
    metadata = {name: name.upper() for name in ("provenance", "params", "num_clusters", "arch", "more")}
    contents = set()
    for _ in range(5):
        save_model(tmp_path / "model.safetensors", {"b": torch.ones(2, 3), "a": torch.arange(5)}, metadata)
        contents.add((tmp_path / "model.safetensors").read_bytes())
    assert len(contents) == 1


def test_a_saved_model_loads_strictly(tmp_path: Path) -> None:
    torch.manual_seed(0)
    first, second = Toy(), Toy()
    save_model(tmp_path / "toy.safetensors", first.state_dict(), {"arch": "toy"})
    assert not torch.equal(first.linear.weight, second.linear.weight)
    load_model(tmp_path / "toy.safetensors", second)
    assert torch.equal(first.linear.weight, second.linear.weight)
    assert not second.training
    with pytest.raises(MaskDistillError, match=r"toy\.safetensors"):
        load_model(tmp_path / "toy.safetensors", nn.Linear(4, 1))
