"""Downloads from a server on this machine: continued, checked, atomic; and the entry point ``weights``."""

import hashlib
import re
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from range_server import RangeServer, serve

from maskdistill.backbones import registry
from maskdistill.cli import STAGES, main
from maskdistill.runtime import download as module
from maskdistill.runtime.download import check_sum, download
from maskdistill.runtime.errors import MaskDistillError

CONTENT = b"PK" + bytes(range(256)) * 40_000  # 10 MB, several chunks
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def refusal(url: str, path: Path, sha256: str | None = None) -> str:
    with pytest.raises(MaskDistillError) as error:
        download(url, path, sha256, by_hand="do it by hand")
    assert not path.exists()
    return str(error.value)


def part_of(path: Path) -> Path:
    return path.with_name(path.name + ".part")


# ---------------------------------------------------------------- what arrives


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("sha256", [SHA256, SHA256[:8], SHA256.upper(), None])
def test_a_file_is_fetched_whole(tmp_path: Path, sha256: str | None, announced: bool) -> None:
    path = tmp_path / "new" / "weights.pth"
    with serve(RangeServer(CONTENT, announced=announced)) as server:
        assert download(server.url, path, sha256) == SHA256
    assert path.read_bytes() == CONTENT and server.requests == [""]
    assert [file.name for file in path.parent.iterdir()] == ["weights.pth"]


