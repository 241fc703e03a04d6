"""Losses against double loops, schedules, the moving average, views; training resumed after a kill is
bit-equal.
"""

import csv
import hashlib
import json
import math
import pickle
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from maskdistill.backbones import vit
from maskdistill.backbones.weights import read_metadata, read_state_dict
from maskdistill.cli import main
from maskdistill.config import AffinityConfig, MasksConfig, PretrainConfig
from maskdistill.data.listed import ListedImage
from maskdistill.data.manifest import build_manifest, write_manifest
from maskdistill.data.scenes import generate_scene
from maskdistill.masks.rules import maskdistill as rule
from maskdistill.pretrain import losses
from maskdistill.pretrain.encoder import Encoder
from maskdistill.pretrain.losses import DINOHead, DINOLoss, nt_xent, projector
from maskdistill.pretrain.schedule import cosine, warmup_cosine
from maskdistill.pretrain.train import Pretraining, mask_diagnostics, parameter_groups, pretrain
from maskdistill.pretrain.views import ViewDataset
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.training.loop import LoopSettings

Array = np.ndarray[Any, np.dtype[np.float64]]
MICRO = "vit_micro_patch8"
TINY: dict[str, Any] = {
    "size": 32, "local_size": 16, "local_views": 2, "scene_size": 64, "exchange_pairs": 3, "batch_size": 4,
    "steps": 5,
    "hidden_dim": 16, "projection_dim": 8, "out_dim": 24, "lr": 0.05, "momentum": 0.8, "workers": 0,
    "log_every": 2,
    "checkpoint_every": 2,
}  # fmt: skip


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---------------------------------------------------------------- NT-Xent


def slow_nt_xent(first: Array, second: Array, temperature: float) -> tuple[float, float]:
    """SimCLR Eq. 1, one pair of views at a time; the second value counts views that find their partner."""
    views = [*first, *second]
    count = len(first)

    def similarity(i: int, j: int) -> float:
        return float(views[i] @ views[j] / np.linalg.norm(views[i]) / np.linalg.norm(views[j]))

    total, found = 0.0, 0
    for i in range(2 * count):
        partner = i + count if i < count else i - count
        below = 0.0
        for k in range(2 * count):
            if k != i:
                below += math.exp(similarity(i, k) / temperature)
        total += -math.log(math.exp(similarity(i, partner) / temperature) / below)
        found += all(similarity(i, k) <= similarity(i, partner) for k in range(2 * count) if k != i)
    return total / (2 * count), found / (2 * count)


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent_agrees_with_double_loops(count: int, temperature: float) -> None:
    first = normal(count, 5, seed=count)
    second = first + normal(count, 5, seed=count + 50)
    loss, hits = nt_xent(first, second, temperature)
    expected, found = slow_nt_xent(first.double().numpy(), second.double().numpy(), temperature)
    assert float(loss) == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert float(hits) == pytest.approx(found)


def test_nt_xent_ignores_the_length_of_the_vectors() -> None:
    first, second = normal(4, 5), normal(4, 5, seed=1)
    torch.testing.assert_close(nt_xent(first, second, 0.2)[0], nt_xent(first * 7, second * 0.1, 0.2)[0])


def test_nt_xent_over_two_processes_is_that_of_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = normal(6, 5), normal(6, 5, seed=1)
    expected, hits = nt_xent(first, second, 0.2)
    unit = [torch.nn.functional.normalize(view, dim=1) for view in (first, second)]
    parts = []
    for rank in range(2):
        mine = slice(3 * rank, 3 * rank + 3)
        gathered = iter(unit)
        monkeypatch.setattr(losses, "rank_and_world", lambda rank=rank: (rank, 2))
        monkeypatch.setattr(losses, "gather_batch", lambda tensor, gathered=gathered: next(gathered))
        parts.append(torch.stack(nt_xent(first[mine], second[mine], 0.2)))
    torch.testing.assert_close(torch.stack(parts).mean(dim=0), torch.stack([expected, hits]))


# ---------------------------------------------------------------- DINO


def slow_softmax(values: Array) -> Array:
    out = np.zeros_like(values)
    for i, row in enumerate(values):
        powers = [math.exp(x - max(row)) for x in row]
        out[i] = [x / sum(powers) for x in powers]
    return out


