"""Read objects from stores and web servers, with a limited number of retries if network or server fail.

A failure is of one of three kinds: temporary (retried), of this object only (:class:`ObjectRefused`), or of
all (:class:`MaskDistillError`).
"""

import hashlib
import logging
import re
import time
from collections.abc import Callable, Sequence
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeVar

from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.remote_access import is_signed, session, signer, web_address
from maskdistill.runtime.remote_urls import STORES, shown, split
from maskdistill.runtime.transfer import Pace, goes_on_at, received

if TYPE_CHECKING:
    import requests

T = TypeVar("T")
Part = tuple[int, int]
"""Of an object: the first byte's place, and how many there are."""
TIMEOUT = (10.0, 30.0)
"""Longest times, in seconds, for connecting and without a byte."""
WAITS = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0)
"""Seconds between tries. Their sum is below the time after which a waiting loading process would be given
up.
"""
WAITS_AT_FIRST = (0.5, 1.0, 2.0)
"""The same while a user is waiting, before anything is computed."""
LONGEST_WAIT = 30.0
"""Longest wait that a server may ask for."""
SLOW_AFTER, SLOWEST = 60.0, 1024.0
"""Period in seconds, and the least number of bytes per second over it."""
CHUNK = 1 << 18
_PASSING = {408, 425, 429, 500, 502, 503, 504}
_HEAD = 4096
log = logging.getLogger("maskdistill")


class ObjectRefused(Exception):
    """One object cannot be read; the message is only the reason."""


class Unchanged(Exception):
    """The object has not changed."""


class _Passing(Exception):
    """A failure that may pass; ``wait`` is the time that the server asks for."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class Received(NamedTuple):
    """What was received: the server's mark of the content (empty if it gives none), number of bytes, hex
    SHA-256.
    """

    etag: str
    size: int
    sha256: str


def fetch(
    url: str, stream: IO[bytes], known: str = "", most: int | None = None, part: Part | None = None
) -> Received:
    """Write an object, or a part of it, to a file that can be read and written.

    After a transfer is cut off, the next try continues where it stopped, if the server can and the object is
    the same.

    Args:
        known: mark of the content that is already here.
        most: largest size in bytes; a larger object is refused before it is read.
        part: the only part of it that is wanted; None: all of it.

    Raises:
        Unchanged: the object is the known one.
        ObjectRefused: it does not exist, may not be read, is too large, or ends before the part does.
        MaskDistillError: the network or the server failed at every try, or the server refuses everything.
    """
    arriving = _Arriving(url, stream, known, most, part)
    return patiently(url, arriving.attempt)


def probe(url: str) -> None:
    """Request the first byte of an object.

    Raises:
        ObjectRefused, MaskDistillError: as :func:`fetch`.
    """

    def attempt() -> None:
        with get(url, {"Range": "bytes=0-0"}) as answer:
            if answer.status_code != 416:  # an empty object has no first byte
                check(url, answer)

    patiently(url, attempt, WAITS_AT_FIRST)


def get(url: str, headers: dict[str, str], query: str = "") -> "requests.Response":
    """Request an object, or with a query a bucket's list; the content of the response is not read yet."""
    address = web_address(url) + (f"?{query}" if query else "")
    return session().get(address, headers=headers, auth=signer(url), stream=True, timeout=TIMEOUT)


def patiently(url: str, attempt: Callable[[], T], waits: Sequence[float] | None = None) -> T:
    """The result of ``attempt``, repeated while it fails for temporary reasons.

    Args:
        url: for messages.
        attempt: what to do.
        waits: seconds between the tries; by default :data:`WAITS`.

    Raises:
        MaskDistillError: every try failed.
    """
    import requests
    from urllib3.exceptions import HTTPError

    began, tries = time.monotonic(), WAITS if waits is None else waits
    for number in range(len(tries) + 1):
        try:
            return attempt()
        except requests.exceptions.SSLError:
            raise MaskDistillError(
                f"{shown(url)}: the server's certificate is not trusted, or it speaks no https; correct the "
                "URL"
            ) from None
        except (requests.exceptions.InvalidURL, requests.exceptions.TooManyRedirects) as error:
            raise ObjectRefused(f"the server leads nowhere ({type(error).__name__})") from None
        except _Passing as error:
            reason, asked = str(error), error.wait
        except (requests.RequestException, HTTPError) as error:
            reason, asked = _reason(error), 0.0
        if number < len(tries):
            wait = min(LONGEST_WAIT, max(tries[number], asked))
            log.info("%s: %s; trying again in %.0f s", shown(url), reason, wait)
            time.sleep(wait)
    raise MaskDistillError(
        f"{shown(url)}: cannot be fetched: {reason}; tried {len(tries) + 1} times in "
        f"{time.monotonic() - began:.0f} s. Check that the network and the server respond, then run the same "
        "command again; what is finished is kept"
    )


def check(url: str, answer: "requests.Response") -> None:
    """Interpret a response's status.

    Raises:
        Unchanged, ObjectRefused, MaskDistillError: as :func:`fetch`.
    """
    code = answer.status_code
    if code in (200, 206):
        return
    if code == 304:
        raise Unchanged
    said = f"the server answers {code} {answer.reason or ''}".rstrip()
    if code in _PASSING:
        asked = answer.headers.get("Retry-After", "")
        raise _Passing(said, float(asked) if asked.isdecimal() else 0.0)
    if split(url).scheme in STORES:
        _refuse_store(url, answer, said)
    raise ObjectRefused(said)


