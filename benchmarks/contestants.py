"""Start, query and stop the compared servers."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import psutil

from benchmarks.load import Body, as_form, as_raw, post
from benchmarks.rows import cores

__all__ = [
    "BASELINE",
    "LATENCY",
    "OURS",
    "PEERS",
    "STARTED_BUSY",
    "THROUGHPUT",
    "Contestant",
    "Server",
    "busy_cores",
    "environment_folder",
    "settle",
    "start",
]

_ROOT = Path(__file__).resolve().parents[1]
_START_SECONDS = 90.0
_STOP_SECONDS = 15.0
_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH")
OURS, BASELINE = "ours", "fastapi"
PEERS = ("bentoml", "litserve", "mlserver", "seldon")
LATENCY, THROUGHPUT = "LATENCY", "THROUGHPUT"
"""OpenVINO's performance hints."""
STARTED_BUSY = "started busy"
"""Our server, started while other work uses all cores: the tuning that it chooses at its start must also fit later."""
_BUSY_SECONDS = 300
_BUSY_LOOP = f"import time; end = time.monotonic() + {_BUSY_SECONDS}\nwhile time.monotonic() < end: pass"


@dataclasses.dataclass(frozen=True, slots=True)
class Contestant:
    """One server with one tuning."""

    name: str
    tuning: str = ""
    """`LATENCY` or `THROUGHPUT`; our server tunes itself, with "" or `STARTED_BUSY`."""

    @property
    def title(self) -> str:
        """Name in the table."""
        if self.name == OURS and self.tuning:
            return f"{self.name}, {self.tuning}"
        return f"{self.name}, {self.tuning.lower()} hint" if self.tuning else self.name

    @property
    def python(self) -> Path:
        """Python of its environment."""
        return environment_folder(self.name) / "bin" / "python" if self.name in PEERS else Path(sys.executable)

    @property
    def is_installed(self) -> bool:
        """Whether `benchmarks.peers` has created its environment."""
        return self.python.exists()


@dataclasses.dataclass(frozen=True, slots=True)
class Server:
    """A running contestant."""

    contestant: Contestant
    process: subprocess.Popen[bytes]
    address: str
    ready_after: float
    """Seconds from the start of the process to its first valid answer."""
    as_body: Callable[[bytes], Body]
    path: str = "/predict"

    def ask(self, image: bytes) -> list[dict[str, Any]]:
        """Return its detections in one image."""
        detections: list[dict[str, Any]] = post(self.address, self.path, self.as_body(image))["detections"]
        return detections

    def processes(self) -> list[psutil.Process]:
        """Return its process and the child processes."""
        try:
            own = psutil.Process(self.process.pid)
            return [own, *own.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def resident(self) -> float:
        """Return the resident megabytes of all its processes."""
        return sum(_of(process, lambda p: p.memory_info().rss) for process in self.processes()) / 1e6

    def cpu(self) -> float:
        """Return the CPU seconds of all its processes so far."""
        return sum(_of(process, lambda p: sum(p.cpu_times()[:2])) for process in self.processes())


def _of(process: psutil.Process, value: Callable[[psutil.Process], float]) -> float:
    try:
        return value(process)
    except psutil.Error:  # it has exited
        return 0.0


def environment_folder(name: str) -> Path:
    """Return the folder of a peer's environment."""
    return _ROOT / ".peers" / name


@contextlib.contextmanager
def start(
    contestant: Contestant, bundle: Path, image: bytes, folder: Path, variables: dict[str, str] | None = None
) -> Iterator[Server]:
    """Run a server until the block ends.

    Args:
        image: Image that the server must answer to be ready.
        folder: Folder for its log and other files.
        variables: Additional environment variables.

    Raises:
        RuntimeError: It exited or did not answer; with the last lines of its log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    command, own, where = _command(contestant, bundle, port, folder)
    log = folder / "log.txt"
    began = time.perf_counter()
    with log.open("wb") as sink:
        # A new session, so that all its child processes, and nothing else, stop with it.
        process = subprocess.Popen(
            command,
            cwd=where,
            env=_environment() | own | (variables or {}),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield _await(contestant, process, port, image, log, began)
    finally:
        _stop(process)


@contextlib.contextmanager
def busy_cores(loops_each: int = 1) -> Iterator[None]:
    """Keep every core busy with loops, each in a process of its own, until the block ends, or for five minutes."""
    command, count = [sys.executable, "-c", _BUSY_LOOP], loops_each * cores()
    loops = [subprocess.Popen(command, stdin=subprocess.DEVNULL) for _ in range(count)]
    try:
        yield
        if any(loop.poll() is not None for loop in loops):
            raise RuntimeError(f"the block took more than {_BUSY_SECONDS} s, so the machine was not busy for all of it")
    finally:
        for loop in loops:
            loop.kill()
            loop.wait(_STOP_SECONDS)


def settle(servers: Collection[Server], at_most: float = 10.0) -> None:
    """Wait until no server computes.

    When wrk ends, each of its clients leaves an open request that most servers still answer, which would delay the next
    load.
    """
    until, before = time.perf_counter() + at_most, -1.0
    while time.perf_counter() < until:
        now = sum(server.cpu() for server in servers)
        if now - before < 0.02:
            return
        before = now
        time.sleep(0.3)


def _environment() -> dict[str, str]:
    """Return a clean environment, independent of the benchmark's own."""
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return kept | {"PYTHONPATH": str(_ROOT), "DO_NOT_TRACK": "1"}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _await(
    contestant: Contestant, process: subprocess.Popen[bytes], port: int, image: bytes, log: Path, began: float
) -> Server:
    address, bodies = f"127.0.0.1:{port}", [as_raw, as_form] if contestant.name == OURS else [as_raw]
    problem = "no server listened"
    while time.perf_counter() - began < _START_SECONDS:
        if process.poll() is not None:
            raise RuntimeError(f"{contestant.name} exited with status {process.returncode}: {_tail(log)}")
        if contestant.name == OURS and not (address := _logged_address(log)):
            time.sleep(0.02)
            continue
        for as_body in bodies:
            server = Server(contestant, process, address, time.perf_counter() - began, as_body)
            try:
                server.ask(image)
            except (OSError, RuntimeError, KeyError, ValueError) as error:
                problem = str(error)
                continue
            return dataclasses.replace(server, ready_after=time.perf_counter() - began)
        time.sleep(0.05)
    raise RuntimeError(f"{contestant.name} did not answer in {_START_SECONDS:.0f} s ({problem}): {_tail(log)}")


def _logged_address(log: Path) -> str:
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            if (said := json.loads(line)).get("event") == "started":
                return str(said["url"]).removeprefix("http://")
    return ""


def _tail(log: Path) -> str:
    return " | ".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-6:])[-800:]


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):  # stops all processes, including workers that outlived their parent
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(_STOP_SECONDS)


