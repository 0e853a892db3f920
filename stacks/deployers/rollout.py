"""Roll out, watch, restore, stop and find a prediction server that runs as pods of a cluster.

A deployment changes the manifest and waits. Old pods stop only when new ones are ready, and a new pod is ready only
when its bundle has the expected digest and the model has answered the smoke images. After any failure the previous
model still serves, and its manifest is restored.

This module does not use ZenML.
"""

from __future__ import annotations

import base64
import dataclasses
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import requests

from stacks.deployers.api import Namespace
from stacks.deployers.manifests.identity import (
    Manifest,
    PodCandidate,
    PodModel,
    endpoint_url,
    object_name,
    selector,
)
from stacks.deployers.manifests.keys import ADMIN_KEY, secret
from stacks.deployers.manifests.network import supporting
from stacks.deployers.manifests.pod import revision
from stacks.deployers.manifests.scaling import SCALERS, scaling
from stacks.deployers.manifests.settings import KubernetesDeployerConfig
from stacks.deployers.manifests.workload import deployment
from stacks.deployers.reports import gather_reports
from stacks.deployers.trouble import explain_failure, find_trouble, one_line
from visionops.bundle_store import send_bundle, send_images
from visionops.endpoint import Candidate
from visionops.errors import DeploymentError
from visionops.inference.bundle import ModelBundle
from visionops.inference.release_report import ReleaseReports
from visionops.inference.settings import ServingConfig

__all__ = ["ClusterEndpoint", "EndpointState", "Rollout", "holds"]

_REPLICAS = "visionops/replicas"
"""Annotation with the number of pods before the stop."""
_ANSWER_SECONDS = 60.0
_REACH_SECONDS = 5.0
_LOG_LINES = 20
_SERVER = "server"


@dataclasses.dataclass(frozen=True, slots=True)
class Rollout:
    """Progress of new pods."""

    done: bool
    progress: str = ""
    failure: str = ""
    """Reason of a permanent failure; "" otherwise."""


@dataclasses.dataclass(frozen=True, slots=True)
class EndpointState:
    """State of an endpoint in a cluster."""

    version: str
    alias: str
    digest: str
    is_stopped: bool
    is_ready: bool
    trouble: str = ""
    """Problem of the pods while the endpoint is not ready."""


