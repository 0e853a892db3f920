"""Provide the addresses of the demo's services and the environment variables of its clients."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

import requests

from deploy.demo.compose import Service
from deploy.demo.secret_file import CLIENT_KEY, CONSOLE_PASSWORD
from deploy.pushgateway import USERNAME

__all__ = ["CONSOLE_ADMIN", "HEALTH", "Places", "write_client"]

HEALTH: Mapping[str, str] = {
    "s3": "/healthz",
    "mlflow": "/health",
    "zenml": "/health",
    "serving": "/health",
    "control": "/live",
    "console": "/live",
    "prometheus": "/-/healthy",
    "alertmanager": "/-/healthy",
    "pushgateway": "/-/healthy",
    "grafana": "/api/health",
    "airflow": "/api/v2/monitor/health",
}
"""Path of each service's health check."""
CONSOLE_ADMIN = "visionops"
"""Name of the console's first user."""
_SECONDS = 5.0


class Places:
    """Addresses and health of the running services.

    Args:
        folder: Folder of the demo's files.
        variables: Secrets and settings of the demo.
        services: Running services, by name.
    """

    def __init__(self, folder: Path, variables: Mapping[str, str], services: Mapping[str, Service]) -> None:
        self.folder = folder
        self.variables = variables
        self.services = services
        self.access = folder / "pushgateway" / "client"

    def url(self, name: str) -> str:
        """Return the address of a service on this machine."""
        scheme = "https" if name == "pushgateway" else "http"
        return f"{scheme}://127.0.0.1:{self.services[name].port}"

    def not_well(self) -> list[str]:
        """Return the services that are not healthy yet."""
        return [name for name in HEALTH if name in self.services and not self._is_well(name)]

    def serves_a_model(self) -> bool:
        """Return whether the server has a loaded model."""
        return answers(lambda: requests.get(f"{self.url('serving')}/ready", headers=self.key, timeout=_SECONDS))

    @property
    def key(self) -> dict[str, str]:
        """Return the header with the client's API key."""
        return {"X-API-Key": self.variables[CLIENT_KEY]}

    def environment(self) -> dict[str, str]:
        """Return the environment variables for `run.py --stack staging`."""
        known = self.variables
        found = {
            "VISIONOPS_HOME": str(self.folder / "home"),
            "ZENML_CONFIG_PATH": str(self.folder / "zenml"),
            "VISIONOPS_MLFLOW": self.url("mlflow"),
            # Otherwise MLflow gives clients the store's name inside the container network.
            "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
            "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
            "VISIONOPS_S3_BUCKET": "s3://visionops",
            "VISIONOPS_S3_ENDPOINT": self.url("s3"),
            "AWS_ACCESS_KEY_ID": known["VISIONOPS_S3_KEY"],
            "AWS_SECRET_ACCESS_KEY": known["VISIONOPS_S3_SECRET"],
            "AWS_DEFAULT_REGION": "us-east-1",
            "ZENML_STORE_URL": self.url("zenml"),
            "ZENML_STORE_USERNAME": "visionops",
            "ZENML_STORE_PASSWORD": known["VISIONOPS_ZENML_PASSWORD"],
        }
        if "alertmanager" in self.services:
            found["VISIONOPS_ALERTMANAGER"] = self.url("alertmanager")
        if "pushgateway" in self.services:
            found |= {
                "VISIONOPS_PUSHGATEWAY": self.url("pushgateway"),
                "VISIONOPS_PUSHGATEWAY_USERNAME": USERNAME,
                "VISIONOPS_PUSHGATEWAY_PASSWORD": (self.access / "password").read_text(encoding="utf-8"),
                "VISIONOPS_PUSHGATEWAY_CA": str(self.access / "ca.crt"),
            }
        return found

    def table(self) -> list[str]:
        """Return a line for each service: its address, and how to log in. It contains no secret."""
        of = f"of {self.folder / 'secrets.env'}"
        logins = {
            "serving": f"X-API-Key: {CLIENT_KEY} {of}",
            "control": f"X-API-Key: VISIONOPS_ADMIN_KEY {of}",
            "console": f"{CONSOLE_ADMIN}, {CONSOLE_PASSWORD} {of}",
            "zenml": f"visionops, VISIONOPS_ZENML_PASSWORD {of}",
            "grafana": f"admin, VISIONOPS_GRAFANA_PASSWORD {of}",
            "pushgateway": f"{USERNAME}, the password in {self.access / 'password'}",
            "s3": f"VISIONOPS_S3_KEY and VISIONOPS_S3_SECRET {of}",
            "airflow": "admin, the password in the log of its container",
        }
        return [
            f"{name:<13} {self.url(name):<24} {logins.get(name, 'no login: this machine only')}"
            for name in HEALTH
            if name in self.services
        ]

    def _is_well(self, name: str) -> bool:
        def ask() -> requests.Response:
            if name != "pushgateway":
                return requests.get(self.url(name) + HEALTH[name], timeout=_SECONDS)
            login = (USERNAME, (self.access / "password").read_text(encoding="utf-8"))
            return requests.get(
                self.url(name) + HEALTH[name], timeout=_SECONDS, auth=login, verify=str(self.access / "ca.crt")
            )

        return answers(ask)


def answers(ask: Callable[[], requests.Response]) -> bool:
    """Return whether a request succeeds."""
    try:
        return ask().ok
    except requests.RequestException:
        return False


def write_client(file: Path, environment: Mapping[str, str]) -> None:
    """Write the environment as a shell file, readable by its owner only."""
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)
    lines = (f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
    file.write_text("".join(lines), encoding="utf-8")