class SlowDINO:
    """Caron et al. 2021, Algorithm 1, in loops over views and images."""

    def __init__(self, out_dim: int, student: float, teacher: float, momentum: float) -> None:
        self.center, self.student, self.teacher, self.momentum = np.zeros(out_dim), student, teacher, momentum

    def __call__(self, student: list[Array], teacher: list[Array]) -> tuple[float, float]:
        terms, entropies = [], []
        for i, t in enumerate(teacher):
            target = slow_softmax((t - self.center) / self.teacher)
            for row in target:
                entropies.append(-sum(p * math.log(p) for p in row if p > 0))
            for j, s in enumerate(student):
                if i == j:
                    continue
                guess = slow_softmax(s / self.student)
                for p, q in zip(target, guess, strict=True):
                    terms.append(-sum(a * math.log(b) for a, b in zip(p, q, strict=True)))
        everyone = np.concatenate(teacher)
        self.center = self.center * self.momentum + everyone.mean(axis=0) * (1 - self.momentum)
        return float(np.mean(terms)), float(np.mean(entropies))


@pytest.mark.parametrize("local", [0, 3])
def test_dino_loss_and_centre_agree_with_loops_over_several_steps(local: int) -> None:
    mine, slow = DINOLoss(6, 0.1, 0.04, 0.7), SlowDINO(6, 0.1, 0.04, 0.7)
    for step in range(3):
        student = [normal(4, 6, seed=10 * step + view) * 0.3 for view in range(2 + local)]
        teacher = [normal(4, 6, seed=100 + 10 * step + view) * 0.1 for view in range(2)]
        loss, entropy = mine(student, teacher)
        expected = slow([s.double().numpy() for s in student], [t.double().numpy() for t in teacher])
        assert float(loss) == pytest.approx(expected[0], rel=1e-4)
        assert float(entropy) == pytest.approx(expected[1], rel=1e-3)
        np.testing.assert_allclose(mine.center[0], slow.center, rtol=1e-5, atol=1e-7)
    assert np.abs(slow.center).max() > 0.01


def test_dino_compares_different_views_only() -> None:
    """A student view that equals its own teacher view and no other gives no gain."""
    teacher = [normal(3, 5, seed=1), normal(3, 5, seed=2)]
    swapped, _ = DINOLoss(5, 0.1, 0.1)([teacher[1], teacher[0]], teacher)
    same, _ = DINOLoss(5, 0.1, 0.1)(teacher, teacher)
    assert float(swapped) < float(same)


def test_the_centre_is_kept_with_the_model_and_takes_no_gradient() -> None:
    loss = DINOLoss(5, 0.1, 0.04)
    student = [normal(3, 5, seed=view).requires_grad_() for view in range(2)]
    value, _ = loss(student, [normal(3, 5, seed=7), normal(3, 5, seed=8)])
    value.backward()
    assert all(view.grad is not None and view.grad.abs().sum() > 0 for view in student)
    assert "center" in loss.state_dict() and not loss.center.requires_grad and loss.center.abs().sum() > 0


def test_dino_head_ends_in_cosines_to_unit_prototypes() -> None:
    head = DINOHead(12, 16, 8, 24)
    found = head(normal(5, 12))
    features = torch.nn.functional.normalize(head.mlp(normal(5, 12)), dim=1)
    direction = head.last.parametrizations.weight.original1
    expected = features @ torch.nn.functional.normalize(direction, dim=1).T
    torch.testing.assert_close(found, expected)
    assert found.shape == (5, 24) and found.abs().max() <= 1 + 1e-5
    assert not head.last.parametrizations.weight.original0.requires_grad and direction.requires_grad


def test_the_projector_cannot_settle_at_a_constant() -> None:
    head = projector(6, 16, 8)
    found = head(normal(32, 6) * 1e-2 + 5)
    assert found.shape == (32, 8)
    torch.testing.assert_close(found.std(dim=0, unbiased=False), torch.ones(8), rtol=0.05, atol=0.05)


# ---------------------------------------------------------------- schedules


