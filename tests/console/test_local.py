"""Console without users: only this machine is served, as an admin, until there is a user."""

from __future__ import annotations

import os
import time
from pathlib import Path

import httpx
import pytest

from deploy.console.__main__ import main
from tests.console.conftest import Server
from tests.console.users import add_users
from visionops.review.users import UserRole


@pytest.mark.parametrize(
    "flags",
    [
        ["--host", "0.0.0.0"],
        ["--host", "::"],
        ["--public-url", "https://console.example.com"],
        ["--trusted-proxies", "127.0.0.1"],
    ],
)
def test_other_machines_are_not_served_without_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flags: list[str]
):
    monkeypatch.setenv("VISIONOPS_REVIEW_DATABASE", str(tmp_path / "review.db"))
    assert main([*flags, "--port", "0"], {}) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {flags[0]}: this console has no users")
    assert "visionops user add NAME --role admin" in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--public-url", "console.example.com"], "expected https://host"),
        (["--public-url", "https://host/path"], "expected https://host"),
        (["--oidc-roles", "line=chief"], "expected VALUE=ROLE"),
        (["--oidc-issuer", "https://login.example.com"], "error: --oidc-issuer: also needs --oidc-client-id"),
    ],
)
def test_what_cannot_be_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flags: list[str], words: str
):
    monkeypatch.setenv("VISIONOPS_REVIEW_DATABASE", str(tmp_path / "review.db"))
    assert main([*flags, "--port", "0"], {}) == 2
    printed = capsys.readouterr().err
    assert words in printed
    assert printed.count("\n") == 1


@pytest.mark.skipif("VISIONOPS_CONSOLE" not in os.environ, reason="a console of its own; make console")
def test_this_machine_is_an_admin_until_there_is_a_user(console: Server):
    with httpx.Client(base_url=console.url, trust_env=False, timeout=60) as client:
        assert client.get("/api/session").json() == {"name": "local", "role": "admin"}
        page = client.get("/users")
        assert page.status_code == 200
        assert "visionops user add NAME --role admin" in page.text
        assert client.get("/login").headers["location"] == "/"
        for headers in ({"Host": "console.example.com"}, {"Origin": "http://evil.example"}):
            assert client.get("/users", headers=headers).status_code == 403
        add_users(console.home, anna=UserRole.ADMIN)
        time.sleep(1.1)  # for so long the console may take it that there are none
        assert client.get("/api/session").status_code == 401
        assert client.get("/users", headers={"Accept": "text/html"}).headers["location"] == "/login?next=%2Fusers"
