"""Run deploy/compose.yaml with podman-compose, with all images except Grafana's: the servers find and use each other.

The server has a fixed bundle, by compose.bundle.yaml; `make demo` has it follow the registry.

Only the ports differ, so that it can run beside another instance. It takes minutes: `make compose`.
"""

from __future__ import annotations

import dataclasses
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests
import yaml

from deploy.http.keys import Client, KeyRole, make_key
from deploy.pushgateway import USERNAME, write_access
from tests.conftest import ROOT
from tests.helpers.bundles import encode, filled, make_bundle
from tests.helpers.programs import free_port, query, until
from visionops.monitoring.gateway import Pushgateway
from visionops.monitoring.metrics import push_pipeline

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

DEPLOY = ROOT / "deploy"
LEFT_OUT = {"grafana"}
SECONDS = 240
RUN = """
import mlflow, pathlib
mlflow.set_tracking_uri("http://mlflow:5000")
mlflow.set_experiment("compose")
with mlflow.start_run() as run:
    mlflow.log_metric("f1", 0.75)
    pathlib.Path("/tmp/note.txt").write_text("kept")
    mlflow.log_artifact("/tmp/note.txt")
got = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="note.txt", dst_path="/tmp/got")
assert pathlib.Path(got).read_text() == "kept"
print("run", run.info.run_id)
"""
LIST = "import boto3; print([o['Key'] for o in boto3.client('s3').list_objects_v2(Bucket='visionops')['Contents']])"
HOOK = """
import http.server
class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        print("alerts", self.rfile.read(int(self.headers["Content-Length"])).decode(), flush=True)
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("0.0.0.0", 8080), Hook).serve_forever()
"""