def test_warmup_rises_linearly_and_the_cosine_falls_to_the_end() -> None:
    rates = [warmup_cosine(step, 100, 2.0, 0.1, 0.02) for step in range(100)]
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) * 0.2)
    for step in range(10, 100):
        assert rates[step] == pytest.approx(0.02 + 1.98 * (1 + math.cos(math.pi * (step - 10) / 90)) / 2)
    assert rates[10] == 2.0 and rates[55] == pytest.approx(1.01) and 0.02 < rates[99] < 0.03
    assert all(a > b for a, b in pairwise(rates[10:]))


@pytest.mark.parametrize(("total", "warmup"), [(1, 0.0), (1, 1.0), (5, 0.0), (5, 1.0), (3, 0.1)])
def test_short_schedules_stay_between_their_ends(total: int, warmup: float) -> None:
    rates = [warmup_cosine(step, total, 1.0, warmup, 0.1) for step in range(total)]
    assert all(0 < rate <= 1 for rate in rates) and max(rates) == 1


@pytest.mark.parametrize(("step", "expected"), [(0, 0.9), (5, 0.95), (10, 1.0), (12, 1.0)])
def test_cosine(step: int, expected: float) -> None:
    assert cosine(step, 10, 0.9, 1.0) == pytest.approx(expected)


# ---------------------------------------------------------------- student and teacher


def noisy_pair(objective: str = "contrast", arch: str = "resnet_tiny") -> Pretraining:
    torch.manual_seed(5)
    pair = Pretraining(arch, PretrainConfig.model_validate(TINY | {"objective": objective}))
    with torch.no_grad():
        for value in [*pair.student.parameters(), *pair.student.buffers()]:
            if value.is_floating_point():
                value.add_(torch.rand(value.shape))
    return pair


def test_teacher_and_student_start_equal_and_only_one_is_trained() -> None:
    pair = Pretraining(MICRO, PretrainConfig.model_validate(TINY))
    student, teacher = pair.student.state_dict(), pair.teacher.state_dict()
    assert student.keys() == teacher.keys() and all(torch.equal(student[n], teacher[n]) for n in student)
    assert not any(p.requires_grad for p in pair.teacher.parameters())


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
def test_the_teacher_is_a_moving_average(momentum: float) -> None:
    pair = noisy_pair()
    student = {n: v.clone() for n, v in pair.student.state_dict().items()}
    before = {n: v.clone() for n, v in pair.teacher.state_dict().items()}
    pair.move_teacher(momentum)
    parameters = dict(pair.teacher.named_parameters())
    for name, value in pair.teacher.state_dict().items():
        kept = momentum if name in parameters else 0.0
        torch.testing.assert_close(value, (kept * before[name] + (1 - kept) * student[name]).to(value.dtype))
    assert len(student) > len(parameters)  # buffers, of batch normalisation, are among them
    assert all(torch.equal(value, student[name]) for name, value in pair.student.state_dict().items())


@pytest.mark.parametrize(
    ("objective", "arch"), [("dino", MICRO), ("contrast", MICRO), ("contrast", "resnet_tiny")]
)
def test_decay_spares_biases_norms_tokens_and_positions(objective: str, arch: str) -> None:
    student = noisy_pair(objective, arch).student
    groups = parameter_groups(student, 0.3)
    members: list[list[Tensor]] = [cast(list[Tensor], group["params"]) for group in groups]
    decay = {
        id(p): group["weight_decay"] for group, found in zip(groups, members, strict=True) for p in found
    }
    trainable = {name: p for name, p in student.named_parameters() if p.requires_grad}
    assert len(decay) == len(trainable) == sum(map(len, members))
    for name, parameter in trainable.items():
        spared = parameter.ndim == 1 or "pos_embed" in name or "cls_token" in name
        assert decay[id(parameter)] == (0.0 if spared else 0.3), name


@pytest.mark.parametrize(("arch", "dim"), [(MICRO, 128), ("resnet_tiny", None)])
def test_the_encoder_gives_one_vector_an_image(arch: str, dim: int | None) -> None:
    encoder = Encoder(arch)
    assert encoder.training
    with torch.no_grad():
        found = encoder.eval()(normal(2, 3, 32, 40) if arch == MICRO else normal(2, 3, 64, 96))
    assert found.shape == (2, encoder.dim) and (dim is None or encoder.dim == dim)
    if arch == MICRO:
        torch.testing.assert_close(found, vit.cls_feature(encoder.backbone, normal(2, 3, 32, 40)))


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(MaskDistillError, match=r"'vgg' is unknown.*resnet.*vit_micro_patch8"):
        Encoder("vgg")


