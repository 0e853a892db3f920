"""Serve one file like real web servers: with or without ranges, with broken connections and redirects."""

from __future__ import annotations

import base64
import dataclasses
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclasses.dataclass
class FileServer:
    """Behaviour of the server, which may be changed while it runs, and the requests that it got."""

    data: bytes
    ranges: bool = True
    cuts: list[int | None] = dataclasses.field(default_factory=list)
    """Bytes after which the connection breaks, for each answer in turn; None for a complete one."""
    statuses: list[int] = dataclasses.field(default_factory=list)
    """Error answers that come first."""
    login: str | None = None
    """``user:password`` without which it answers 401."""
    redirect: str | None = None
    """Redirect target for every path except ``/there/…``."""
    declares_size: bool = True
    is_chunked: bool = False
    hold: threading.Event | None = None
    """Event that a truncated answer waits for, instead of closing the connection."""
    port: int = 0
    requests: list[tuple[str, str | None]] = dataclasses.field(default_factory=list)
    """Path and header ``Range`` of each request."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.requests.append((handler.path, wanted))
        status, start = 200, 0
        headers: dict[str, str] = {}
        given = handler.headers.get("Authorization", "")
        if self.login and given != "Basic " + base64.b64encode(self.login.encode()).decode():
            status = 401
        elif self.redirect and not handler.path.startswith("/there/"):
            status, headers["Location"] = 302, self.redirect
        elif self.statuses:
            status = self.statuses.pop(0)
        elif self.ranges and wanted and (match := re.fullmatch(r"bytes=(\d+)-", wanted)):
            start = int(match[1])
            status = 206 if start < len(self.data) else 416
            end = f"{start}-{len(self.data) - 1}" if status == 206 else "*"
            headers["Content-Range"] = f"bytes {end}/{len(self.data)}"
        body = self.data[start:] if status in {200, 206} else b""
        if self.is_chunked:
            handler.protocol_version = "HTTP/1.1"
            headers |= {"Transfer-Encoding": "chunked", "Connection": "close"}
        elif self.declares_size:
            headers["Content-Length"] = str(len(body))
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        cut = self.cuts.pop(0) if body and self.cuts else None
        if self.is_chunked:
            for at in range(0, len(body[:cut]), 10_000):
                piece = body[at : min(at + 10_000, cut or len(body))]
                handler.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            handler.wfile.write(b"0\r\n\r\n" if cut is None else b"")
        else:
            handler.wfile.write(body[:cut])
        handler.wfile.flush()
        if cut is not None and self.hold is not None:
            self.hold.wait(120)


@contextmanager
def file_server(data: bytes) -> Iterator[FileServer]:
    """Run a server on a free port of this machine while the block runs."""
    served = FileServer(data)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                served._answer(self)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield served
        finally:
            if served.hold is not None:
                served.hold.set()
            server.shutdown()
            thread.join(20)