# ---- commands

_Command = tuple[list[str], dict[str, str]]
"""Command line and environment variables."""


def _command(contestant: Contestant, bundle: Path, port: int, folder: Path) -> tuple[list[str], dict[str, str], Path]:
    """Return the command line, environment variables and working folder."""
    if contestant.name == OURS:
        serve = [sys.executable, "-m", "deploy.serving", "--bundle", str(bundle), "--name", "benchmark"]
        return [*serve, "--version", "1", "--port", "0", "--cache", str(folder / "cache")], {}, _ROOT
    # A framework with worker processes gets one thread per process; one with threads gets OpenVINO's streams.
    in_processes = contestant.name in {"litserve", "mlserver"} and contestant.tuning == THROUGHPUT
    workers = cores() if in_processes else 1
    own = {
        "DETECTOR_BUNDLE": str(bundle),
        "DETECTOR_HINT": LATENCY if in_processes else contestant.tuning,
        "DETECTOR_THREADS": str(cores() // workers),
        "DETECTOR_WORKERS": str(workers),
    }
    command, more = _COMMANDS[contestant.name](contestant.python.parent, port, folder, workers)
    return command, own | more, Path(__file__).parent / "peers" / contestant.name


def _script(programs: Path, port: int, _folder: Path, _workers: int) -> _Command:
    return [str(programs / "python"), "service.py", str(port)], {}


def _bentoml(programs: Path, port: int, folder: Path, _workers: int) -> _Command:
    command = [str(programs / "bentoml"), "serve", "service:Serving", "--host", "127.0.0.1", "--port", str(port)]
    return command, {"BENTOML_HOME": str(folder), "BENTOML_DO_NOT_TRACK": "True"}


def _mlserver(programs: Path, port: int, folder: Path, workers: int) -> _Command:
    (folder / "model-settings.json").write_text('{"name": "detector", "implementation": "service.Serving"}')
    settings = {
        "debug": False,
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": _free_port(),
        "metrics_port": _free_port(),
        "metrics_dir": str(folder / "metrics"),
        # 0 runs the model in the server's own process, which saves one hop for a single client.
        "parallel_workers": workers if workers > 1 else 0,
        "gzip_enabled": False,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    where = Path(__file__).parent / "peers" / "mlserver"
    return [str(programs / "mlserver"), "start", str(folder)], {"PYTHONPATH": f"{_ROOT}:{where}"}


def _seldon(programs: Path, port: int, _folder: Path, _workers: int) -> _Command:
    variables = {
        "PREDICTIVE_UNIT_HTTP_SERVICE_PORT": str(port),
        "PREDICTIVE_UNIT_GRPC_SERVICE_PORT": str(_free_port()),
        "PREDICTIVE_UNIT_METRICS_SERVICE_PORT": str(_free_port()),
        "PAYLOAD_PASSTHROUGH": "true",
        "GUNICORN_WORKERS": "1",
        "GUNICORN_THREADS": "16",
        "GRPC_WORKERS": "0",
        "SELDON_LOG_LEVEL": "WARNING",
    }
    return [str(programs / "seldon-core-microservice"), "service.Serving", "--service-type", "MODEL"], variables


_COMMANDS: dict[str, Callable[[Path, int, Path, int], _Command]] = {
    "fastapi": _script,
    "bentoml": _bentoml,
    "litserve": _script,
    "mlserver": _mlserver,
    "seldon": _seldon,
}
