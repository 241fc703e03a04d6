"""Hugging Face's hub where there is no network."""

import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from huggingface_hub import constants, hf_hub_download

from maskdistill.product.hub import NoConnection, one_question, unreachable


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An address at which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        yield address


@pytest.mark.hostile(
    "weights: of open_clip, not in the cache, and no network", outcome="refused at once; says how to bring it"
)
def test_without_a_network_nothing_is_asked_twice(nobody: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def asks_again(_: float) -> None:
        raise AssertionError("the library waits, to ask again")

    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", asks_again)
    with pytest.raises(NoConnection, match=rf"^{nobody} \(.*refused"), one_question():
        hf_hub_download("of-nobody/none", "config.json")
    with pytest.raises(NoConnection), one_question():
        try:
            hf_hub_download("of-nobody/none", "config.json")
        except Exception as error:  # as open_clip does
            raise RuntimeError("no model") from error
    assert not constants.HF_HUB_OFFLINE


def test_without_a_network_damage_is_told_as_such(nobody: str) -> None:
    with pytest.raises(ValueError, match="damaged"), one_question():
        raise ValueError("damaged")


class Answers(BaseHTTPRequestHandler):
    """Any answer is a network."""

    def do_HEAD(self) -> None:
        """Not found."""
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_with_a_network_the_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        assert unreachable() == ""
        with pytest.raises(FileNotFoundError), one_question():
            assert not constants.HF_HUB_OFFLINE
            raise FileNotFoundError
        server.shutdown()
