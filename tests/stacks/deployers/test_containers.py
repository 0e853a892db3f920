"""Test a server in a container: errors are one line; with a real engine and image, it serves and switches.

The tests with a real engine are skipped unless podman or docker has the image of `make images`.
"""

from __future__ import annotations

import hashlib
import json
import socket
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from stacks.deployers.containers import Container, ContainerEndpoint, ContainerSettings
from stacks.deployers.engines import ContainerEngine, find_engine
from tests.helpers.bundles import make_bundle
from tests.helpers.programs import free_port
from tests.monitoring.test_log import until
from visionops.errors import BundleError, DeploymentError
from visionops.inference.bundle import ModelBundle
from visionops.inference.settings import ServingConfig

IMAGE = "localhost/visionops-serving:latest"
FAKE = """#!/bin/sh
# Answers each command with the file of its name, and logs the commands.
here=${0%/*}
echo "$@" >> "$here/commands"
if [ -f "$here/$1.err" ]; then /bin/cat "$here/$1.err" >&2; exit 125; fi
/bin/cat "$here/$1" 2>/dev/null || true
"""
ENDED = json.dumps([{"State": {"Running": False, "OOMKilled": False}, "NetworkSettings": {"Ports": {}}}])


class FakePodman:
    """A `podman` on the path with the answers of a test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "podman").write_text(FAKE)
        (folder / "podman").chmod(0o755)

    def says(self, command: str, text: str) -> None:
        (self.folder / command).write_text(text)

    @property
    def commands(self) -> list[str]:
        return (self.folder / "commands").read_text().splitlines()


@pytest.fixture
def podman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePodman:
    """Return an engine that has the image, and whose containers exit at once."""
    fake = FakePodman(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(fake.folder))
    fake.says("image", "sha256:aa\n")
    fake.says("create", "c0ffee\n")
    fake.says("container", ENDED)
    fake.says("logs", "error: no such bundle\n")
    return fake


def deploy(
    endpoint: ContainerEndpoint, bundle: Path, version: str = "1", port: int = 0, log: bool = True, **more
) -> Container:
    serving = ServingConfig(port=port, prediction_log=log)
    return endpoint.deploy(bundle, name="cells", version=version, alias="champion", serving=serving, **more)


def of_fake(tmp_path: Path, **settings) -> ContainerEndpoint:
    return ContainerEndpoint(tmp_path / "containers" / "cells", ContainerSettings(**settings))


@pytest.mark.parametrize(
    ("name", "words"), [("auto", "neither podman nor docker is on the path"), ("docker", "docker is not on")]
)
def test_an_absent_engine_is_named(monkeypatch, tmp_path, name, words):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeploymentError, match=words):
        find_engine(name, IMAGE)


def test_an_absent_image_is_named_with_the_fix(podman, bundles, tmp_path):
    podman.says("image.err", "Error: inspecting object: localhost/visionops-serving: image not known\n")
    with pytest.raises(DeploymentError, match=rf"image {IMAGE}: missing from podman; build it: make images"):
        deploy(of_fake(tmp_path), bundles[0])
    assert all(line.startswith("image") for line in podman.commands)


def test_an_unwell_engine_does_not_hide_the_other(podman):
    (podman.folder / "podman").rename(podman.folder / "docker")
    podman.says("image.err", "Cannot connect to the Docker daemon at unix:///run/docker.sock.\n")
    with pytest.raises(DeploymentError, match=r"missing from docker \(docker image: Cannot connect"):
        find_engine("auto", IMAGE)
    good = FakePodman(podman.folder.parent / "good")
    good.says("image", "sha256:bb\n")
    (good.folder / "podman").rename(podman.folder / "podman")
    (podman.folder / "podman").write_text("#!/bin/sh\necho sha256:bb\n")
    engine, image_id = find_engine("auto", IMAGE)
    assert (engine.name, image_id) == ("podman", "sha256:bb")


def test_a_port_in_use_is_named_with_the_fix(podman, bundles, tmp_path):
    noise = 'time="now" level=error msg="unable to get systemd connection"\n'
    why = "Error: cannot listen on the TCP port: listen tcp4 127.0.0.1:8000: bind: address already in use\n"
    podman.says("start.err", noise + why + noise)
    endpoint = of_fake(tmp_path)
    with pytest.raises(DeploymentError, match=r"127.0.0.1:8000: cannot listen .*or set serving.port to another"):
        deploy(endpoint, bundles[0], port=8000)
    assert podman.commands[-1] == "rm --force --volumes c0ffee"
    assert endpoint.server is None


def test_a_container_that_ends_at_once_leaves_its_last_words_and_nothing_else(podman, bundles, tmp_path):
    endpoint = of_fake(tmp_path, memory="1g", cpus=1.5)
    with pytest.raises(
        DeploymentError, match="cells version 1: the container exited at once: no such bundle"
    ) as caught:
        deploy(endpoint, bundles[0])
    assert "\n" not in str(caught.value)
    assert podman.commands[-1] == "rm --force --volumes c0ffee"
    assert endpoint.server is None
    assert not (endpoint.folder / "starting.json").exists()


def test_a_container_killed_for_its_memory_says_so(podman, bundles, tmp_path):
    podman.says("container", ENDED.replace('"OOMKilled": false', '"OOMKilled": true'))
    with pytest.raises(DeploymentError, match="exceeded its memory limit of 512m"):
        deploy(of_fake(tmp_path, memory="512m"), bundles[0])


def test_a_container_may_do_little_and_no_secret_is_in_its_command_line(podman, bundles, tmp_path, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "of the store")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of something else")
    endpoint = of_fake(tmp_path, memory="1g", cpus=1.5)
    serving = ServingConfig(port=0, prediction_log_store="postgresql://tester@db/postgres")
    with pytest.raises(DeploymentError, match="exited at once"):
        endpoint.deploy(bundles[0], name="cells", version="1", alias="", serving=serving)
    (created,) = (line for line in podman.commands if line.startswith("create"))
    for option in (
        "--pull=never --name visionops-cells-",
        "--read-only",
        "--cap-drop ALL --security-opt no-new-privileges",
        "--memory 1g --cpus 1.5",
        "--publish 127.0.0.1::8000",
        f"type=bind,source={endpoint.folder}/bundles,target=/bundles,readonly",
        f"type=bind,source={endpoint.predictions},target=/predictions ",
        f"--bundle /bundles/1-{ModelBundle.load(bundles[0]).digest[:12]} ",
    ):
        assert option in created
    key = endpoint.admin_key()
    assert not {key, "of the store"} & set(created.split())
    environment = endpoint.folder / "container.env"
    assert stat.S_IMODE(environment.stat().st_mode) == 0o600
    assert environment.read_text() == "PGPASSWORD=of the store\n"
    keys = (endpoint.folder / "keys" / "api.keys").read_text()
    assert keys == f"deployer admin sha256:{hashlib.sha256(key.encode()).hexdigest()}\n"


# With a real engine


@pytest.fixture(scope="module")
def engine() -> ContainerEngine:
    """Return podman or docker, with our image."""
    try:
        return find_engine("auto", IMAGE)[0]
    except DeploymentError as error:
        pytest.skip(f"{error}")


@pytest.fixture
def endpoint(tmp_path: Path, engine: ContainerEngine) -> Iterator[ContainerEndpoint]:
    """Return an endpoint with nothing deployed; its server stops with the test."""
    endpoint = ContainerEndpoint(tmp_path / "containers" / "cells", ContainerSettings(memory="1g"))
    yield endpoint
    endpoint.delete(force=True)


def ask(endpoint: ContainerEndpoint, server: Container, image: bytes) -> requests.Response:
    headers = {"X-API-Key": endpoint.admin_key()}
    return requests.post(f"{server.url}/predict", files={"file": image}, headers=headers, timeout=30)


def asking(job: Callable[[], object], request: Callable[[], requests.Response]) -> list[requests.Response]:
    """Return the answers to requests that were sent one after the other while ``job`` ran."""
    done = threading.Event()

    def keep_asking() -> list[requests.Response]:
        answers = [request()]
        while not done.is_set():
            answers.append(request())
        return [*answers, request()]

    with ThreadPoolExecutor(1) as pool:
        client = pool.submit(keep_asking)
        try:
            job()
        finally:
            done.set()
        return client.result(60)


def test_a_container_answers_as_nobody_under_a_read_only_root(endpoint, engine, bundles, red_cell):
    server = deploy(endpoint, bundles[0], smoke_images=[red_cell])
    answer = ask(endpoint, server, red_cell).json()
    assert answer["model"] == {"name": "cells", "version": "1", "alias": "champion"}
    assert answer["detections"][0]["class_name"] == "red"
    assert requests.post(f"{server.url}/predict", files={"file": red_cell}, timeout=30).status_code == 401
    assert requests.get(f"{server.url}/metrics", timeout=30).ok
    assert engine.run("exec", server.container, "id", "-u") != "0"
    with pytest.raises(DeploymentError, match="Read-only file system"):
        engine.run("exec", server.container, "touch", "/app/x")
    with pytest.raises(DeploymentError, match="No module named 'torch'"):
        engine.run("exec", server.container, "python", "-c", "import torch")
    until(lambda: list(endpoint.predictions.rglob("*")))
    assert any('"event":"started"' in line for line in endpoint.log_lines())


def test_a_new_model_costs_no_request_and_a_broken_one_changes_nothing(endpoint, bundles, red_cell, tmp_path):
    first = deploy(endpoint, bundles[0])
    broken = make_bundle(tmp_path / "broken").folder
    (broken / "model.onnx").write_bytes(b"not what the card says")
    unusable = make_bundle(tmp_path / "unusable", graph_classes=2, class_names=("a", "b", "c")).folder

    def change() -> None:
        assert deploy(endpoint, bundles[1], "2", smoke_images=[red_cell]).container == first.container
        with pytest.raises(BundleError, match="corrupt"):
            deploy(endpoint, broken, "3")
        with pytest.raises(DeploymentError, match="refused, version 2 still answers"):
            deploy(endpoint, unusable, "4")

    answers = asking(change, lambda: ask(endpoint, first, red_cell))
    assert {answer.status_code for answer in answers} == {200}
    versions = [answer.json()["model"]["version"] for answer in answers]
    assert (versions[0], versions[-1]) == ("1", "2")


def test_other_limits_make_a_new_container_beside_the_old(endpoint, engine, bundles, red_cell):
    before = deploy(endpoint, bundles[0])
    larger = ContainerEndpoint(endpoint.folder, ContainerSettings(memory="1200m"))
    after = deploy(larger, bundles[1], "2")
    assert after.container != before.container
    assert after.url != before.url
    assert engine.state(before.container) is None
    assert ask(endpoint, after, red_cell).json()["model"]["version"] == "2"


def test_a_given_port_is_kept_and_a_container_that_fails_brings_the_old_one_back(endpoint, bundles, red_cell, tmp_path):
    port = free_port()
    before = deploy(endpoint, bundles[0], port=port)
    larger = ContainerEndpoint(endpoint.folder, ContainerSettings(memory="1200m"))
    after = deploy(larger, bundles[1], "2", port=port)
    assert (after.port, after.container != before.container) == (port, True)
    unusable = make_bundle(tmp_path / "unusable", graph_classes=2, class_names=("a", "b", "c")).folder
    with pytest.raises(DeploymentError, match=r"exited at once: .*export it again"):
        deploy(endpoint, unusable, "3", port=port)
    assert endpoint.server == after
    assert ask(endpoint, after, red_cell).json()["model"]["version"] == "2"


def test_stop_start_and_delete(endpoint, engine, bundles, red_cell):
    before = deploy(endpoint, bundles[0])
    endpoint.stop()
    assert endpoint.server.stopped
    assert not endpoint.is_running
    after = endpoint.start()
    assert (after.port, ask(endpoint, after, red_cell).status_code) == (before.port, 200)
    assert endpoint.start() == after
    endpoint.delete()
    assert engine.state(after.container) is None
    assert not endpoint.folder.exists()


def test_a_killed_container_shows_and_comes_back_at_its_address(endpoint, engine, bundles):
    before = deploy(endpoint, bundles[0])
    engine.run("kill", before.container)
    until(lambda: not endpoint.is_running)
    assert not endpoint.is_ready()
    after = deploy(endpoint, bundles[1], "2")
    assert after.port == before.port
    assert engine.state(before.container) is None


def test_a_port_of_somebody_else_is_named(endpoint, bundles):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(DeploymentError, match=rf"127.0.0.1:{port}: cannot listen"):
            deploy(endpoint, bundles[0], port=port)
    assert endpoint.server is None


def test_current_images_have_labels(engine):
    found = subprocess.run([engine.name, "image", "inspect", IMAGE], check=True, capture_output=True, text=True).stdout
    config = json.loads(found)[0]
    assert config["Config"]["User"] == "10001:10001"
    assert config["Size"] < 700_000_000
    assert json.dumps(config).count("Healthcheck") >= 1
