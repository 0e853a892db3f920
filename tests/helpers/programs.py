"""Run real Prometheus, Alertmanager and Pushgateway programs from the path, on free ports."""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import string
import subprocess
import threading
import time
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
from prometheus_client.parser import text_string_to_metric_families

from deploy.pushgateway import USERNAME, write_access
from tests.conftest import ROOT
from visionops.alerts import Alerter
from visionops.monitoring.gateway import Pushgateway

MONITORING = ROOT / "deploy" / "monitoring"
RULES = MONITORING / "prometheus" / "rules.yml"
TICK = 0.1
_PORTS = (10_000, 30_000)
_CHANCE = random.SystemRandom()  # with a seed, all workers would draw the same ports
_CLAIMS: list[socket.socket] = []
_Found = TypeVar("_Found")


def program(name: str) -> str:
    """Return the path of a program; skip where it is absent."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is absent: apt-get install prometheus prometheus-alertmanager prometheus-pushgateway")
    return path


def run(*command: str | Path) -> str:
    """Return the output of a program, which must succeed."""
    done = subprocess.run([program(str(command[0])), *command[1:]], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def until(look: Callable[[], _Found], seconds: float = 180.0, tick: float = TICK) -> _Found:
    """Return the first true result. The limit is for hangs, because a busy machine may be many times slower."""
    end, pause = time.monotonic() + seconds, threading.Event()
    while not (found := look()):
        assert time.monotonic() < end, f"not within {seconds:g} s"
        pause.wait(tick)
    return found


def free_port() -> int:
    """Return a port that stays free until the caller's program takes it, possibly half a minute later.

    It is below the kernel's range of ephemeral ports, and no other test process gets it: the claim is an abstract
    socket name, which ends with this process.
    """
    while True:
        port = _CHANCE.randrange(*_PORTS)
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0visionops-tests-port-{port}")
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            claim.close()
        else:
            _CLAIMS.append(claim)
            return port


def get(port: int, path: str) -> tuple[int, bytes]:
    """Return status and body; 0 while there is no server."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    except OSError:
        return 0, b""
    finally:
        connection.close()


def query(port: int, expression: str) -> list[dict[str, Any]]:
    """Return the current numeric samples of an expression.

    Raises:
        AssertionError: Prometheus does not accept the expression.
    """
    status, body = get(port, "/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
    assert status == 200, f"{expression}: {body.decode()}"
    return [sample for sample in json.loads(body)["data"]["result"] if sample["value"][1] != "NaN"]


@contextmanager
def started(
    folder: Path,
    port: int,
    *command: str,
    ready: str = "/-/ready",
    status: int = 200,
    env: Mapping[str, str] | None = None,
    seconds: float = 180.0,
) -> Iterator[int]:
    """Yield a program and its port after it answers at ``ready``; at the end it is killed with its child processes."""
    path = folder / f"{port}.log"
    with path.open("wb") as log:
        process = subprocess.Popen(
            [program(command[0]), *command[1:]],
            env={**os.environ, **(env or {})},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        try:
            until(lambda: get(port, ready)[0] == status or process.poll() is not None, seconds)
        except AssertionError as error:
            error.add_note(path.read_text())
            raise
        assert process.poll() is None, path.read_text()
        yield port
    finally:
        with suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)


def alertmanager_config(path: Path, url: str) -> Path:
    """Return our configuration with the webhook at ``url`` and shorter times."""
    text = (MONITORING / "alertmanager" / "alertmanager.yml").read_text()
    text = re.sub(r"group_interval: \w+", "group_interval: 1s", text)
    # Prometheus sends the alerts of each rule separately, so an inhibiting alert may come seconds later.
    text = re.sub(r"group_wait: \w+", "group_wait: 5s", text)
    path.write_text(string.Template(text).substitute(VISIONOPS_ALERT_WEBHOOK=url))
    return path


@contextmanager
def alertmanager(folder: Path, config: Path) -> Iterator[int]:
    folder.mkdir()
    port = free_port()
    # Without a cluster address it runs alone, and opens no second port.
    flags = [f"--config.file={config}", f"--storage.path={folder}", "--cluster.listen-address="]
    name = next((n for n in ("prometheus-alertmanager", "alertmanager") if shutil.which(n)), "alertmanager")
    with started(folder, port, name, *flags, f"--web.listen-address=127.0.0.1:{port}"):
        yield port


@contextmanager
def prometheus(folder: Path, config: Path) -> Iterator[int]:
    port = free_port()
    # Alerts that fire before the Alertmanager is found are lost, and by default repeated after a minute.
    flags = [f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}", "--rules.alert.resend-delay=1s"]
    with started(folder, port, "prometheus", *flags, f"--web.listen-address=127.0.0.1:{port}"):
        yield port


@contextmanager
def pushgateway(folder: Path) -> Iterator[str]:
    """Yield the URL of a Pushgateway."""
    folder.mkdir()
    with _pushgateway(folder) as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def secured_pushgateway(folder: Path, hosts: Sequence[str] = ("localhost",)) -> Iterator[Pushgateway]:
    """Yield a Pushgateway that requires a login and TLS, with both; its files are below ``folder``/access."""
    folder.mkdir()
    access = folder / "access"
    write_access(access, hosts)
    # It answers plain HTTP with an error about that.
    with _pushgateway(folder, f"--web.config.file={access / 'server' / 'web.yml'}", status=400) as port:
        password, ca = (access / "client" / "password").read_text(), str(access / "client" / "ca.crt")
        yield Pushgateway(f"https://{hosts[0]}:{port}", USERNAME, password, ca)


@contextmanager
def _pushgateway(folder: Path, *flags: str, status: int = 200) -> Iterator[int]:
    port = free_port()
    name = next((n for n in ("prometheus-pushgateway", "pushgateway") if shutil.which(n)), "prometheus-pushgateway")
    # The Debian package stores its data below /var/lib.
    own = ("--persistence.file=", f"--web.listen-address=127.0.0.1:{port}")
    with started(folder, port, name, *own, *flags, status=status):
        yield port


def pushed(url: str, use_case: str) -> dict[tuple[str, ...], float]:
    """Return the metrics of a use case in the gateway, by metric and the values of its own labels."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=20) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return {
            (
                s.name,
                *(v for k, v in sorted(s.labels.items()) if k not in {"job", "instance", "use_case", "pipeline"}),
            ): (s.value)
            for family in families
            for s in family.samples
            if s.labels.get("use_case") == use_case
        }


def alerter(**settings: str) -> Alerter:
    """Return an alerter of our flavor, as in a stack."""
    from zenml.enums import StackComponentType

    from stacks.alerter import AlertmanagerFlavor

    flavor = AlertmanagerFlavor()
    now = datetime.now(UTC)
    made: Alerter = flavor.implementation_class(
        name="local",
        id=uuid.uuid4(),
        config=flavor.config_class(**settings),
        flavor=flavor.name,
        type=StackComponentType.ALERTER,
        user=None,
        created=now,
        updated=now,
    )
    return made
