"""Read and change objects in a namespace of a Kubernetes cluster, as plain dicts.

The official client sends the requests with the credentials of the kubeconfig or the pod. Its class for each kind is
not used, so custom resources work the same way. Errors name the fix.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stacks.deployers.admission import cluster_message, explain_denial
from stacks.deployers.manifests.identity import MANAGED_BY, Manifest
from stacks.deployers.manifests.settings import KubernetesDeployerConfig
from visionops.errors import DeploymentError

__all__ = ["Namespace"]

_TIMEOUT = (5, 30)
_RETRIES = 2
_RETRIED = (429, 500, 502, 503, 504)
_ANONYMOUS = "system:anonymous"
_FORBIDDEN = re.compile(r'cannot (?P<verb>\w+) resource "(?P<resource>[^"]+)"(?: in API group "(?P<group>[^"]*)")?')
_QUOTA = "exceeded quota"
_ROLE = "docs/how-to/kubernetes.md has the Role"
_CHANGES = 2
"""Number of attempts to make a change that conflicts with another client's."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of object and its place in the API."""

    api_version: str
    name: str
    plural: str

    def path(self, namespace: str, name: str = "") -> str:
        """Return the path of the object ``name``, or of all objects in the namespace."""
        root = f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"
        return f"{root}/namespaces/{namespace}/{self.plural}" + (f"/{name}" if name else "")


_KINDS = {
    kind.name: kind
    for kind in (
        _Kind("v1", "Secret", "secrets"),
        _Kind("v1", "Service", "services"),
        _Kind("v1", "Pod", "pods"),
        _Kind("v1", "ServiceAccount", "serviceaccounts"),
        _Kind("v1", "ConfigMap", "configmaps"),
        _Kind("v1", "Event", "events"),
        _Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
        _Kind("apps/v1", "Deployment", "deployments"),
        _Kind("batch/v1", "Job", "jobs"),
        _Kind("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings"),
        _Kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
        _Kind("keda.sh/v1alpha1", "ScaledObject", "scaledobjects"),
        _Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
        _Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
        _Kind("networking.k8s.io/v1", "Ingress", "ingresses"),
        _Kind("discovery.k8s.io/v1", "EndpointSlice", "endpointslices"),
        _Kind("machinelearning.seldon.io/v1", "SeldonDeployment", "seldondeployments"),
        _Kind("serving.kserve.io/v1beta1", "InferenceService", "inferenceservices"),
    )
}
"""Kinds that we create or read."""


