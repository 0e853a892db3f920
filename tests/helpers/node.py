"""Run the pods of Jobs of `tests.helpers.cluster` as containers of this machine.

A container gets all of its pod's settings: image, command, arguments, variables (also from Secrets), volumes, user,
capabilities, a read-only root, and a service account with which it reaches the API over TLS. It uses this machine's
network, so that servers of a test are reachable. Rights are not checked.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import copy
import json
import ssl
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kmock import Request
from kubernetes import client

from tests.helpers.cluster import NAMESPACE, Cluster

__all__ = ["Node", "account_of"]

_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


class Node:
    """Watch each request of a cluster, and run the pod of each created Job.

    Args:
        api: A client of the cluster.
        folder: Folder for volumes and logs, accessible to other accounts.
        account: Folder and port from `account_of`.
    """

    def __init__(self, cluster: Cluster, api: client.ApiClient, folder: Path, account: tuple[Path, int]) -> None:
        self.logs: dict[str, Path] = {}
        """Names of the started pods, in order."""
        self.failed: list[str] = []
        """Pods that ended with an error, unless their Job was deleted."""
        self._pods: dict[str, str] = {}
        self._gone: set[str] = set()
        self._cluster, self._api, self._folder = cluster, client.CoreV1Api(api), folder
        self._account, self._port = account
        self._runs: list[threading.Thread] = []

    def __call__(self, request: Request) -> None:
        """Start a Job before the API server stores it, and end the pods of a deleted one.

        It is one of the cluster's `faults`, but never returns a fault.
        """
        kind = request.resource.plural if request.resource else ""
        if (request.method.value, kind) == ("DELETE", "jobs"):
            self._gone.add(str(request.name))
            if pod := self._pods.get(str(request.name)):
                threading.Thread(target=_remove, args=(pod,), daemon=True).start()
        if (request.method.value, kind) == ("POST", "jobs"):
            request.data["metadata"]["uid"] = str(uuid.uuid4())
            request.data["status"] = {"active": 1}
            run = threading.Thread(target=self._run, args=(copy.deepcopy(request.data),), daemon=True)
            self._runs.append(run)
            run.start()

    def __enter__(self) -> Node:
        self._cluster.faults.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._cluster.faults.remove(self)
        for pod in self.logs:
            _remove(pod)
        for run in self._runs:
            run.join(30)

    def _run(self, job: dict[str, Any]) -> None:
        name, template = job["metadata"]["name"], job["spec"]["template"]
        pod = f"{name[:50]}-{uuid.uuid4().hex[:5]}"
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job["metadata"]["uid"]}
        manifest = {
            "metadata": {
                "name": pod,
                "labels": (template["metadata"].get("labels") or {}) | {"job-name": name},
                "ownerReferences": [owner],
            },
            "spec": template["spec"],
            "status": {"phase": "Running"},
        }
        self._api.create_namespaced_pod(NAMESPACE, manifest)
        self._cluster.pods[pod] = {"owner": None, "mark": "", "ready": True, "manifest": manifest}
        self._pods[name] = pod
        self.logs[pod] = self._folder / f"{pod}.log"
        with self.logs[pod].open("wb") as log:
            code = subprocess.run(self._command(pod, template["spec"]), stdout=log, stderr=log, check=False).returncode
        if name in self._gone:
            return
        if code:
            self.failed.append(pod)
        container = template["spec"]["containers"][0]
        ended = {"name": container["name"], "image": container["image"], "imageID": "", "restartCount": 0}
        ended |= {"ready": False, "state": {"terminated": {"exitCode": code}}}
        manifest["status"] = {"phase": "Failed" if code else "Succeeded", "containerStatuses": [ended]}
        condition = {"type": "Failed" if code else "Complete", "status": "True", "message": f"exit code {code}"}
        for key, live in list(self._cluster.objects.items()):
            if (key[0].plural, key[2]) == ("jobs", name) and not live.deleted:
                self._cluster.objects[key] = live.raw | {"status": {"conditions": [condition]}}

    def _command(self, pod: str, spec: dict[str, Any]) -> list[str]:
        (container,) = spec["containers"]
        command = ["podman", "run", "--rm", "--pull=never", "--no-healthcheck", "--name", pod, "--hostname", pod]
        command += ["--network=host", "--security-opt=no-new-privileges", f"--volume={self._account}:{_ACCOUNT}:ro"]
        limits = container.get("securityContext") or {}
        if limits.get("readOnlyRootFilesystem"):
            command += ["--read-only", "--read-only-tmpfs=false"]
        command += [f"--cap-drop={name}" for name in (limits.get("capabilities") or {}).get("drop", ())]
        if user := (spec.get("securityContext") or {}).get("runAsUser"):
            command += [f"--user={user}"]
        paths = {mount["name"]: mount["mountPath"] for mount in container.get("volumeMounts") or ()}
        for volume in spec.get("volumes") or ():
            assert {"emptyDir", "ephemeral"} & {key for key, value in volume.items() if value is not None}, volume
            place = self._folder / pod / volume["name"]
            place.mkdir(parents=True)
            place.chmod(0o777)
            command += [f"--volume={place}:{paths[volume['name']]}"]
        for name, value in self._environment(pod, container).items():
            command += [f"--env={name}={value}"]
        if container.get("command"):
            command += [f"--entrypoint={json.dumps(container['command'])}"]
        return [*command, container["image"], *(container.get("args") or ())]

    def _environment(self, pod: str, container: dict[str, Any]) -> dict[str, str]:
        found = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self._port)}
        for source in container.get("envFrom") or ():
            found |= self._secret(source["secretRef"]["name"])
        fields = {"metadata.name": pod, "metadata.namespace": NAMESPACE}
        for variable in container.get("env") or ():
            value = variable.get("value") or ""
            if source := variable.get("valueFrom"):
                secret, field = source.get("secretKeyRef"), source.get("fieldRef")
                value = self._secret(secret["name"])[secret["key"]] if secret else fields[field["fieldPath"]]
            found[variable["name"]] = value
        return found

    def _secret(self, name: str) -> dict[str, str]:
        (found,) = [o.raw for k, o in self._cluster.objects.items() if (k[0].plural, k[2]) == ("secrets", name)]
        return {key: base64.b64decode(value).decode() for key, value in found["data"].items()}


def _remove(pod: str) -> None:
    subprocess.run(["podman", "rm", "--force", "--time=0", "--ignore", pod], check=False, capture_output=True)


@contextmanager
def account_of(api: str, folder: Path) -> Iterator[tuple[Path, int]]:
    """Yield the files of a pod's service account, and the port where the API at ``api`` answers over TLS."""
    account, key = folder / "account", folder / "key.pem"
    account.mkdir()
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(account / "ca.crt")]
    subprocess.run(command, check=True, capture_output=True)
    (account / "token").write_text("secret")
    (account / "namespace").write_text(NAMESPACE)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(account / "ca.crt", key)
    address = urlsplit(api)

    async def carry(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(1 << 16):
                to.write(data)
                await to.drain()
        except OSError:
            pass  # either side may close the connection
        finally:
            to.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection(address.hostname, address.port)
        with contextlib.suppress(asyncio.CancelledError):  # the end
            await asyncio.gather(carry(reader, to_writer), carry(to_reader, writer))

    async def stop() -> None:
        server.close()
        open_ones = asyncio.all_tasks() - {asyncio.current_task()}
        for task in open_ones:
            task.cancel()
        await asyncio.gather(*open_ones, return_exceptions=True)

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(connect, "127.0.0.1", 0, ssl=context))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield account, server.sockets[0].getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()
