"""The review page in a real browser, by keyboard and mouse: "saved" is shown only after the server has the decision."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest

from tests.console.conftest import Looked, Server, accessibility_problems, opened
from tests.console.reviewing import (
    CASTING,
    EVIL,
    FOUND,
    HATS,
    STEEL,
    fill,
    opened_review,
    shown,
    wait_for_image,
    wait_until_saved,
)
from visionops.review.service import Answer, Review
from visionops.review.states import Actor, State, Verdict

Queue = Callable[..., tuple[str, list[str]]]


@pytest.fixture(scope="module")
def review(console: Server) -> Iterator[Review]:
    with opened_review(console.home) as found:
        yield found


@pytest.fixture
def queue(review: Review, request: pytest.FixtureRequest) -> Callable[..., tuple[str, list[str]]]:
    """Open the page of a separate use case with waiting images, and return the ids of its items."""

    def put(use_case: Any, count: int, **texts: str) -> tuple[str, list[str]]:
        own = dataclasses.replace(use_case, name=f"{use_case.name} {request.node.name}")
        return f"/review?use_case={quote(own.name)}", fill(review, own, count, **texts)

    return put


def decided(review: Review, item: str) -> tuple[Verdict, Any]:
    (decision,) = review.store.decisions(item)
    return decision.verdict, decision.label


def test_classes_are_decided_by_keyboard_alone(page: Any, review: Review, queue: Queue):
    path, (defective, ok, rejected, skipped, back) = queue(CASTING, 5)
    page.goto(path)
    wait_for_image(page)
    assert shown(page) == defective
    page.keyboard.press("Enter")
    wait_for_image(page)
    page.keyboard.press("2")
    wait_for_image(page)
    page.keyboard.press("r")
    page.get_by_role("textbox", name="Reason").fill("blurred")
    page.keyboard.press("Enter")
    page.locator(".q-dialog").wait_for(state="detached")
    assert shown(page) == skipped
    page.keyboard.press("s")
    page.locator(f'.vr-canvas img[src*="{back}"]:not(.vr-next)').wait_for()
    page.keyboard.press("1")
    page.locator(f'[data-item="{back}"][data-state="not saved"]').wait_for()
    page.keyboard.press("u")
    page.locator(f'.vr-canvas img[src*="{back}"]:not(.vr-next)').wait_for()
    page.keyboard.press("2")
    wait_until_saved(page)

    assert decided(review, defective) == (Verdict.CONFIRM, {"class_name": "defective"})
    assert decided(review, ok) == (Verdict.CORRECT, {"class_name": "defective"})
    assert review.store.decisions(rejected)[0].reason == "blurred"
    assert review.store.decisions(skipped) == []
    assert decided(review, back) == (Verdict.CORRECT, {"class_name": "defective"})
    assert page.locator('.vr-recent [data-state="saved"]').count() == 4


def test_boxes_are_corrected_with_the_mouse(page: Any, review: Review, queue: Queue):
    path, (item,) = queue(STEEL, 1)
    page.goto(path)
    wait_for_image(page)
    at = screen(page)

    drag(
        page, at(FOUND[0][2], FOUND[0][3]), at(FOUND[0][2], FOUND[0][3]), at(140, 130), first=at(80, 80)
    )  # by its corner
    drag(page, at(200, 120), at(200, 120), at(210, 125))  # the second as a whole
    page.keyboard.press("2")
    page.keyboard.press("n")
    drag(page, at(20, 150), at(20, 150), at(70, 220))
    page.keyboard.press("Enter")
    wait_until_saved(page)

    verdict, label = decided(review, item)
    assert verdict is Verdict.CORRECT
    assert [one["class_name"] for one in label["boxes"]] == ["scratch", "dent", "dent"]
    wanted = [[40, 50, 140, 130], [190, 95, 270, 205], [20, 150, 70, 220]]
    for one, box in zip(label["boxes"], wanted, strict=True):
        assert one["box"] == pytest.approx(box, abs=1)


def screen(page: Any) -> Callable[[float, float], tuple[float, float]]:
    """Convert pixels of the image to screen coordinates."""
    frame = page.locator(".vr-canvas svg").bounding_box()
    width = float(page.locator(".vr-canvas svg").get_attribute("width"))
    scale = frame["width"] / width
    return lambda x, y: (frame["x"] + x * scale, frame["y"] + y * scale)


def drag(page: Any, start: Any, hold: Any, end: Any, first: Any = None) -> None:
    if first:
        page.mouse.click(*first)
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move((hold[0] + end[0]) / 2, (hold[1] + end[1]) / 2)
    page.mouse.move(*end)
    page.mouse.up()


def test_boxes_are_made_and_removed_by_keyboard(page: Any, review: Review, queue: Queue):
    path, (item,) = queue(STEEL, 1)
    page.goto(path)
    wait_for_image(page)
    page.keyboard.press("Tab")  # the larger box, which lies below
    page.keyboard.press("Delete")
    page.keyboard.press("b")
    before = page.locator(".vr-selected rect").get_attribute("x")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Control+ArrowDown")
    page.keyboard.press("2")
    assert float(page.locator(".vr-selected rect").get_attribute("x")) == float(before) + 1
    page.keyboard.press("Enter")
    wait_until_saved(page)

    _, label = decided(review, item)
    kept, new = label["boxes"]
    assert (kept["box"], new["class_name"]) == (FOUND[0], "dent")
    x1, y1, x2, y2 = new["box"]
    assert (x2 - x1, y2 - y1) == pytest.approx((40, 31))


def test_attributes_are_toggled(page: Any, review: Review, queue: Queue):
    path, (item,) = queue(HATS, 1)
    page.goto(path)
    wait_for_image(page)
    page.keyboard.press("2")
    page.keyboard.press("x")
    page.keyboard.press("Enter")
    wait_until_saved(page)
    assert decided(review, item) == (Verdict.CORRECT, {"attributes": {"hat": "yes", "mood": None}})


def test_grid_confirms_all_but_those_taken_out(page: Any, review: Review, queue: Queue):
    path, items = queue(CASTING, 30)
    page.goto(path)
    wait_for_image(page)
    page.keyboard.press("g")
    cells = page.locator(".vr-cell")
    page.get_by_role("button", name="Confirm 24").wait_for()
    shown_first = [cells.nth(place).get_attribute("data-item") for place in range(24)]
    cells.nth(1).click()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    page.get_by_role("button", name="Confirm 22").wait_for()
    assert accessibility_problems(page) == []
    page.keyboard.press("Enter")
    wait_until_saved(page)

    states = {item: review.store.item(item).status.state for item in shown_first}
    assert [item for item in shown_first if states[item] is not State.DECIDED] == shown_first[1:3]
    page.keyboard.press("g")
    page.locator(f'.vr-canvas img[src*="{shown_first[1]}"]:not(.vr-next)').wait_for()
    assert set(items) - set(shown_first)


def test_lost_claim_is_shown_and_nothing_is_dropped(page: Any, looked: Looked, review: Review, queue: Queue):
    path, _ = queue(HATS, 2)
    page.goto(path)
    wait_for_image(page)
    lost, now = shown(page), datetime.now(UTC)
    review.release(lost, Actor("chen", is_admin=True), key="r", now=now)
    review.claim(lost, Actor("bea"), key="c1", now=now)
    page.keyboard.press("Enter")
    problem = page.locator(f'.vr-problem[data-item="{lost}"]')
    problem.get_by_text("bea has claimed it").wait_for()
    review.release(lost, Actor("bea"), key="r1", now=now)
    problem.get_by_role("button", name="Claim it again and send").click()
    problem.wait_for(state="detached")
    wait_until_saved(page)
    assert decided(review, lost)[0] is Verdict.CONFIRM

    taken = shown(page)
    review.release(taken, Actor("chen", is_admin=True), key="r2", now=now)
    review.claim(taken, Actor("bea"), key="c", now=now)
    review.decide(taken, Answer(Verdict.REJECT, reason="torn"), Actor("bea"), key="d", now=now)
    page.keyboard.press("Enter")
    problem = page.locator(f'.vr-problem[data-item="{taken}"]')
    problem.get_by_text("bea has decided it").wait_for()
    problem.get_by_role("button", name="Discard my decision").click()
    wait_until_saved(page)
    assert decided(review, taken)[0] is Verdict.REJECT
    assert ["409" in text for text in looked.problems] == [True, True]  # the browser notes each answer that refuses
    looked.problems.clear()


def test_images_that_others_hold_are_not_called_an_empty_queue(page: Any, review: Review, queue: Queue):
    path, (held,) = queue(STEEL, 1)
    review.claim(held, Actor("bea"), key="held", now=datetime.now(UTC))
    page.goto(path)
    page.get_by_text("another reviewer or another page has them").wait_for()

    review.release(held, Actor("bea"), key="given back", now=datetime.now(UTC))
    wait_for_image(page)
    page.keyboard.press("Enter")
    page.get_by_text("Nothing waits to be reviewed.").wait_for()
    assert decided(review, held)[0] is Verdict.CONFIRM


def test_an_admin_reopens_a_decision_from_the_image_s_dialog(page: Any, review: Review, queue: Queue):
    path, (item,) = queue(STEEL, 1)
    page.goto(path)
    wait_for_image(page)
    page.keyboard.press("Enter")
    wait_until_saved(page)
    page.goto(path.replace("/review", "/search"))
    page.locator(".vo-thumb").click()
    dialog = page.locator(".vo-item")
    dialog.get_by_role("button", name="Reopen").click()
    page.get_by_label("Reason").fill("the wrong class")
    page.get_by_role("button", name="Reopen").last.click()
    page.get_by_text("The image is back in the queue.").wait_for()
    assert review.store.item(item).status.state is State.PENDING
    assert review.store.history(item)[-1].details["reason"] == "the wrong class"
    page.reload()
    page.locator(".vo-thumb").click()
    dialog.get_by_text("the wrong class").wait_for()
    assert dialog.get_by_role("button", name="Reopen").count() == 0


def test_decisions_survive_a_reload(page: Any, looked: Looked, review: Review, queue: Queue):
    path, (first, second) = queue(HATS, 2)
    page.goto(path)
    wait_for_image(page)
    page.context.set_offline(True)
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    page.get_by_role("status").get_by_text("offline: 1 held, will be sent").wait_for()
    wait_for_image(page)
    page.keyboard.press("x")  # a draft
    page.context.set_offline(False)
    page.reload()
    wait_for_image(page)
    assert shown(page) == second
    assert page.get_by_role("button", name="cannot be said").first.get_attribute("aria-pressed") == "true"
    wait_until_saved(page)
    assert decided(review, first) == (Verdict.CORRECT, {"attributes": {"hat": "yes", "mood": "glad"}})
    # Chromium writes each request that it could not send to its console.
    looked.problems[:] = [text for text in looked.problems if "ERR_INTERNET_DISCONNECTED" not in text]


def test_texts_of_others_are_shown_as_text(page: Any, queue: Queue):
    path, _ = queue(CASTING, 1, name=EVIL, comment=EVIL, reference=EVIL)
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    page.goto(path)
    wait_for_image(page)
    assert page.get_by_text(EVIL).count() >= 3


def test_help_lists_the_keys_and_closes(page: Any, queue: Queue):
    path, _ = queue(STEEL, 1)
    page.goto(path)
    wait_for_image(page)
    page.keyboard.press("?")
    page.get_by_role("heading", name="Keys").wait_for()
    assert accessibility_problems(page) == []
    page.keyboard.press("Escape")
    page.locator(".q-dialog").wait_for(state="detached")


@pytest.mark.parametrize("width", [1440, 820])
def test_page_fits_and_is_accessible(chromium: Any, console: Server, looked: Looked, queue: Queue, width: int):
    path, _ = queue(STEEL, 1)
    with opened(chromium, console.url, looked, width) as page:
        page.goto(path)
        wait_for_image(page)
        assert accessibility_problems(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert looked == Looked()