class Namespace:
    """Objects of one namespace.

    All methods raise `DeploymentError` with a one-line message: the cluster does not answer, the namespace does not
    exist, rights or quota are missing, or another client made a change at the same time.

    Args:
        timeout: Seconds for a connection, and for an answer.
        retries: Number of retries after a temporary failure.
    """

    def __init__(
        self, config: KubernetesDeployerConfig, *, timeout: tuple[float, float] = _TIMEOUT, retries: int = _RETRIES
    ) -> None:
        self.name = config.namespace
        self._config = config
        self._timeout = timeout
        self._retries = retries

    @property
    def kubectl(self) -> list[str]:
        """First words of a `kubectl` command for this namespace."""
        context = self._config.kubernetes_context
        return ["kubectl", *(["--context", context] if context else []), "-n", self.name]

    @property
    def host(self) -> str:
        """Address of the cluster's API."""
        return str(self._client.configuration.host)

    @property
    def version(self) -> tuple[int, int]:
        """Kubernetes version of the cluster, as major and minor number."""
        found = self._read("/version", "version")
        if found is None or "major" not in found:
            raise DeploymentError(f"{self.host}: not a Kubernetes API; check the context")
        major, minor = (int(re.sub(r"\D", "", found[part]) or 0) for part in ("major", "minor"))
        return major, minor

    @property
    def is_there(self) -> bool | None:
        """Whether the namespace exists; None if this user lacks the right to see it."""
        from kubernetes.client import ApiException

        try:
            self._call("GET", f"/api/v1/namespaces/{self.name}")
        except ApiException as error:
            if error.status == 404:
                return False
            if error.status == 403 and _ANONYMOUS not in _message(error):
                return None
            raise self._explained(error, f"namespace {self.name}") from error
        return True

    def knows(self, kind: str) -> bool:
        """Return whether the cluster has this kind in our version."""
        version = _KINDS[kind].api_version
        found = self._read(f"/apis/{version}", version) if "/" in version else {"resources": [{"kind": kind}]}
        return any(resource["kind"] == kind for resource in (found or {}).get("resources", ()))

    def may(self, verb: str, kind: str, subresource: str = "") -> bool:
        """Return whether the cluster grants this user a right."""
        from kubernetes.client import ApiException

        group = _KINDS[kind].api_version.rpartition("/")[0]
        attributes = {"namespace": self.name, "verb": verb, "group": group, "resource": _KINDS[kind].plural}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes | ({"subresource": subresource} if subresource else {})},
        }
        try:
            found = self._call("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=review)
        except ApiException as error:
            raise self._explained(error, "rights") from error
        return bool(found["status"]["allowed"])

    def get(self, kind: str, name: str) -> Manifest | None:
        """Return the object, or None if it is missing."""
        return self._read(_KINDS[kind].path(self.name, name), f"{kind} {name}")

    def select(self, kind: str, labels: Mapping[str, str]) -> list[Manifest]:
        """Return the objects that have these labels."""
        from kubernetes.client import ApiException

        query = ",".join(f"{key}={value}" for key, value in labels.items())
        try:
            items = self._call("GET", _KINDS[kind].path(self.name), query=[("labelSelector", query)])["items"]
        except ApiException as error:
            if error.status == 404 and "." in _KINDS[kind].api_version:
                return []  # the cluster does not have this kind
            raise self._explained(error, f"{kind}s") from error
        found: list[Manifest] = items
        return found

    def events(self, kind: str, reason: str) -> list[Manifest]:
        """Return the cluster's events about objects of a kind with one reason, the newest last."""
        from kubernetes.client import ApiException

        query = [("fieldSelector", f"involvedObject.kind={kind},reason={reason}")]
        try:
            items: list[Manifest] = self._call("GET", _KINDS["Event"].path(self.name), query=query)["items"]
        except ApiException as error:
            raise self._explained(error, "events") from error
        return sorted(items, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")

    def apply(self, wanted: Manifest) -> Manifest | None:
        """Create the object or change it to match ``wanted``.

        Returns:
            The object before the change; None if it is new.
        """
        kind, name = wanted["kind"], wanted["metadata"]["name"]

        def overlay(live: Manifest) -> Manifest:
            if live["metadata"].get("labels", {}).get(MANAGED_BY) != wanted["metadata"]["labels"][MANAGED_BY]:
                raise DeploymentError(
                    f"{kind} {name}: exists in namespace {self.name} but is not ours; remove it, or choose "
                    "another namespace"
                )
            return _overlaid(live, wanted)

        return self._change(kind, name, overlay, wanted)

    def ensure(self, new: Manifest) -> bool:
        """Create the object, unless one of its name exists.

        Returns:
            Whether it was created.
        """
        return self._change(new["kind"], new["metadata"]["name"], lambda live: live, new) is None

    def update(self, kind: str, name: str, change: Callable[[Manifest], Manifest]) -> Manifest | None:
        """Replace the object with the result of ``change``.

        Returns:
            The object before the change; None if it is missing.
        """
        return self._change(kind, name, change, None)

    def delete(self, kind: str, name: str, *, may_be_forbidden: bool = False) -> None:
        """Remove the object and its dependents; do nothing if it is missing.

        Args:
            may_be_forbidden: Ignore a missing right: without it this user cannot have created the object.
        """
        from kubernetes.client import ApiException

        try:
            self._call("DELETE", _KINDS[kind].path(self.name, name), body={"propagationPolicy": "Background"})
        except ApiException as error:
            if error.status != 404 and not (may_be_forbidden and error.status == 403):
                raise self._explained(error, f"{kind} {name}") from error

    def log(self, pod: str, container: str, *, lines: int, previous: bool = False) -> list[str]:
        """Return the last lines that a container printed; empty if it printed nothing."""
        from kubernetes.client import ApiException

        query = [("container", container), ("tailLines", str(lines)), ("previous", str(previous).lower())]
        try:
            self._call("GET", f"{_KINDS['Pod'].path(self.name, pod)}/log", query=query, response_type=None)
        except ApiException:
            return []
        # The raw text: the client would parse a single line that happens to be JSON.
        return str(self._client.last_response.data).splitlines()

    def _change(
        self, kind: str, name: str, change: Callable[[Manifest], Manifest], new: Manifest | None
    ) -> Manifest | None:
        from kubernetes.client import ApiException

        for left in reversed(range(_CHANGES)):
            live = self.get(kind, name)
            try:
                if live is not None:
                    if (wanted := change(copy.deepcopy(live))) != live:
                        self._call("PUT", _KINDS[kind].path(self.name, name), body=wanted)
                elif new is not None:
                    self._call("POST", _KINDS[kind].path(self.name), body=new)
            except ApiException as error:
                if error.status == 409 and left:
                    continue  # another client changed or created it since it was read
                raise self._explained(error, f"{kind} {name}") from error
            return live
        raise AssertionError("the last attempt returns or raises")

    def _read(self, path: str, what: str) -> Manifest | None:
        from kubernetes.client import ApiException

        try:
            found: Manifest = self._call("GET", path)
        except ApiException as error:
            if error.status == 404:
                return None
            raise self._explained(error, what) from error
        return found

    def _call(
        self,
        method: str,
        path: str,
        body: Manifest | None = None,
        query: list[tuple[str, str]] | None = None,
        response_type: str | None = "object",
    ) -> Any:
        import urllib3

        try:
            return self._client.call_api(
                path,
                method,
                query_params=query or [],
                header_params={"Accept": "application/json, */*"},
                body=body,
                response_type=response_type,
                auth_settings=["BearerToken"],
                _return_http_data_only=True,
                _request_timeout=self._timeout,
            )
        except urllib3.exceptions.HTTPError as error:
            raise DeploymentError(
                f"{self.host}: the cluster does not answer ({_reason(error)}); check the context and the network"
            ) from error

    @functools.cached_property
    def _client(self) -> Any:
        import urllib3
        from kubernetes import client, config

        configuration = client.Configuration()
        context = self._config.kubernetes_context
        # A step in a pod has no kubeconfig, so the client's context does not matter.
        incluster = self._config.incluster or _is_pod_without_kubeconfig()
        try:
            if incluster:
                config.load_incluster_config(client_configuration=configuration)
            else:
                # Passed explicitly, because the client reads the variable only on import.
                file = os.environ.get("KUBECONFIG")
                config.load_kube_config(file, context=context or None, client_configuration=configuration)
        except (config.ConfigException, OSError) as error:
            where = "the pod's service account" if incluster else "the kubeconfig"
            raise DeploymentError(
                f"no cluster: {where} cannot be used ({' '.join(str(error).split())}); "
                "set KUBECONFIG, kubernetes_context or incluster"
            ) from error
        # Retry connections, and reads that the server refuses temporarily.
        configuration.retries = urllib3.Retry(
            connect=self._retries,
            read=0,
            status=self._retries,
            status_forcelist=_RETRIED,
            allowed_methods=["GET"],
            backoff_factor=0.2,
            raise_on_status=False,
        )
        return client.ApiClient(configuration)

    def _explained(self, error: Any, what: str) -> DeploymentError:
        message, where = _message(error), f"{what} in namespace {self.name}"
        known = _FORBIDDEN.search(message) if error.status == 403 else None
        _, denial = explain_denial(message) if _QUOTA not in message else (False, "")
        if denial:
            text = f"{where}: {denial}"
        elif error.status == 403 and _ANONYMOUS in message:
            text = f"{self.host}: invalid or missing login; log in to the cluster again"
        elif known:
            resource = known["resource"] + (f".{known['group']}" if known["group"] else "")
            text = f"{where}: lacks the right to {known['verb']} {resource}; grant it ({_ROLE})"
        elif error.status == 403 and _QUOTA in message:
            text = f"{where}: {_QUOTA}{message.partition(_QUOTA)[2]}; raise the ResourceQuota, or lower resources"
        elif error.status == 404 and f'"{what.rpartition(" ")[2]}" not found' in message:
            text = f"{where}: removed by another client at the same time; deploy again"
        elif error.status == 404 and "namespaces" in message:
            text = f"namespace {self.name}: does not exist; kubectl create namespace {self.name}, or set another"
        else:
            text = {
                401: f"{self.host}: invalid or missing login ({message}); log in to the cluster again",
                404: f"{where}: unknown kind in this cluster; install its operator first",
                409: f"{where}: changed by another client at the same time; deploy again",
            }.get(error.status, f"{where}: refused with status {error.status} ({message}); fix the cause named here")
        return DeploymentError(text)


def _is_pod_without_kubeconfig() -> bool:
    from kubernetes.config import KUBE_CONFIG_DEFAULT_LOCATION

    named = os.environ.get("KUBECONFIG", KUBE_CONFIG_DEFAULT_LOCATION)
    return "KUBERNETES_SERVICE_HOST" in os.environ and not Path(named).expanduser().is_file()


def _overlaid(live: Manifest, wanted: Manifest) -> Manifest:
    """Return ``wanted`` with the fields that others own: their labels and annotations, version, a Service's address."""
    metadata = dict(live["metadata"])
    for part in ("labels", "annotations"):
        if own := wanted["metadata"].get(part):
            metadata[part] = {**metadata.get(part, {}), **own}
    merged = {**live, **wanted, "metadata": metadata}
    if wanted["kind"] == "Service":
        merged["spec"] = {**live["spec"], **wanted["spec"]}
    return merged


def _message(error: Any) -> str:
    return cluster_message(error) or " ".join(str(error.reason).split())


def _reason(error: Exception) -> str:
    cause = getattr(error, "reason", None) or error
    return " ".join(str(cause).split()).rpartition(": ")[2] or type(error).__name__
