"""An object store on this machine: Amazon's lists and signatures, ETag and Range, and failures as they are
told.
"""

import hashlib
import hmac
import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest

from maskdistill.data import object_index
from maskdistill.runtime import remote_access, remote_read

KEY, SECRET, REGION = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "eu-west-9"


@dataclass
class ObjectServer:
    """What is served, and how.

    Attributes:
        objects: by ``BUCKET/NAME``.
        signed: whether requests must be signed with :data:`KEY`.
        cuts: of an object, bytes after which its next answers are cut.
        statuses: of an object, what its next answers are instead of it.
        page: objects of a list's page.
        hold: of an object: its answers stop in the middle until the event is set.
        reads: how often bytes of an object were sent; unchanged: how often none had to be.
        asked: the Range headers.
    """

    objects: dict[str, bytes]
    signed: bool = False
    cuts: dict[str, list[int]] = field(default_factory=dict)
    statuses: dict[str, list[int]] = field(default_factory=dict)
    page: int = 3
    hold: dict[str, threading.Event] = field(default_factory=dict)
    reads: Counter[str] = field(default_factory=Counter)
    unchanged: Counter[str] = field(default_factory=Counter)
    asked: list[str] = field(default_factory=list)
    lists: int = 0
    url: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Serve one request."""
        place = urlsplit(handler.path)
        name = unquote(place.path).lstrip("/")
        if self.signed and signature(handler) != handler.headers.get("Authorization", "").rpartition("=")[2]:
            return send(handler, 403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>")
        if statuses := self.statuses.get(name):
            return send(handler, statuses.pop(0), b"")
        if place.query:
            return self._list(handler, name.strip("/"), dict(parse_qsl(place.query)))
        content = self.objects.get(name)
        if content is None:
            return send(handler, 404, b"<Error><Code>NoSuchKey</Code></Error>")
        etag = f'"{hashlib.md5(content).hexdigest()}"'
        if handler.headers.get("If-None-Match") == etag:
            self.unchanged[name] += 1
            return send(handler, 304, b"")
        asked, start, stop, status, more = (
            handler.headers.get("Range", ""),
            0,
            len(content),
            200,
            {"ETag": etag},
        )
        if asked and handler.headers.get("If-Range", etag) == etag:
            self.asked.append(asked)
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, stop, status = int(first), min(stop, int(last) + 1 if last else stop), 206
            more["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
        else:
            self.reads[name] += 1
        cuts = self.cuts.get(name)
        cut = cuts.pop(0) if cuts else None
        send(handler, status, content[start:stop], more, cut, self.hold.get(name))

    def _list(self, handler: BaseHTTPRequestHandler, bucket: str, asked: dict[str, str]) -> None:
        self.lists += 1
        names = sorted(name.partition("/")[2] for name in self.objects if name.startswith(f"{bucket}/"))
        if not names:
            return send(handler, 404, b"<Error><Code>NoSuchBucket</Code></Error>")
        names = [
            n
            for n in names
            if n.startswith(asked.get("prefix", "")) and n > asked.get("continuation-token", "")
        ]
        token = (
            f"<NextContinuationToken>{escape(names[self.page - 1])}</NextContinuationToken>"
            if names[self.page :]
            else ""
        )
        entries = "".join(
            f"<Contents><Key>{quote(name)}</Key><Size>{len(self.objects[f'{bucket}/{name}'])}</Size>"
            f"<ETag>&quot;{hashlib.md5(self.objects[f'{bucket}/{name}']).hexdigest()}&quot;</ETag></Contents>"
            for name in names[: self.page]
        )
        top = (
            "<ListBucketResult "
            'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><EncodingType>url</EncodingType>'
        )
        send(handler, 200, f"{top}{entries}{token}</ListBucketResult>".encode())


def signature(handler: BaseHTTPRequestHandler) -> str:
    """What Amazon's signature version 4 of a request is, by the steps of its documentation."""
    place, stamp = urlsplit(handler.path), handler.headers.get("x-amz-date", "")
    named = handler.headers.get("Authorization", "").partition("SignedHeaders=")[2].partition(",")[0]
    query = sorted((quote(n, safe="-_.~"), quote(v, safe="-_.~")) for n, v in parse_qsl(place.query, True))
    headers = "".join(
        f"{name}:{' '.join((handler.headers.get(name) or '').split())}\n" for name in named.split(";")
    )
    request = "\n".join([
        handler.command, quote(unquote(place.path), safe="/-_.~"), "&".join(f"{n}={v}" for n, v in query),
        headers,
        named, handler.headers.get("x-amz-content-sha256", ""),
    ])  # fmt: skip
    scope = f"{stamp[:8]}/{REGION}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"AWS4{SECRET}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


def send(
    handler: BaseHTTPRequestHandler,
    status: int,
    content: bytes,
    headers: dict[str, str] | None = None,
    cut: int | None = None,
    hold: threading.Event | None = None,
) -> None:
    """Send an answer, or so many bytes of it, or half of it and the rest when the event is set."""
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
        if status != 304 or name != "Content-Length":
            handler.send_header(name, value)
    if cut is not None:
        handler.close_connection = True
    handler.end_headers()
    if hold is not None:
        handler.wfile.write(content[: len(content) // 2])
        hold.wait(20)
        content = content[len(content) // 2 :]
    handler.wfile.write(content[:cut])


@contextmanager
def serve_objects(server: ObjectServer) -> Iterator[ObjectServer]:
    """Run the server in threads; ``url`` holds its address meanwhile."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            self.connection.setsockopt(6, 1, True)  # answers go at once, whole or not

        def do_GET(self) -> None:
            server.answer(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Http(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A reader that was killed is no fault of the server."""

    with Http(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        server.url = f"http://127.0.0.1:{http.server_address[1]}"
        yield server
        http.shutdown()
        thread.join()


@pytest.fixture
def own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither the user's credentials nor the user's cache; nothing is waited for; a bucket is listed every
    time.
    """
    for name in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "MASKDISTILL_"))]:
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("MASKDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(remote_read, "WAITS", (0.0, 0.0))
    monkeypatch.setattr(remote_read, "WAITS_AT_FIRST", (0.0,))
    monkeypatch.setattr(object_index, "_listed", set())
    remote_access.forget()
    yield
    remote_access.forget()
