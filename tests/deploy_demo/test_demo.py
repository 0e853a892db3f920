"""Secrets, ports and messages of ``make demo``; the demo itself is tests/deploy_demo/test_demo_live.py."""

from __future__ import annotations

import os
import re
import socket
import stat

import pytest

from deploy.demo import __main__ as demo
from deploy.demo.compose import FILE, check_ports, find_compose, read_services
from deploy.demo.places import HEALTH, Places, write_client
from deploy.demo.secret_file import CLIENT_KEY, read_secrets, write_secrets
from deploy.http.keys import KeyRing
from tests.conftest import ROOT
from visionops.errors import ConfigError, DeploymentError

GIVEN = {
    "VISIONOPS_NAME": "sample",
    "VISIONOPS_PUSHGATEWAY_ACCESS": "/x",
    "VISIONOPS_PUSHGATEWAY_PASSWORD": "given",
}
TEXT = FILE.read_text()


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_made_once_and_for_their_owner_only(tmp_path):
    file = tmp_path / "demo" / "secrets.env"
    before = os.umask(0)
    try:
        first = write_secrets(file, GIVEN)
    finally:
        os.umask(before)
    assert (mode(file), mode(file.parent)) == (0o600, 0o700)
    assert write_secrets(file, GIVEN | {"VISIONOPS_NAME": "steel"}) == first == read_secrets(file)
    assert write_secrets(tmp_path / "other", GIVEN)[CLIENT_KEY] != first[CLIENT_KEY]

    client = KeyRing(lines=first["VISIONOPS_API_KEYS"]).client(first[CLIENT_KEY].encode())
    assert client is not None
    assert client.role == "predict"
    required = set(re.findall(r"(?<!\$)\$\{(\w+):\?", TEXT))
    assert required <= set(first)


def test_what_a_file_lacks_is_added_and_nothing_else_changes(tmp_path):
    file = tmp_path / "secrets.env"
    file.write_text("# ours\nVISIONOPS_S3_KEY=mine\n")
    file.chmod(0o644)
    assert write_secrets(file, GIVEN)["VISIONOPS_S3_KEY"] == "mine"
    assert file.read_text().startswith("# ours\nVISIONOPS_S3_KEY=mine\nVISIONOPS_NAME=sample\n")
    assert mode(file) == 0o600
    file.write_text("s3cret\n")
    with pytest.raises(ConfigError, match=r"secrets.env: line 1: expected NAME=VALUE$"):
        write_secrets(file, GIVEN)


def test_git_and_image_builds_leave_the_secrets_alone():
    assert ".demo/" in (ROOT / ".gitignore").read_text().splitlines()
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"


def test_a_port_that_is_taken_is_named_with_the_variable_to_set():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        service = read_services({"VISIONOPS_MLFLOW_PORT": str(port)})["mlflow"]
        assert service.port == port
        with pytest.raises(
            DeploymentError, match=f"port {port} of mlflow is in use; .*VISIONOPS_MLFLOW_PORT=PORT make"
        ):
            check_ports([service])
    check_ports([service])


def test_without_an_engine_one_line_says_what_to_install(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeploymentError, match="neither podman"):
        find_compose()
    assert demo.main(["up"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def engine(folder, monkeypatch, script: str) -> None:
    """Install ``script`` in place of podman and podman-compose."""
    for name in ("podman", "podman-compose"):
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(demo, "_FOLDER", folder / ".demo")


def test_an_image_of_ours_that_is_absent_is_built_by_make_images(monkeypatch, tmp_path, capsys):
    engine(tmp_path, monkeypatch, '[ "$1" != image ]')
    assert demo.main(["up"]) == 2
    assert capsys.readouterr().err == (
        "error: localhost/visionops-serving:latest: podman has no such image; build it with make images\n"
    )
    assert not (tmp_path / ".demo").exists()


def test_an_image_that_cannot_be_pulled_may_be_left_out(monkeypatch, tmp_path, capsys):
    engine(tmp_path, monkeypatch, 'case "$*" in *grafana*) echo "no route" >&2; exit 1;; esac')
    assert demo.main(["up"]) == 2
    assert capsys.readouterr().err == (
        "error: docker.io/grafana/grafana:11.6.0: cannot be pulled (no route); "
        'make demo ARGS="--without grafana" leaves it out\n'
    )


def test_a_compose_that_fails_is_one_line(monkeypatch, tmp_path, capsys):
    engine(tmp_path, monkeypatch, 'case "$*" in *" up "*) echo "no space left" >&2; exit 1;; esac')
    monkeypatch.setattr(demo, "check_ports", lambda services: None)
    assert demo.main(["up", "--without", "grafana"]) == 2
    assert capsys.readouterr().err == "error: podman-compose up: no space left\n"
    assert mode(tmp_path / ".demo" / "secrets.env") == 0o600


def test_nothing_to_remove_and_nothing_to_drill(monkeypatch, tmp_path, capsys):
    engine(tmp_path, monkeypatch, "exit 0")
    assert demo.main(["down"]) == 0
    assert "nothing to remove" in capsys.readouterr().out
    assert demo.main(["drill"]) == 2
    assert capsys.readouterr().err == "error: the demo is not running; start it with make demo\n"


def test_every_address_and_login_is_printed_and_no_secret(tmp_path):
    secrets = write_secrets(tmp_path / "secrets.env", GIVEN)
    services = read_services({})
    places = Places(tmp_path, secrets, services)
    text = "\n".join(places.table())
    published = {name for name, service in services.items() if service.port}
    assert {line.split()[0] for line in text.splitlines()} == published == set(HEALTH)
    assert not any(value in text for name, value in secrets.items() if name not in GIVEN)
    (tmp_path / "pushgateway" / "client").mkdir(parents=True)
    (tmp_path / "pushgateway" / "client" / "password").write_text("p w'd")
    write_client(tmp_path / "client.env", places.environment())
    assert mode(tmp_path / "client.env") == 0o600
    assert "export VISIONOPS_PUSHGATEWAY_PASSWORD='p w'\"'\"'d'\n" in (tmp_path / "client.env").read_text()


def test_the_docs_name_each_profile_and_its_services():
    rows = [line.split("|") for line in (ROOT / "docs" / "how-to" / "demo.md").read_text().splitlines()]
    for name, service in read_services({}).items():
        profile = f"`{service.profiles[0]}`" if service.profiles else "—"
        assert any(len(row) == 5 and row[1].strip() == profile and f"`{name}`" in row[2] for row in rows), name


def test_the_console_is_not_started_without_what_starts_its_runs(capsys):
    assert demo.main(["up", "--without", "control"]) == 2
    assert capsys.readouterr().err == (
        "error: the console needs the control service, which starts its runs; add --without console\n"
    )
