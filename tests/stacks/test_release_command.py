"""Test `visionops release` on the stack local with a real registry, server and traffic; run by `make releases`."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests
from typer.testing import CliRunner

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # ZenML and SQLAlchemy warn of their own code
    pytest.mark.skipif(not os.environ.get("VISIONOPS_RELEASES"), reason="make releases runs it"),
    pytest.mark.timeout(3600),
]

CONFIG = """
name: cells
data: {source: {kind: folder, path: data}}
gate: {minimum: 0.1}
serving:
  port: 0
  release: {strategy: canary, share: 0.5, hold_minutes: 0, min_requests: 5, min_agreement: 0.9, max_latency_ratio: 1000}
"""


def run(*words: str, code: int = 0, command: str = "release") -> str:
    from launch.cli import app

    result = CliRunner().invoke(app, [command, *words])
    assert result.exit_code == code, result.output
    return result.output


def test_a_release_from_its_beginning_to_both_ends(zenml_home: Path, tmp_path: Path, red_cell: bytes):
    from zenml.client import Client

    from stacks.apply import apply
    from steps.context import active_deployer, active_registry
    from tests.helpers.bundles import make_bundle
    from tests.helpers.tracking import add_version
    from tests.review_store.test_arms import CELLS, PLACES, decide
    from visionops.canary.holding import begin, put_into_service, release_state
    from visionops.config import load_config
    from visionops.review_store.opening import open_review

    apply("local")
    Client().activate_stack("local")
    file = tmp_path / "cells.yaml"
    file.write_text(CONFIG)
    config = load_config(file)
    registry, deployer = active_registry(), active_deployer()
    import mlflow

    mlflow.MlflowClient(registry.tracking_uri).create_experiment("registry", (tmp_path / "artifacts").as_uri())
    versions = [add_version(registry, "cells", tmp_path, gain) for gain in (2.0, 1.5)]
    strange = add_version(registry, "cells", tmp_path, 1.6, class_names=("a", "b", "c"))
    other = add_version(registry, "cells", tmp_path, 1.25)
    registry.promote(versions[0])
    put_into_service(registry, deployer, versions[0], config.serving, ())
    found = deployer.find_endpoint("cells")

    def ask(count: int) -> list[str]:
        key = {"X-API-Key": found.key.get_secret_value()}
        answers = [
            requests.post(f"{found.url}/predict", files={"file": red_cell}, headers=key, timeout=60)
            for _ in range(count)
        ]
        assert {answer.status_code for answer in answers} == {200}
        return [answer.json()["model"]["version"] for answer in answers]

    def try_out(version: Any) -> None:
        begin(registry, deployer, version, registry.champion("cells"), config.serving, (), datetime.now(UTC))

    words = ("--config", str(file))
    try:
        assert "there is no candidate beside the champion" in run("status", *words, code=2)
        try_out(versions[1])
        assert "hold      0 images of 5 that it must answer" in run("status", *words)
        assert set(ask(60)) == {"1", "2"}
        assert "promote   kept its bounds for 0 minutes: failed on 0 of" in run("status", *words)
        summary = tmp_path / "summary.json"
        assert "promoted  kept its bounds" in run("watch", *words, "--once", "--summary", str(summary))
        assert json.loads(summary.read_text())["release"]["stage"] == "promoted"
        assert registry.champion("cells").version == "2"
        assert set(ask(5)) == {"2"}

        try_out(strange)
        for _ in range(40):
            ask(5)
        assert "returned  canary version 3 agreed with the champion by 0.000" in run("watch", *words)
        state = release_state(registry.by_version("cells", "3"))
        assert (state.stage, state.figures["agreement"]) == ("returned", 0.0)
        assert set(ask(5)) == {"2"}

        assert "--reason: empty" in run("abort", *words, "--reason", " ", code=2)
        try_out(strange)
        assert "returned  misses scratches" in run("abort", *words, "--reason", "misses scratches", "--as", "ann")
        assert release_state(registry.by_version("cells", "3")).by == "ann"
        assert set(ask(5)) == {"2"}

        assert "no candidate next to the champion, so there is nothing to compare" in run("compare", *words, code=2)
        try_out(other)
        labeller = make_bundle(tmp_path / "labeller")
        with open_review() as review:
            review.put_use_case(CELLS)
            for number, place in enumerate(PLACES[:6]):
                decide(review, labeller, "24"[number % 2], [("red", *place)])
        said = run("compare", *words)
        assert "champion  version 2: 1.000" in said
        assert "candidate version 4: 1.000" in said
        assert "which may be chance" in said
        assert "hold      " in run("status", *words)
        promoted = ("promote", *words, "--reason", "seen on line 3", "--as", "ann")
        assert "promoted  seen on line 3" in run(*promoted)
        assert registry.champion("cells").version == "4"
        assert (release_state(registry.champion("cells")).by, set(ask(5))) == ("ann", {"4"})
        assert "there is no candidate beside the champion" in run(*promoted, code=2)

        listed = json.loads(run("cells", "--json", command="models").splitlines()[-1])["cells"]["versions"]
        ends = {one["version"]: (one["release"]["stage"], one["release"]["by"]) for one in listed if one["release"]}
        assert ends == {"2": ("promoted", ""), "3": ("returned", "ann"), "4": ("promoted", "ann")}
    finally:
        for service in deployer.find_model_server():
            deployer.delete_model_server(service.uuid, force=True)
