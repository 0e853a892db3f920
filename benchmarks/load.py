"""Generate load for HTTP servers: closed loops by wrk, which is cheap, or a Python client that reads answers."""

from __future__ import annotations

import asyncio
import dataclasses
import http.client
import json
import shutil
import subprocess
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

__all__ = [
    "Body",
    "Connection",
    "Load",
    "as_form",
    "as_raw",
    "find_wrk",
    "open_loop",
    "parse_wrk",
    "post",
    "run_wrk",
    "write_lua",
]

_WRK_TIMEOUT = 30
"""Seconds after which wrk counts a request as failed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Body:
    """Content of a request, with its type."""

    content: bytes
    content_type: str


def as_raw(image: bytes) -> Body:
    """Return the raw image as body."""
    return Body(image, "image/jpeg")


def as_form(image: bytes) -> Body:
    """Return a multipart form with the image as ``file``."""
    boundary = uuid.uuid4().hex
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n'
    content = f"{head}Content-Type: image/jpeg\r\n\r\n".encode() + image + f"\r\n--{boundary}--\r\n".encode()
    return Body(content, f"multipart/form-data; boundary={boundary}")


@dataclasses.dataclass(frozen=True, slots=True)
class Load:
    """Results of a closed loop of clients."""

    requests: int
    seconds: float
    p50: float
    """Milliseconds. wrk corrects for the samples that it missed while waiting for a slow answer."""
    p99: float
    errors: int
    """Answers with a status above 399, timeouts, and refused or broken connections."""

    @property
    def throughput(self) -> float:
        """Successful answers per second."""
        return max(self.requests - self.errors, 0) / self.seconds


def write_lua(folder: Path, path: str, bodies: Sequence[Body]) -> Path:
    """Write a script for wrk that posts the bodies in turn and prints the result as JSON."""
    entries = []
    for number, body in enumerate(bodies):
        (folder / f"{number}.body").write_bytes(body.content)
        entries.append(f"{{[[{folder / f'{number}.body'}]], [[{body.content_type}]]}}")
    script = folder / "post.lua"
    script.write_text(
        _LUA.replace("BODIES", ", ".join(entries)).replace("PATH", json.dumps(path)),
        encoding="utf-8",
    )
    return script


_LUA = """\
local requests, turn = {}, 0

function init(args)
  for _, entry in ipairs({BODIES}) do
    local file = assert(io.open(entry[1], "rb"))
    table.insert(requests, wrk.format("POST", PATH, {["Content-Type"] = entry[2]}, file:read("*a")))
    file:close()
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '{"requests": %d, "microseconds": %d, "p50": %.0f, "p99": %.0f, "status": %d, "broken": %d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.status, e.connect + e.read + e.write + e.timeout))
end
"""


def find_wrk() -> str:
    """Return the path of wrk.

    Raises:
        RuntimeError: wrk is not installed.
    """
    wrk = shutil.which("wrk")
    if wrk is None:
        raise RuntimeError("wrk is missing, which generates the load; apt-get install wrk, or brew install wrk")
    return wrk


def run_wrk(address: str, script: Path, clients: int, seconds: float) -> Load:
    """Run clients that each send one request at a time.

    Args:
        address: For example ``127.0.0.1:8000``.
        seconds: Duration, which wrk takes in whole seconds.

    Raises:
        RuntimeError: wrk is missing or failed.
    """
    command = [
        find_wrk(),
        "-t",
        "1",
        "-c",
        str(clients),
        "-d",
        f"{max(1, round(seconds))}s",
        "--timeout",
        f"{_WRK_TIMEOUT}s",
    ]
    done = subprocess.run(
        [*command, "-s", str(script), f"http://{address}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + 2 * _WRK_TIMEOUT,
    )
    return parse_wrk(done.stdout, done.stderr)


def parse_wrk(output: str, errors: str = "") -> Load:
    """Parse the output of the script's ``done``.

    Raises:
        RuntimeError: It printed nothing; with wrk's other output.
    """
    lines = [line for line in output.splitlines() if line.startswith("{")]
    if not lines:
        raise RuntimeError(f"wrk gave no result: {' '.join((errors or output).split())[-300:]}")
    said = json.loads(lines[-1])
    # wrk counts an answer with an error status as a request, but not a broken connection.
    return Load(
        requests=said["requests"] + said["broken"],
        seconds=said["microseconds"] / 1e6,
        p50=said["p50"] / 1e3,
        p99=said["p99"] / 1e3,
        errors=said["status"] + said["broken"],
    )


def post(address: str, path: str, body: Body, headers: dict[str, str] | None = None, timeout: float = 30) -> Any:
    """Send one request and return the answer as plain values.

    Raises:
        RuntimeError: The status is not 200.
        OSError: The server does not listen.
    """
    connection = http.client.HTTPConnection(address, timeout=timeout)
    try:
        connection.request("POST", path, body.content, {"Content-Type": body.content_type, **(headers or {})})
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise RuntimeError(f"{address}{path}: status {response.status}: {content[:300]!r}")
    return json.loads(content)


class Connection:
    """A persistent HTTP/1.1 connection with one request at a time."""

    def __init__(self, address: str) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: Body) -> tuple[int, bytes]:
        """Send a request and return the status and content of the answer.

        Raises:
            OSError: The connection broke.
        """
        try:
            return await self._post(path, body)
        except asyncio.IncompleteReadError as error:
            self.close()
            raise ConnectionError("the server closed the connection in the middle of an answer") from error
        except BaseException:
            self.close()
            raise

    async def _post(self, path: str, body: Body) -> tuple[int, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port, limit=1 << 20)
        reader, writer = self._streams
        head = f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: {body.content_type}\r\n"
        writer.write(f"{head}Content-Length: {len(body.content)}\r\n\r\n".encode())
        writer.write(body.content)
        raw = await reader.readuntil(b"\r\n\r\n")
        lines = raw.decode("latin-1").split("\r\n")
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        content = await reader.readexactly(int(fields.get("content-length", 0)))
        if fields.get("connection", "").lower() == "close":
            self.close()
        return int(lines[0].split()[1]), content

    def close(self) -> None:
        """Close the connection; the next request opens a new one."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def open_loop(rate: float, seconds: float, send: Callable[[int], Awaitable[None]], at_most: int = 2000) -> int:
    """Start `send` at a fixed rate, whether or not earlier calls have ended; return how many could not be started.

    Args:
        at_most: Maximum number of open requests, so that a server that never refuses does not fill our memory.
    """
    under_way: set[asyncio.Task[None]] = set()
    start, skipped = time.perf_counter(), 0
    for number in range(round(rate * seconds)):
        await asyncio.sleep(max(0.0, start + number / rate - time.perf_counter()))
        if len(under_way) >= at_most:
            skipped += 1
            continue
        task = asyncio.ensure_future(send(number))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    if under_way:
        await asyncio.wait(under_way)
    return skipped
