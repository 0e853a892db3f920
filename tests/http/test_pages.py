"""Which clients get a page, and which JSON."""

from __future__ import annotations

import pytest

from deploy.http.pages import prefers_html

CHROMIUM = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"
FIREFOX = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    "accept",
    [
        CHROMIUM,
        FIREFOX,
        "text/html",
        "TEXT/HTML; charset=utf-8",
        "text/*",
        "text/html, application/json",
        "application/json;q=0.5, text/html;q=0.9",
        "application/json;q=0, text/html;q=0.1",
        "image/png, text/html",
    ],
)
def test_browsers_get_a_page(accept: str):
    assert prefers_html(accept)


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "application/json",
        "application/*",
        "application/json, text/html",
        "text/html;q=0.5, application/json",
        "text/html;q=0.5, */*",
        "text/html;q=0",
        "text/html;q=much",
        "text/html;q=0, text/*",
        "text/plain",
        "image/png",
        ",;,q=1",
    ],
)
def test_other_clients_get_json(accept: str):
    assert not prefers_html(accept)
