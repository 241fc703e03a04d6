"""Fetching a file: resumable, checked, atomic."""

import fcntl
import http.client
import logging
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import file_digest, give_name
from maskdistill.runtime.locks import FileLock
from maskdistill.runtime.transfer import Pace, goes_on_at, received

CHUNK = 1 << 20
TIMEOUT = 60.0
"""Seconds without a byte after which a transfer is given up."""
STALL = 600.0
"""Seconds in which at least :data:`SLOWEST` bytes must arrive, and in which another downloading process must
receive some.
"""
SLOWEST = 64 * 1024
POLL = 0.2
ALGORITHMS = {"sha256": "SHA-256", "md5": "MD5"}
log = logging.getLogger("maskdistill")


def check_sum(path: str | Path, expected: str) -> str:
    """Hex checksum of a file, compared with the expected one.

    Args:
        expected: hex digits of the SHA-256, in full or the leading ones; ``md5:`` before them for the MD5.

    Raises:
        MaskDistillError: naming the file and both sums.
    """
    algorithm, digits = _parse_sum(expected)
    found = file_digest(path, algorithm)
    if not found.startswith(digits):
        raise MaskDistillError(
            f"{path}: wrong checksum: {ALGORITHMS[algorithm]} is {found}, expected {digits}; put the right"
            " file in its place, or correct the expected sum"
        )
    return found


def _parse_sum(expected: str | None) -> tuple[str, str]:
    """Algorithm and leading digits of an expected checksum; no digits for None."""
    algorithm, colon, digits = (expected or "").lower().rpartition(":")
    return (algorithm if colon else "sha256"), digits


