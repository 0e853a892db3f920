"""Render the chart with Helm: its objects, its refusals, and its consistency with the rest of the project.

The charts that it depends on are not available here, so it is rendered without them.
"""

from __future__ import annotations

import copy
import functools
import importlib.metadata
import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bcrypt
import kubernetes_validate
import pytest
import typer
import yaml

import run
from deploy.console.options import ConsoleOptions
from deploy.control.options import ControlOptions
from deploy.control.runs.commands import command_of
from deploy.control.runs.jobs import JobLauncher
from deploy.following.options import FollowOptions
from launch.cli import app
from stacks.deployers.manifests.identity import MANAGED_BY, PodModel, selector
from stacks.deployers.manifests.network import supporting
from stacks.deployers.manifests.pod import REVISION_VARIABLE
from stacks.deployers.manifests.scaling import SCALERS, scaling
from stacks.deployers.manifests.settings import KubernetesDeployerConfig
from stacks.deployers.manifests.workload import deployment
from stacks.review_access import REVIEW_STEPS, review_problem
from stacks.spec import load_stack, unset_variables
from tests.conftest import ROOT
from tests.helpers.cluster import NAMESPACE
from tests.helpers.crds import check_resource
from tests.helpers.programs import program
from visionops.inference.server_options import ServerOptions
from visionops.inference.settings import ServingConfig
from visionops.runs.states import Kind, Run, RunRequest

CHART = ROOT / "deploy" / "helm" / "visionops"
MONITORING = ROOT / "deploy" / "monitoring"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
COMPOSE = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]
KUBERNETES = ["1.30", "1.35"]

IMAGES = {"serving": "registry.example/vision/visionops-serving:3", "pipeline": "registry.example/vision/pipeline:3"}
PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
ENDPOINT = {"name": "cells", "version": "3_a", "uri": "s3://visionops/bundles/abc", "digest": "abc"}
ALL = {
    "images": IMAGES,
    "secrets": {
        "s3": {"accessKey": "key", "secretKey": "secret"},
        "postgres": {"password": "p"},
        "grafana": {"password": "g"},
        "alerts": {"webhook": "https://alerts.example/x"},
        "pushgateway": {"password": "pw", "ca": PEM, "certificate": PEM, "key": PEM},
        "zenml": {"apiKey": "z"},
    },
    "zenml": {"zenml": {"secretsStore": {"sql": {"encryptionKey": "e"}}}},
    "useCases": [
        {"name": "steel", "config": "configs/steel.yaml", "monitoring": "15 6 * * *", "training": "0 3 1 * *"},
        {"name": "plants", "config": "configs/plants.yaml", "monitoring": "45 6 * * 1-5"},
    ],
    "endpoints": [ENDPOINT],
}
FOLLOWED = ALL | {"endpoints": [{"name": "cells", "follow": {}}]}
FOLLOWED_ELSEWHERE = {
    "images": IMAGES,
    "external": {"mlflow": "https://mlflow.example:8443"},
    "endpoints": [
        {
            "name": "cells",
            "device": "gpu",
            "engine": "onnxruntime",
            "egressPorts": [9001],
            "follow": {"alias": "challenger", "everySeconds": 2.5, "resources": {"limits": {"memory": "2Gi"}}},
        }
    ],
}
OFF = {name: {"enabled": False} for name in ("s3", "postgres", "mlflow", "zenml", "prometheus", "grafana")}
ELSEWHERE = {
    **OFF,
    "images": {**IMAGES, "pullSecrets": ["registry"]},
    "secrets": {"s3": {"existing": True}, "zenml": {"existing": True}},
    "external": {
        "zenml": "https://zenml.example",
        "mlflow": "https://mlflow.example:8443",
        "s3": "https://s3.example:9000",
        "alertmanager": "http://alertmanager.monitoring:9093",
        "pushgateway": "http://pushgateway.monitoring:9091",
    },
    "useCases": ALL["useCases"],
    "endpoints": [
        ENDPOINT | {"smokeImages": ["s3://visionops/smoke/1"], "allowedNamespaces": ["lines"], "egressPorts": [9001]}
    ],
}
FOLLOWED_ELSEWHERE |= OFF
EXISTING = {name: {"existing": True} for name in VALUES["secrets"]}


@pytest.fixture(scope="session")
def helm() -> str:
    for path in (shutil.which("helm"), ROOT / ".helm" / "helm"):
        if path is not None and Path(path).exists():
            return str(path)
    pytest.skip("helm is absent: make helm")


@pytest.fixture(scope="session")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy of the chart without its dependencies, with the link to deploy/monitoring as in the repository."""
    folder = tmp_path_factory.mktemp("chart") / "visionops"
    shutil.copytree(CHART, folder, symlinks=True, ignore=shutil.ignore_patterns("charts"))
    assert (CHART / "monitoring").resolve() == MONITORING
    (folder / "monitoring").unlink()
    (folder / "monitoring").symlink_to(MONITORING)
    metadata = yaml.safe_load((folder / "Chart.yaml").read_text())
    del metadata["dependencies"]
    (folder / "Chart.yaml").write_text(yaml.safe_dump(metadata))
    return folder


class Rendered(list[dict[str, Any]]):
    """Objects that Helm renders from values."""

    def find(self, kind: str, name: str) -> dict[str, Any]:
        (found,) = [o for o in self if (o["kind"], o["metadata"]["name"]) == (kind, name)]
        return found

    def names(self, kind: str) -> set[str]:
        return {o["metadata"]["name"] for o in self if o["kind"] == kind}

    def pods(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Return the owner's name, and the template."""
        for o in self:
            spec = o.get("spec", {})
            template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
            if template:
                yield f"{o['kind']}/{o['metadata']['name']}", template


