"""Every page opens in a real browser, without errors, at two widths, and is accessible."""

from __future__ import annotations

from typing import Any

import pytest

from tests.console.conftest import Looked, Server, accessibility_problems, opened

PAGES = {"/": "Overview"}


@pytest.mark.parametrize("width", [1440, 820])
@pytest.mark.parametrize("path", PAGES)
def test_page_opens_without_errors(chromium: Any, console: Server, looked: Looked, path: str, width: int):
    with opened(chromium, console.url, looked, width) as page:
        page.goto(path)
        page.get_by_role("heading", level=1, name=PAGES[path]).wait_for()
        assert accessibility_problems(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert looked == Looked()
