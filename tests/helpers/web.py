"""A small HTTP server with answers set by a test."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Answers", "answering"]


class Answers(ThreadingHTTPServer):
    """Answers by path, with the required login."""

    daemon_threads = True

    def __init__(self, answers: dict[str, Any], authorization: str, realm: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = answers
        self.authorization = authorization
        self.realm = realm
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Answers

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(f"{self.command} {path}")
        answer = self.server.answers.get(path, 404)
        allowed = self.server.authorization in {"", self.headers.get("Authorization")}
        if not allowed and path not in {"/health", "/version", "/api/v1/info"}:
            answer = 401
        status, content = (answer, "") if isinstance(answer, int) else (200, answer)
        body = (content if isinstance(content, str) else json.dumps(content)).encode()
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", self.server.realm)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_POST = do_GET  # noqa: N815 - http.server's names

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def answering(answers: dict[str, Any], *, authorization: str = "", realm: str = 'Basic realm="x"') -> Iterator[Answers]:
    """Run a server while the block runs.

    Args:
        answers: Status by path, or content that is answered with 200; other paths give 404.
        authorization: Required header, except for the liveness path.
        realm: Login challenge of a 401.
    """
    with Answers(answers, authorization, realm) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