@pytest.fixture(scope="session")
def render(helm: str, chart: Path):
    @functools.cache
    def rendered(values: str) -> Rendered:
        done = template(helm, chart, json.loads(values))
        assert done.returncode == 0, done.stderr
        return Rendered(o for o in yaml.safe_load_all(done.stdout) if o)

    return lambda values: copy.deepcopy(rendered(json.dumps(values)))


def template(helm: str, chart: Path, values: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    command = [helm, "template", "release", str(chart), "--namespace", NAMESPACE, "--values", "-"]
    return subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=False, timeout=60)


def merged(values: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return the values with a change at ``path``."""
    values = copy.deepcopy(values)
    *parents, last = path.split(".")
    inner = values
    for part in parents:
        inner = inner.setdefault(part, {})
    inner[last] = value
    return values


@pytest.mark.parametrize("values", [ALL, FOLLOWED, FOLLOWED_ELSEWHERE], ids=["all", "followed", "elsewhere"])
def test_lint_finds_nothing(helm, chart, values):
    command = [helm, "lint", "--strict", "--namespace", NAMESPACE, "--values", "-", str(chart)]
    done = subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_packed_has_the_rules_and_the_dashboards(helm, chart, tmp_path):
    subprocess.run([helm, "package", str(chart), "-d", str(tmp_path)], check=True, capture_output=True, timeout=60)
    shutil.unpack_archive(next(tmp_path.glob("*.tgz")), tmp_path)
    folder = tmp_path / "visionops"
    packed = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    assert {"monitoring/prometheus/rules.yml", "monitoring/grafana/dashboards/drift.json"} <= packed
    assert not any("targets" in path or "compose" in path for path in packed)


def test_kubernetes_takes_every_object(render):
    """Validate objects in one list per kind, because each call reads the schemas again."""
    all_values = (ALL, ELSEWHERE, OFF, FOLLOWED, FOLLOWED_ELSEWHERE)
    seen = {json.dumps(o, sort_keys=True): o for values in all_values for o in render(values)}
    assert len(seen) > 50
    kinds = {(o["apiVersion"], o["kind"]) for o in seen.values()}
    for (api_version, kind), kubernetes in itertools.product(sorted(kinds), KUBERNETES):
        items = [o for o in seen.values() if o["kind"] == kind]
        several = {"apiVersion": api_version, "kind": f"{kind}List", "metadata": {}, "items": items}
        kubernetes_validate.validate(several, kubernetes, strict=True)


def test_no_object_twice_and_all_in_the_namespace(render):
    for values in (ALL, ELSEWHERE, OFF, FOLLOWED, FOLLOWED_ELSEWHERE):
        objects = render(values)
        assert {o["metadata"]["namespace"] for o in objects} == {NAMESPACE}
        assert len({(o["kind"], o["metadata"]["name"]) for o in objects}) == len(objects)


def test_what_is_switched_off_is_not_made(render):
    kinds = {o["kind"] for o in render(OFF)}
    assert kinds == {"ServiceAccount", "Role", "RoleBinding", "NetworkPolicy"}
    elsewhere = render(ELSEWHERE)
    assert elsewhere.names("StatefulSet") == elsewhere.names("Secret") == elsewhere.names("Job") == set()
    assert elsewhere.names("Deployment") == {"visionops-cells"}
    assert render(ALL).names("StatefulSet") == {"postgres", "s3"}


def test_pods_hold_to_the_restricted_standard(render):
    found = set()
    for owner, pod in (pair for values in (ALL, ELSEWHERE, FOLLOWED) for pair in render(values).pods()):
        found.add(owner)
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, owner
        assert spec["securityContext"]["runAsUser"] > 0, owner
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, owner
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), owner
        assert spec["enableServiceLinks"] is False, owner
        assert all({"emptyDir", "configMap"} & set(volume) for volume in spec["volumes"]) if "volumes" in spec else True
        for container in spec.get("initContainers", []) + spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, owner
            assert {"memory"} <= set(container["resources"]["limits"]), owner
            assert {"cpu", "memory"} <= set(container["resources"]["requests"]), owner
        if "serviceAccountName" not in spec:
            assert spec["automountServiceAccountToken"] is False, owner
    assert len(found) == 8


SECRETS = {
    "secrets.s3.accessKey": "make the Secret s3 with AWS_ACCESS_KEY_ID",
    "secrets.s3.secretKey": "make the Secret s3 with AWS_ACCESS_KEY_ID",
    "secrets.postgres.password": "make the Secret postgres with PGPASSWORD",
    "secrets.grafana.password": "make the Secret grafana-admin with admin-user and admin-password",
    "secrets.alerts.webhook": "make the Secret alerts with webhook",
    "secrets.pushgateway.password": "make the Secrets pushgateway with web.yml",
    "secrets.pushgateway.certificate": "python -m deploy.pushgateway",
    "secrets.pushgateway.key": "python -m deploy.pushgateway",
    "secrets.pushgateway.ca": "python -m deploy.pushgateway",
    "secrets.zenml.apiKey": "zenml service-account create",
    "zenml.zenml.secretsStore.sql.encryptionKey": "openssl rand -hex 32",
}


@pytest.mark.parametrize("path", SECRETS)
def test_no_secret_has_a_default(helm, chart, path):
    done = template(helm, chart, merged(ALL, path, ""))
    assert done.returncode != 0
    assert f"{path}: set it to" in done.stderr or f"{path}: set it, or" in done.stderr
    assert SECRETS[path] in done.stderr


def test_secrets_that_are_there_already_are_not_made(render):
    objects = render(merged(ALL, "secrets", EXISTING))
    assert objects.names("Secret") == set()
    made = {"s3", "postgres", "grafana-admin", "alerts", "zenml-account", "pushgateway", "pushgateway-login"}
    assert render(ALL).names("Secret") == made


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("mlflow.worker", 2, "additional properties 'worker' not allowed"),
        ("replicas", 2, "additional properties 'replicas' not allowed"),
        (
            "useCases",
            [{"name": "steel", "config": "configs/steel.yaml", "monitoring": "daily"}],
            "does not match pattern",
        ),
        ("external.postgres", "postgresql+psycopg://me:secret@db/mlflow", "/external/postgres"),
        (
            "useCases",
            [{"name": "steel", "config": "configs/steel.yaml", "intake": "postgresql://me:secret@db/log"}],
            "/useCases/0/intake",
        ),
        ("endpoints", [ENDPOINT | {"name": "Steel 3"}], "/endpoints/0/name"),
        (
            "endpoints",
            [{"name": "cells"}],
            "endpoints: cells: has no model; set follow: {} for the registry's champion, or version, uri and digest",
        ),
        (
            "endpoints",
            [ENDPOINT | {"follow": {}}],
            "endpoints: cells: has follow and version, uri, digest; set either follow, or version, uri and digest",
        ),
        ("endpoints", [{"name": "cells", "version": "3"}], "'uri', 'digest' required, if 'version' exists"),
        ("endpoints", [{"name": "cells", "follow": {"alias": "a@b"}}], "/endpoints/0/follow/alias"),
        ("endpoints", [{"name": "cells", "follow": {"registry": "http://me:pw@mlflow"}}], "/follow/registry"),
        ("endpoints", [{"name": "cells", "follow": {}, "alias": "other"}], "cells: alias is for a fixed bundle"),
        (
            "endpoints",
            [{"name": "cells", "follow": {}, "smokeImages": ["s3://visionops/smoke/1"]}],
            "cells: smokeImages are for a fixed bundle",
        ),
        ("prometheus.enabled", "yes", "/prometheus/enabled"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(helm, chart, path, value, said):
    done = template(helm, chart, merged(ALL, path, value))
    assert done.returncode != 0
    assert said in done.stderr


def test_a_missing_image_name_is_an_error(helm, chart):
    done = template(helm, chart, merged(ALL, "images.pipeline", ""))
    assert "images.pipeline: set it to the pipeline image" in done.stderr


def test_an_endpoint_is_as_the_deployer_makes_it(render):
    settings = {
        "namespace": NAMESPACE,
        "image": IMAGES["serving"],
        "bundle_store": "s3://visionops/bundles",
        "bundle_store_secret": "s3",
    }
    inside = settings | {"bundle_store_endpoint": "http://s3:8333"}
    outside = settings | {
        "bundle_store_endpoint": "https://s3.example:9000",
        "image_pull_secrets": ["registry"],
        "allowed_namespaces": ["lines"],
        "egress_ports": [9001],
    }
    served = {**ENDPOINT, "alias": "champion", "serving": ServingConfig()}
    for values, config, more in (
        (ALL, inside, {}),
        (ELSEWHERE, outside, {"smoke_images": ("s3://visionops/smoke/1",)}),
    ):
        parsed, model = KubernetesDeployerConfig.model_validate(config), PodModel.model_validate(served | more)
        made = [deployment(model, parsed), *supporting(model, parsed, selector("cells")), *scaling("cells", parsed)]
        objects = render(values)
        for manifest in made:
            expected = _without_what_is_the_deployers(manifest)
            assert _without_what_is_the_deployers(objects.find(manifest["kind"], "visionops-cells")) == expected


def test_an_endpoint_that_follows_has_a_container_that_switches_its_server(render):
    objects = render(FOLLOWED)
    made = objects.find("Deployment", "visionops-cells")
    pod = made["spec"]["template"]["spec"]
    assert "initContainers" not in pod
    server, follow = pod["containers"]
    started = ServerOptions.parse(server["args"])
    assert (started.bundle, started.port, started.open_ready, started.alias) == (None, 8000, True, "")
    assert (server["image"], follow["image"]) == (IMAGES["serving"], IMAGES["pipeline"])
    assert follow["command"] == ["python", "-m", "deploy.following"]
    options = FollowOptions.parse(follow["args"])
    assert (options.name, options.alias, options.every) == ("cells", "champion", 10)
    assert (options.registry, options.server) == ("http://mlflow:5000", "http://127.0.0.1:8000")
    (fixed,) = render(ALL).find("Deployment", "visionops-cells")["spec"]["template"]["spec"]["containers"]
    expected = ServerOptions.parse(fixed["args"])
    for name in ("engine", "device", "confidence", "iou", "max_upload_bytes"):
        assert getattr(options, name) == getattr(expected, name), name
    keys = [environment_of(container)["VISIONOPS_ADMIN_KEY"] for container in (server, follow)]
    assert keys[0] == keys[1] == {"secretKeyRef": {"name": "visionops-cells-keys", "key": "admin-key"}}
    assert follow["resources"] == VALUES["followDefaults"]["resources"]
    assert "envFrom" not in follow  # MLflow sends the files: nothing here opens the store
    mounts = [{m["mountPath"]: (m["name"], m["readOnly"]) for m in c["volumeMounts"]} for c in (server, follow)]
    assert mounts[0]["/models"] == ("models", True)
    assert mounts[1] == {"/models": ("models", False), "/tmp": ("follow-tmp", False)}
    assert str(options.bundles) == "/models"
    assert {m["name"] for c in (server, follow) for m in c["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
    probes = {of: server[f"{of}Probe"]["httpGet"]["path"] for of in ("startup", "readiness", "liveness")}
    assert probes == {"startup": "/health", "readiness": "/ready", "liveness": "/health"}
    identity = {"visionops/model": "cells", "visionops/alias": "champion"}
    assert made["metadata"]["annotations"] == identity
    assert made["spec"]["template"]["metadata"]["annotations"].items() >= identity.items()
    mlflow = objects.find("NetworkPolicy", "mlflow")["spec"]
    dns, registry = objects.find("NetworkPolicy", "visionops-cells")["spec"]["egress"]
    assert {port["port"] for port in dns["ports"]} == {53}
    assert registry == {"to": [{"podSelector": mlflow["podSelector"]}], "ports": [{"port": 5000, "protocol": "TCP"}]}


def test_an_endpoint_follows_a_registry_elsewhere(helm, chart, render):
    objects = render(FOLLOWED_ELSEWHERE)
    assert objects.names("Secret") == set()
    _, follow = objects.find("Deployment", "visionops-cells")["spec"]["template"]["spec"]["containers"]
    options = FollowOptions.parse(follow["args"])
    assert (options.model, options.every, options.device.value) == ("cells@challenger", 2.5, "gpu")
    assert options.registry == "https://mlflow.example:8443"
    assert follow["resources"]["limits"] == {"memory": "2Gi"}
    _, outside = objects.find("NetworkPolicy", "visionops-cells")["spec"]["egress"]
    assert outside == {"ports": [{"port": 8443, "protocol": "TCP"}, {"port": 9001, "protocol": "TCP"}]}

    endpoint = {"name": "cells", "follow": {"registry": "http://mlflow.other:5001"}}
    own = render(FOLLOWED | {"endpoints": [endpoint]})
    _, follow = own.find("Deployment", "visionops-cells")["spec"]["template"]["spec"]["containers"]
    assert FollowOptions.parse(follow["args"]).registry == "http://mlflow.other:5001"
    _, outside = own.find("NetworkPolicy", "visionops-cells")["spec"]["egress"]
    assert outside == {"ports": [{"port": 5001, "protocol": "TCP"}]}

    nowhere = template(helm, chart, merged(FOLLOWED_ELSEWHERE, "external.mlflow", ""))
    assert "endpoints: cells: follow.registry: set it to the address of MLflow" in nowhere.stderr


SCALED = {
    "hpa": ({"minReplicas": 2, "maxReplicas": 8, "cpuPercent": 60}, {"min_replicas": 2, "cpu_percent": 60}),
    "keda": (
        {"maxReplicas": 8, "keda": {"requestsPerSecond": 12.5}},
        {"keda": {"prometheus": f"http://prometheus.{NAMESPACE}.svc:9090", "requests_per_second": 12.5}},
    ),
    "elsewhere": (
        {"maxReplicas": 8, "keda": {"prometheus": "http://p:9090", "queueDepth": 8, "authentication": "login"}},
        {"keda": {"prometheus": "http://p:9090", "queue_depth": 8, "authentication": "login"}},
    ),
}


@pytest.mark.parametrize("kind", SCALED)
def test_an_endpoint_scales_as_the_deployer_has_it_scaled(render, kind):
    values, settings = SCALED[kind]
    objects = render(merged(ALL, "endpoints", [ENDPOINT | {"autoscaling": values}]))
    config = {"namespace": NAMESPACE, "image": IMAGES["serving"], "bundle_store": "s3://visionops/bundles"}
    parsed = KubernetesDeployerConfig.model_validate(config | {"autoscaling": settings | {"max_replicas": 8}})
    for manifest in scaling("cells", parsed):
        found = objects.find(manifest["kind"], "visionops-cells")
        assert _without_what_is_the_deployers(found) == _without_what_is_the_deployers(manifest)
    scalers = [o for o in objects if o["kind"] in SCALERS]
    assert len(scalers) == 1
    if kind == "hpa":
        kubernetes_validate.validate(scalers[0], KUBERNETES[-1], strict=True)
    else:
        check_resource(scalers[0])
    # Each upgrade would set the number back.
    assert "replicas" not in objects.find("Deployment", "visionops-cells")["spec"]


def test_keda_may_call_prometheus_where_it_is_let_in(helm, chart, render):
    assert render(ALL).find("NetworkPolicy", "prometheus") is not None
    let_in = render(merged(ALL, "networkPolicies", {"prometheusNamespaces": ["keda"]}))
    (way_in,) = let_in.find("NetworkPolicy", "prometheus")["spec"]["ingress"]
    assert way_in["from"][-1]["namespaceSelector"]["matchExpressions"][0]["values"] == ["keda"]
    nowhere = merged(ELSEWHERE, "endpoints", [ENDPOINT | {"autoscaling": {"keda": {}}}])
    done = template(helm, chart, nowhere)
    assert "endpoints: cells: autoscaling.keda.prometheus: set it to the address of Prometheus" in done.stderr


def test_a_gpu_is_for_the_server_of_an_endpoint_only(render):
    limits = {"cpu": "2", "memory": "4Gi", "nvidia.com/gpu": 1}
    endpoint = ENDPOINT | {"engine": "onnxruntime", "device": "gpu", "resources": {"limits": limits}}
    pod = render(merged(ALL, "endpoints", [endpoint])).find("Deployment", "visionops-cells")["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert pod["initContainers"][0]["resources"]["limits"] == {"cpu": "2", "memory": "4Gi"}
    assert "--device=gpu" in pod["containers"][0]["args"]


def _without_what_is_the_deployers(manifest: dict[str, Any]) -> dict[str, Any]:
    manifest = copy.deepcopy(manifest)
    template = manifest["spec"].get("template")
    for metadata in [manifest["metadata"], *([template["metadata"]] if template else [])]:
        del metadata["labels"][MANAGED_BY]
    if template:
        (server,) = template["spec"]["containers"]
        server["env"] = [variable for variable in server["env"] if variable["name"] != REVISION_VARIABLE]
    return manifest


def test_scheduled_pipelines_have_what_the_command_line_and_the_stack_ask_for(render):
    for values in (ALL, ELSEWHERE):
        objects = render(values)
        jobs = [o for o in objects if o["kind"] == "CronJob"]
        assert {job["metadata"]["name"] for job in jobs} == {
            "monitoring-steel",
            "training-steel",
            "monitoring-plants",
        }
        for job in jobs:
            assert job["spec"]["concurrencyPolicy"] == "Forbid"
            (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
            assert container["command"][:2] == ["python", "run.py"]
            arguments = run.parse(container["command"][2:])
            assert job["metadata"]["name"].startswith(f"{arguments.pipeline}-")
            assert (ROOT / arguments.config).is_file()
            environment = {variable["name"]: variable["value"] for variable in container["env"]}
            assert unset_variables(arguments.stack, environment) == []
            assert environment["VISIONOPS_KUBERNETES_INCLUSTER"] == "true"
            accounts = {environment[f"VISIONOPS_{of}SERVICE_ACCOUNT"] for of in ("", "STEP_")}
            assert accounts <= objects.names("ServiceAccount")
            assert environment["VISIONOPS_REGISTRY"] == "registry.example/vision"


def test_the_control_service_makes_jobs_of_its_template(render, tmp_path):
    objects = render(ALL | {"control": {"enabled": True}})
    (container,) = objects.find("Deployment", "control")["spec"]["template"]["spec"]["containers"]
    assert container["command"][:3] == ["python", "-m", "deploy.control"]
    options = ControlOptions.parse(container["command"][3:])
    assert (options.launcher, options.namespace, options.stack) == ("kubernetes", NAMESPACE, "incluster")
    environment = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert environment["VISIONOPS_REVIEW_DATABASE"] == "postgresql://mlflow@postgres/mlflow"
    assert {"PGPASSWORD", "VISIONOPS_API_KEYS", "ZENML_STORE_URL"} <= set(environment)
    assert {container[f"{of}Probe"]["httpGet"]["path"] for of in ("startup", "readiness", "liveness")} == {
        "/live",
        "/ready",
    }
    path = tmp_path / "job.yaml"
    path.write_text(objects.find("ConfigMap", "control-job")["data"]["job.yaml"])
    launcher = JobLauncher.from_file(path, NAMESPACE)
    run_ = Run("0" * 32, RunRequest(Kind.RETRAIN, "steel"), "planner", datetime.now(UTC))
    job = launcher.manifest(run_, command_of(run_, Path("configs/steel.yaml"), "kubernetes"))
    for kubernetes in KUBERNETES:
        kubernetes_validate.validate(job, kubernetes, strict=True)
        for o in objects:
            if o["metadata"]["name"] in {"control", "visionops-control", "control-job"}:
                kubernetes_validate.validate(o, kubernetes, strict=True)
    pod = job["spec"]["template"]["spec"]
    assert pod["containers"][0]["command"][:4] == ["python", "-m", "launch.cli", "train"]
    assert pod["serviceAccountName"] in objects.names("ServiceAccount")
    (scheduled,) = objects.find("CronJob", "training-steel")["spec"]["jobTemplate"]["spec"]["template"]["spec"][
        "containers"
    ]
    stops = {"name": "VISIONOPS_INTERRUPT", "value": "stop"}
    assert pod["containers"][0]["env"] == [*scheduled["env"], stops]
    policies = {o["metadata"]["name"]: o["spec"] for o in objects if o["kind"] == "NetworkPolicy"}
    assert policies["control"]["ingress"][0]["ports"] == [{"port": 8100, "protocol": "TCP"}]


STORE = "s3://visionops/predictions"
REVIEWED = ALL | {"control": {"enabled": True}, "useCases": [ALL["useCases"][0] | {"intake": STORE}]}


def environment_of(container: dict[str, Any]) -> dict[str, Any]:
    return {variable["name"]: variable.get("value", variable.get("valueFrom")) for variable in container["env"]}


def test_intake_reads_the_store_of_the_log_and_opens_the_review(render):
    objects = render(REVIEWED)
    for kubernetes in KUBERNETES:
        for o in objects:
            kubernetes_validate.validate(o, kubernetes, strict=True)
    intake = objects.find("Deployment", "intake-steel")["spec"]
    assert (intake["replicas"], intake["strategy"]) == (1, {"type": "Recreate"})
    pod = intake["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    (container,) = pod["containers"]
    program, arguments = container["command"][:3], container["command"][3:]
    assert program == ["python", "-m", "launch.cli"]
    command = typer.main.get_command(app)
    for name in ("review", "intake"):
        command = command.commands[name]
    assert arguments[:2] == ["review", "intake"]
    given = command.make_context("intake", arguments[2:]).params
    assert (str(given["config"]), given["log"], given["follow"]) == ("configs/steel.yaml", STORE, 30)
    environment = environment_of(container)
    control = objects.find("Deployment", "control")["spec"]["template"]["spec"]["containers"][0]
    for name in ("VISIONOPS_REVIEW_DATABASE", "VISIONOPS_REVIEW_IMAGES", "PGPASSWORD", "AWS_ENDPOINT_URL"):
        assert environment[name] == environment_of(control)[name], name
    assert environment["PGPASSWORD"] == {"secretKeyRef": {"name": "postgres", "key": "PGPASSWORD"}}
    assert container["envFrom"] == [{"secretRef": {"name": "s3"}}]
    assert "ZENML_STORE_URL" not in environment
    policies = {o["metadata"]["name"]: o["spec"] for o in objects if o["kind"] == "NetworkPolicy"}
    (rule,) = policies["postgres"]["ingress"]
    callers = [caller["podSelector"] for caller in rule["from"]]
    named = {c["matchLabels"]["app.kubernetes.io/name"] for c in callers if "matchLabels" in c}
    assert named == {"mlflow", "control", "intake"}
    assert policies["steps"]["podSelector"] in callers
    assert "ingress" not in policies["intake"]
    labels = intake["template"]["metadata"]["labels"].items()
    assert intake["selector"]["matchLabels"].items() <= labels
    assert policies["intake"]["podSelector"]["matchLabels"].items() <= labels


def test_what_starts_runs_names_the_secret_of_the_review_and_does_not_hold_it(render):
    objects = render(REVIEWED)
    started = [o["spec"]["jobTemplate"]["spec"]["template"] for o in objects if o["kind"] == "CronJob"]
    started.append(yaml.safe_load(objects.find("ConfigMap", "control-job")["data"]["job.yaml"])["spec"]["template"])
    for (container,) in (template["spec"]["containers"] for template in started):
        environment = environment_of(container)
        assert "PGPASSWORD" not in environment
        assert {"secretRef": {"name": "postgres"}} not in container["envFrom"]
        spec = load_stack("incluster", environment)
        for step in REVIEW_STEPS:
            assert review_problem(spec, step) == ""
            assert "postgres" in {source.secretRef.name for source in spec.step(step).env_from}
        assert "postgres" not in {source.secretRef.name for source in spec.step("train").env_from}
    assert not [v for o in render(ALL) if o["kind"] == "CronJob" for v in json.dumps(o).split('"') if "REVIEW" in v]


def test_control_alone_has_the_secrets_that_it_needs(render):
    values = merged(ALL, "mlflow.enabled", False) | {"useCases": [], "control": {"enabled": True}}
    values["external"] = {"mlflow": "https://mlflow.example"}
    assert {"s3", "postgres", "zenml-account"} <= render(values).names("Secret")
    other = {"enabled": True, "database": "postgresql://me@db.example:6432/review"}
    policies = {
        o["metadata"]["name"]: o["spec"] for o in render(values | {"control": other}) if o["kind"] == "NetworkPolicy"
    }
    for name in ("control", "intake", "steps"):
        ports = {port["port"] for rule in policies[name]["egress"] for port in rule.get("ports", ())}
        assert 6432 in ports, name


def test_prometheus_reads_the_control_service_apart_from_servers(render):
    objects = render(REVIEWED)
    container = objects.find("Deployment", "control")["spec"]["template"]["spec"]["containers"][0]
    assert ControlOptions.parse(container["command"][3:]).open_metrics
    config = yaml.safe_load(objects.find("ConfigMap", "release-visionops-prometheus")["data"]["prometheus.yml"])
    label = "__meta_kubernetes_pod_label_app_kubernetes_io_name"
    actions = {
        job["job_name"]: [rule["action"] for rule in job["relabel_configs"] if rule["source_labels"] == [label]]
        for job in config["scrape_configs"]
        if "relabel_configs" in job
    }
    assert actions == {"visionops": ["drop"], "visionops_control": ["keep"]}


CONSOLE = merged(ALL, "images.console", "registry.example/vision/visionops-console:1") | {
    "control": {"enabled": True},
    "console": {
        "enabled": True,
        "publicUrl": "https://console.example",
        "trustedProxies": ["10.0.0.0/8"],
        "ingress": {"host": "console.example", "className": "nginx", "tlsSecret": "console-tls"},
        "oidc": {
            "issuer": "https://login.example",
            "clientId": "vision",
            "roleClaim": "groups",
            "roles": ["line=reviewer"],
        },
    },
}


def test_the_console_orders_runs_that_the_control_service_starts(render):
    objects = render(CONSOLE)
    (container,) = objects.find("Deployment", "console")["spec"]["template"]["spec"]["containers"]
    assert container["command"][:3] == ["python", "-m", "deploy.console"]
    options = ConsoleOptions.parse(container["command"][3:], {"VISIONOPS_OIDC_CLIENT_SECRET": "secret"})
    assert (options.starts_runs, options.open_metrics, options.is_https) == (False, True, True)
    assert (options.trusted_proxies, options.oidc_roles) == (("10.0.0.0/8",), ("line=reviewer",))
    environment = environment_of(container)
    assert environment["VISIONOPS_OIDC_CLIENT_SECRET"] == {
        "secretKeyRef": {"name": "visionops-console-oidc", "key": "client-secret"}
    }
    control = objects.find("Deployment", "control")["spec"]["template"]["spec"]["containers"][0]
    for name in ("VISIONOPS_REVIEW_DATABASE", "VISIONOPS_REVIEW_IMAGES", "PGPASSWORD", "ZENML_STORE_URL"):
        assert environment[name] == environment_of(control)[name], name
    for o in objects:
        if o["metadata"]["name"] in {"console", "visionops-console"}:
            kubernetes_validate.validate(o, KUBERNETES[-1], strict=True)
    (rule,) = objects.find("Ingress", "console")["spec"]["rules"]
    assert rule["http"]["paths"][0]["backend"]["service"] == {"name": "console", "port": {"name": "http"}}
    policies = {o["metadata"]["name"]: o["spec"] for o in objects if o["kind"] == "NetworkPolicy"}
    assert policies["console"]["ingress"][0]["ports"] == [{"port": 8200, "protocol": "TCP"}]
    (postgres,) = policies["postgres"]["ingress"]
    assert {"podSelector": {"matchLabels": policies["console"]["podSelector"]["matchLabels"]}} in postgres["from"]
    config = yaml.safe_load(objects.find("ConfigMap", "release-visionops-prometheus")["data"]["prometheus.yml"])
    assert "visionops_console" in [job["job_name"] for job in config["scrape_configs"]]


def test_the_console_needs_the_control_service(render):
    with pytest.raises(AssertionError, match=r"console\.enabled: also needs control\.enabled=true"):
        render(CONSOLE | {"control": {"enabled": False}})


def test_a_deployer_has_the_role_of_its_page(render):
    """Which is what it asks of a cluster: tests/stacks/deployers/test_rollout.py."""
    page = (ROOT / "docs" / "how-to" / "kubernetes.md").read_text()
    (text,) = re.findall(r"```yaml\n(apiVersion: rbac.*?)```", page, re.DOTALL)
    assert render(OFF).find("Role", "visionops-deployer")["rules"] == yaml.safe_load(text)["rules"]


def test_no_account_has_rights_beyond_the_namespace(render):
    objects = render(ALL)
    assert not [o for o in objects if o["kind"].startswith("Cluster")]
    rules = [rule for o in objects if o["kind"] == "Role" for rule in o["rules"]]
    assert not any("*" in part for rule in rules for part in rule.values())
    assert VALUES["prometheus"]["rbac"]["create"] is VALUES["grafana"]["rbac"]["create"] is False
    bound = {s["name"] for o in objects if o["kind"] == "RoleBinding" for s in o["subjects"]}
    assert bound - objects.names("ServiceAccount") == {VALUES["prometheus"]["serviceAccounts"]["server"]["name"]}


def test_prometheus_has_our_rules_and_jobs(render, tmp_path):
    config = render(CONSOLE).find("ConfigMap", "release-visionops-prometheus")["data"]
    assert yaml.safe_load(config["rules.yml"]) == yaml.safe_load((MONITORING / "prometheus/rules.yml").read_text())
    for name, text in config.items():
        # Debian's Prometheus is built without the discovery of pods.
        (tmp_path / name).write_text(
            re.sub(r"kubernetes_sd_configs:\n.*\n.*own_namespace.*", "static_configs: []", text)
        )
    check = [program("promtool"), "check", "config", str(tmp_path / "prometheus.yml")]
    done = subprocess.run(check, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    ours, theirs = (
        {job["job_name"]: job.get("honor_labels") for job in yaml.safe_load(text)["scrape_configs"]}
        for text in (config["prometheus.yml"], (MONITORING / "prometheus/prometheus.yml").read_text())
    )
    assert ours == theirs


def test_the_pushgateway_has_a_login_and_speaks_tls_and_prometheus_has_both(render):
    objects = render(ALL)
    held = objects.find("Secret", "pushgateway")["stringData"]
    web = yaml.safe_load(held["web.yml"])
    assert set(web["tls_server_config"].values()) <= held.keys()
    (hashed,) = web["basic_auth_users"].values()
    login = objects.find("Secret", "pushgateway-login")["stringData"]
    assert list(web["basic_auth_users"]) == [login["VISIONOPS_PUSHGATEWAY_USERNAME"]]
    assert bcrypt.checkpw(login["VISIONOPS_PUSHGATEWAY_PASSWORD"].encode(), hashed.encode())
    gateway = VALUES["prometheus"]["prometheus-pushgateway"]
    (mounted,) = gateway["extraVolumeMounts"]
    assert f"--web.config.file={mounted['mountPath']}/web.yml" in gateway["extraArgs"]
    (read,) = VALUES["prometheus"]["server"]["extraVolumeMounts"]
    config = yaml.safe_load(objects.find("ConfigMap", "release-visionops-prometheus")["data"]["prometheus.yml"])
    (job,) = [job for job in config["scrape_configs"] if job["job_name"] == "visionops_pushgateway"]
    assert job["scheme"] == "https"
    files = {job["basic_auth"]["password_file"], job["tls_config"]["ca_file"]}
    assert files == {f"{read['mountPath']}/VISIONOPS_PUSHGATEWAY_{key}" for key in ("PASSWORD", "CA")}
    jobs = [o["spec"]["jobTemplate"]["spec"]["template"]["spec"] for o in objects if o["kind"] == "CronJob"]
    for (container,) in (job["containers"] for job in jobs):
        assert {"secretRef": {"name": "pushgateway-login", "optional": True}} in container["envFrom"]
        assert {"name": "VISIONOPS_PUSHGATEWAY", "value": "https://pushgateway:9091"} in container["env"]


def test_alertmanager_has_our_routes_and_reads_the_address_from_its_secret(render, tmp_path):
    text = render(ALL).find("ConfigMap", "visionops-alertmanager")["data"]["alertmanager.yml"]
    (mounted,) = [m for m in VALUES["prometheus"]["alertmanager"]["extraVolumeMounts"] if m["name"] == "webhook"]
    read = f"url_file: {mounted['mountPath']}/webhook"
    assert read in text
    assert "VISIONOPS_ALERT_WEBHOOK}" not in text.partition("route:")[2]
    # Alertmanager 0.25, Debian's, does not read files yet.
    (tmp_path / "alertmanager.yml").write_text(text.replace(read, "url: https://alerts.example/x"))
    check = [program("amtool"), "check-config", str(tmp_path / "alertmanager.yml")]
    done = subprocess.run(check, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_grafana_has_our_dashboards(render):
    objects = render(ALL)
    data = objects.find("ConfigMap", "visionops-dashboards")["data"]
    files = {path.name: json.loads(path.read_text()) for path in (MONITORING / "grafana/dashboards").glob("*.json")}
    assert {name: json.loads(text) for name, text in data.items()} == files
    variables = set(objects.find("ConfigMap", "visionops-grafana-environment")["data"])
    provisioned = "".join(objects.find("ConfigMap", "visionops-grafana")["data"].values())
    assert set(re.findall(r"\$\{(\w+)\}", provisioned)) <= variables


def test_what_upstream_charts_are_pointed_to_is_made(render):
    def pointed(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
        if isinstance(value, dict):
            for inner, item in value.items():
                yield from pointed(item, inner if inner != "name" else key)
        elif isinstance(value, list):
            for item in value:
                yield from pointed(item, key)
        elif key in {"configMap", "envFromConfigMaps"} and value not in {"provider.yml", "datasource.yml"}:
            yield "ConfigMap", value
        elif key in {"secretName", "existingSecret"}:
            yield "Secret", value
        elif key == "configMapOverrideName":
            yield "ConfigMap", f"release-{value}"

    objects = render(ALL)
    wanted = set(pointed({name: VALUES[name] for name in ("zenml", "prometheus", "grafana")}))
    assert len(wanted) >= 6
    missing = {(kind, name) for kind, name in wanted if name not in objects.names(kind)}
    assert missing == set()


def test_network_policies_select_the_pods_that_there_are(render):
    objects = render(ALL)
    policies = {o["metadata"]["name"]: o["spec"] for o in objects if o["kind"] == "NetworkPolicy"}
    default = policies.pop("default")
    assert default["podSelector"] == {}
    assert "ingress" not in default
    for owner, pod in objects.pods():
        labels = pod["metadata"]["labels"].items()
        chosen = [p for p in policies.values() if p["podSelector"].get("matchLabels", {"": ""}).items() <= labels]
        assert len(chosen) == 1, owner
        listened = {port["containerPort"] for c in pod["spec"]["containers"] for port in c.get("ports", ())}
        opened = {port["port"] for rule in chosen[0].get("ingress", ()) for port in rule["ports"]}
        assert opened == listened, owner
    (steps,) = [p for p in policies.values() if "matchExpressions" in p["podSelector"]]
    assert steps["podSelector"] == {"matchExpressions": [{"key": "project_id", "operator": "Exists"}]}
    outside = {o["metadata"]["name"]: o["spec"] for o in render(ELSEWHERE) if o["kind"] == "NetworkPolicy"}
    ports = {port["port"] for rule in outside["steps"]["egress"] for port in rule.get("ports", ())}
    assert ports == {80, 443, 6443, 8443, 9000, 9091, 9093}


def test_servers_run_with_the_commands_of_the_compose_file(render):
    objects = render(ALL)

    def command(kind: str, name: str) -> list[str]:
        (container,) = objects.find(kind, name)["spec"]["template"]["spec"]["containers"]
        return container["command"]

    def of_compose(name: str) -> list[str]:
        return [part.replace("$$", "$") for part in COMPOSE[name]["entrypoint"]]

    assert command("StatefulSet", "s3") == of_compose("s3")
    assert command("Job", "bucket") == of_compose("bucket")
    *server, hosts = command("Deployment", "mlflow")
    *expected, fewer = of_compose("mlflow")
    assert server == expected
    assert set(fewer.split(",")) <= set(hosts.split(","))
    for name in ("s3", "postgres"):
        (container,) = objects.find("StatefulSet", name)["spec"]["template"]["spec"]["containers"]
        assert container["image"] == COMPOSE[name]["image"]


def test_the_client_and_its_server_are_of_one_version():
    dependencies = {d["name"]: d for d in yaml.safe_load((CHART / "Chart.yaml").read_text())["dependencies"]}
    assert dependencies["zenml"]["version"] == importlib.metadata.version("zenml")
    assert all(d["condition"] == f"{name}.enabled" for name, d in dependencies.items())
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", d["version"]) for d in dependencies.values())
