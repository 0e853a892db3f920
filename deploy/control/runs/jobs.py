"""Run Jobs on a Kubernetes cluster from a template, in which the user sets image, account and environment."""

from __future__ import annotations

import contextlib
import copy
import functools
import os
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from deploy.control.runs.commands import STOPS_ELSEWHERE
from deploy.control.runs.launcher import RunObservation, Stage
from visionops.errors import ConfigError, StackError
from visionops.runs.states import Run

__all__ = ["JobLauncher"]

_LABEL = "visionops.dev/run"
_YOUNG = timedelta(minutes=1)
"""Time after which a missing Job counts as removed; before that, the Job of a run is created again."""
_UNNAMED = re.compile("[^A-Za-z0-9._-]+")


class JobLauncher:
    """Launcher for Jobs. A Job is named after the run's id, so it is created once even if it is started again.

    Args:
        template: Template of the Job; the command of its first container is replaced by the run's.
    """

    def __init__(self, template: dict[str, Any], namespace: str) -> None:
        self._template = template
        self._namespace = namespace
        self.place = f"kubernetes:{namespace}"

    @classmethod
    def from_file(cls, path: Path, namespace: str) -> JobLauncher:
        """Read the template.

        Raises:
            ConfigError: The file cannot be read, or is not a Job with a container.
        """
        try:
            template = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise ConfigError(f"--job-template: {path}: cannot be read ({type(error).__name__})") from error
        try:
            kind, containers = template["kind"], template["spec"]["template"]["spec"]["containers"]
        except (KeyError, TypeError) as error:
            raise ConfigError(f"--job-template: {path}: is not a Job with a container") from error
        if kind != "Job" or not containers:
            raise ConfigError(f"--job-template: {path}: is not a Job with a container")
        return cls(template, namespace)

    def start(self, run: Run, command: list[str]) -> None:
        """See `Launcher`."""
        # 409: the Job exists already, created by a service that has died.
        with _errors(run, "made", but=409):
            self._jobs.create_namespaced_job(self._namespace, self.manifest(run, command), _request_timeout=20)

    def observe(self, run: Run) -> RunObservation:
        """See `Launcher`."""
        job = self._read(run)
        if job is None:
            is_young = run.started is not None and datetime.now(UTC) - run.started < _YOUNG
            return RunObservation(Stage.WAITING if is_young and run.cancelled_at is None else Stage.GONE)
        if job.status is not None and job.status.succeeded:
            return RunObservation(Stage.ENDED, 0)
        if job.status is not None and job.status.failed:
            return RunObservation(Stage.ENDED, 1)
        return RunObservation(Stage.ALIVE)

    def stop(self, run: Run, *, hard: bool) -> None:
        """See `Launcher`. The cluster interrupts the pod and kills it after the template's grace period."""
        with _errors(run, "removed", but=404):
            self._jobs.delete_namespaced_job(
                self._name(run),
                self._namespace,
                propagation_policy="Background",
                grace_period_seconds=0 if hard else None,
                _request_timeout=20,
            )

    def log_tail(self, run: Run, size: int) -> str:
        """See `Launcher`."""
        # A pod that has not started has no log; if the cluster does not answer, the log is empty too.
        with contextlib.suppress(StackError), _errors(run, "read"):
            pods = self._pods.list_namespaced_pod(
                self._namespace, label_selector=f"{_LABEL}={run.id}", _request_timeout=20
            ).items
            if pods:
                name = pods[-1].metadata.name
                text: str = self._pods.read_namespaced_pod_log(
                    name, self._namespace, tail_lines=200, _request_timeout=20
                )
                return text[-size:]
        return ""

    def summary(self, run: Run) -> Mapping[str, Any] | None:
        """See `Launcher`. The pod's files are removed with it; the figures are in its log and on the dashboard."""
        del run
        return None

    def manifest(self, run: Run, command: list[str]) -> dict[str, Any]:
        """Return the Job of a run."""
        job = copy.deepcopy(self._template)
        labels = {
            _LABEL: run.id,
            "visionops.dev/kind": run.request.kind.value,
            "visionops.dev/use-case": _UNNAMED.sub("-", run.request.use_case)[:63].strip("-._"),
        }
        metadata = job.setdefault("metadata", {})
        metadata["name"] = self._name(run)
        metadata["labels"] = {**metadata.get("labels", {}), **labels}
        pod = job["spec"]["template"]
        pod.setdefault("metadata", {})["labels"] = {**pod.get("metadata", {}).get("labels", {}), **labels}
        job["spec"]["backoffLimit"] = 0  # the cluster must not retry a failed run
        pod["spec"]["restartPolicy"] = "Never"
        container = pod["spec"]["containers"][0]
        container["command"] = ["python", *command[1:]]
        others = [one for one in container.get("env", []) if one["name"] not in STOPS_ELSEWHERE]
        container["env"] = [*others, *({"name": name, "value": value} for name, value in STOPS_ELSEWHERE.items())]
        return job

    @staticmethod
    def _name(run: Run) -> str:
        return f"visionops-run-{run.id}"

    def _read(self, run: Run) -> Any:
        with _errors(run, "read", but=404):
            return self._jobs.read_namespaced_job(self._name(run), self._namespace, _request_timeout=20)
        return None

    @functools.cached_property
    def _api(self) -> Any:
        from kubernetes import client, config

        configuration = client.Configuration()
        try:
            if "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ:
                config.load_incluster_config(client_configuration=configuration)
            else:
                # Passed explicitly, because the client reads the variable only once, when it is imported.
                config.load_kube_config(os.environ.get("KUBECONFIG"), client_configuration=configuration)
        except (config.ConfigException, OSError) as error:
            raise StackError(
                f"cannot connect to a cluster: neither the kubeconfig nor the pod's account is usable ({error})"
            ) from error
        return client.ApiClient(configuration)

    @property
    def _jobs(self) -> Any:
        from kubernetes import client

        return client.BatchV1Api(self._api)

    @property
    def _pods(self) -> Any:
        from kubernetes import client

        return client.CoreV1Api(self._api)


@contextlib.contextmanager
def _errors(run: Run, done: str, but: int = 0) -> Iterator[None]:
    """Turn the cluster's errors into one line; an answer with status ``but`` ends the block without an error.

    Raises:
        StackError: The cluster refuses, or does not answer.
    """
    import urllib3
    from kubernetes.client.rest import ApiException

    try:
        yield
    except ApiException as error:
        if error.status != but:
            raise StackError(f"run {run.id}: its Job cannot be {done} ({error.status} {error.reason})") from error
    except urllib3.exceptions.HTTPError as error:
        raise StackError(f"run {run.id}: its Job cannot be {done}; the cluster does not answer") from error
