"""A real Label Studio, from an environment of its own (``make label-studio``)."""

from __future__ import annotations

import dataclasses
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.helpers.programs import free_port, started

COMMAND = "VISIONOPS_LABEL_STUDIO_COMMAND"
PASSWORD = "VISIONOPS_LABEL_STUDIO_PASSWORD"
EMAIL = "anna@example.com"


@dataclasses.dataclass(frozen=True)
class Server:
    """One that runs, and the tokens of its account."""

    url: str
    legacy: str
    personal: str
    version: str

    def call(self, method: str, path: str, **more: Any) -> Any:
        """As a person's browser does it: not by our client."""
        headers = {"Authorization": f"Token {self.legacy}"}
        answer = requests.request(method, f"{self.url}{path}", headers=headers, timeout=120, **more)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json() if answer.content else None


@contextmanager
def label_studio(folder: Path) -> Iterator[Server]:
    """Start one with an empty database; skips where it is not installed."""
    command = os.environ.get(COMMAND)
    if not command:
        pytest.skip("Label Studio is absent: make label-studio")
    password = os.environ.get(PASSWORD) or secrets.token_urlsafe(16)
    legacy, port = secrets.token_hex(20), free_port()
    url = f"http://127.0.0.1:{port}"
    env = {
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder),
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_HOST": url,
        "LABEL_STUDIO_PASSWORD": password,
        "LABEL_STUDIO_USERNAME": EMAIL,
        "LABEL_STUDIO_USER_TOKEN": legacy,
        "COLLECT_ANALYTICS": "false",
        "FRONTEND_SENTRY_DSN": "",
        "LATEST_VERSION_CHECK": "false",
        "SENTRY_DSN": "",
        "PYTHONPATH": "",
    }
    arguments = ["start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port)]
    with started(folder, port, command, *arguments, ready="/health", env=env, seconds=800):
        version = requests.get(f"{url}/api/version", timeout=60).json()["release"]
        yield Server(url, legacy, _personal_token(url, password), version)


def _personal_token(url: str, password: str) -> str:
    """Log in as in a browser, allow personal tokens, and make one."""
    with requests.Session() as session:
        page = session.get(f"{url}/user/login/", timeout=60)
        found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        assert found, page.text[:500]
        form = {"csrfmiddlewaretoken": found[1], "email": EMAIL, "password": password}
        answer = session.post(f"{url}/user/login/", data=form, timeout=60, headers={"Referer": url})
        assert "sessionid" in session.cookies, answer.text[:500]
        headers = {"X-CSRFToken": session.cookies["csrftoken"], "Referer": url}
        settings = {"api_tokens_enabled": True, "legacy_api_tokens_enabled": True}
        session.post(f"{url}/api/jwt/settings", json=settings, headers=headers, timeout=60).raise_for_status()
        made = session.post(f"{url}/api/token/", headers=headers, timeout=60)
        made.raise_for_status()
        return str(made.json()["token"])
