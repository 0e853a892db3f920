"""Build plain HTML without scripts: the login page, and error pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

__all__ = ["document", "message_page"]

_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, undefined=StrictUndefined
)
_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


def document(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a page from a template; every value is escaped."""
    page = HTMLResponse(_templates.get_template(template).render(**values), status_code=status)
    page.headers["content-security-policy"] = _POLICY
    return page


def message_page(title: str, text: str, status: int, link: str = "/", link_text: str = "Overview") -> HTMLResponse:
    """Return a page with one message and a link."""
    return document("message.html", status, title=title, text=text, link=link, link_text=link_text)
