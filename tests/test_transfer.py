"""What downloads and reads of remote pictures have in common."""

import io

import pytest

from maskdistill.runtime import transfer
from maskdistill.runtime.transfer import Pace, goes_on_at, received


def test_a_transfer_is_given_up_when_too_little_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """At least 5 bytes in each 10 s: the second ten seconds bring 4; what came before stays."""
    clock = iter([0.0, 4.0, 11.0, 11.0, 15.0, 22.0])  # made, two pieces, begun again, two pieces
    monkeypatch.setattr(transfer.time, "monotonic", lambda: next(clock))
    pieces, stream, handed = iter([b"abc", b"de", b"fg", b"hi", b"never"]), io.BytesIO(), []
    with pytest.raises(TimeoutError, match="4 bytes in 11 s"):
        handed += received(lambda: next(pieces), stream, Pace(10, 5))
    assert stream.getvalue() == b"abcdefghi"


def test_where_a_transfer_goes_on() -> None:
    assert goes_on_at("bytes 5-9/10", 5) and not goes_on_at("bytes 50-99/100", 5) and not goes_on_at("", 0)
