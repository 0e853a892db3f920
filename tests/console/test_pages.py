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


TAB_STOPS = 300
"""More than a page has."""
NOTE_FOCUS = """() => {
    const focused = document.activeElement;
    const isSeen = focused.hasAttribute("data-seen");
    focused.setAttribute("data-seen", "");
    return focused === document.body || isSeen;
}"""
UNREACHED = """() => {
    const controls = "a[href], button, input, select, textarea, summary, [role=button], [role=tab], [role=checkbox], " +
        "[role=switch], [role=slider], [role=link], [role=combobox], .cursor-pointer";
    // One stop serves a group, inside which arrows lead on.
    const groups = "[role=tablist], [role=radiogroup], [role=menu], [role=toolbar]";
    const isIn = (element) => [element, element.closest(groups)].some(
        (one) => one && (one.closest("[data-seen]:not(body)") || one.querySelector("[data-seen]")));
    return [...document.querySelectorAll(controls)]
        .filter((element) => element.checkVisibility({ visibilityProperty: true, opacityProperty: true }))
        .filter((element) => !element.closest(":disabled, [aria-disabled=true], [aria-hidden=true], [inert]"))
        .filter((element) => !isIn(element))
        .map((element) => element.outerHTML.slice(0, 200));
}"""


@pytest.mark.parametrize("path", PAGES)
def test_every_control_is_reached_by_the_tab_key(chromium: Any, console: Server, looked: Looked, path: str):
    with opened(chromium, console.url, looked) as page:
        page.goto(path)
        page.get_by_role("heading", level=1, name=PAGES[path]).wait_for()
        page.wait_for_load_state("networkidle")
        for stops in range(TAB_STOPS):  # noqa: B007 - counted
            if page.evaluate("document.activeElement.closest('.cm-editor') !== null"):
                page.keyboard.press("Escape")  # as the page says: Tab indents there
            page.keyboard.press("Tab")
            if page.evaluate(NOTE_FOCUS):
                break
        assert 5 < stops < TAB_STOPS - 1
        assert page.evaluate(UNREACHED) == []
    assert looked == Looked()


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
