"""A Kubernetes API on this machine, with the parts of a cluster that a deployer can observe.

kmock stores the objects and serves HTTP. This module adds what a real API server does beyond that (generations,
versions, PUT, label selectors, refusals), and a controller that creates pods. The controller takes one step at each
request, so a rollout is as fast as it is watched and always has the same order: observed, one more pod, ready, one old
pod less, and so on.

>>> with running_cluster(tmp_path) as cluster:      # KUBECONFIG names it
...     cluster.fates["2"] = "crash"                # what becomes of pods of version 2
"""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp.web
import pytest
import yaml
from kmock import KubernetesEmulator, KubernetesError, Request, Server

from tests.helpers.admission import Admission

NAMESPACE = "vision"
KINDS = {
    "secrets",
    "serviceaccounts",
    "persistentvolumeclaims",
    "services",
    "pods",
    "deployments",
    "horizontalpodautoscalers",
    "scaledobjects",
    "poddisruptionbudgets",
    "networkpolicies",
    "endpointslices",
    "ingresses",
    "jobs",
    "events",
    "seldondeployments",
    "inferenceservices",
}
WORKLOADS = {"deployments", "seldondeployments", "inferenceservices"}
OPERATED = {"seldondeployments": "SeldonDeployment", "inferenceservices": "InferenceService"}
OPERATORS = {"machinelearning.seldon.io", "serving.kserve.io"}
QUOTA = 'pods "cells-1" is forbidden: exceeded quota: team, requested: cpu=1, used: cpu=4, limited: cpu=4'
LOG = {
    "server": '{"event": "starting"}\nerror: smoke image 1: upload: not a readable image\n',
    "fetch": "error: s3://models/x: missing; deploy the model again\n",
}

Fault = Callable[[Request], KubernetesError | None]


def refusal(status: int, message: str, *, verb: str = "", plural: str = "", times: int = 1_000_000) -> Fault:
    """Refuse this number of requests with this HTTP method to this kind."""
    left = [times]

    def fault(request: Request) -> KubernetesError | None:
        kind = request.resource.plural if request.resource else ""
        if verb not in {"", request.method.value} or plural not in {"", kind} or not left[0]:
            return None
        left[0] -= 1
        return KubernetesError(status=status, reason="Refused", message=message)

    return fault


