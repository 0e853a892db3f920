"""Test that a server process is found again, switched without a failed request, and never left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import requests

from stacks.deployers import host_endpoint as host_endpoint_module
from stacks.deployers import ports
from stacks.deployers.endpoint import LocalEndpoint, Server
from tests.helpers.bundles import make_bundle
from tests.helpers.programs import free_port, until
from visionops.errors import BundleError, DeploymentError
from visionops.inference.bundle import ModelBundle
from visionops.inference.settings import ServingConfig
from visionops.monitoring.log_reading import read_log

ANY_PORT = ServingConfig(port=0)
NO_PORT = ServingConfig()


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[LocalEndpoint]:
    """Return an endpoint with nothing deployed; its server stops with the test."""
    endpoint = LocalEndpoint(tmp_path / "serving" / "cells")
    yield endpoint
    endpoint.delete(force=True)


def deploy(
    endpoint: LocalEndpoint, bundle: Path, version: str = "1", serving: ServingConfig = ANY_PORT, **more
) -> Server:
    return endpoint.deploy(bundle, name="cells", version=version, alias="champion", serving=serving, **more)


def ask(server: Server, image: bytes, session: requests.Session | None = None) -> requests.Response:
    return (session or requests).post(f"{server.url}/predict", files={"file": image}, timeout=30)


def version_of(server: Server) -> str:
    return requests.get(f"{server.url}/model", timeout=30).json()["version"]


def test_first_deployment_starts_a_detached_server(endpoint, bundles, red_cell):
    server = deploy(
        endpoint, bundles[0], serving=ServingConfig(port=0, prediction_log_images=1.0), smoke_images=[red_cell]
    )
    answer = ask(server, red_cell).json()
    assert answer["model"] == {"name": "cells", "version": "1", "alias": "champion"}
    assert answer["detections"][0]["class_name"] == "red"
    assert endpoint.is_running
    assert endpoint.is_ready()
    assert os.getsid(server.pid) == server.pid
    assert stat.S_IMODE((endpoint.folder / "admin.key").stat().st_mode) == 0o600
    assert json.loads(endpoint.log.read_text().splitlines()[0])["event"] == "started"
    assert server.served.bundle.is_relative_to(endpoint.folder)
    until(lambda: list(endpoint.predictions.glob("images/*/*.png")))
    assert read_log(endpoint.predictions).num_rows == 1  # the smoke image is not traffic


def test_the_server_gets_no_credentials_of_the_run_but_those_of_its_store(endpoint, bundles, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("PGPASSWORD", "of the store")
    store = "postgresql://tester@127.0.0.1:1/postgres"
    server = deploy(endpoint, bundles[0], serving=ServingConfig(port=0, prediction_log_store=store))
    environment, command = psutil.Process(server.pid).environ(), psutil.Process(server.pid).cmdline()
    assert "AWS_SECRET_ACCESS_KEY" not in environment
    assert environment["PGPASSWORD"] == "of the store"
    assert store in command
    assert not {environment["VISIONOPS_ADMIN_KEY"], "of the store"} & set(command)


def test_switching_loses_no_request_and_a_broken_bundle_changes_nothing(endpoint, bundles, red_cell, tmp_path):
    """Switch, roll back and refuse models under load without a failed request."""
    broken = make_bundle(tmp_path / "broken").folder
    (broken / "model.onnx").write_bytes(b"not what the card says")
    unusable = make_bundle(tmp_path / "unusable", graph_classes=2, class_names=("a", "b", "c")).folder
    first = deploy(endpoint, bundles[0], "1")
    done = threading.Event()

    def keep_asking() -> list[tuple[int, str, float]]:
        answers = []
        with requests.Session() as session:
            while not done.is_set() and len(answers) < 5000:
                response = ask(first, red_cell, session)
                body = response.json() if response.ok else {"model": {"version": response.text}}
                answers.append((response.status_code, body["model"]["version"], body["detections"][0]["confidence"]))
        return answers

    with ThreadPoolExecutor(3) as pool:
        clients = [pool.submit(keep_asking) for _ in range(3)]
        try:
            for version in range(2, 7):
                server = deploy(endpoint, bundles[(version + 1) % 2], str(version), smoke_images=[red_cell])
                assert (server.pid, server.port) == (first.pid, first.port)
                assert version_of(server) == str(version)
                if version == 4:
                    with pytest.raises(BundleError, match="corrupt"):
                        deploy(endpoint, broken, "broken")
                    with pytest.raises(DeploymentError, match="refused, version 4 still answers"):
                        deploy(endpoint, unusable, "unusable")
                    assert version_of(server) == "4"
        finally:
            done.set()
        answers = [answer for client in clients for answer in client.result(60)]
    assert {status for status, _, _ in answers} == {200}
    seen = Counter(version for _, version, _ in answers)
    assert set(seen) <= {"1", "2", "3", "4", "5", "6"}
    assert len(seen) >= 3, seen
    assert {confidence for _, _, confidence in answers} == {1.0}
    assert endpoint.server.served.version == "6"
    assert len(list((endpoint.folder / "bundles").iterdir())) == 2


def test_what_was_compiled_is_kept_for_as_long_as_its_bundle(endpoint, bundles, tmp_path):
    def compiled() -> set[str]:
        return {path.name for path in (endpoint.folder / "cache").iterdir() if any(path.iterdir())}

    served = [*bundles, make_bundle(tmp_path / "three", gain=1.2).folder]
    digests = [ModelBundle.load(folder).digest[:12] for folder in served]
    for version, folder in enumerate(served, start=1):
        deploy(endpoint, folder, str(version))
    assert compiled() == set(digests[1:])
    endpoint.stop()
    endpoint.start()
    assert compiled() == set(digests[1:])


def test_a_first_model_that_does_not_answer_leaves_no_process(endpoint, tmp_path):
    unusable = make_bundle(tmp_path / "unusable", graph_classes=2, class_names=("a", "b", "c")).folder
    with pytest.raises(DeploymentError, match=r"the server does not answer .*export it again") as caught:
        deploy(endpoint, unusable)
    assert "\n" not in str(caught.value)
    assert endpoint.server is None
    assert not any(str(endpoint.log) in " ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"]))


def test_a_smoke_image_that_fails_leaves_no_process(endpoint, bundles):
    with pytest.raises(DeploymentError, match="cells version 1: smoke image 1: not a readable image"):
        deploy(endpoint, bundles[0], smoke_images=[b"no image"])
    assert endpoint.server is None


def test_a_port_in_use_is_named_with_the_fix(endpoint, bundles):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            DeploymentError, match=rf"127.0.0.1:{port}: cannot listen \(Address already in use\).*serving.port"
        ):
            deploy(endpoint, bundles[0], serving=ServingConfig(port=port))
    assert endpoint.server is None
    deploy(endpoint, bundles[0], serving=ServingConfig(port=port))


def test_without_a_port_the_second_endpoint_takes_a_free_one_and_each_keeps_its_own(
    endpoint, bundles, tmp_path, monkeypatch
):
    monkeypatch.setattr(ports, "_USUAL", usual := free_port())
    first = deploy(endpoint, bundles[0], serving=NO_PORT)
    assert first.port == usual
    other = LocalEndpoint(tmp_path / "other")
    try:
        second = deploy(other, bundles[0], serving=NO_PORT)
        assert second.port not in {0, usual}
        endpoint.stop()
        other.stop()
        assert (deploy(other, bundles[0], serving=NO_PORT).port, endpoint.start().port) == (second.port, usual)
        assert deploy(endpoint, bundles[1], "2", NO_PORT).port == usual
    finally:
        other.delete()


@pytest.mark.parametrize(
    ("wanted", "last", "tried"),
    [(9000, 8123, (9000,)), (0, 8123, (8123, 0)), (0, 0, (0,)), (None, 8123, (8123, 0)), (None, 0, (8000, 0))],
)
def test_only_a_port_of_the_settings_is_never_replaced(wanted, last, tried):
    assert ports.ports_to_try(wanted, last) == tried


def test_another_port_moves_the_server(endpoint, bundles, red_cell):
    before = deploy(endpoint, bundles[0])
    port = free_port()
    after = deploy(endpoint, bundles[1], "2", ServingConfig(port=port))
    assert (after.port, version_of(after)) == (port, "2")
    assert not psutil.pid_exists(before.pid)


def test_a_killed_server_is_started_again_at_its_address(endpoint, bundles):
    before = deploy(endpoint, bundles[0])
    os.kill(before.pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(before.pid)], 60)
    assert not endpoint.is_running
    assert not endpoint.is_ready()
    after = deploy(endpoint, bundles[1], "2")
    assert after.pid != before.pid
    assert after.port == before.port
    assert version_of(after) == "2"


def test_stop_and_start(endpoint, bundles):
    before = deploy(endpoint, bundles[0], "3")
    endpoint.stop()
    assert endpoint.server.stopped
    assert not psutil.pid_exists(before.pid)
    after = endpoint.start()
    assert (after.port, version_of(after)) == (before.port, "3")
    assert endpoint.start() == after


def test_nothing_to_start(endpoint):
    with pytest.raises(DeploymentError, match="nothing was deployed here"):
        endpoint.start()
    endpoint.stop()


def test_delete_ends_the_process_and_removes_its_files(endpoint, bundles):
    server = deploy(endpoint, bundles[0])
    endpoint.delete()
    assert not psutil.pid_exists(server.pid)
    assert not endpoint.folder.exists()
    with socket.create_server(("127.0.0.1", server.port)):
        pass


def test_a_recycled_pid_is_neither_trusted_nor_killed(endpoint, bundles):
    server = deploy(endpoint, bundles[0])
    endpoint.stop()
    stranger = server.model_copy(update={"pid": os.getpid()})
    same_start = stranger.model_copy(update={"started": psutil.Process().create_time()})
    for record in (stranger, same_start):
        endpoint._write(endpoint._record, record)
        assert not endpoint.is_running
        endpoint.stop(force=True)  # would kill this test


def test_what_a_killed_deployment_left_is_cleared_away(endpoint, bundles):
    stray = deploy(endpoint, bundles[0])
    endpoint._record.rename(endpoint._starting)
    server = deploy(endpoint, bundles[1], "2")
    assert server.pid != stray.pid
    assert not psutil.pid_exists(stray.pid)
    assert not endpoint._starting.exists()


def test_a_damaged_copy_is_made_again(endpoint, bundles, tmp_path):
    source = shutil.copytree(bundles[0], tmp_path / "source")
    server = deploy(endpoint, source)
    (server.served.bundle / "model.onnx").write_bytes(b"damaged")
    deploy(endpoint, source)
    shutil.rmtree(source)  # the artifact store is gone
    assert deploy(endpoint, server.served.bundle).pid == server.pid


def test_a_server_of_another_key_refuses_the_switch(endpoint, bundles):
    deploy(endpoint, bundles[0])
    (endpoint.folder / "admin.key").write_text("other")
    with pytest.raises(DeploymentError, match="refused, version 1 still answers: the key"):
        deploy(endpoint, bundles[1], "2")


def test_a_server_that_hangs_is_named(endpoint, bundles, monkeypatch):
    deploy(endpoint, bundles[0])

    def time_out(*_args, **_more):
        raise requests.ReadTimeout

    with monkeypatch.context() as patch:
        patch.setattr(host_endpoint_module, "http", time_out)
        with pytest.raises(DeploymentError, match="did not answer in 1"):
            deploy(endpoint, bundles[1], "2", timeout=1)
        assert not endpoint.is_ready()


def test_deployments_of_one_name_wait_for_each_other(endpoint, bundles):
    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(deploy, endpoint, bundles[n % 2], str(n)) for n in range(3)]
        servers = [job.result(180) for job in jobs]
    assert len({server.pid for server in servers}) == 1
    assert version_of(servers[0]) == endpoint.server.served.version


def test_a_deployment_that_waits_too_long_says_so(endpoint):
    with endpoint._exclusive(1), pytest.raises(DeploymentError, match="another deployment"), endpoint._exclusive(0):
        pass


def test_an_unwritable_folder_is_named(tmp_path, bundles):
    (tmp_path / "file").write_text("")
    with pytest.raises(DeploymentError, match=r"file.*Not a directory"):
        deploy(LocalEndpoint(tmp_path / "file" / "cells"), bundles[0])


def test_a_full_disk_is_named(endpoint, bundles, monkeypatch):
    def no_space(*_args):
        raise OSError(28, "No space left on device", str(endpoint.folder))

    monkeypatch.setattr(shutil, "copyfile", no_space)
    with pytest.raises(DeploymentError, match="No space left on device"):
        deploy(endpoint, bundles[0])
    assert list((endpoint.folder / "bundles").iterdir()) == []


def test_addresses():
    server = Server.model_construct(host="0.0.0.0", port=1)
    assert server.url == "http://127.0.0.1:1"
    assert Server.model_construct(host="::1", port=2).url == "http://[::1]:2"
