"""Test the flavor in ZenML: one record for an endpoint, whatever it serves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import requests

from stacks.apply import apply
from tests.conftest import ROOT
from visionops.errors import BundleError, DeploymentError
from visionops.inference.settings import ServingConfig

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML, SQLAlchemy and MLflow warn of their own code


@pytest.fixture
def deployer(zenml_home: Path) -> Iterator:
    """Return the model deployer of the stack `local`; its endpoints stop with the test."""
    from zenml.client import Client

    apply("local")
    Client().activate_stack("local")
    deployer = Client().active_stack.model_deployer
    yield deployer
    for service in deployer.find_model_server():
        deployer.delete_model_server(service.uuid, force=True)
    Client().activate_stack("default")


def deploy(deployer, bundle: Path, version: str = "1", name: str = "cells", **more):
    return deployer.deploy_bundle(
        bundle, name=name, version=version, alias="champion", serving=ServingConfig(port=0), **more
    )


def test_each_name_has_its_own_endpoint(deployer, bundles):
    one, two = deploy(deployer, bundles[0], name="one"), deploy(deployer, bundles[1], name="two")
    assert one.url != two.url
    assert {service.config.model_name for service in deployer.find_model_server()} == {"one", "two"}


def test_a_port_of_another_program_is_refused_and_the_own_one_is_not(deployer, bundles):
    port = urlsplit(deploy(deployer, bundles[0]).url).port
    deployer.check_port("cells", port)
    deployer.check_port("other", 0)
    with pytest.raises(DeploymentError, match=rf"127.0.0.1:{port}: cannot listen .*; stop the program .* serving.port"):
        deployer.check_port("other", port)


def test_a_refused_model_leaves_the_record_alone(deployer, bundles, tmp_path):
    endpoint = deploy(deployer, bundles[0])
    assert Path(endpoint.log).is_file()
    with pytest.raises(BundleError):
        deploy(deployer, tmp_path, "2")
    with pytest.raises(DeploymentError, match="smoke image 1"):
        deploy(deployer, bundles[1], "2", smoke_images=[b"no image"])
    (record,) = deployer.find_model_server()
    assert (record.status.version, record.status.state.value) == ("1", "active")


def test_zenmls_own_way_in_switches_too(deployer, bundles):
    from stacks.deployers.local import LocalServiceConfig

    before = deploy(deployer, bundles[0])
    config = LocalServiceConfig(
        model_name="cells", model_version="2", alias="champion", bundle=str(bundles[1]), serving={"port": 0}
    )
    service = deployer.deploy_model(config)
    assert (service.status.version, service.status.url) == ("2", before.url)
    with pytest.raises(NotImplementedError):
        deployer.perform_deploy_model(service.uuid, config)


def test_a_killed_server_shows_and_starts_again(deployer, bundles):
    endpoint = deploy(deployer, bundles[0])
    (record,) = deployer.find_model_server()
    process = psutil.Process(record.status.pid)
    os.kill(record.status.pid, signal.SIGKILL)
    psutil.wait_procs([process], 60)
    assert deployer.find_endpoint("cells") is None
    (record,) = deployer.find_model_server()
    assert record.status.state.value == "error"
    assert "exited unexpectedly" in record.status.last_error
    record.start()
    assert requests.get(f"{endpoint.url}/ready", timeout=60).ok
    record.stop()
    assert record.check_status()[1] == "stopped"


def test_a_server_without_a_record_does_not_run_on(deployer, bundles, monkeypatch):
    from zenml.client import Client

    def refuse(*_args, **_more):
        raise RuntimeError("the store says no")

    with monkeypatch.context() as patch:
        patch.setattr(Client, "create_service", refuse)
        with pytest.raises(RuntimeError, match="the store says no"):
            deploy(deployer, bundles[0])
    assert not (Path(deployer.config.folder) / "cells").exists()


@pytest.mark.parametrize(("name", "version"), [("../x", "1"), ("cells", "1/2"), ("", "1"), ("cells", "")])
def test_names_that_leave_the_folder_are_refused(deployer, bundles, name, version):
    with pytest.raises(DeploymentError, match="use letters, digits"):
        deploy(deployer, bundles[0], version, name)


def zenml(*commands: tuple[str, ...]) -> str:
    """Run ZenML commands in one other process, as each process takes seconds to import ZenML."""
    program = "import json, sys\nfrom zenml_cli import cli\n"
    program += (
        "for words in json.loads(sys.argv[1]):\n    cli(['model-deployer', 'models', *words], standalone_mode=False)"
    )
    logging = {"ZENML_LOGGING_COLORS_DISABLED": "true", "ZENML_LOGGING_VERBOSITY": "INFO"}  # the doctor sets ERROR
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "300"} | logging
    command = [sys.executable, "-c", program, json.dumps(commands)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_zenml_lists_describes_and_deletes(deployer, bundles):
    endpoint = deploy(deployer, bundles[0], "3")
    (record,) = deployer.find_model_server()
    uuid = str(record.uuid)
    printed = zenml(("list",), ("describe", uuid), ("delete", uuid))
    assert "cells" in printed
    assert f"{endpoint.url}/predict" in printed
    assert deployer.find_model_server() == []
    with pytest.raises(requests.ConnectionError):
        requests.get(endpoint.url, timeout=20)