class Cluster(KubernetesEmulator):
    """The API server and the controller."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds = set(KINDS)
        self.namespaces = {NAMESPACE}
        self.faults: list[Fault] = []
        self.admission: list[Admission] = []
        """Functions that check each created or changed object, and pods created by controllers."""
        self.events: list[dict[str, Any]] = []
        """Events of controllers: for a Job they are the only sign that its pods are denied."""
        self.version = ("1", "31")
        self.api_ports = (6443,)
        """Address of the API server itself, behind the port 443 of its Service."""
        self.denied: set[str] = set()
        """Rights that the user lacks, such as `create deployments`."""
        self.fates: dict[str, str] = {}
        """Fate of a version's pods: image, config, crash, fetch, oom, pending, slow, quota, damaged, stumbles; ready by
        default.
        it is absent.

        Damaged: an init container that fails each time, which a kubelet first shows without CrashLoopBackOff.
        Stumbles: the init container fails once, and then succeeds."""
        self.pods: dict[str, dict[str, Any]] = {}
        self.least_ready: int | None = None
        """Lowest number of ready pods since it was set to a large number."""
        self._count = 0

    def names(self) -> set[str]:
        """Return all objects, as plural/name."""
        return {f"{resource.plural}/{name}" for (resource, _, name), o in self.objects.items() if not o.deleted}

    def find(self, plural: str) -> dict[str, Any]:
        """Return the only object of this kind."""
        (found,) = [
            o.raw for (resource, _, _), o in self.objects.items() if resource.plural == plural and not o.deleted
        ]
        return found

    # The API server

    async def __call__(self, raw_request: aiohttp.web.BaseRequest) -> aiohttp.web.StreamResponse:
        if (raw_request.method, raw_request.path) != ("POST", "/api/v1/namespaces"):
            return await super().__call__(raw_request)
        try:  # kmock cannot parse a path that ends in "namespaces"
            return aiohttp.web.json_response(self._make_namespace(await raw_request.json()), status=201)
        except KubernetesError as error:
            return await self._render_error(error)

    async def _handle(self, request: Request) -> aiohttp.web.StreamResponse:
        if (answer := self._discover(request)) is not None:
            return aiohttp.web.json_response(answer)
        if request.resource is None:
            return await super()._handle(request)
        self._refuse(request)
        method, plural = request.method.value, request.resource.plural
        if method == "GET" and request.subresource == "log":
            if request.params.get("previous") == "true" and self._is_first(request):
                raise KubernetesError(status=400, message="previous terminated container not found")
            lines = LOG.get(request.params["container"], LOG["server"]).splitlines()
            return aiohttp.web.Response(text="\n".join(lines[-int(request.params["tailLines"]) :]))
        if method == "GET" and (plural in WORKLOADS or plural == "pods"):
            self._step()
        if method == "GET" and plural == "endpointslices" and request.namespace == "default":
            return aiohttp.web.json_response({"items": [self._own_endpoints()]})
        if (method, plural) == ("GET", "events"):
            return aiohttp.web.json_response({"items": self._noted(request)})
        if method == "GET" and request.name is None:
            return aiohttp.web.json_response({"items": self._selected(request)})
        if method in {"POST", "PUT"} and (error := self._denial(plural, request.data)):
            raise error
        if method == "PUT":
            return aiohttp.web.json_response(self._replace(request))
        if method == "POST":
            self._stamp(request.data)
        answer = await super()._handle(request)
        if (method, plural) == ("POST", "jobs"):
            self._note_denied_pod(request.data)
        if method == "DELETE" and plural == "jobs":  # deleting a Job deletes its pods
            mine = ("job-name", request.name)
            self.pods = {n: p for n, p in self.pods.items() if mine not in p["manifest"]["metadata"]["labels"].items()}
        if method == "DELETE" and plural in WORKLOADS:
            self.pods = {name: pod for name, pod in self.pods.items() if pod["owner"] != self._key(request)}
        return answer

    def _discover(self, request: Request) -> dict[str, Any] | None:
        """Answer discovery requests: the version, kinds and namespaces, and the user's rights."""
        parts = request.url.path.strip("/").split("/")
        is_known = (
            parts == ["version"] or parts[-1] == "selfsubjectaccessreviews" or (parts[0] == "apis" and len(parts) == 3)
        )
        if not is_known and parts[:-1] != ["api", "v1", "namespaces"]:
            return None
        for fault in self.faults:
            if error := fault(request):
                raise error
        if parts == ["version"]:
            return {"major": self.version[0], "minor": self.version[1]}
        if parts[-1] == "selfsubjectaccessreviews":
            attributes = request.data["spec"]["resourceAttributes"]
            right = f"{attributes['verb']} {attributes['resource']}" + (
                f"/{attributes['subresource']}" if "subresource" in attributes else ""
            )
            return {"status": {"allowed": right not in self.denied}}
        if parts[0] == "apis":
            names = {plural: kind for plural, kind in OPERATED.items() if plural in self.kinds}
            found = names if parts[1] in OPERATORS else {"deployments": "Deployment", "jobs": "Job"}
            if not found:
                raise KubernetesError(status=404, message="the server could not find the requested resource")
            return {"resources": [{"name": plural, "kind": kind} for plural, kind in found.items()]}
        if parts[-1] not in self.namespaces:
            raise KubernetesError(status=404, message=f'namespaces "{parts[-1]}" not found')
        return {"kind": "Namespace", "metadata": {"name": parts[-1]}}

    def _refuse(self, request: Request) -> None:
        if request.resource.plural not in self.kinds:
            raise KubernetesError(status=404, message="the server could not find the requested resource")
        for fault in self.faults:
            if error := fault(request):
                raise error
        if request.method.value == "POST" and request.namespace not in self.namespaces:
            raise KubernetesError(status=404, message=f'namespaces "{request.namespace}" not found')

    def _denial(self, plural: str, manifest: dict[str, Any]) -> KubernetesError | None:
        return next((error for look in self.admission if (error := look(plural, manifest))), None)

    def _note_denied_pod(self, job: dict[str, Any]) -> None:
        """Record the event of the Job controller when it may not create a pod; the Job itself stays unchanged."""
        name = job["metadata"]["name"]
        if error := self._denial("pods", {"metadata": {"name": f"{name}-"}}):
            self.events.append(
                {
                    "type": "Warning",
                    "reason": "FailedCreate",
                    "involvedObject": {"kind": "Job", "name": name},
                    "message": f"Error creating: {error.message}",
                }
            )

    def _noted(self, request: Request) -> list[dict[str, Any]]:
        wanted = dict(part.split("=") for part in request.params.get("fieldSelector", "").split(",") if part)
        fields = [
            {"reason": event["reason"]}
            | {f"involvedObject.{key}": value for key, value in event["involvedObject"].items()}
            for event in self.events
        ]
        return [event for event, has in zip(self.events, fields, strict=True) if wanted.items() <= has.items()]

    def _key(self, request: Request) -> tuple[Any, ...]:
        return request.resource, request.namespace, request.name

    def _stamp(self, manifest: dict[str, Any], before: dict[str, Any] | None = None) -> None:
        self._count += 1
        changed = before is None or before.get("spec") != manifest.get("spec")
        generation = (before["metadata"]["generation"] if before else 0) + changed
        manifest["metadata"] |= {"resourceVersion": str(self._count), "generation": generation}
        for key, value in manifest.pop("stringData", {}).items():
            manifest.setdefault("data", {})[key] = base64.b64encode(value.encode()).decode()

    def _replace(self, request: Request) -> dict[str, Any]:
        if self._key(request) not in self.objects or self.objects[self._key(request)].deleted:
            raise KubernetesError(status=404, message=f'x "{request.name}" not found')
        manifest, before = request.data, self.objects[self._key(request)].raw
        if manifest["metadata"].get("resourceVersion") != before["metadata"]["resourceVersion"]:
            raise KubernetesError(status=409, message="the object has been modified")
        self._stamp(manifest, before)
        manifest["status"] = before.get("status", {})
        self.objects[self._key(request)] = manifest
        return manifest

    def _make_namespace(self, manifest: dict[str, Any]) -> dict[str, Any]:
        name = manifest["metadata"]["name"]
        if name in self.namespaces:
            raise KubernetesError(status=409, reason="AlreadyExists", message=f'namespaces "{name}" already exists')
        self.namespaces.add(name)
        return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}

    def _own_endpoints(self) -> dict[str, Any]:
        """Return the endpoints behind the Service `kubernetes`, for which the network policies need a port."""
        ports = [{"name": "https", "port": port, "protocol": "TCP"} for port in self.api_ports]
        labels = {"kubernetes.io/service-name": "kubernetes"}
        return {
            "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["172.18.0.2"]}],
            "ports": ports,
        }

    def _is_first(self, request: Request) -> bool:
        """Return whether a container has not been restarted yet."""
        statuses = self.pods[request.name]["manifest"]["status"].get("initContainerStatuses", ())
        return any(one["name"] == request.params["container"] and one.get("restartCount") == 0 for one in statuses)

    def _selected(self, request: Request) -> list[dict[str, Any]]:
        wanted = dict(part.split("=") for part in request.params.get("labelSelector", "").split(",") if part)
        if request.resource.plural == "pods":
            found = [pod["manifest"] for pod in self.pods.values()]
        else:
            here = [o for (r, ns, _), o in self.objects.items() if (r, ns) == self._key(request)[:2]]
            found = [o.raw for o in here if not o.deleted]
        return [o for o in found if wanted.items() <= o["metadata"].get("labels", {}).items()]

    # The controller

    def _step(self) -> None:
        for key, live in list(self.objects.items()):
            if key[0].plural in WORKLOADS and not live.deleted:
                self._move(key, live.raw)
        ready = sum(pod["ready"] for pod in self.pods.values())
        if self.least_ready is not None:
            self.least_ready = min(self.least_ready, ready)

    def _move(self, key: tuple[Any, ...], live: dict[str, Any]) -> None:
        labels, spec, replicas = _template(live)
        mark = json.dumps(spec, sort_keys=True)
        own = {name: pod for name, pod in self.pods.items() if pod["owner"] == key}
        new = [name for name, pod in own.items() if pod["mark"] == mark]
        old = [name for name in own if name not in new]
        waiting = [name for name in new if not own[name]["ready"]]
        fate, denied = self.fates.get(live["metadata"]["annotations"]["visionops/version"], "ready"), ""
        status = live.get("status", {})
        if status.get("observedGeneration") != live["metadata"]["generation"]:
            status = status | {"observedGeneration": live["metadata"]["generation"]}
        elif waiting and fate == "damaged":
            _fail_again(own[waiting[0]]["manifest"]["status"])
        elif waiting and fate in {"ready", "stumbles"}:
            own[waiting[0]]["ready"] = True
            own[waiting[0]]["manifest"]["status"] = {"conditions": [{"type": "Ready", "status": "True"}]}
        elif len(new) > replicas:
            del self.pods[new[0]]
        elif len(own) > replicas and old and not waiting:
            del self.pods[old[0]]
        elif len(new) < replicas:
            self._count += 1
            name = f"{live['metadata']['name']}-{self._count}"
            manifest = {"metadata": {"name": name, "labels": labels}, "spec": spec, "status": _beginning(fate)}
            error = self._denial("pods", manifest)
            denied = QUOTA if fate == "quota" else error.message if error else ""
            if not denied:
                self.pods[name] = {"owner": key, "mark": mark, "ready": False, "manifest": manifest}
        own = [pod for pod in self.pods.values() if pod["owner"] == key]
        ready = sum(pod["ready"] for pod in own)
        status = status | {
            "replicas": len(own),
            "updatedReplicas": sum(pod["mark"] == mark for pod in own),
            "availableReplicas": ready,
            "conditions": [{"type": "Ready", "status": str(ready >= replicas)}],
            "state": "Available" if ready >= replicas else "Creating",
        }
        if denied and key[0].plural == "deployments":  # a custom resource of an operator does not have this field
            failed = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": denied}
            status["conditions"].append(failed)
        self.objects[key] = live | {"status": status}


