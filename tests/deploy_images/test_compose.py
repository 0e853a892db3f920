"""Check deploy/compose.yaml: mounted files exist, and no secret has a default."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest
import yaml

from tests.conftest import ROOT

DEPLOY = ROOT / "deploy"
TEXT = (DEPLOY / "compose.yaml").read_text()
SERVICES = yaml.safe_load(TEXT)["services"]
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(:[-?])?([^}]*)\}")
ONCE = {"bucket"}
"""Services that end by themselves."""
SILENT = {"intake"}
"""Services that serve no requests."""


def test_only_images_and_ports_have_defaults():
    code = "\n".join(line.partition(" #")[0] for line in TEXT.splitlines() if not line.startswith("#"))
    defaulted = {name for name, how, _ in VARIABLE.findall(code) if how != ":?"}
    assert {name for name in defaulted if not name.endswith("_PORT")} == {
        "VISIONOPS_SERVING_IMAGE",
        "VISIONOPS_PIPELINE_IMAGE",
        "VISIONOPS_CONSOLE_IMAGE",
    }
    assert {f"VISIONOPS_{name.upper()}_PORT" for name, service in SERVICES.items() if "ports" in service} == {
        name for name in defaulted if name.endswith("_PORT")
    }
    assert all(text for _, _, text in VARIABLE.findall(code))


def test_what_is_mounted_is_there():
    volumes = set(yaml.safe_load(TEXT)["volumes"])
    sources = [
        volume.partition(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", ())
        if not volume.startswith("$")
    ]
    assert sources
    missing = [s for s in sources if s not in volumes and not (s.startswith("./") and (DEPLOY / s).exists())]
    assert missing == []


def test_nothing_is_published_beyond_this_machine_and_everything_is_watched():
    for name, service in SERVICES.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        assert "no-new-privileges:true" in service.get("security_opt", ()) or name in ONCE, name
        assert "healthcheck" in service or name in ONCE | SILENT, name
        assert service["image"].startswith("${VISIONOPS_") or ":latest" not in service["image"], name


def test_prometheus_looks_at_services_of_the_same_file():
    for path in sorted((DEPLOY / "monitoring" / "compose").rglob("*.yml")):
        (group,) = yaml.safe_load(path.read_text())
        assert {target.partition(":")[0] for target in group["targets"]} <= set(SERVICES), path


def test_compose_takes_it_and_names_what_is_missing():
    if shutil.which("podman-compose") is None:
        pytest.skip("podman-compose is absent: pip install podman-compose")
    command = ["podman-compose", "-f", str(DEPLOY / "compose.yaml"), "config"]
    plain = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    refused = subprocess.run(command, capture_output=True, text=True, env=plain, check=False)
    assert refused.returncode != 0
    required = {name for name, how, _ in VARIABLE.findall(TEXT) if how == ":?"}
    assert any(f"{name} is missing" in refused.stderr for name in required), refused.stderr
    given = dict.fromkeys(required, "/x")
    profiles = [f"--profile={name}" for service in SERVICES.values() for name in service.get("profiles", ())]
    command[1:1] = profiles
    done = subprocess.run(command, capture_output=True, text=True, env=plain | given, check=False)
    assert done.returncode == 0, done.stderr
    assert set(yaml.safe_load(done.stdout)["services"]) == set(SERVICES)