def test_training_mode_may_forward_a_random_choice_of_patches() -> None:
    encoder = Encoder(MICRO, patch_keep=0.3)
    seen: list[Tensor] = []
    encoder.backbone.blocks[0].register_forward_hook(lambda module, args, out: seen.append(args[0].detach()))
    images = normal(3, 3, 32, 40)
    encoder.backbone.patch_embed.eval()  # a stem's batch statistics would change the tokens
    encoder(images)
    encoder.eval()(images)
    whole = vit.embed(encoder.backbone, images).detach()
    assert seen[0].shape == (3, 1 + 6, 128) and torch.equal(seen[1], whole)  # int(0.3 * 20) patches
    choices = []
    for found, tokens in zip(seen[0], whole, strict=True):
        places = [int((tokens == token).all(dim=1).nonzero()) for token in found]
        assert places[0] == 0 and len(set(places)) == 7
        choices.append(tuple(places))
    assert len(set(choices)) > 1


def test_mask_diagnostics_are_those_of_the_mask_rule() -> None:
    torch.manual_seed(0)
    encoder = Encoder(MICRO, drop_path=0.5).train()
    probe = normal(5, 3, 32, 40)
    found = mask_diagnostics(encoder, probe)
    assert encoder.training
    query, _, keys = vit.last_attention(encoder.eval().backbone, probe)
    for name, center in (("", False), ("_centered", True)):
        config = MasksConfig(affinity=AffinityConfig(center=center))
        cover = [
            rule.distil(k.detach().numpy(), q.detach().numpy(), (4, 5), config).mask.mean()
            for k, q in zip(keys, query, strict=True)
        ]
        assert found[f"coverage{name}"] == pytest.approx(np.mean(cover))
        assert found[f"whole_image{name}"] == np.mean([c > 0.95 for c in cover])