def _template(live: dict[str, Any]) -> tuple[dict[str, str], dict[str, Any], int]:
    """Return labels and spec of the pods of a workload, and their number."""
    name, spec = live["metadata"]["name"], live["spec"]
    if live["kind"] == "Deployment":
        return spec["template"]["metadata"]["labels"], spec["template"]["spec"], spec["replicas"]
    if live["kind"] == "SeldonDeployment":
        predictor = spec["predictors"][0]
        return {"seldon-deployment-id": name}, predictor["componentSpecs"][0]["spec"], predictor["replicas"]
    stopped = live["metadata"]["annotations"]["serving.kserve.io/stop"] == "true"
    # A Deployment starts with one pod, and KEDA removes the last one only after some time without requests.
    replicas = 0 if stopped else max(1, spec["predictor"]["minReplicas"])
    return {"serving.kserve.io/inferenceservice": name}, spec["predictor"], replicas


def _beginning(fate: str) -> dict[str, Any]:
    """Return the status of a pod that is not ready."""

    def waits(reason: str, message: str = "", **more: Any) -> dict[str, Any]:
        return {"name": "server", "state": {"waiting": {"reason": reason, "message": message}}, **more}

    crash = waits("CrashLoopBackOff", lastState={"terminated": {"exitCode": 2}})
    killed = waits("CrashLoopBackOff", lastState={"terminated": {"exitCode": 137, "reason": "OOMKilled"}})
    full = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes: Insufficient cpu.",
    }
    return {
        "image": {"containerStatuses": [waits("ImagePullBackOff", 'Back-off pulling image "x:1"')]},
        "config": {"initContainerStatuses": [waits("CreateContainerConfigError", 'secret "s3" not found')]},
        "crash": {"containerStatuses": [crash]},
        "fetch": {"initContainerStatuses": [crash | {"name": "fetch"}]},
        "oom": {"containerStatuses": [killed]},
        "damaged": {"initContainerStatuses": [_failed(0)]},
        "stumbles": {"initContainerStatuses": [_failed(0)]},
        "pending": {"conditions": [full]},
    }.get(fate, {"containerStatuses": [waits("ContainerCreating")]})