def download(url: str, path: str | Path, expected: str | None = None, by_hand: str = "") -> str:
    """Fetch ``url`` to ``path`` unless it is there already.

    Bytes go to ``PATH.part``, which a later call continues (HTTP Range). It is renamed to ``path`` once it is
    complete and its checksum is right. Processes that fetch the same file take turns.

    Args:
        expected: checksum as :func:`check_sum` takes it; None: only the announced length is checked.
        by_hand: what to do without a network, for messages.

    Returns:
        Checksum of the file: SHA-256, or MD5 where that was expected.

    Raises:
        MaskDistillError: server or network failed, the transfer was cut off (call again to continue), the
            response is a web page, or the checksum is wrong (the bytes are discarded).
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():
        raise MaskDistillError(f"{path}: is not a file, but {url} must be saved there; move it elsewhere")
    if not path.exists():
        with _locked(part) as stream:
            try:
                if not path.exists():
                    _fetch(url, stream, part, by_hand)
                    return _finish(url, part, path, expected)
            finally:
                if part.exists() and not part.stat().st_size:
                    part.unlink()
    log.info("%s is there already", path)
    return check_sum(path, expected or "")


@contextmanager
def _locked(part: Path) -> Iterator[IO[bytes]]:
    """A partial file, locked and open for appending; waits while another process makes progress with it.

    Raises:
        MaskDistillError: it is not a file, cannot be written to, or the process that holds it makes no
            progress.
    """
    lock = FileLock(part)
    seen, since, said = -1, time.monotonic(), False
    while not lock.acquire():
        size = part.stat().st_size if part.exists() else -1
        if size != seen:
            seen, since = size, time.monotonic()
        if time.monotonic() - since > STALL:
            raise MaskDistillError(
                f"{part}: another process is downloading it and has received nothing for {STALL:.0f} s; "
                f"end that one (fuser {part} names it) and run again"
            )
        if not said:
            log.info("another process is downloading %s: waiting for it", part)
            said = True
        time.sleep(POLL)
    try:
        if lock.descriptor is None or not lock.writable:
            raise MaskDistillError(f"{part}: cannot be written to; grant access, or fetch to another folder")
        fcntl.fcntl(lock.descriptor, fcntl.F_SETFL, os.O_APPEND)
        with open(os.dup(lock.descriptor), "ab") as stream:
            yield stream
    finally:
        lock.release()


def looks_like_web_page(start: bytes) -> bool:
    """Whether the first bytes of a file are those of a web page or an XML answer."""
    return start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml"))


def _finish(url: str, part: Path, path: Path, expected: str | None) -> str:
    """Check the complete file and rename it, or remove it if it is wrong. Returns the checksum."""
    with open(part, "rb") as stream:
        start = stream.read(256)
    if looks_like_web_page(start):
        part.unlink()
        raise MaskDistillError(
            f"{path}: {url} answered with a web page instead of the file; open it in a browser"
        )
    algorithm, digits = _parse_sum(expected)
    found = file_digest(part, algorithm)
    if not found.startswith(digits):
        part.unlink()
        raise MaskDistillError(
            f"{path}: wrong checksum: {ALGORITHMS[algorithm]} of what {url} sent is {found}, expected "
            f"{digits}; it was"
            " discarded. Run again; if it stays wrong, the file was replaced or something between here and "
            "the server alters it"
        )
    give_name(part, path)
    return found


def _fetch(url: str, stream: IO[bytes], part: Path, by_hand: str) -> None:
    """Append the missing bytes to ``stream``, which already holds the beginning of the file."""
    held = os.fstat(stream.fileno()).st_size
    request = urllib.request.Request(
        url, headers={"User-Agent": "maskdistill", "Accept-Encoding": "identity"}
    )
    if held:
        request.add_header("Range", f"bytes={held}-")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            _receive(url, answer, stream, part, held)
    except urllib.error.HTTPError as error:
        if error.code == 416 and held:
            if _total(error.headers.get("Content-Range", "")) == held:
                return
            stream.truncate(0)
            return _fetch(url, stream, part, by_hand)
        raise MaskDistillError(
            _failed(url, f"the server answers {error.code} {error.reason}", by_hand)
        ) from None
    except (OSError, http.client.HTTPException) as error:
        stream.flush()
        reason = getattr(error, "reason", None) or error
        raise MaskDistillError(_failed(url, str(reason) or type(error).__name__, by_hand, part)) from None


def _receive(url: str, answer: http.client.HTTPResponse, stream: IO[bytes], part: Path, held: int) -> None:
    kind = answer.headers.get_content_type()
    if kind == "text/html":
        raise MaskDistillError(
            f"{url} answers with a web page ({kind}) instead of a file; open it in a browser"
        )
    if answer.status != 206 and held:
        log.info("the server cannot continue a transfer: starting over")
        stream.truncate(0)
        held = 0
    total = _total(answer.headers.get("Content-Range", "")) if answer.status == 206 else answer.length
    if answer.status == 206 and not goes_on_at(answer.headers.get("Content-Range", ""), held):
        raise MaskDistillError(
            f"{url}: the server did not continue at byte {held}; delete {part} and run again"
        )
    log.info(
        "%s: %s of %s bytes are here",
        url,
        f"{held:,}",
        "an unknown number of" if total is None else f"{total:,}",
    )
    last = time.monotonic()
    for data in received(lambda: answer.read1(CHUNK), stream, Pace(STALL, SLOWEST)):
        held += len(data)
        if time.monotonic() - last > 5:
            last = time.monotonic()
            log.info("%s bytes%s", f"{held:,}", f" of {total:,}" if total else "")
    stream.flush()
    if total is not None and held != total:
        raise MaskDistillError(f"{url}: cut after {held:,} of {total:,} bytes; run again to continue {part}")


def _total(content_range: str) -> int | None:
    """The total length in ``bytes 5-9/10`` or ``bytes */10``."""
    found = re.search(r"/(\d+)$", content_range)
    return int(found[1]) if found else None


def _failed(url: str, reason: str, by_hand: str, part: Path | None = None) -> str:
    kept = (
        f"; what came is kept in {part} and continued by the next run" if part and part.stat().st_size else ""
    )
    return f"{url}: cannot be fetched: {reason}{kept}. Run again later" + (
        f", or {by_hand}" if by_hand else ""
    )