# ---------------------------------------------------------------- views


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five pictures for training, one for evaluation only, and their manifest."""
    folder = tmp_path_factory.mktemp("photos")
    listed = []
    for index in range(1, 7):
        path = folder / f"{index}.png"
        Image.fromarray(generate_scene(2, index, 64 if index < 5 else 100, 0.3).image).save(path)
        listed.append(ListedImage(str(index), path, index < 6, True))
    write_manifest(folder / "manifest.csv", build_manifest(listed, len(listed), 1, folder))
    return folder


def settings(**given: Any) -> PretrainConfig:
    return PretrainConfig.model_validate(TINY | given)


@pytest.mark.parametrize("objective", ["dino", "contrast"])
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_views_depend_on_the_draw_alone(photos: Path, objective: str, share: float) -> None:
    files = [photos / f"{index}.png" for index in range(1, 6)] if share == 0 else []
    config = settings(objective=objective, exchange_share=share)
    first = ViewDataset(files, config)[(0, 7)]
    sides = [32, 32, 16, 16] if objective == "dino" else [32, 32]
    assert [tuple(view.shape) for view in first] == [(3, side, side) for side in sides]
    assert all(view.dtype == torch.uint8 for view in first)
    dataset = ViewDataset(files, config)
    state = torch.get_rng_state()
    others = [dataset[(0, draw)] for draw in (3, 8)]
    again = dataset[(0, 7)]
    assert torch.equal(torch.get_rng_state(), state)  # the training's own generator is left alone
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert all(not torch.equal(first[0], other[0]) for other in others)
    assert not torch.equal(first[0], first[1])


def test_a_photograph_is_its_own_partner_and_a_generated_pair_is_two_pictures(photos: Path) -> None:
    one, two = ViewDataset([photos / "1.png"], settings()).sources(0, 3)
    assert torch.equal(one, two) and one.shape[0] == 3
    generated = ViewDataset([], settings(exchange_share=1.0))
    one, two = generated.sources(0, 3)
    assert one.shape == two.shape == (3, 64, 64) and (one != two).float().mean() > 0.5
    assert torch.equal(generated.sources(0, 3 + 3)[0], one)  # exchange_pairs is 3
    assert not torch.equal(generated.sources(0, 4)[0], one)


def test_large_photographs_are_reduced_first(photos: Path) -> None:
    (one, _) = ViewDataset([photos / "5.png"], settings()).sources(0, 0)
    assert min(one.shape[1:]) == 64  # twice the side of a view


def test_the_share_of_generated_pairs(photos: Path) -> None:
    dataset = ViewDataset([photos / "1.png"], settings(exchange_share=0.3))
    photo = ViewDataset([photos / "1.png"], settings()).sources(0, 0)[0]
    generated = [not torch.equal(dataset.sources(0, draw)[0], photo) for draw in range(200)]
    assert 0.2 < np.mean(generated) < 0.4


def test_without_photographs_only_generated_pairs_can_be_drawn() -> None:
    assert len(ViewDataset([], settings(exchange_share=1.0))) == 1
    with pytest.raises(ValueError, match="exchange_share"):
        ViewDataset([], settings(exchange_share=0.9))


def test_the_dataset_can_be_sent_to_another_process() -> None:
    """Where processes are spawned, not forked (macOS), it is pickled."""
    dataset = ViewDataset([], settings(exchange_share=1.0))
    copy = pickle.loads(pickle.dumps(dataset))
    assert all(torch.equal(a, b) for a, b in zip(dataset[(0, 1)], copy[(0, 1)], strict=True))


# ---------------------------------------------------------------- the entry point


class Run:
    """Calls of ``maskdistill pretrain`` that write into one folder."""

    def __init__(self, folder: Path, photos: Path) -> None:
        self.folder, self.photos = folder, photos

    def __call__(
        self,
        name: str,
        arch: str = MICRO,
        manifest: Path | None = None,
        init: Path | None = None,
        **params: Any,
    ) -> int:
        given = TINY | params
        source = manifest or self.photos / "manifest.csv"
        files = [] if given.get("exchange_share") == 1 and manifest is None else ["--manifest", str(source)]
        files += ["--init", str(init)] if init else []
        return main(
            [
                "pretrain", "--arch", arch, *files, "--params", json.dumps(given), "--device", "cpu",
                "--threads", "1",
                "--output", str(self.folder / f"{name}.safetensors"), "--metrics",
                str(self.folder / f"{name}.csv"),
                "--state", str(self.folder / f"{name}.state"),
            ]
        )  # fmt: skip

    def results(self, name: str) -> tuple[bytes, bytes]:
        return tuple((self.folder / f"{name}.{end}").read_bytes() for end in ("safetensors", "csv"))  # type: ignore[return-value]

    def rows(self, name: str) -> list[dict[str, str]]:
        with open(self.folder / f"{name}.csv", newline="") as stream:
            return list(csv.DictReader(line for line in stream if not line.startswith("#")))


@pytest.fixture
def run(tmp_path: Path, photos: Path) -> Run:
    return Run(tmp_path, photos)


class Killed(BaseException):
    """Like a signal: nothing on the way catches it."""


def after_steps(monkeypatch: pytest.MonkeyPatch, action: Callable[[int], None]) -> list[float]:
    """Call ``action`` with the number of finished steps after each; the momenta are collected."""
    momenta: list[float] = []
    plain = Pretraining.move_teacher

    def move(self: Pretraining, momentum: float) -> None:
        plain(self, momentum)
        momenta.append(momentum)
        action(len(momenta))

    monkeypatch.setattr(Pretraining, "move_teacher", move)
    return momenta


def kill_at(step: int) -> Callable[[int], None]:
    def action(done: int) -> None:
        if done == step:
            raise Killed

    return action


CASES: dict[str, dict[str, Any]] = {
    "contrast": {"objective": "contrast", "exchange_share": 1.0, "drop_path": 0.2, "patch_keep": 0.5},
    "dino": {"objective": "dino", "exchange_share": 0.4, "drop_path": 0.2},
    "resnet": {"arch": "resnet_tiny", "objective": "contrast", "exchange_share": 0.0},
}


class Uninterrupted:
    """Whole trainings of :data:`CASES`, each made once for all tests that compare with it."""

    def __init__(self, folder: Path, photos: Path) -> None:
        self.run, self.momenta = Run(folder, photos), dict[str, list[float]]()

    def __getitem__(self, case: str) -> tuple[bytes, bytes]:
        if case not in self.momenta:
            with pytest.MonkeyPatch.context() as patch:
                self.momenta[case] = after_steps(patch, lambda done: None)
                assert self.run(case, **CASES[case]) == 0
        return self.run.results(case)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Uninterrupted:
    return Uninterrupted(tmp_path_factory.mktemp("whole"), photos)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_killed_training_continues_bit_equal(
    run: Run, whole: Uninterrupted, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    with monkeypatch.context() as patch:
        after_steps(patch, kill_at(4))  # the state of step 2 is there; steps 3 and 4 are lost
        with pytest.raises(Killed):
            run("cut", **CASES[case])
    assert not (run.folder / "cut.safetensors").exists() and (run.folder / "cut.state" / "state.pt").exists()
    with monkeypatch.context() as patch:
        momenta = after_steps(patch, lambda done: None)
        assert run("cut", **CASES[case]) == 0
    assert len(momenta) == 3  # of 5 steps
    assert run.results("cut") == whole[case]
    assert not (run.folder / "cut.state").exists()


@pytest.mark.slow
def test_two_runs_give_equal_bytes_and_another_seed_does_not(run: Run, whole: Uninterrupted) -> None:
    assert run("second", **CASES["contrast"]) == 0
    assert run.results("second") == whole["contrast"]
    assert run("third", seed=1, **(CASES["contrast"] | {"steps": 1})) == 0
    second, third = (read_state_dict(run.folder / f"{name}.safetensors") for name in ("second", "third"))
    assert not torch.equal(second["pos_embed"], third["pos_embed"])


@pytest.mark.slow
def test_loading_processes_do_not_change_the_weights(run: Run, whole: Uninterrupted) -> None:
    assert run("helped", workers=2, **CASES["dino"]) == 0 and whole["dino"]
    alone, helped = (
        read_state_dict(r.folder / f"{n}.safetensors") for r, n in ((whole.run, "dino"), (run, "helped"))
    )
    assert alone.keys() == helped.keys() and all(torch.equal(alone[name], helped[name]) for name in alone)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["settings", "bytes"])
def test_a_state_of_other_settings_or_a_damaged_one_is_not_used(
    run: Run, whole: Uninterrupted, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    case = CASES["contrast"]
    with monkeypatch.context() as patch:
        after_steps(patch, kill_at(3))
        with pytest.raises(Killed):
            run("cut", **(case | ({"temperature": 0.3} if damage == "settings" else {})))
    state = run.folder / "cut.state" / "state.pt"
    if damage == "bytes":
        state.write_bytes(state.read_bytes()[:-1000])
    assert state.exists()
    assert run("cut", **case) == 0
    assert run.results("cut") == whole["contrast"]


def test_what_is_written(whole: Uninterrupted) -> None:
    assert whole["dino"]
    assert whole.momenta["dino"] == [pytest.approx(cosine(step, 5, 0.8, 1.0)) for step in range(5)]
    folder = whole.run.folder
    assert not (folder / "dino.state").exists()
    path = folder / "dino.safetensors"
    state = read_state_dict(path)
    numbers = [value for value in state.values() if value.is_floating_point()]
    assert all(value.dtype == torch.float16 and torch.isfinite(value).all() for value in numbers)
    model = vit.load_vit(MICRO, str(path))
    torch.manual_seed(0)
    fresh = vit.build_vit(MICRO).state_dict()
    assert not torch.equal(model.state_dict()["pos_embed"], fresh["pos_embed"].half().float())
    metadata = read_metadata(path)
    provenance = json.loads(metadata["provenance"])
    assert metadata["arch"] == MICRO and provenance["params"]["objective"] == "dino"
    assert (
        len(provenance["inputs"]["manifest0"]) == 64 and str(whole.run.photos) not in metadata["provenance"]
    )
    rows = whole.run.rows("dino")
    assert [float(row["step"]) for row in rows] == [2, 4, 5]
    for row in rows:
        assert all(math.isfinite(float(value)) for value in row.values())
        assert {"lr", "loss", "feature_std", "teacher_entropy", "coverage", "coverage_centered"} <= row.keys()
    peak = 0.05 * 4 / 256
    assert [float(row["lr"]) for row in rows] == [
        pytest.approx(warmup_cosine(step, 5, peak, 0.1, peak / 100)) for step in (1, 3, 4)
    ]


def test_training_starts_from_given_weights(
    run: Run, whole: Uninterrupted, capsys: pytest.CaptureFixture[str]
) -> None:
    assert whole["dino"]
    given = whole.run.folder / "dino.safetensors"
    case: dict[str, Any] = CASES["contrast"] | {"steps": 1, "momentum": 1.0}  # the teacher does not move
    assert run("next", init=given, **case) == 0
    before, after = read_state_dict(given), read_state_dict(run.folder / "next.safetensors")
    learned = [name for name, _ in vit.build_vit(MICRO).named_parameters()]
    assert all(torch.equal(before[name], after[name]) for name in learned)
    inputs = json.loads(read_metadata(run.folder / "next.safetensors")["provenance"])["inputs"]
    assert inputs["init"] == hashlib.sha256(given.read_bytes()).hexdigest()
    assert run("wrong", arch="resnet_tiny", init=given, **case) == 1
    assert "dino.safetensors does not fit" in said(capsys)
    assert run("absent", init=run.folder / "absent.pth", **case) == 1
    assert "absent.pth: no such file" in said(capsys)


def test_only_training_pictures_are_opened(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[str] = set()
    plain = ViewDataset.__init__

    def spy(self: ViewDataset, files: list[str], config: PretrainConfig) -> None:
        seen.update(Path(file).name for file in files)
        plain(self, files, config)

    monkeypatch.setattr(ViewDataset, "__init__", spy)
    assert run("net", steps=1) == 0
    assert seen == {f"{index}.png" for index in range(1, 6)}  # the sixth is for evaluation


def test_training_lowers_the_loss() -> None:
    """Fifteen steps on one batch: NT-Xent falls well below the chance level log(2n - 1)."""
    config = settings(objective="contrast", exchange_share=1.0, drop_path=0.0, batch_size=4)
    torch.manual_seed(0)
    pair = Pretraining(MICRO, config)
    batch = next(iter(DataLoader(ViewDataset([], config), batch_sampler=[[(0, draw) for draw in range(4)]])))
    views = [vit.normalize(view) for view in batch]
    optimizer = torch.optim.AdamW(parameter_groups(pair.student, 0.0), lr=1e-3)
    seen = []
    for _ in range(15):
        found = pair.losses(pair.student, views)
        optimizer.zero_grad()
        found["loss"].backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        seen.append(float(found["loss"].detach()))
    assert seen[0] > 0.6 * math.log(7) and seen[-1] < 0.5 * seen[0]


@pytest.mark.slow
def test_the_precision_of_training_is_a_setting(tmp_path: Path) -> None:
    first = {}
    for precision in ("float32", "bfloat16"):
        config = settings(
            objective="contrast", exchange_share=1.0, batch_size=4, steps=1, precision=precision
        )
        loop = LoopSettings(1, tmp_path / precision, "f", log_every=1)
        first[precision] = pretrain(MICRO, [], config, loop, torch.device("cpu"))[1][0]["loss"]
    assert first["float32"] != first["bfloat16"] == pytest.approx(first["float32"], rel=0.05)


# ---------------------------------------------------------------- clear errors


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.splitlines()[-1]


def test_a_missing_manifest(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("net", manifest=run.folder / "absent.csv") == 1
    assert "absent.csv: no such file; run the manifest stage first" in said(capsys)
    assert list(run.folder.iterdir()) == []


def test_no_pictures(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    listed = [ListedImage("6", run.photos / "6.png", False, True)]
    write_manifest(run.folder / "eval.csv", build_manifest(listed, len(listed), 1, run.folder))
    assert run("net", manifest=run.folder / "eval.csv") == 1
    assert "no images; give --manifest, or exchange_share 1" in said(capsys)


def test_wrong_settings(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("net", arch="vgg") == 1
    assert "'vgg' is unknown" in said(capsys)
    assert run("net", stepz=3) == 1
    assert "stepz: unknown key" in said(capsys)
    assert not (run.folder / "net.safetensors").exists()


def test_a_picture_that_vanished(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (64, 64)).save(run.folder / "gone.png")
    listed = [ListedImage("gone", run.folder / "gone.png", True, True)]
    write_manifest(run.folder / "gone.csv", build_manifest(listed, len(listed), 1, run.folder))
    (run.folder / "gone.png").unlink()
    assert run("net", manifest=run.folder / "gone.csv") == 1
    assert "gone.png: cannot be read" in said(capsys) and not (run.folder / "net.safetensors").exists()