def test_a_file_that_is_there_is_not_fetched(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(CONTENT)
    with serve(RangeServer(CONTENT)) as server:
        assert download(server.url, path, SHA256) == download(server.url, path) == SHA256
    assert server.requests == []


def test_a_cut_transfer_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    with serve(RangeServer(CONTENT, cuts=[3_000_000, 2_000_000])) as server:
        assert re.search(
            r"cut after 3,000,000 of 10,240,002 bytes.*run again.*\.part", refusal(server.url, path)
        )
        assert part_of(path).read_bytes() == CONTENT[:3_000_000]
        assert "cut after 5,000,000" in refusal(server.url, path)
        assert download(server.url, path, SHA256) == SHA256
    assert server.requests == ["", "bytes=3000000-", "bytes=5000000-"]
    assert path.read_bytes() == CONTENT and not part_of(path).exists()


def test_a_server_without_ranges_starts_again(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    part_of(path).write_bytes(b"another beginning")
    with serve(RangeServer(CONTENT, ranges=False)) as server:
        assert download(server.url, path) == SHA256
    assert server.requests == ["bytes=17-"] and path.read_bytes() == CONTENT


@pytest.mark.parametrize(("held", "asked"), [(CONTENT, 1), (CONTENT + b"surplus", 2)])
def test_a_part_that_is_complete_or_too_long(tmp_path: Path, held: bytes, asked: int) -> None:
    """Complete: killed just before the renaming. Too long: of another file, so from the beginning."""
    path = tmp_path / "weights.pth"
    part_of(path).write_bytes(held)
    with serve(RangeServer(CONTENT)) as server:
        assert download(server.url, path) == SHA256
    assert len(server.requests) == asked and path.read_bytes() == CONTENT


def test_two_processes_fetch_once(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    found: list[str] = []
    with serve(RangeServer(CONTENT)) as server:
        both = [
            threading.Thread(target=lambda: found.append(download(server.url, path, SHA256)))
            for _ in range(2)
        ]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
    assert found == [SHA256, SHA256] and len(server.requests) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["weights.pth"]


# ---------------------------------------------------------------- what is refused


@pytest.mark.hostile("weights: download with a wrong checksum", outcome="refused; both sums are named")
def test_a_wrong_checksum_names_file_and_both_sums(tmp_path: Path) -> None:
    path, wrong = tmp_path / "weights.pth", "0" * 64
    with serve(RangeServer(CONTENT)) as server:
        message = refusal(server.url, path, wrong)
        assert str(path) in message and wrong in message and SHA256 in message
        assert not part_of(path).exists()  # nothing to continue
        assert download(server.url, path, SHA256) == SHA256


def test_a_damaged_part_does_not_pass_as_the_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    part_of(path).write_bytes(b"X" + CONTENT[1:1000])
    with serve(RangeServer(CONTENT)) as server:
        assert "wrong checksum" in refusal(server.url, path, SHA256)
        assert download(server.url, path, SHA256) == SHA256
    assert server.requests == ["bytes=1000-", ""]


def test_a_wrong_file_that_is_there_is_kept_and_named(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"something else")
    other = hashlib.sha256(b"something else").hexdigest()
    with serve(RangeServer(CONTENT)) as server, pytest.raises(MaskDistillError) as error:
        download(server.url, path, SHA256)
    assert str(path) in str(error.value) and SHA256 in str(error.value) and other in str(error.value)
    assert path.read_bytes() == b"something else" and server.requests == []
    assert check_sum(path, other[:8]) == other


@pytest.mark.hostile("weights: a web page instead of a file", outcome="refused, never stored")
@pytest.mark.parametrize("content_type", ["text/html; charset=utf-8", "application/octet-stream"])
def test_a_web_page_is_no_file(tmp_path: Path, content_type: str) -> None:
    path = tmp_path / "weights.pth"
    page = b"\n<!DOCTYPE html><html>Please log in</html>"
    with serve(RangeServer(page, content_type=content_type)) as server:
        message = refusal(server.url, path)
    assert "web page" in message and server.url in message and not part_of(path).exists()


@pytest.mark.parametrize("status", [403, 404, 503])
def test_an_error_of_the_server(tmp_path: Path, status: int) -> None:
    with serve(RangeServer(b"", status=status)) as server:
        message = refusal(server.url, tmp_path / "weights.pth")
    assert str(status) in message and server.url in message and "do it by hand" in message
    assert list(tmp_path.iterdir()) == []


def test_no_network(tmp_path: Path) -> None:
    with serve(RangeServer(b"")) as server:
        pass
    message = refusal(server.url, tmp_path / "weights.pth")
    assert "cannot be fetched" in message and "refused" in message and "do it by hand" in message


def test_a_server_that_falls_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.3)
    path, wait = tmp_path / "weights.pth", threading.Event()
    server = RangeServer(CONTENT)
    answer = server.answer
    server.answer = lambda handler: (wait.wait(5), answer(handler))  # type: ignore[assignment, func-returns-value]
    with serve(server):
        message = refusal(server.url, path)
        wait.set()
    assert "timed out" in message


# ---------------------------------------------------------------- the entry point


def entry(monkeypatch: pytest.MonkeyPatch, url: str | None, sha256: str | None) -> None:
    """Give dino_vits16 another address and sum."""
    official = registry.find_official("dino_vits16")
    changed = replace(registry.BACKBONES["dino_vits16"], official=replace(official, url=url, sha256=sha256))
    monkeypatch.setitem(registry.BACKBONES, "dino_vits16", changed)


def test_weights_prints_licence_and_sum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, log = tmp_path / "dino.pth", tmp_path / "weights.log"
    with serve(RangeServer(CONTENT)) as server:
        entry(monkeypatch, server.url, None)
        assert main(["weights", "--arch", "dino_vits16", "--output", str(path), "--log", str(log)]) == 0
    assert path.read_bytes() == CONTENT
    text = log.read_text()
    assert "licence of the weights: Apache-2.0" in text and SHA256 in text and "no checksum is known" in text


@pytest.mark.parametrize(("known", "given", "status"), [
    (SHA256, None, 0), ("1" * 64, None, 1), (None, SHA256, 0), (None, "1" * 64, 1), ("1" * 64, SHA256, 0),
])  # fmt: skip
def test_weights_checks_the_known_or_given_sum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: str | None, given: str | None, status: int
) -> None:
    path = tmp_path / "dino.pth"
    option = ["--sha256", given] if given else []
    with serve(RangeServer(CONTENT)) as server:
        entry(monkeypatch, server.url, known)
        assert main(["weights", "--arch", "dino_vits16", "--output", str(path), *option]) == status
    assert path.exists() == (status == 0)


def test_weights_by_md5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MoCo's authors state the first digits of the MD5."""
    assert registry.find_checkpoint("moco_v2_800ep").sha256 == "md5:a04e12f8"
    md5 = hashlib.md5(CONTENT).hexdigest()
    path, log = tmp_path / "moco.pth.tar", tmp_path / "log"
    with serve(RangeServer(CONTENT)) as server:
        for digits, status in (("0" * 8, 1), (md5[:8], 0)):
            official = replace(
                registry.find_checkpoint("moco_v2_800ep"), url=server.url, sha256=f"md5:{digits}"
            )
            monkeypatch.setitem(registry.RESNET_CHECKPOINTS, "moco_v2_800ep", official)
            command = ["weights", "--arch", "moco_v2_800ep", "--output", str(path), "--log", str(log)]
            assert main(command) == status
            assert path.exists() == (status == 0)
    assert f"MD5 {md5}" in log.read_text()


def test_weights_that_must_be_accepted_by_hand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "dinov3.pth"
    command = ["weights", "--arch", "dinov3_vits16", "--output", str(path)]
    assert main(command) == 1
    told = capsys.readouterr().err
    assert (
        "https://ai.meta.com/resources/models-and-libraries/dinov3-downloads/" in told and str(path) in told
    )
    assert "DINOv3 License" in told and "dinov3_vits16_pretrain_lvd1689m-08c60483.pth" in told
    path.write_bytes(CONTENT)
    assert main(command) == 1
    assert "08c60483" in capsys.readouterr().err
    assert main([*command, "--sha256", SHA256]) == 0


def test_weights_lists_and_explains(capsys: pytest.CaptureFixture[str]) -> None:
    assert "weights" in STAGES
    assert main(["weights", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    known = {name: item.official for name, item in registry.BACKBONES.items()} | registry.RESNET_CHECKPOINTS
    assert [line.split()[0] for line in lines] == list(known)
    for line, official in zip(lines, known.values(), strict=True):
        if official:
            assert official.licence in line and (official.url or official.page) in line
    assert main(["weights"]) == main(["weights", "--arch", "dino_vits16"]) == 1
    assert "--list" in capsys.readouterr().err
    assert main(["weights", "--arch", "vit_micro_patch8", "--output", "x"]) == 1
    assert "no official checkpoint" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main(["weights", "--help"])
    assert stop.value.code == 0 and "licence" in capsys.readouterr().out