def podman(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(["podman", *arguments], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0 or not check, f"podman {arguments[0]}: {done.stderr}"
    return done.stdout + (done.stderr if arguments[0] == "logs" else "")


@dataclasses.dataclass(frozen=True)
class Running:
    """Services that podman-compose started, and their addresses."""

    ports: dict[str, int]
    project: str
    key: str
    access: Path
    """Files of the Pushgateway's login and certificate."""

    def gateway(self) -> Pushgateway:
        password, ca = (self.access / "client" / "password").read_text(), str(self.access / "client" / "ca.crt")
        return Pushgateway(f"https://127.0.0.1:{self.ports['pushgateway']}", USERNAME, password, ca)

    def url(self, service: str) -> str:
        return f"http://127.0.0.1:{self.ports[service]}"

    def container(self, service: str) -> str:
        return f"{self.project}_{service}_1"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    if not os.environ.get("VISIONOPS_COMPOSE"):
        pytest.skip("it takes minutes: make compose")
    for name in ("podman", "podman-compose"):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is absent: apt-get install podman; pip install podman-compose")
    folder = tmp_path_factory.mktemp("compose")
    bundle = make_bundle(folder / "cells").folder
    for path in (folder, bundle, *bundle.rglob("*")):
        path.chmod(0o755)
    write_access(folder / "access")
    key, line = make_key(Client("line-3", KeyRole.PREDICT))
    environment = {
        "VISIONOPS_BUNDLE": str(bundle),
        "VISIONOPS_NAME": "cells",
        "VISIONOPS_VERSION": "3",
        "VISIONOPS_API_KEYS": line,
        "VISIONOPS_ADMIN_KEY": "admin-key-of-this-test",
        "VISIONOPS_ZENML_PASSWORD": "z-of-this-test",
        "VISIONOPS_ZENML_JWT_KEY": secrets.token_hex(32),
        "VISIONOPS_ZENML_ENCRYPTION_KEY": secrets.token_hex(32),
        "VISIONOPS_AIRFLOW_KEY": "unused",
        "VISIONOPS_POSTGRES_PASSWORD": "p-of-this-test",
        "VISIONOPS_S3_KEY": "key-of-this-test",
        "VISIONOPS_S3_SECRET": "secret-of-this-test",
        "VISIONOPS_GRAFANA_PASSWORD": "unused",
        "VISIONOPS_ALERT_WEBHOOK": "http://hook:8080/alerts",
        "VISIONOPS_PUSHGATEWAY_ACCESS": str(folder / "access"),
        "VISIONOPS_PUSHGATEWAY_PASSWORD": (folder / "access" / "client" / "password").read_text(),
    }
    content = yaml.safe_load((DEPLOY / "compose.yaml").read_text().replace("- ./", f"- {DEPLOY}/"))
    services = {
        name: service
        for name, service in content["services"].items()
        if name not in LEFT_OUT and "profiles" not in service
    }
    fixed = yaml.safe_load((DEPLOY / "compose.bundle.yaml").read_text())["services"]["serving"]
    services["serving"]["environment"] |= fixed["environment"]
    services["serving"]["volumes"] += fixed["volumes"]
    ports = {}
    for name, service in services.items():
        for i, port in enumerate(service.get("ports", ())):
            ports[name] = free_port()
            service["ports"][i] = f"127.0.0.1:{ports[name]}:{port.rpartition(':')[2]}"
    services["hook"] = {"image": services["mlflow"]["image"], "entrypoint": ["python", "-c", HOOK]}
    images = {re.sub(r"\$\{\w+:-(.*)\}", r"\1", service["image"]) for service in services.values()}
    missing = [
        image
        for image in sorted(images)
        if subprocess.run(["podman", "image", "exists", image], check=False).returncode
    ]
    if missing:
        pytest.skip(f"{', '.join(missing)}: podman has no such image; make images, make compose")
    file, project = folder / "compose.yaml", f"visionops-check-{os.getpid()}"
    file.write_text(yaml.safe_dump(content | {"name": project, "services": services}, sort_keys=False))
    command = ["podman-compose", "-f", str(file), "-p", project]
    try:
        up = subprocess.run(
            [*command, "up", "-d"],
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
            env=os.environ | environment,
        )
        assert up.returncode == 0, up.stdout + up.stderr
        yield Running(ports, project, key, folder / "access")
    finally:
        for name in podman("ps", "-a", "--format", "{{.Names}}", check=False).split():
            if name.startswith(project):
                print(f"--- {name}\n" + "\n".join(podman("logs", "--tail", "15", name, check=False).splitlines()))
        subprocess.run(
            [*command, "down", "--volumes", "--timeout", "5"],
            capture_output=True,
            check=False,
            timeout=300,
            env=os.environ | environment,
        )


def targets(running: Running) -> dict[str, str]:
    try:
        answer = requests.get(f"{running.url('prometheus')}/api/v1/targets", timeout=30).json()
    except requests.RequestException:
        return {}
    return {target["labels"]["instance"]: target["health"] for target in answer["data"]["activeTargets"]}


def test_the_server_answers_and_prometheus_counts_it(running):
    # The console is of a profile that is not started here.
    is_up = dict.fromkeys(["control:8100", "pushgateway:9091", "serving:8000"], "up")
    until(
        lambda: {name: health for name, health in targets(running).items() if name != "console:8200"} == is_up, SECONDS
    )
    print("targets:", targets(running))
    image = encode(filled((200, 30, 30)))
    ask = requests.post(
        f"{running.url('serving')}/predict",
        files={"file": image},
        headers={"X-API-Key": running.key},
        timeout=30,
    )
    assert ask.status_code == 200, ask.text
    print("prediction:", ask.json()["model"], len(ask.json()["detections"]), "found")
    counted = 'visionops_requests_total{route="/predict", status="200"}'
    until(lambda: query(running.ports["prometheus"], counted), SECONDS)
    print("counted:", query(running.ports["prometheus"], counted))


def test_each_finds_itself_healthy(running):
    """Run the health checks here, because podman leaves them to systemd, which may be missing."""
    for name, service in yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"].items():
        if "healthcheck" in service and name not in LEFT_OUT and "profiles" not in service:
            check = ["podman", "healthcheck", "run", running.container(name)]
            until(lambda check=check: subprocess.run(check, capture_output=True, check=False).returncode == 0, SECONDS)


def test_mlflow_keeps_runs_in_postgres_and_artifacts_in_s3(running):
    def answers() -> bool:
        try:
            return requests.get(f"{running.url('mlflow')}/health", timeout=30).ok
        except requests.RequestException:
            return False

    until(answers, SECONDS)
    mlflow = running.container("mlflow")
    done = podman("exec", mlflow, "python", "-c", RUN)
    (run,) = re.findall(r"^run (\w+)$", done, re.MULTILINE)
    sql = ["psql", "-U", "mlflow", "-d", "mlflow", "-Atc"]
    rows = podman(
        "exec", running.container("postgres"), *sql, f"select key, value from metrics where run_uuid = '{run}'"
    )
    assert rows.strip() == "f1|0.75"
    keys = podman("exec", "--env", "AWS_ENDPOINT_URL=http://s3:8333", mlflow, "python", "-c", LIST)
    assert f"{run}/artifacts/note.txt" in keys
    print("run:", run, "in PostgreSQL:", rows.strip(), "in S3:", keys.strip())


def test_an_alert_reaches_the_receiver_through_alertmanager(running):
    finished = datetime.now(UTC)
    push_pipeline(running.gateway(), "training", "cells", seconds=1, is_success=False, finished=finished)

    def alerts() -> list[str]:
        alerts = requests.get(f"{running.url('alertmanager')}/api/v2/alerts", timeout=30).json()
        return [alert["labels"]["alertname"] for alert in alerts]

    until(lambda: "VisionOpsPipelineFailed" in alerts(), SECONDS)
    print("alerts:", alerts())
    until(lambda: "VisionOpsPipelineFailed" in podman("logs", running.container("hook")), SECONDS)
    print("posted:", podman("logs", running.container("hook")).strip()[:300])
