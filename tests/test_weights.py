"""Weight files: what is read, what is refused and how the refusal names the file."""

import json
import os
import pickle
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from maskdistill.backbones.weights import read_metadata, read_state_dict, save_weights, strict_load
from maskdistill.runtime.errors import MaskDistillError


def small_net() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def state() -> dict[str, Tensor]:
    return {name: value.clone() for name, value in small_net().state_dict().items()}


class Trap:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.path),)


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_tensors_come_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"net{suffix}"
    if suffix == ".safetensors":
        save_file(state(), path)
    else:
        torch.save(state(), path)
    found = read_state_dict(path)
    assert found.keys() == state().keys()
    assert all(torch.equal(value, state()[name]) for name, value in found.items())


@pytest.mark.parametrize("key", ["state_dict", "model", "teacher", "student"])
def test_a_nested_state_dict_is_unwrapped(tmp_path: Path, key: str) -> None:
    torch.save({"epoch": 7, "optimizer": {"lr": 0.1}, key: state()}, tmp_path / "net.pth")
    assert read_state_dict(tmp_path / "net.pth").keys() == state().keys()


def test_the_teacher_goes_before_the_student(tmp_path: Path) -> None:
    torch.save({"student": state(), "teacher": {"x": torch.ones(1)}}, tmp_path / "dino.pth")
    assert list(read_state_dict(tmp_path / "dino.pth")) == ["x"]


def test_a_training_state_with_its_command_line_is_read(tmp_path: Path) -> None:
    """DINO and iBOT save argparse's Namespace beside the weights."""
    content = {"teacher": state(), "args": Namespace(lr=0.1, data="/x", sizes=[1, 2], flag=None), "epoch": 3}
    torch.save(content, tmp_path / "checkpoint.pth")
    assert read_state_dict(tmp_path / "checkpoint.pth").keys() == state().keys()
    torch.save(content | {"args": Namespace(trap=Trap(tmp_path / "executed"))}, tmp_path / "trap.pth")
    refusal(tmp_path / "trap.pth")
    assert not (tmp_path / "executed").exists()


# ---------------------------------------------------------------- refusals


def refusal(path: Path) -> str:
    with pytest.raises(MaskDistillError) as error:
        read_state_dict(path)
    assert str(path) in str(error.value)
    return str(error.value)


@pytest.mark.hostile("weights: missing", outcome="the stage stops and says what to give")
@pytest.mark.parametrize("name", ["absent.pth", "absent.safetensors"])
def test_a_missing_file(tmp_path: Path, name: str) -> None:
    assert "no such file" in refusal(tmp_path / name)


def test_a_folder(tmp_path: Path) -> None:
    (tmp_path / "net.pth").mkdir()
    refusal(tmp_path / "net.pth")


