"""Test training, promotion and rollback through the control service, with their effects on registry and endpoint.

Takes minutes: make control-loop.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.http.keys import Client, KeyRole, make_key
from tests.helpers.programs import free_port, started, until
from tests.integration.conftest import write_tiny
from tests.integration.test_review_loop import steady_load

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not os.environ.get("VISIONOPS_WHOLE"), reason="takes minutes: make control-loop"),
]

NAME = "sample"
PATIENCE = 1800.0


def write_config(folder: Path, *settings: str) -> Path:
    """Write a small version of configs/sample.yaml, the service's only input."""
    return write_tiny(folder / f"{NAME}.yaml", NAME, "monitoring.policy.cooldown_hours=24", *settings)


@contextmanager
def control(folder: Path, config: Path, key: str, environment: dict[str, str]) -> Iterator[httpx.Client]:
    """Run the service and kill it at the end; its runs continue."""
    port = free_port()
    command = (sys.executable, "-m", "deploy.control", "--configs", str(config.parent), "--port", str(port))
    with (
        started(folder, port, *command, "--keys", str(folder / "keys"), ready="/ready", env=environment),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"X-API-Key": key}, timeout=200) as client,
    ):
        yield client


def test_what_is_queued_over_http_changes_what_the_champion_serves(machine, tmp_path: Path):
    key, line = make_key(Client("planner", KeyRole.ADMIN))
    (tmp_path / "keys").write_text(line)
    environment = machine.env | {"VISIONOPS_REVIEW_DATABASE": str(tmp_path / "review.db")}
    config = write_config(tmp_path / "configs")

    # Started elsewhere, so the service only finds it in the registry.
    done = machine.run("--config", str(config))
    assert done.returncode == 0, done.stderr[-3000:]

    config = write_config(tmp_path / "configs", "training.seed=1", "gate.minimum=0.99")
    with control(tmp_path, config, key, environment) as client:
        refused = client.post("/retrain", json={"use_case": NAME})
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "cooling_down")
        body = {"use_case": NAME, "override": True, "reason": "another seed"}
        training = client.post("/retrain", json=body).headers["Location"]
        until(lambda: "train" in str(client.get(training).json()["step"]), PATIENCE)
    # The first service was killed in the middle of the training.
    with control(tmp_path, config, key, environment) as client:

        def ended(where: str) -> dict[str, Any]:
            states = {"succeeded", "failed", "cancelled", "lost"}
            found: dict[str, Any] = until(
                lambda: (run := client.get(where).json())["state"] in states and run, PATIENCE
            )
            return found

        trained = ended(training)
        assert (trained["state"], trained["exit_code"]) == ("succeeded", 0), trained
        assert trained["summary"]["model"] == {"name": NAME, "version": "2", "alias": "challenger"}
        assert not trained["summary"]["gate"]["promote"]
        endpoint = trained["summary"]["endpoint"]
        image = Path(trained["summary"]["sample_image"]).read_bytes()

        def served() -> str:
            answer = httpx.post(f"{endpoint['url']}/predict", files={"file": image}, timeout=60).raise_for_status()
            return str(answer.json()["model"]["version"])

        def model() -> dict[str, Any]:
            found: dict[str, Any] = client.get("/models").json()[NAME]
            return found

        def versions(key: str) -> dict[str, Any]:
            return {version["version"]: version[key] for version in model()["versions"]}

        assert (served(), model()["champion"]) == ("1", "1")
        with steady_load(endpoint["url"], image) as answers:
            url = f"/models/{NAME}"
            no = ended(client.post(f"{url}/promote", json={"version": "2", "reason": "why not"}).headers["Location"])
            assert (no["state"], no["exit_code"]) == ("failed", 2), no
            assert "was refused by the gate" in no["message"]
            assert (served(), model()["champion"]) == ("1", "1")

            body = {"version": "2", "reason": "seen on line 3", "override": True}
            promoted = ended(client.post(f"{url}/promote", json=body).headers["Location"])
            assert promoted["state"] == "succeeded", promoted
            assert (served(), model()["champion"]) == ("2", "2")
            assert versions("promoted_by_hand") == {"1": None, "2": "planner: seen on line 3"}
            assert "champion" in versions("aliases")["2"]

            rolled = ended(client.post(f"{url}/rollback", json={"reason": "misses dents"}).headers["Location"])
            assert rolled["state"] == "succeeded", rolled
            assert (served(), model()["champion"]) == ("1", "1")
            assert versions("rolled_back") == {"1": False, "2": True}

            again = ended(client.post(f"{url}/promote", json=body).headers["Location"])
            assert again["state"] == "failed"
            assert "was rolled back by hand" in again["message"]
            assert (served(), model()["champion"]) == ("1", "1")
        assert set(answers) == {"200 1", "200 2"}, answers

        runs = [(run["kind"], run["state"], run["actor"], run["reason"]) for run in client.get("/runs").json()]
        assert runs[::-1] == [
            ("retrain", "succeeded", "planner", "another seed"),
            ("promote", "failed", "planner", "why not"),
            ("promote", "succeeded", "planner", "seen on line 3"),
            ("rollback", "succeeded", "planner", "misses dents"),
            ("promote", "failed", "planner", "seen on line 3"),
        ]
        sys.stdout.write(f"runs {runs[::-1]}\nanswers under load {dict(answers)}\n")