def _refuse_store(url: str, answer: "requests.Response", said: str) -> None:
    """Raise if a store's refusal concerns more than one object."""
    found = re.search(rb"<Code>(\w+)</Code>", next(answer.iter_content(_HEAD), b""))
    name = found[1].decode() if found else ""
    bucket = f"{split(url).scheme}://{split(url).host}"
    if name == "NoSuchBucket":
        raise MaskDistillError(f"{bucket}: there is no such bucket; correct its name, or AWS_ENDPOINT_URL")
    if (
        region := answer.headers.get("x-amz-bucket-region", "")
        if answer.status_code in (301, 307, 400)
        else ""
    ):
        raise MaskDistillError(f"{bucket}: lies in another region; set AWS_REGION={region}")
    if answer.status_code in (400, 401, 403):
        how = "a signed request" if is_signed(url) else "a request without credentials, for none were found"
        raise MaskDistillError(
            f"{shown(url)}: {said}{f' ({name})' if name else ''} to {how}. Give credentials that may read "
            "it, in the environment or by the store's own login (see the page on buckets); some stores say "
            "so of an object that is not there, too"
        )


class _Arriving:
    """Transfer of an object into a file; what arrived before a try failed is kept for the next."""

    def __init__(self, url: str, stream: IO[bytes], known: str, most: int | None, part: Part | None) -> None:
        self.url, self.stream, self.known, self.most, self.part = url, stream, known, most, part
        self.start, self.last = (part[0], str(sum(part) - 1)) if part else (0, "")
        self.etag, self.held, self.digest = "", 0, hashlib.sha256()

    def attempt(self) -> Received:
        """Try once."""
        goes_on = self.held > 0 and self.etag.startswith('"')  # a weak mark does not guarantee equal bytes
        if self.part and not goes_on:
            self._begin("")
        headers = {"If-None-Match": self.known} if self.known and not self.held else {}
        if goes_on or self.part:
            headers["Range"] = f"bytes={self.start + self.held}-{self.last}"
        if goes_on:
            headers["If-Range"] = self.etag
        with get(self.url, headers) as answer:
            if answer.status_code == 416:
                self._refuse_short()
                self._begin("")
                raise _Passing("the object became shorter while it was read")
            check(self.url, answer)
            self._take_place(answer)
            self._receive(answer)
        self._refuse_short()
        self.stream.flush()
        return Received(self.etag, self.held, self.digest.hexdigest())

    def _take_place(self, answer: "requests.Response") -> None:
        """Stand where an answer's bytes belong; what was held goes where they are not what is missing."""
        held, etag = self.held, answer.headers.get("ETag", "")
        whole = answer.status_code == 200
        if not whole and goes_on_at(answer.headers.get("Content-Range", ""), self.start + held):
            self.etag = etag if not held else self.etag
            return
        self._begin(etag)
        if whole and self.part and not held:
            raise ObjectRefused("the server gives no parts of a file: copy the archive here")
        if self.part or not whole:
            raise _Passing("the server went on at another place than it was asked for")

    def _refuse_short(self) -> None:
        if self.part and self.held < self.part[1]:
            raise ObjectRefused(
                f"the archive ends before it, at byte {self.start + self.held}: replace it with a complete "
                "copy"
            )

    def _begin(self, etag: str) -> None:
        self.stream.seek(0)
        self.stream.truncate()
        self.etag, self.held, self.digest = etag, 0, hashlib.sha256()

    def _receive(self, answer: "requests.Response") -> None:
        length = answer.headers.get("Content-Length", "")
        whole = self.held + int(length) if length.isdecimal() else 0
        self._refuse_large(whole)
        pace = Pace(SLOW_AFTER, SLOW_AFTER * SLOWEST)
        try:  # read1: bytes that arrived before a cut are not lost
            for data in received(lambda: answer.raw.read1(CHUNK, decode_content=True), self.stream, pace):
                self.digest.update(data)
                self.held += len(data)
                self._refuse_large(self.held)
        except TimeoutError as error:
            raise _Passing(str(error)) from None
        if whole and self.held < whole and "Content-Encoding" not in answer.headers:
            raise _Passing(f"cut after {self.held} of {whole} bytes")

    def _refuse_large(self, size: int) -> None:
        if self.most is not None and size > self.most:
            raise ObjectRefused(f"{size} bytes, more than {self.most}: save it smaller")


def _reason(error: Any) -> str:
    """What went wrong, without memory addresses and without what the library repeats."""
    import requests
    from urllib3.exceptions import ProtocolError, TimeoutError

    if isinstance(error, requests.Timeout | TimeoutError):
        return "no answer in time"
    if said := re.search(r"\[Errno -?\d+\] ([\w ,.-]+)", str(error)):
        return said[1].strip()
    cut = isinstance(error, requests.ConnectionError | ProtocolError)
    return "the connection was cut" if cut else type(error).__name__
