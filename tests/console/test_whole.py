"""The console over a real stack, in a browser: train, watch, promote, roll back, drill (`make console`).

ZenML, MLflow, trainer, endpoint and facts are real; the use case is a tiny version of the sample.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.conftest import ROOT
from tests.console.conftest import Looked, Server, opened, serving
from tests.integration.conftest import TINY

pytestmark = [
    pytest.mark.skipif("VISIONOPS_CONSOLE" not in os.environ, reason="takes minutes; make console"),
    pytest.mark.timeout(7200),
]

PATIENCE = 1_800_000
"""Maximum milliseconds for a run, on a busy machine."""


def tiny(**changes: Any) -> str:
    """Write the sample's use case with settings that let it run in seconds."""
    found = yaml.safe_load((ROOT / "configs" / "sample.yaml").read_text())
    given = dict(setting.split("=", 1) for setting in TINY)
    given |= {
        "monitoring.policy.cooldown_hours": "0",
        "monitoring.drift.min_images": "5",  # of the reference, which has 6
        "serving.prediction_log_images": "0.2",
        **changes,
    }
    for key, value in given.items():
        *path, last = key.split(".")
        section = found
        for part in path:
            section = section.setdefault(part, {})
        section[last] = yaml.safe_load(value)
    return yaml.safe_dump(found)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A separate home, whose endpoints are stopped at the end."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZENML_CONFIG_PATH", str(folder / "zenml"))
        patch.setenv("ZENML_LOCAL_STORES_PATH", str(folder / "stores"))
        patch.setenv("PYTHONWARNINGS", "ignore")
        yield folder
    serving_from = str(folder / "home" / "serving")
    for process in psutil.process_iter(["cmdline"]):
        if any(serving_from in word for word in process.info["cmdline"] or ()):
            process.kill()


@pytest.fixture(scope="module")
def console(environment: Path) -> Iterator[Server]:
    configs = environment / "configs"
    configs.mkdir()
    (configs / "sample.yaml").write_text(tiny())
    with serving(environment / "home", configs, facts=None) as server:
        yield server


def go(page: Any, path: str) -> None:
    page.goto(path)
    page.get_by_role("heading", level=1).wait_for()
    page.wait_for_function("document.querySelectorAll('[aria-busy=true]').length === 0", timeout=PATIENCE)


def follow(page: Any, state: str) -> None:
    """Wait until a run has ended, in this state."""
    page.get_by_role("region", name="Outcome").wait_for(timeout=PATIENCE)
    region = page.locator("section").first
    assert state in region.inner_text(), page.get_by_role("log").inner_text()


def test_a_model_is_trained_watched_promoted_and_rolled_back(chromium: Any, console: Server, looked: Looked):
    with opened(chromium, console.url, looked) as page:
        go(page, "/training")
        page.get_by_role("button", name="Start", exact=True).click()
        page.get_by_role("heading", name="retrain of sample").wait_for()
        page.get_by_text("running", exact=True).wait_for(timeout=PATIENCE)
        page.get_by_role("log").get_by_text(re.compile("validate|train")).wait_for(timeout=PATIENCE)
        follow(page, "succeeded")
        page.get_by_role("link", name=re.compile("^training-")).click()
        page.get_by_role("img", name="Figures on the val split").wait_for(timeout=PATIENCE)

        go(page, "/")
        card = page.locator("section.vo-card").last
        assert re.search(r"Champion\s+version 1", card.inner_text())
        assert re.search(r"Endpoint\s+ready", card.inner_text())

        page.goto("/training")
        page.locator(".cm-content").click()
        page.keyboard.press("Control+a")
        page.keyboard.insert_text(tiny(**{"training.seed": "1", "gate.minimum": "0.99"}))
        page.get_by_text("sample: valid, differs from the file").wait_for()
        page.get_by_role("button", name="Save", exact=True).click()
        page.get_by_role("button", name="Replace").click()
        page.get_by_text("sample: valid, same as the file").wait_for()
        page.get_by_role("button", name="Start", exact=True).click()
        page.get_by_role("heading", name="retrain of sample").wait_for()
        follow(page, "succeeded")
        go(page, "/")
        page.get_by_role("link", name="sample: the gate refused version 2").click()

        page.get_by_role("heading", name="Version 2: decision of the gate").wait_for(timeout=PATIENCE)
        page.get_by_role("button", name="Ask both versions").click()
        page.get_by_text(re.compile(r"They differ on \d+ of \d+ images")).wait_for(timeout=PATIENCE)
        page.get_by_role("button", name="Promote").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Reason").fill("seen on line 3")
        dialog.get_by_role("checkbox", name="Promote it against the gate").click()
        dialog.get_by_role("button", name="Promote").click()
        dialog.get_by_role("button", name="Promote against the gate").click()
        page.get_by_role("heading", name="promote of sample").wait_for()
        follow(page, "succeeded")

        go(page, "/models?use_case=sample")
        assert re.search(r"version 2\s+champion.*promoted by local: seen on line 3", _text(page, "Versions"))
        page.get_by_role("button", name="Roll back").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Reason").fill("misses scratches")
        dialog.get_by_role("button", name="Roll back").click()
        page.get_by_role("heading", name="rollback of sample").wait_for()
        follow(page, "succeeded")
        go(page, "/models?use_case=sample")
        assert re.search(r"version 1\s+champion", _text(page, "Versions"))

        go(page, "/monitoring")
        page.get_by_role("spinbutton", name="Images").fill("60")
        page.get_by_role("button", name="Send").click()
        page.get_by_text("succeeded", exact=True).wait_for(timeout=PATIENCE)
        command = [sys.executable, "-m", "launch.cli", "monitor", "--decide-only"]
        subprocess.run(
            [*command, "--config", str(console.configs / "sample.yaml")], env=console.environment, check=True, cwd=ROOT
        )
        page.wait_for_timeout(31_000)  # a fact stays as it is for half a minute
        go(page, "/monitoring")
        page.get_by_text(re.compile(r"^Drift: \d+ of \d+ columns in 60 images")).wait_for()
        assert page.get_by_role("region", name="Images").get_by_role("img").count() > 8
    assert looked == Looked()


def _text(page: Any, region: str) -> str:
    return str(page.get_by_role("region", name=region).inner_text())
