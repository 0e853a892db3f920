"""Fixtures with a separate machine: ZenML's database, VISIONOPS_HOME and all endpoints are in a temporary folder."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.postgres import PASSWORD, postgres_server
from tests.helpers.s3 import ENVIRONMENT, seaweed_server
from tests.helpers.tracking import mlflow_server

ROOT = Path(__file__).resolve().parents[2]

TINY = [
    "data.source.images=48",
    "data.source.size=128",
    "training.image_size=64",
    "training.epochs=2",
    "training.batch=8",
    "evaluation.worst_images=2",
    "evaluation.latency_images=2",
    "validation.min_instances=0",
    "gate.minimum=0",
    "gate.min_images=1",
    "serving.port=0",
]
"""Settings with which the sample use case takes seconds and learns nothing."""


def write_tiny(file: Path, name: str, *settings: str) -> Path:
    """Write the use case of configs/sample.yaml with `TINY` and ``settings`` under another name, for programs that take
    no settings.
    """
    found: dict[str, Any] = yaml.safe_load((ROOT / "configs" / "sample.yaml").read_text()) | {"name": name}
    for setting in (*TINY, *settings):
        path, _, value = setting.partition("=")
        *parents, last = path.split(".")
        inner = found
        for part in parents:
            inner = inner.setdefault(part, {})
        inner[last] = yaml.safe_load(value)
    file.parent.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump(found))
    return file


@dataclasses.dataclass
class Machine:
    """Separate environment for running commands."""

    folder: Path

    @functools.cached_property
    def forks(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.integration.forked"]
        return subprocess.Popen(
            command, cwd=ROOT, env=self.env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    @property
    def env(self) -> dict[str, str]:
        return {
            **os.environ,
            "ZENML_CONFIG_PATH": str(self.folder / "zenml"),
            "VISIONOPS_HOME": str(self.folder / "home"),
            "ZENML_LOCAL_STORES_PATH": str(self.folder / "stores"),
            "PYTHONWARNINGS": "ignore",
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "run.py", *arguments]
        return subprocess.Popen(
            command, cwd=ROOT, env=self.env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def run(
        self, *arguments: str, env: Mapping[str, str] | None = None, program: str | Path = "run.py"
    ) -> subprocess.CompletedProcess[str]:
        """Run one command to its end; this starts faster than `start`."""
        out, err = self.folder / "out", self.folder / "err"
        command = {
            "program": str(program),
            "arguments": arguments,
            "env": dict(env or {}),
            "out": str(out),
            "err": str(err),
        }
        self.forks.stdin.write(json.dumps(command) + "\n")
        self.forks.stdin.flush()
        status = int(self.forks.stdout.readline())
        return subprocess.CompletedProcess(arguments, status, out.read_text(), err.read_text())

    def train(
        self, *overrides: str, settings: Sequence[str] = TINY, env: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Run a training that must succeed and return its summary."""
        summary = self.folder / "summary.json"
        sets = [f"--set={setting}" for setting in [*settings, *overrides]]
        done = self.run("--summary", str(summary), *sets, env=env)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(summary.read_text(encoding="utf-8")) | {"stdout": done.stdout}

    def versions(self, name: str) -> list[str]:
        """Return the versions of a model in the registry."""
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{self.folder / 'home' / 'mlflow' / 'mlflow.db'}")
        return [str(version.version) for version in client.search_model_versions(f"name='{name}'")]

    def server_pids(self, use_case: str = "") -> list[int]:
        """Return the process ids of the running endpoints of one use case, or of all."""
        import psutil

        home = str(self.folder / "home" / "serving" / use_case)
        return [
            p.pid
            for p in psutil.process_iter(["cmdline"])
            if p.info["cmdline"] and "deploy.serving" in p.info["cmdline"] and any(home in a for a in p.info["cmdline"])
        ]


def figures(summary: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics of a run without times."""
    metrics = {name: value for name, value in summary["metrics"].items() if not name.startswith("latency_")}
    return {"metrics": metrics, **{name: summary[name] for name in ("splits", "per_class", "intervals", "model")}}


@pytest.fixture
def shared_servers(tmp_path: Path) -> Iterator[tuple[dict[str, str], Any]]:
    """Run MLflow on PostgreSQL and an S3 store; return their variables for stack files, and a client of the store."""
    import boto3

    with seaweed_server() as s3, postgres_server() as database:
        store = boto3.client(
            "s3", endpoint_url=s3, aws_access_key_id="me", aws_secret_access_key="mine", region_name="us-east-1"
        )
        store.create_bucket(Bucket="visionops")
        secrets = {**ENVIRONMENT, "PGPASSWORD": PASSWORD, "MLFLOW_S3_ENDPOINT_URL": s3}
        uri = database.uri.replace("postgresql:", "postgresql+psycopg:")
        with mlflow_server(tmp_path, uri, "s3://visionops/mlflow", secrets) as mlflow:
            variables = {
                "VISIONOPS_S3_BUCKET": "s3://visionops",
                "VISIONOPS_S3_ENDPOINT": s3,
                "VISIONOPS_MLFLOW": mlflow,
                **ENVIRONMENT,
            }
            yield variables, store


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory):
    """Return a machine for all tests of a worker; its endpoints are stopped at the end."""
    import psutil

    made = Machine(tmp_path_factory.mktemp("machine"))
    yield made
    made.forks.communicate(timeout=60)
    for pid in made.server_pids():
        process = psutil.Process(pid)
        process.terminate()
        process.wait(timeout=60)
