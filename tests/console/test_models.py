"""Overview, training, models and monitoring in a real browser, over recorded facts."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.console.conftest import Looked, Server, accessibility_problems, opened, serving
from tests.console.recorded import RECORDING
from visionops.review_store.database import Database
from visionops.review_store.runs import SqlRunStore
from visionops.runs.states import ENDED, Kind, Run, RunState, advance

HOSTILE = "<img src=x onerror=alert(1)>"
"""A class of the data set is called this."""


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A console that starts no run, so that requested runs stay in the queue."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "configs").mkdir()
    shutil.copy(ROOT / "configs" / "sample.yaml", folder / "configs")
    facts = folder / "facts.json"
    facts.write_text(RECORDING.read_text().replace("inclusion", HOSTILE))
    with serving(folder / "home", folder / "configs", "--starts-runs", "false", facts=facts) as server:
        yield server


@pytest.fixture
def runs(console: Server) -> Iterator[SqlRunStore]:
    """The queue; runs of a test are removed at its end."""
    store = SqlRunStore(Database(str(console.home / "review" / "review.db")))
    yield store
    for run in store.runs("sample", 100):
        if run.state not in ENDED:
            cancelled = store.cancel(run.id, "test", run.queued)
            if cancelled.state is RunState.RUNNING:
                store.end(advance(cancelled, RunState.CANCELLED, run.queued))
    store.close()


def newest(runs: SqlRunStore) -> Run:
    return runs.runs("sample", 1)[0]


def go(page: Any, path: str) -> None:
    """Open a page and wait for its slow parts."""
    page.goto(path)
    page.get_by_role("heading", level=1).wait_for()
    page.wait_for_function("document.querySelectorAll('[aria-busy=true]').length === 0")


@pytest.mark.parametrize(
    ("path", "shows"),
    [
        ("/", "the gate refused version 2"),
        ("/training", "training-2026_11_29-23_24_01_451617"),
        ("/training?run=training-2026_11_29-23_14_05_627215", "training.epochs"),
        ("/models?use_case=sample", "refused: map50 0.000 does not beat the champion's 0.820 by 0.005"),
        ("/monitoring?use_case=sample", "Drift: 16 of 22 columns in 200 images"),
    ],
)
def test_each_page_is_full_accessible_and_fits_a_tablet(
    chromium: Any, console: Server, looked: Looked, path: str, shows: str
):
    with opened(chromium, console.url, looked, 820) as page:
        go(page, path)
        page.get_by_text(shows).first.wait_for()
        assert accessibility_problems(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert looked == Looked()


def test_the_overview_says_what_needs_a_person(page: Any):
    go(page, "/")
    needs = page.get_by_role("region", name="Needs a person")
    assert "the endpoint is silent" in needs.inner_text()
    assert "73% of the columns drifted" in needs.inner_text()
    card = page.locator("section.vo-card").filter(has_text="sample.yaml")
    for words in ("version 1", "map50 0.820", "200 predictions", "nothing is reviewed"):
        assert words in card.last.inner_text()
    # Another test may have ordered a run meanwhile.
    assert re.search(r"Last run\s+(training\s+completed|\w+\s+cancelled)", card.last.inner_text())
    needs.get_by_role("link", name=re.compile("gate refused")).click()
    page.get_by_role("heading", name="Version 2: decision of the gate").wait_for()


def test_a_use_case_is_checked_while_it_is_typed(page: Any, console: Server):
    go(page, "/training")
    start = page.get_by_role("button", name="Start", exact=True)
    assert start.is_enabled()
    page.locator(".cm-content").click()
    page.keyboard.press("Control+End")
    page.keyboard.type("gaet:\n", delay=0)
    page.get_by_text(re.compile(r"sample\.yaml:\d+: .*gaet")).wait_for()
    assert start.is_disabled()
    assert page.get_by_role("button", name="Save", exact=True).is_disabled()
    page.keyboard.press("Control+a")
    text = (ROOT / "configs" / "sample.yaml").read_text().replace("name: sample", "name: sample-two")
    page.keyboard.insert_text(text)
    page.get_by_text("sample-two: valid, differs from the file").wait_for()
    assert start.is_disabled(), "what is not saved cannot be started"
    page.get_by_label("Save as").fill("../two.yaml")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_text("a file name has lower-case letters").wait_for()
    page.get_by_label("Save as").fill("sample.yaml")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("heading", name="Replace sample.yaml?").wait_for()
    page.get_by_role("button", name="Cancel").last.click()
    page.get_by_label("Save as").fill("two.yaml")
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url("**/training?use_case=sample-two")
    try:
        assert (console.configs / "two.yaml").read_text() == text
        assert "name: sample\n" in (console.configs / "sample.yaml").read_text()
    finally:
        (console.configs / "two.yaml").unlink()


def test_a_training_is_ordered_followed_and_cancelled(page: Any, console: Server, runs: SqlRunStore):
    go(page, "/training")
    page.get_by_label("Reason (optional)").fill(HOSTILE)
    page.get_by_role("checkbox", name="Override the cooldown since the last training").click()
    page.get_by_role("button", name="Start", exact=True).click()
    page.get_by_role("heading", name="retrain of sample").wait_for()
    order = newest(runs)
    assert (order.request.kind, order.request.reason, order.actor) == (Kind.RETRAIN, HOSTILE, "local")
    assert order.state is RunState.QUEUED
    page.get_by_text(HOSTILE).wait_for()
    assert page.locator("img[src=x]").count() == 0

    now = order.queued
    taken = runs.take("test", os.uname().nodename, now, now)
    assert taken is not None
    folder = console.home / "control" / "runs" / order.id
    folder.mkdir(parents=True)
    (folder / "log").write_text(f"• {HOSTILE}\n  train: 3/10 val mAP50 0.394\n")
    page.get_by_text("train 3 of 10 val mAP50 0.394").wait_for()
    page.get_by_role("progressbar", name="Progress of the step").wait_for()

    page.get_by_role("button", name="Cancel the run").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the run").click()
    page.get_by_text("stopping").wait_for()
    assert newest(runs).cancelled_by == "local"


def test_runs_are_compared(page: Any):
    go(page, "/training")
    compare = page.get_by_role("button", name="Compare", exact=True)
    assert compare.is_disabled()
    for name in ("training-2026_11_29-23_24_01_451617", "training-2026_11_29-23_14_05_627215"):
        page.get_by_role("checkbox", name=f"Compare {name}").click()
    compare.click()
    table = page.get_by_role("region", name="Settings that differ")
    table.wait_for()
    assert re.search(r"training\.epochs\s+4\s+10", table.inner_text())
    assert "0.820 (0.755 to 0.882)" in page.get_by_role("region", name="Figures").inner_text()


def test_a_promotion_against_the_gate_needs_a_reason_and_a_second_press(page: Any, runs: SqlRunStore):
    go(page, "/models?use_case=sample&version=2")
    before = len(runs.runs("sample", 100))
    page.get_by_role("button", name="Promote").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Promote").click()
    dialog.get_by_text("Enter a reason").wait_for()
    dialog.get_by_label("Reason").fill("seen on line 3")
    dialog.get_by_role("checkbox", name="Promote it against the gate").click()
    dialog.get_by_role("button", name="Promote").click()
    dialog.get_by_text("Press again").wait_for()
    assert len(runs.runs("sample", 100)) == before
    dialog.get_by_role("button", name="Promote against the gate").click()
    page.get_by_role("heading", name="promote of sample").wait_for()
    order = newest(runs)
    assert (order.request.kind, order.request.version, order.request.override) == (Kind.PROMOTE, "2", True)
    assert (order.request.reason, order.actor) == ("seen on line 3", "local")


def test_the_champion_is_rolled_back_with_a_reason(page: Any, runs: SqlRunStore):
    go(page, "/models?use_case=sample&version=1")
    page.get_by_role("button", name="Roll back").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill("misses scratches")
    dialog.get_by_role("button", name="Roll back").click()
    page.get_by_role("heading", name="rollback of sample").wait_for()
    assert (newest(runs).request.kind, newest(runs).request.reason) == (Kind.ROLLBACK, "misses scratches")


def test_versions_are_seen_side_by_side_with_the_images_on_which_they_differ(page: Any):
    go(page, "/models?use_case=sample&version=2")
    figures = page.get_by_role("region", name="Version 2 beside version 1")
    assert re.search(r"map50\s+0\.000\s+0\.000 to 0\.000\s+0\.820\s+0\.755 to 0\.882\s+-0\.820", figures.inner_text())
    assert HOSTILE in page.get_by_role("region", name="Per class").inner_text()
    page.get_by_role("button", name="Ask both versions").click()
    page.get_by_text("They differ on 27 of 34 images").wait_for()
    assert page.locator("figure.vm-pair").count() == 8
    assert page.locator("img[src=x]").count() == 0


def test_monitoring_shows_each_column_and_its_distribution(page: Any):
    go(page, "/monitoring?use_case=sample")
    columns = page.get_by_role("region", name="Columns")
    assert re.search(r"brightness\s+drifted\s+0\.511\s+0\.259\s+1\.000\s+0\.100\s+0\.002", columns.inner_text())
    assert HOSTILE in columns.inner_text()
    page.get_by_label("Distribution of").click()
    page.get_by_role("option", name="brightness").click()
    page.get_by_text("brightness fell from 0.511 to 0.259 (d = 11.5)", exact=True).wait_for()
    page.get_by_role("img", name="Shares of images by brightness, from least to most").wait_for()
    assert page.get_by_role("region", name="Images").get_by_role("img").count() == 6
    assert page.locator("img[src=x]").count() == 0


def test_a_drill_that_cannot_begin_says_why(page: Any, console: Server):
    gone = console.configs / "gone.yaml"
    gone.write_text((ROOT / "configs" / "sample.yaml").read_text().replace("name: sample", "name: gone"))
    go(page, "/monitoring?use_case=gone")
    gone.unlink()
    page.get_by_role("button", name="Send").click()
    page.get_by_text("no such configuration").wait_for()
    page.get_by_text("failed", exact=True).wait_for()


def test_facts_that_are_not_to_be_had_are_said_in_their_place(page: Any, console: Server):
    other: Path = console.configs / "other.yaml"
    other.write_text((ROOT / "configs" / "sample.yaml").read_text().replace("name: sample", "name: other"))
    try:
        go(page, "/models?use_case=other")
        page.get_by_role("alert").get_by_text("was not recorded").wait_for()
    finally:
        other.unlink()
