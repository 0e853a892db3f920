"""Sessions in a real browser: signing in and out, a session that ends while a page is open, and the page Users."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.console.conftest import Looked, Server, accessibility_problems, opened, serving
from tests.console.users import PASSWORD, RULES, add_users, session_of, user_store
from visionops.review.users import UserRole

pytestmark = pytest.mark.skipif("VISIONOPS_CONSOLE" not in os.environ, reason="a console of its own; make console")


@pytest.fixture(scope="module")
def console(places: tuple[Path, Path]) -> Iterator[Server]:
    add_users(places[0], anna=UserRole.ADMIN, bea=UserRole.REVIEWER, zoe=UserRole.ADMIN)
    with serving(*places) as server:
        yield server


def use_session(page: Any, console: Server, name: str) -> None:
    cookie = {"name": "visionops", "value": session_of(console.home, name), "url": console.url}
    page.context.add_cookies([cookie])


def test_a_person_signs_in_by_keyboard_and_out(console: Server, chromium: Any):
    looked = Looked()
    with opened(chromium, console.url, looked, java_script_enabled=True) as page:
        page.goto("/users?x=1")
        page.get_by_label("Name").wait_for()
        assert accessibility_problems(page) == []
        page.keyboard.type("Anna")
        page.keyboard.press("Tab")
        page.keyboard.type("not the password")
        page.keyboard.press("Enter")
        page.get_by_role("alert").get_by_text("Name or password is wrong.").wait_for()
        page.keyboard.type(PASSWORD)
        page.keyboard.press("Enter")
        page.get_by_role("heading", level=1, name="Users").wait_for()
        assert page.url == f"{console.url}/users?x=1"
        assert page.evaluate("document.cookie") == ""
        page.get_by_role("button", name="anna").press("Enter")
        page.get_by_role("button", name="Sign out").press("Enter")
        page.get_by_text("You are signed out.").wait_for()
        page.go_back()
        page.get_by_label("Password").wait_for()
    # The wrong password's answer; and containers that other tests start change the machine's network.
    assert [text for text in looked.problems if "401" not in text and "ERR_NETWORK_CHANGED" not in text] == []
    assert looked.foreign == []


def test_the_login_needs_no_script(console: Server, chromium: Any):
    looked = Looked()
    with opened(chromium, console.url, looked, java_script_enabled=False) as page:
        page.goto("/login?next=/metrics")
        page.get_by_label("Name").fill("bea")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/metrics")
        assert "visionops_console_logins_total" in page.content()
    assert looked == Looked()


def test_a_page_whose_session_has_ended_does_nothing_and_says_so(console: Server, chromium: Any):
    with opened(chromium, console.url, Looked()) as page:
        use_session(page, console, "zoe")
        page.goto("/users")
        row = page.get_by_role("row").filter(has=page.get_by_text("bea", exact=True)).first
        row.get_by_role("button", name="Disable").wait_for()
        with user_store(console.home) as users:
            users.set_role("bea", UserRole.VIEWER, "anna", datetime.now(UTC))
            users.end_sessions("zoe", "anna", datetime.now(UTC))
            row.get_by_role("button", name="Disable").click()
            alert = page.get_by_role("alert").filter(has_text="Your session has ended.")
            alert.wait_for()
            assert not users.user("bea").is_disabled
        alert.get_by_role("link", name="Sign in").click()
        page.get_by_label("Password").wait_for()


def test_an_admin_manages_users_and_each_change_has_their_name(console: Server, chromium: Any):
    looked = Looked()
    strange = "<img src=x onerror=alert(1)>"
    with opened(chromium, console.url, looked) as page:
        page.on("dialog", lambda dialog: looked.problems.append(dialog.message))
        use_session(page, console, "anna")
        page.goto("/users")
        page.get_by_label("Name", exact=True).fill(strange)
        page.get_by_label("Password, 10 characters or more").fill(PASSWORD)
        page.get_by_label("Again").fill("something else")
        page.get_by_role("button", name="Add").click()
        page.get_by_text("password: the two entries differ").wait_for()
        page.get_by_label("Again").fill(PASSWORD)
        page.get_by_role("button", name="Add").click()
        page.get_by_role("cell", name=strange).first.wait_for()
        row = page.get_by_role("row").filter(has_text=strange).first
        row.get_by_role("combobox").click()
        page.get_by_role("option", name="engineer").click()
        page.get_by_role("cell", name="before viewer, after engineer").wait_for()
        row.get_by_role("button", name="Disable").click()
        row.get_by_text("disabled").wait_for()
        own = page.get_by_role("row").filter(has=page.get_by_text("anna", exact=True)).first
        with user_store(console.home) as users:
            users.set_role("zoe", UserRole.VIEWER, "test", datetime.now(UTC))
            own.get_by_role("button", name="Disable").click()
            page.get_by_text("user anna: is the last admin").wait_for()
            users.set_role("zoe", UserRole.ADMIN, "test", datetime.now(UTC))
            assert [(row.actor, row.action, row.name) for row in users.changes() if row.actor == "anna"][:3] == [
                ("anna", "disable", strange),
                ("anna", "role", strange),
                ("anna", "add", strange),
            ]
            assert {one.user.name: one.user.role for one in users.accounts(datetime.now(UTC), RULES)}[
                strange
            ] is UserRole.ENGINEER
        assert page.locator("img[src='x']").count() == 0
    assert looked == Looked()
