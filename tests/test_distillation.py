"""Feature distillation of a vision transformer into a ResNet: loss, views, entry point, resuming."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from maskdistill.backbones import vit
from maskdistill.backbones.resnet import build_resnet, load_resnet_weights
from maskdistill.backbones.weights import read_metadata, save_weights
from maskdistill.cli import main
from maskdistill.config import PretrainConfig, load_config
from maskdistill.pretrain.distillation import Distillation
from maskdistill.pretrain.views import ViewDataset, Views
from maskdistill.runtime.errors import MaskDistillError

MICRO = "vit_micro_patch8"
SETTINGS: dict[str, Any] = {
    "objective": "distill", "exchange_share": 1.0, "exchange_pairs": 3, "scene_size": 64, "size": 32,
    "batch_size": 4,
    "steps": 6, "lr": 0.05, "workers": 0, "log_every": 2, "checkpoint_every": 2,
}  # fmt: skip


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("teacher") / "vit.safetensors"
    torch.manual_seed(3)
    save_weights(vit.build_vit(MICRO).state_dict(), path, {})
    return path


def settings(teacher: Path, **changes: Any) -> dict[str, Any]:
    return SETTINGS | {"teacher": {"arch": MICRO, "weights": str(teacher)}} | changes


def test_loss_is_the_standardised_squared_error(teacher: Path) -> None:
    """Keys and values are read off timm's own attention by a hook; mean, variance and error are numpy's."""
    torch.manual_seed(0)
    pair = Distillation("resnet_tiny", MICRO, str(teacher)).train()
    plain, recoloured = torch.randn(3, 3, 32, 48), torch.randn(3, 3, 32, 48)
    seen: list[Tensor] = []
    last: Any = pair.teacher.blocks[-1]
    hook = last.attn.qkv.register_forward_hook(lambda module, args, out: seen.append(out))
    found = pair.losses(pair.student, [recoloured, plain])
    hook.remove()
    content = seen[0][:, 1:, 128:].reshape(-1, 256).double().numpy()
    target = (content - content.mean(axis=0)) / np.sqrt(content.var(axis=0) + 1e-5)
    with torch.no_grad():
        maps = pair.student(recoloured)
    assert maps.shape == (3, 256, 4, 6)
    guess = maps.permute(0, 2, 3, 1).reshape(-1, 256).double().numpy()
    assert found["loss"].item() == pytest.approx(((guess - target) ** 2).mean(), rel=1e-3)
    assert found["explained"].item() == pytest.approx(1 - found["loss"].item())


@pytest.mark.slow
def test_the_teacher_is_fixed_and_the_student_learns(teacher: Path) -> None:
    torch.manual_seed(0)
    pair = Distillation("resnet_tiny", MICRO, str(teacher)).train()
    assert not any(p.requires_grad for p in pair.teacher.parameters())
    assert not any(module.training for module in pair.teacher.modules())
    before = {name: value.clone() for name, value in pair.teacher.state_dict().items()}
    optimizer = torch.optim.AdamW(pair.student.parameters(), lr=2e-3)
    views = [torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))] * 2
    losses = []
    for _ in range(25):
        loss = pair.losses(pair.student, views)["loss"]
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(torch.equal(value, before[name]) for name, value in pair.teacher.state_dict().items())


def test_both_views_are_one_crop(teacher: Path) -> None:
    """Without re-colouring they are equal; with it the second one stays as it was."""
    plain = PretrainConfig.model_validate(settings(teacher, photometric=0.0, hue=0.0, grayscale=0.0))
    coloured = PretrainConfig.model_validate(settings(teacher, photometric=1.0, hue=0.5))
    for draw in range(6):
        one, two = ViewDataset([], plain)[(0, draw)], ViewDataset([], coloured)[(0, draw)]
        assert len(one) == 2 and torch.equal(one[0], one[1]) and torch.equal(one[1], two[1])
    assert any(not torch.equal(*ViewDataset([], coloured)[(0, draw)]) for draw in range(6))


def pretrain(folder: Path, name: str, arch: str, params: dict[str, Any]) -> int:
    files = [
        f"--output={folder}/{name}.safetensors",
        f"--metrics={folder}/{name}.csv",
        f"--state={folder}/{name}.state",
    ]
    return main(
        ["pretrain", "--arch", arch, "--params", json.dumps(params), "--device", "cpu", "--threads=1", *files]
    )


@pytest.mark.slow
def test_entry_point_resumes_to_the_same_resnet(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pretrain(tmp_path, "whole", "resnet_tiny", settings(teacher)) == 0
    model = build_resnet("resnet_tiny")
    assert load_resnet_weights(model, tmp_path / "whole.safetensors")["ignored"] == []
    provenance = json.loads(read_metadata(tmp_path / "whole.safetensors")["provenance"])
    assert provenance["params"]["teacher"] == MICRO and str(teacher) not in json.dumps(provenance)
    with open(tmp_path / "whole.csv", newline="") as stream:
        rows = list(csv.DictReader(line for line in stream if not line.startswith("#")))
    assert [float(row["explained"]) for row in rows] == pytest.approx(
        [1 - float(row["loss"]) for row in rows], abs=1e-6
    )

    calls = 0
    plain = Distillation.losses

    def dying(self: Distillation, student: nn.Module, views: Views) -> dict[str, Tensor]:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return plain(self, student, views)

    monkeypatch.setattr(Distillation, "losses", dying)
    assert pretrain(tmp_path, "cut", "resnet_tiny", settings(teacher)) == 130
    assert not (tmp_path / "cut.safetensors").exists()
    assert pretrain(tmp_path, "cut", "resnet_tiny", settings(teacher)) == 0
    assert calls == 4 + 6 - 2, "steps 1 and 2 were kept"
    for end in ("safetensors", "csv"):
        assert (tmp_path / f"cut.{end}").read_bytes() == (tmp_path / f"whole.{end}").read_bytes()


def test_what_cannot_be_distilled_is_refused(
    teacher: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert pretrain(tmp_path, "a", MICRO, settings(teacher)) == 1
    assert "objective distill trains a ResNet (resnet50, resnet_tiny)" in capsys.readouterr().err
    assert pretrain(tmp_path, "a", "resnet_tiny", settings(tmp_path / "gone.pth")) == 1
    assert "gone.pth: no such file" in capsys.readouterr().err
    assert pretrain(tmp_path, "a", "resnet_tiny", SETTINGS) == 1
    assert "teacher is for objective distill, which needs it" in capsys.readouterr().err
    for weights in ("pretrain", "random"):
        assert pretrain(tmp_path, "a", "resnet_tiny", settings(Path(weights))) == 1
        assert "teacher.weights is a file or 'official'" in capsys.readouterr().err
    run = {
        "run": "r", "data": {"kind": "scenes"}, "backbone": {"arch": MICRO, "weights": "pretrain"},
        "detector": {"weights": "pretrain"}, "segmenter": {"weights": "random"},
        "pretrain": settings(teacher),
    }  # fmt: skip
    with pytest.raises(MaskDistillError, match="not backbone"):
        load_config(run)
