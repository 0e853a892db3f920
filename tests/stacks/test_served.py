"""Test the output of `visionops endpoints` for a stack."""

from __future__ import annotations

import json
import re

import pytest
from typer.testing import CliRunner

from launch.cli import app
from launch.programs import program
from visionops.inference.settings import ServingConfig

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML and SQLAlchemy warn of their own code


def endpoints(*flags: str) -> str:
    done = CliRunner().invoke(app, ["endpoints", *flags], env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.usefixtures("zenml_home")
def test_each_endpoint_has_its_commands_with_the_whole_id(bundles, monkeypatch):
    from zenml.client import Client

    from stacks.apply import apply

    monkeypatch.setattr("launch.environment.quieten_libraries", lambda: None)  # it sets up the whole process
    apply("local")
    Client().activate_stack("local")
    assert endpoints() == "stack local serves nothing\n"
    deployer = Client().active_stack.model_deployer
    endpoint = deployer.deploy_bundle(
        bundles[0], name="cells", version="3", alias="champion", serving=ServingConfig(port=0)
    )
    try:
        said = endpoints()
        (record,) = deployer.find_model_server()
        assert said.splitlines()[0] == f"cells: version 3 (champion), active, {endpoint.url}"
        uuids = re.findall(r"^  \S*zenml model-deployer models (\w+) +(\S+)   # ", said, re.MULTILINE)
        assert uuids == [(command, str(record.uuid)) for command in ("describe", "logs", "stop", "delete")]
        assert json.loads(endpoints("--json"))["endpoints"][0]["record"] == endpoint.record == str(record.uuid)
        parts = {kind: component[0].name for kind, component in Client().active_stack_model.components.items()}
        Client().activate_stack(Client().create_stack("other", parts).id)
        assert endpoints("--stack", "local").startswith(f"{program('zenml')} stack set local   # so that")
    finally:
        deployer.delete_model_server(record.uuid)
