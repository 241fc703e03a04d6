"""A web server on this machine that answers Range requests, and cuts, lies or fails as told."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class RangeServer:
    """What is served, and how.

    Attributes:
        cuts: bytes after which the first, second, ... answers are cut.
        ranges: whether Range is honoured.
        announced: whether the length is announced.
        requests: the Range header of each request, "" where there was none.
        files: what is served under other names than ``weights.pth``; anything else gets ``content``.
    """

    content: bytes
    cuts: list[int] = field(default_factory=list)
    ranges: bool = True
    announced: bool = True
    status: int = 200
    content_type: str = "application/octet-stream"
    requests: list[str] = field(default_factory=list)
    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Serve one request."""
        asked = handler.headers.get("Range", "")
        self.requests.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.ranges else 0
        content = self.files.get(handler.path.rpartition("/")[2], self.content)
        size = len(content)
        if self.status == 200 and start >= size > 0:
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{size}")
            handler.end_headers()
            return
        handler.send_response(206 if asked and self.ranges and self.status == 200 else self.status)
        if asked and self.ranges:
            handler.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        if self.announced:
            handler.send_header("Content-Length", str(size - start))
        handler.send_header("Content-Type", self.content_type)
        handler.end_headers()
        cut = self.cuts.pop(0) if self.cuts else size
        handler.wfile.write(content[start : start + cut])


@contextmanager
def serve(server: RangeServer) -> Iterator[RangeServer]:
    """Run the server in a thread; ``url`` holds its address meanwhile."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.answer(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        server.url = f"http://127.0.0.1:{http.server_address[1]}/weights.pth"
        yield server
        http.shutdown()
        thread.join()
