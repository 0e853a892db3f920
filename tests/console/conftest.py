"""Fixtures: a console in a separate process over a generated review, and a real browser."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.console.recorded import RECORDING
from tests.control.conftest import write_use_case

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
READY_SECONDS = 120


@dataclasses.dataclass
class Server:
    """A running console."""

    url: str
    process: subprocess.Popen[str]
    home: Path
    configs: Path

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables with which another program opens the same review."""
        return {**os.environ, "VISIONOPS_HOME": str(self.home), "PYTHONPATH": str(ROOT)}

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def serving(
    home: Path,
    configs: Path,
    *flags: str,
    port: int = 0,
    facts: Path | None = RECORDING,
    program: Sequence[str] = (),
) -> Iterator[Server]:
    """Run a console during the block, at a free port unless one is given.

    Args:
        facts: Recorded answers instead of those of ZenML and MLflow; None to use the real ones.
        program: Other module that serves the console, with its first arguments.
    """
    environment = {**os.environ, "VISIONOPS_HOME": str(home), "PYTHONPATH": str(ROOT)}
    program = program or (("tests.console.recorded", "serve", str(facts)) if facts else ("deploy.console",))
    command = [sys.executable, "-m", *program, "--configs", str(configs), "--port", str(port), *flags]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    watch = threading.Timer(READY_SECONDS, process.kill)
    watch.start()
    try:
        assert process.stdout is not None
        match = re.search(r"http://\S+", process.stdout.readline())
        watch.cancel()
        assert match, "the console has ended before it served"
        yield Server(match[0], process, home, configs)
    finally:
        watch.cancel()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An empty home, and a folder of use cases."""
    folder = tmp_path_factory.mktemp("console")
    write_use_case(folder / "configs", "steel")
    return folder / "home", folder / "configs"


@pytest.fixture(scope="module")
def console(places: tuple[Path, Path]) -> Iterator[Server]:
    """The console of the tests of a module."""
    with serving(*places) as server:
        yield server


@pytest.fixture(scope="module")  # while it runs, no other test of the process can use asyncio.run
def chromium() -> Iterator[Any]:
    """Debian's browser, headless."""
    if CHROMIUM is None:
        pytest.skip("no Chromium; apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclasses.dataclass
class Looked:
    """Errors of a browser during a test."""

    problems: list[str] = dataclasses.field(default_factory=list)
    foreign: list[str] = dataclasses.field(default_factory=list)
    """Requests to other servers."""


@pytest.fixture
def looked() -> Looked:
    return Looked()


@pytest.fixture
def page(chromium: Any, console: Server, looked: Looked) -> Iterator[Any]:
    """A page at 1440 x 900; a console error or a request to another server fails the test at its end."""
    with opened(chromium, console.url, looked) as found:
        yield found
    assert not looked.problems
    assert not looked.foreign


@contextlib.contextmanager
def opened(
    browser: Any, url: str, looked: Looked, width: int = 1440, height: int = 900, **options: Any
) -> Iterator[Any]:
    """Open a page in a separate context, and collect its errors."""
    context = browser.new_context(base_url=url, viewport={"width": width, "height": height}, **options)
    page = context.new_page()
    page.set_default_timeout(30_000)
    page.on("console", lambda message: message.type == "error" and looked.problems.append(message.text))
    page.on("pageerror", lambda error: looked.problems.append(str(error)))
    page.on("request", lambda request: _note_foreign(request.url, url, looked))
    yield page
    context.close()


def _note_foreign(requested: str, own: str, looked: Looked) -> None:
    if not requested.startswith((own, own.replace("http", "ws", 1), "data:", "blob:")):
        looked.foreign.append(requested)


def accessibility_problems(page: Any, within: str | None = None) -> list[str]:
    """Return axe-core's serious and critical findings on a page, or in the part that a selector names."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, context=within).response["violations"]
    return [
        f"{one['id']} ({one['impact']}): {one['nodes'][0]['html'][:200]}"
        for one in found
        if one["impact"] in {"serious", "critical"}
    ]