def _failed(restarts: int) -> dict[str, Any]:
    """Return an init container right after its end, before the kubelet reports back-off."""
    ended = {"terminated": {"exitCode": 2, "reason": "Error"}}
    return {"name": "fetch", "restartCount": restarts, "state": ended, "lastState": ended if restarts else {}}


def _fail_again(status: dict[str, Any]) -> None:
    status["initContainerStatuses"] = [_failed(status["initContainerStatuses"][0]["restartCount"] + 1)]


@contextmanager
def running_cluster(folder: Path, kind: type[Cluster] = Cluster) -> Iterator[Cluster]:
    """Run a cluster while the block runs; its kubeconfig is in ``folder``, and KUBECONFIG names it.

    Args:
        kind: Class of the cluster.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def wait(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(20)

    async def start() -> tuple[Cluster, Server]:
        cluster = await kind().__aenter__()
        return cluster, await Server(cluster).__aenter__()

    async def stop() -> None:
        await server.__aexit__(None, None, None)
        await cluster.__aexit__(None, None, None)

    cluster, server = wait(start())
    try:
        with pytest.MonkeyPatch.context() as patch:
            kubeconfig = str(_kubeconfig(folder / "kubeconfig", str(server.url).rstrip("/")))
            patch.setenv("KUBECONFIG", kubeconfig)
            # The client reads the variable only when it is imported.
            patch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", kubeconfig)
            yield cluster
    finally:
        wait(stop())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()


def _kubeconfig(path: Path, url: str) -> Path:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "tester"}}],
        "clusters": [{"name": "test", "cluster": {"server": url}}],
        "users": [{"name": "tester", "user": {"token": "secret"}}],
    }
    path.write_text(yaml.safe_dump(content))
    return path
