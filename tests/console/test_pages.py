"""Every page opens in a real browser, without errors, at two widths, and is accessible."""

from __future__ import annotations

from typing import Any

import pytest

from tests.console.conftest import Looked, Server, accessibility_problems, opened

PAGES = {
    "/": "Overview",
    "/predict": "Predict",
    "/review": "Review",
    "/search": "Search",
    "/data": "Data",
    "/training": "Training",
    "/models": "Models",
    "/monitoring": "Monitoring",
    "/users": "Users",
}


@pytest.mark.parametrize("width", [1440, 820])
@pytest.mark.parametrize("path", PAGES)
def test_page_opens_without_errors(chromium: Any, console: Server, looked: Looked, path: str, width: int):
    with opened(chromium, console.url, looked, width) as page:
        page.goto(path)
        page.get_by_role("heading", level=1, name=PAGES[path]).wait_for()
        assert accessibility_problems(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert looked == Looked()


def test_light_or_dark_is_kept_and_otherwise_as_the_system_has_it(chromium: Any, console: Server, looked: Looked):
    with opened(chromium, console.url, looked, color_scheme="dark") as page:
        is_dark = "document.body.classList.contains('body--dark')"
        page.goto("/users")
        page.wait_for_function(is_dark)
        page.get_by_label("Light or dark").click()
        page.wait_for_function(f"!{is_dark}")
        page.reload()
        page.get_by_role("heading", level=1, name="Users").wait_for()
        page.wait_for_function(f"!{is_dark}")
    assert looked == Looked()