class ClusterEndpoint:
    """Pods of one model name, created by a Deployment.

    Args:
        name: Name of the endpoint.
    """

    KIND: ClassVar[str] = "Deployment"
    OTHERS: ClassVar[tuple[str, ...]] = (*SCALERS, "PodDisruptionBudget", "NetworkPolicy", "Ingress")
    """Kinds of optional objects next to the workload."""
    SCALES_TO_ZERO: ClassVar[bool] = False
    """Whether the workload distinguishes an idle endpoint from a stopped one."""

    def __init__(self, name: str, config: KubernetesDeployerConfig) -> None:
        self.name = name
        self.config = config
        self.object = object_name(name)
        self.url = endpoint_url(name, config)
        self._namespace = Namespace(config)

    # Overridden for other kinds

    def pods(self) -> dict[str, str]:
        """Return the labels that select the endpoint's pods."""
        return selector(self.name)

    def workload(self, served: PodModel, before: Manifest | None) -> Manifest:
        """Return the manifest of the workload."""
        manifest = deployment(served, self.config)
        if before and self.config.autoscaling:  # the autoscaler has set the number of pods by load
            spec = manifest["spec"]
            spec["replicas"] = max(spec["replicas"], self.replicas(before))
        return manifest

    def beside(self, served: PodModel) -> list[Manifest]:
        """Return the objects next to the workload."""
        return supporting(served, self.config, self.pods()) + scaling(self.name, self.config)

    def pod_spec(self, live: Manifest) -> Manifest:
        """Return the pod spec in a live manifest."""
        spec: Manifest = live["spec"]["template"]["spec"]
        return spec

    def replicas(self, live: Manifest) -> int:
        """Return the configured number of pods."""
        return int(live["spec"].get("replicas", 1))

    def scale(self, live: Manifest, replicas: int) -> Manifest:
        """Return ``live`` with another number of pods."""
        live["spec"]["replicas"] = replicas
        return live

    def rollout(self, live: Manifest, pods: Sequence[Manifest]) -> Rollout:
        """Return the progress of a rollout.

        Args:
            pods: The new pods.
        """
        status, wanted = live.get("status", {}), self.replicas(live)
        if status.get("observedGeneration", 0) < live["metadata"].get("generation", 0):
            return Rollout(done=False, progress="the cluster has not started")
        for condition in status.get("conditions", ()):
            if condition.get("reason") == "ProgressDeadlineExceeded" or holds(condition, "ReplicaFailure"):
                return Rollout(done=False, failure=one_line(condition.get("message", condition.get("reason", ""))))
        updated, total, ready = (status.get(f"{kind}eplicas") or 0 for kind in ("updatedR", "r", "availableR"))
        if updated < wanted:
            return Rollout(done=False, progress=f"{updated} of {wanted} new pods exist")
        is_ready = [any(holds(one, "Ready") for one in pod.get("status", {}).get("conditions", ())) for pod in pods]
        if sum(is_ready) < wanted:  # old pods stop only after that
            return Rollout(done=False, progress=f"{sum(is_ready)} of {wanted} new pods are ready")
        if total > updated:
            return Rollout(done=False, progress=f"{total - updated} old pods still run")
        return Rollout(done=ready >= wanted, progress=f"{ready} of {wanted} pods are ready")

    def is_available(self, live: Manifest) -> bool:
        """Return whether a pod answers."""
        return bool(live.get("status", {}).get("availableReplicas"))

    # State

    def find(self) -> EndpointState | None:
        """Return the state of the endpoint; None if nothing was deployed."""
        live = self._namespace.get(self.KIND, self.object)
        if live is None:
            return None
        is_stopped, is_ready = self.replicas(live) == 0, self.is_available(live)
        trouble = ""
        if not is_stopped and not is_ready:
            _, trouble = find_trouble(self._namespace, self._new_pods(revision(self.pod_spec(live))))
        known = live["metadata"].get("annotations", {})
        version, alias, digest = (known.get(f"visionops/{what}", "") for what in ("version", "alias", "digest"))
        return EndpointState(version, alias, digest, is_stopped, is_ready and not is_stopped, trouble)

    def admin_key(self) -> str:
        """Return the server's admin key.

        Raises:
            DeploymentError: The Secret is missing.
        """
        found = self._namespace.get("Secret", f"{self.object}-keys")
        try:
            return base64.b64decode((found or {})["data"][ADMIN_KEY]).decode()
        except KeyError as error:
            raise DeploymentError(
                f"Secret {self.object}-keys: missing key {ADMIN_KEY}; deploy the model again"
            ) from error

    def log(self, lines: int = _LOG_LINES) -> list[str]:
        """Return the last lines of one server's log."""
        pods = self._namespace.select("Pod", self.pods())
        return self._namespace.log(pods[-1]["metadata"]["name"], self._server(pods[-1]), lines=lines) if pods else []

    def release_reports(self) -> ReleaseReports:
        """Return the pods' reports on the candidate next to the champion.

        Raises:
            DeploymentError: No pods run, or they cannot be reached from here.
        """
        live = self._namespace.get(self.KIND, self.object)
        if live is None or not self.replicas(live):
            raise DeploymentError(f"{self.name}: no endpoint runs; run the deployment pipeline")
        pods = self._new_pods(revision(self.pod_spec(live)))
        return gather_reports(self.url, self.admin_key(), max(1, len(pods)))

    # Changes

    def deploy(
        self,
        bundle_folder: Path,
        *,
        version: str,
        alias: str,
        serving: ServingConfig,
        smoke_images: Sequence[bytes] = (),
        candidate: Candidate | None = None,
        timeout: float | None = None,
    ) -> str:
        """Serve a bundle; a running model is replaced without a failed request.

        Args:
            candidate: Model that each pod also tries, as ``serving.release`` says.

        Returns:
            Why the endpoint could not be checked and only its pods report ready; "" after a successful check.

        Raises:
            BundleError: The bundle is corrupt.
            DataError: The bundle cannot be uploaded to its store.
            DeploymentError: The rollout fails, or the new model does not answer; the previous one still serves.
        """
        if self.config.autoscaling and not (self.config.autoscaling.min_replicas or self.SCALES_TO_ZERO):
            raise DeploymentError(
                "autoscaling.min_replicas: 0 is for visionops_kserve, since here it means a stopped one; set it to 1 "
                "or more"
            )
        bundle, store = ModelBundle.load(bundle_folder), self.config.bundle_store
        before = self._namespace.get(self.KIND, self.object)
        served = PodModel(
            uri=send_bundle(bundle, store),
            digest=bundle.digest,
            name=self.name,
            version=version,
            alias=alias,
            serving=serving,
            smoke_images=tuple(send_images(smoke_images, store)),
            candidate=_send_candidate(candidate, store),
        )
        workload = self.workload(served, before)
        mark = revision(self.pod_spec(workload))
        made: list[Manifest] = []
        try:
            return self._roll_out(served, workload, made, timeout)
        except DeploymentError as error:
            after = self._put_back(before, mark, made)
            raise DeploymentError(f"{self.name} version {version}: {error}; {after}") from error
        except BaseException:
            self._put_back(before, mark, made)
            raise

    def start(self, timeout: float | None = None) -> None:
        """Start the stopped pods again.

        Raises:
            DeploymentError: Nothing was ever deployed here, or the pods do not become ready.
        """

        def restart(live: Manifest) -> Manifest:
            if self.replicas(live):
                return live
            known = live["metadata"].get("annotations", {})
            return self.scale(live, int(known.get(_REPLICAS, self.config.replicas)))

        if self._namespace.update(self.KIND, self.object, restart) is None:
            raise DeploymentError(f"{self.name}: nothing was deployed here; run the deployment pipeline")
        self._await(timeout)

    def stop(self, timeout: float | None = 60.0) -> None:
        """Stop the pods; the manifest stays, so that `start` can start them again.

        Args:
            timeout: Seconds to wait for their end; None does not wait.
        """

        def halt(live: Manifest) -> Manifest:
            if not self.replicas(live):
                return live
            annotations = live["metadata"].setdefault("annotations", {})
            annotations[_REPLICAS] = str(self.replicas(live))
            return self.scale(live, 0)

        self._namespace.update(self.KIND, self.object, halt)
        self._await_end(timeout)

    def delete(self, timeout: float | None = 60.0) -> None:
        """Remove all objects, including the keys. The bundles stay in their store.

        Args:
            timeout: Seconds to wait, as for `stop`.
        """
        self._namespace.delete(self.KIND, self.object)
        self._remove_others((*self.OTHERS, "Service"))
        self._namespace.delete("Secret", f"{self.object}-keys")
        self._await_end(timeout)

    # Implementation

    def _roll_out(self, served: PodModel, workload: Manifest, made: list[Manifest], timeout: float | None) -> str:
        """Apply the manifests of an endpoint and wait until it is ready.

        Args:
            made: List to which newly created objects are added.
        """
        keys = secret(self.name, self.config, secrets.token_urlsafe(32), f"vok_{secrets.token_urlsafe(32)}")
        if self._namespace.ensure(keys):
            made.append(keys)
        others = self.beside(served)
        kinds = {manifest["kind"] for manifest in others}
        if kinds.intersection(SCALERS):  # KEDA refuses pods that another autoscaler manages
            self._remove_others({kind for kind in self.OTHERS if kind in SCALERS} - kinds)
        for manifest in (*others, workload):
            if self._namespace.apply(manifest) is None:
                made.append(manifest)  # noqa: PERF401 - keep the list complete if the next one fails
        self._await(timeout, revision(self.pod_spec(workload)))
        remark = self._ask(served)
        if served.candidate and not remark:
            self._check_candidate(served)
        self._remove_others(set(self.OTHERS) - kinds)
        return remark

    def _check_candidate(self, served: PodModel) -> None:
        """Check that the pods try the candidate.

        Raises:
            DeploymentError: A pod could not load it.
        """
        for report in self.release_reports().reports:
            if report.problem:
                assert served.candidate is not None
                raise DeploymentError(f"candidate version {served.candidate.version}: {report.problem}")

    def _remove_others(self, kinds: Iterable[str]) -> None:
        for kind in kinds:
            # Most clusters have no KEDA, and only its users have rights for it.
            self._namespace.delete(kind, self.object, may_be_forbidden=kind == "ScaledObject")

    def _put_back(self, before: Manifest | None, mark: str, made: Sequence[Manifest]) -> str:
        """Restore the previous state and return a description of it.

        Args:
            mark: Revision to undo; a later deployment by another client stays.
        """

        def restore(live: Manifest) -> Manifest:
            return _as_before(live, before) if before and revision(self.pod_spec(live)) == mark else live

        try:
            if before is not None:
                self._namespace.update(self.KIND, self.object, restore)
            for manifest in made:
                self._namespace.delete(manifest["kind"], manifest["metadata"]["name"])
            live = None if before is None else self._namespace.get(self.KIND, self.object)
        except DeploymentError as error:
            return f"and the previous state could not be restored ({error})"
        if live is None:
            return "nothing served before, so all objects were removed"
        version = live["metadata"].get("annotations", {}).get("visionops/version", "before")
        return f"version {version} is restored" + ("" if self.replicas(live) else ", stopped")

    def _await(self, timeout: float | None, mark: str = "") -> None:
        """Wait until the configured number of pods are ready.

        Args:
            mark: Expected revision of the manifest.
        """
        patience = timeout or self.config.timeout
        deadline = time.monotonic() + patience
        while True:
            live = self._namespace.get(self.KIND, self.object)
            if live is None:
                raise DeploymentError("removed by another client at the same time; deploy again")
            current = revision(self.pod_spec(live))
            if mark not in {"", current}:
                raise DeploymentError("replaced by another deployment; check which model should serve")
            pods = self._new_pods(current)
            state = self.rollout(live, pods)
            if state.done:
                return
            is_fatal, trouble = find_trouble(self._namespace, pods)
            if is_fatal or state.failure:
                raise DeploymentError(trouble or explain_failure(state.failure))
            if time.monotonic() > deadline:
                why = f"; {trouble}" if trouble else "; raise timeout if the pods only need more time"
                raise DeploymentError(f"not ready in {patience:.0f} s ({state.progress}){why}")
            time.sleep(self.config.poll_seconds)

    def _await_end(self, timeout: float | None) -> None:
        if timeout is None:
            return
        deadline = time.monotonic() + timeout
        while pods := self._namespace.select("Pod", self.pods()):
            if time.monotonic() > deadline:
                names = ", ".join(pod["metadata"]["name"] for pod in pods)
                raise DeploymentError(f"{self.name}: still stopping after {timeout:.0f} s: {names}; check again later")
            time.sleep(self.config.poll_seconds)

    def _new_pods(self, mark: str) -> list[Manifest]:
        return [pod for pod in self._namespace.select("Pod", self.pods()) if revision(pod["spec"]) == mark]

    def _server(self, pod: Manifest) -> str:
        names = [container["name"] for container in pod["spec"]["containers"]]
        return _SERVER if _SERVER in names else str(names[0])

    def _ask(self, served: PodModel) -> str:
        """Check through the Service or the ingress which model answers."""
        headers = {"X-API-Key": self.admin_key()}
        with requests.Session() as session:
            session.trust_env = False  # the environment's proxy cannot reach the cluster
            try:
                session.get(f"{self.url}/health", timeout=_REACH_SECONDS)
            except requests.RequestException:
                return f"{self.url} cannot be reached from here; its pods are ready, but no answer was checked"
            deadline, said = time.monotonic() + _ANSWER_SECONDS, ""
            while time.monotonic() < deadline:
                try:
                    answer = session.get(f"{self.url}/model", timeout=_REACH_SECONDS, headers=headers)
                    said = f"status {answer.status_code}"
                    if answer.ok and (said := f"version {answer.json()['version']}") == f"version {served.version}":
                        return ""
                except (requests.RequestException, ValueError, KeyError) as error:
                    said = type(error).__name__
                time.sleep(self.config.poll_seconds)
        raise DeploymentError(
            f"its pods are ready, but {self.url} answers with {said}; check service_url or ingress, and api_keys_secret"
        )


def _send_candidate(candidate: Candidate | None, store: str) -> PodCandidate | None:
    if candidate is None:
        return None
    bundle = ModelBundle.load(candidate.bundle_folder)
    return PodCandidate(uri=send_bundle(bundle, store), digest=bundle.digest, version=candidate.version)


def _as_before(live: Manifest, before: Manifest) -> Manifest:
    metadata = live["metadata"] | {part: before["metadata"].get(part, {}) for part in ("labels", "annotations")}
    return live | {"metadata": metadata, "spec": before["spec"]}


def holds(condition: Mapping[str, Any], kind: str) -> bool:
    """Return whether a condition is of this kind and true."""
    return condition.get("type") == kind and condition.get("status") == "True"
