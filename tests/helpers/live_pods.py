"""Run pods with real servers behind the mock cluster's API, and a Service in front of them.

>>> with live_cluster(tmp_path, store_address) as (cluster, service_url):   # KUBECONFIG names it
...     deployer.deploy_bundle(...)                                         # its pods answer at service_url

Each pod runs its init containers and its server as `tests.stacks.deployers.test_pod` does. It is ready when its probe
succeeds. A deleted pod gets no new connections, and ends when its existing ones are closed.
"""

from __future__ import annotations

import base64
import itertools
import signal
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from tests.helpers.cluster import Cluster, running_cluster
from tests.helpers.programs import free_port
from tests.helpers.s3 import ENVIRONMENT

__all__ = ["LiveCluster", "live_cluster"]

_DRAIN_SECONDS = 20.0

Commands = Callable[[dict[str, Any], Path, int], list[str]]
Variables = Callable[[dict[str, Any], dict[str, dict[str, str]]], dict[str, str]]


class _Pod:
    """A server process, started with the pod's own commands."""

    def __init__(
        self, spec: dict[str, Any], secrets: dict[str, dict[str, str]], folder: Path, how: tuple[Commands, Variables]
    ) -> None:
        self.port = free_port()
        self.failed = ""
        self.connections = 0
        self._spec, self._secrets, self._folder = spec, secrets, folder
        self._command, self._environment = how
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ready = threading.Event()
        self._is_over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def is_ready(self) -> bool:
        return self._is_ready.is_set() and not self._is_over

    def end(self) -> None:
        """End the process when its connections are closed, in a separate thread."""
        self._is_over = True
        threading.Thread(target=self.end_now, daemon=True).start()

    def end_now(self) -> None:
        self._is_over = True
        deadline = time.monotonic() + _DRAIN_SECONDS
        while self.connections and time.monotonic() < deadline:
            time.sleep(0.02)
        self._thread.join(180)
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(60)

    def _run(self) -> None:
        self._folder.mkdir()
        for container in self._spec["initContainers"]:
            if self._start(container).wait(180):
                self.failed = container["name"]
                return
        (container,) = self._spec["containers"]
        self._process = self._start(container)
        probe = container["readinessProbe"]["httpGet"]["path"]
        with requests.Session() as session:
            session.trust_env = False
            while not self._is_over and self._process.poll() is None:
                try:
                    if session.get(f"http://127.0.0.1:{self.port}{probe}", timeout=60).ok:
                        self._is_ready.set()
                        return
                except requests.RequestException:
                    time.sleep(0.05)

    def _start(self, container: dict[str, Any]) -> subprocess.Popen[bytes]:
        command = self._command(container, self._folder, self.port)
        variables = self._environment(container, self._secrets)
        with (self._folder / f"{container['name']}.log").open("wb") as log:
            return subprocess.Popen(command, cwd=self._folder, env=variables, stdout=log, stderr=log)


class LiveCluster(Cluster):
    """Cluster whose pods are ready when their servers are."""

    def prepare(self, folder: Path, how: tuple[Commands, Variables]) -> None:
        """Set the folders of pods' files, and run their commands on this machine."""
        self._folder, self._how = folder, how
        self.live: dict[str, _Pod] = {}
        self._turn = itertools.count()
        self._choosing = threading.Lock()

    def choose(self) -> _Pod | None:
        """Return the next ready pod, counting one more connection."""
        with self._choosing:
            ready = [pod for name, pod in sorted(self.live.items()) if pod.is_ready]
            if not ready:
                return None
            pod = ready[next(self._turn) % len(ready)]
            pod.connections += 1
            return pod

    def _step(self) -> None:
        waiting = [name for name, pod in self.pods.items() if not pod["ready"]]
        fate = "ready" if all(name in self.live and self.live[name].is_ready for name in waiting) else "slow"
        versions = {
            o.raw["metadata"]["annotations"]["visionops/version"]
            for key, o in self.objects.items()
            if key[0].plural == "deployments" and not o.deleted
        }
        self.fates.update(dict.fromkeys(versions, fate))
        super()._step()
        for name in self.pods.keys() - self.live.keys():
            spec = self.pods[name]["manifest"]["spec"]
            self.live[name] = _Pod(spec, self._secrets(), self._folder / name, self._how)
        for name in self.live.keys() - self.pods.keys():
            with self._choosing:
                self.live.pop(name).end()

    def _secrets(self) -> dict[str, dict[str, str]]:
        found = {"s3": dict(ENVIRONMENT)}
        for (resource, _, name), o in self.objects.items():
            if resource.plural == "secrets" and not o.deleted:
                found[name] = {key: base64.b64decode(value).decode() for key, value in o.raw["data"].items()}
        return found


@contextmanager
def live_cluster(folder: Path, how: tuple[Commands, Variables]) -> Iterator[tuple[LiveCluster, str]]:
    """Yield the cluster, and the address of the Service of its only endpoint."""
    with running_cluster(folder, LiveCluster) as cluster:
        assert isinstance(cluster, LiveCluster)
        (folder / "pods").mkdir()
        cluster.prepare(folder / "pods", how)

        class Forward(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                if (pod := cluster.choose()) is None:
                    return
                try:
                    with socket.create_connection(("127.0.0.1", pod.port)) as there:
                        _pipe(self.request, there)
                finally:
                    pod.connections -= 1

        class Service(socketserver.ThreadingTCPServer):
            allow_reuse_address, daemon_threads, request_queue_size = True, True, 64

        with Service(("127.0.0.1", 0), Forward) as service:
            threading.Thread(target=service.serve_forever, daemon=True).start()
            try:
                yield cluster, f"http://127.0.0.1:{service.server_address[1]}"
            finally:
                service.shutdown()
                for pod in cluster.live.values():
                    pod.end_now()


def _pipe(one: socket.socket, other: socket.socket) -> None:
    def copy(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return

    back = threading.Thread(target=copy, args=(other, one), daemon=True)
    back.start()
    copy(one, other)
    back.join()