@pytest.mark.hostile("weights: truncated, or 0 bytes", outcome="the stage stops: fetch it again")
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.97])
def test_a_truncated_file(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"net{suffix}"
    save_file(state(), path) if suffix == ".safetensors" else torch.save(state(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "fetch it again" in refusal(path)


@pytest.mark.hostile("weights: bytes overwritten at random", outcome="read, or refused with one message")
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_no_damage_escapes_as_another_error(tmp_path: Path, suffix: str) -> None:
    """Bytes overwritten at random: read, or refused; torch's decoder alone raises half a dozen types."""
    path = tmp_path / f"net{suffix}"
    if suffix == ".safetensors":
        save_file(state(), path)
    else:
        torch.save(state(), path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        damaged = bytearray(content)
        for place in rng.integers(0, min(len(content), 900), 12):
            damaged[place] = rng.integers(256)
        path.write_bytes(bytes(damaged))
        try:
            read_state_dict(path)
        except MaskDistillError as error:
            refused += 1
            assert str(path) in str(error)
    assert refused > 40


@pytest.mark.hostile("weights: pickle with code", outcome="refused; the code is not run")
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path: Path, how: str) -> None:
    path, trace = tmp_path / "net.pth", tmp_path / "executed"
    content = {"state_dict": state(), "args": Trap(trace)}
    if how == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps({"args": Trap(trace)}))
    message = refusal(path)
    assert not trace.exists()
    assert "nothing in it was executed" in message and "weights_only" not in message
    if how == "torch":  # the trap is live
        torch.load(path, weights_only=False)
        assert trace.exists()


@pytest.mark.hostile("weights: no state dict inside", outcome="refused")
@pytest.mark.parametrize("content", [[1, 2], {"a": 3}, {"state_dict": {"a": "text"}}, torch.zeros(2)])
def test_content_without_a_state_dict(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "net.pth")
    assert "no state dict" in refusal(tmp_path / "net.pth")


# ---------------------------------------------------------------- fitting


def test_a_fitting_state_is_loaded_and_converted() -> None:
    net, given = small_net(), state()
    given = {n: v.double() + 1 if v.is_floating_point() else v + 5 for n, v in given.items()} | {
        "head.w": torch.ones(1)
    }
    strict_load(net, given, "net.pth", ignore=("head.",))
    for name, value in net.state_dict().items():
        assert value.dtype == state()[name].dtype
        torch.testing.assert_close(value, given[name].to(value.dtype))


def broken(change: str) -> dict[str, Tensor]:
    given = state()
    if change == "missing":
        del given["0.bias"]
    elif change == "unknown":
        given["surplus.weight"] = torch.zeros(1)
    elif change == "shape":
        given["0.weight"] = torch.zeros(4, 5)
    elif change == "transposed":
        given["0.weight"] = given["0.weight"].T
    else:
        given["1.running_var"][2] = float(change)
    return given


@pytest.mark.hostile(
    "weights: wrong keys or shapes, NaN, infinity",
    outcome="refused; the message names the keys, the network is untouched",
)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("missing", r"1 missing keys such as \['0\.bias'\]"),
        ("unknown", r"1 unknown keys such as \['surplus\.weight'\]"),
        ("shape", r"0\.weight is \(4, 5\), wanted \(4, 3\)"),
        ("transposed", r"0\.weight is \(3, 4\), wanted \(4, 3\)"),
        ("nan", r"1\.running_var holds NaN"),
        ("inf", r"1\.running_var holds NaN or infinity"),
    ],
)
def test_a_state_that_does_not_fit(change: str, words: str) -> None:
    net = small_net()
    with pytest.raises(MaskDistillError, match=rf"folder/net\.pth.*{words}"):
        strict_load(net, broken(change), "folder/net.pth")
    assert all(torch.equal(value, state()[name]) for name, value in net.state_dict().items())


def test_an_ignored_prefix_must_be_named() -> None:
    given = state() | {"head.w": torch.ones(1)}
    with pytest.raises(MaskDistillError, match=r"unknown keys such as \['head\.w'\]"):
        strict_load(small_net(), given, "net.pth")


# ---------------------------------------------------------------- writing


def test_equal_weights_give_equal_bytes(tmp_path: Path) -> None:
    """Also with several metadata keys, which safetensors itself writes in arbitrary order."""
    metadata = {"arch": "x", "provenance": '{"stage": "pretrain"}', "zeta": "ü", "alpha": "1"}
    written = set()
    for number, items in enumerate([list(state().items()), list(state().items())[::-1]] * 5):
        save_weights(dict(items), tmp_path / f"{number}.safetensors", metadata)
        written.add((tmp_path / f"{number}.safetensors").read_bytes())
    assert len(written) == 1


def test_what_is_written_comes_back_in_half_precision(tmp_path: Path) -> None:
    path = tmp_path / "new" / "net.safetensors"
    save_weights(state() | {"wide": torch.ones(4, 6)[:, ::2]}, path, {"arch": "x", "note": "ü"})
    for found in (load_file(path), read_state_dict(path)):
        assert found.pop("wide").tolist() == [[1.0] * 3] * 4
        assert found["1.num_batches_tracked"].dtype == torch.int64
        for name, value in found.items():
            expected = state()[name]
            assert torch.equal(value, expected.half() if expected.is_floating_point() else expected)
    assert read_metadata(path) == {"arch": "x", "note": "ü"}
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    assert length % 8 == 0 and json.loads(content[8 : 8 + length])["__metadata__"]["arch"] == "x"


def test_full_precision_can_be_kept(tmp_path: Path) -> None:
    save_weights(state(), tmp_path / "net.safetensors", {}, torch.float32)
    assert all(torch.equal(v, state()[n]) for n, v in read_state_dict(tmp_path / "net.safetensors").items())
    assert read_metadata(tmp_path / "net.safetensors") == {}


def test_other_formats_have_no_metadata(tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "net.pth")
    assert read_metadata(tmp_path / "net.pth") == {}
