"""Convert our pages, which are written in GitHub's Markdown, before MkDocs reads them."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown import Markdown
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

__all__ = ["fence_doctests", "on_config", "on_page_markdown", "separate_lists", "strip_marks", "unlink_sources"]

ROOT = Path(__file__).resolve().parents[1]
_LOG = logging.getLogger("mkdocs.hooks.visionops")
"""Warnings of mkdocs loggers fail a strict build."""
_FENCE = re.compile(r"^ *(```|~~~)")
_MARKED = re.compile(r"^( *```\w+) (?:run|cluster)$", re.MULTILINE)
_ITEM = re.compile(r"(?:[-*]|\d+\.) ")
_LINK = re.compile(r"\[([^\]\n]*)\]\(((?:\.\./)+[^)\s#]*)(#[^)\s]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Read Markdown as GitHub does, and the examples of docstrings as code."""
    from markdown.extensions import Extension
    from markdown.preprocessors import Preprocessor

    class Doctests(Preprocessor):  # type: ignore[misc]  # mypy sees no site builder
        def run(self, lines: list[str]) -> list[str]:
            return fence_doctests(lines)

    class OurMarkdown(Extension):  # type: ignore[misc]
        def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802 - its name in Python-Markdown
            md.tab_length = 2  # for what belongs to an item of a list; Python-Markdown wants four blanks
            md.preprocessors.register(Doctests(md), "doctests", 40)  # before fences are taken out

    config.markdown_extensions.append(OurMarkdown())  # an instance, which MkDocs hands on as it is
    return config


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: object) -> str:
    """Return a page as Python-Markdown reads it."""
    text = unlink_sources(markdown, Path(page.file.src_uri), config.repo_url or "")
    return separate_lists(strip_marks(text))


def fence_doctests(lines: list[str]) -> list[str]:
    """Return Markdown with a fence around each example that begins with ``>>>`` and ends with a blank line."""
    fenced: list[str] = []
    is_code = is_example = False
    for line in lines:
        if _FENCE.match(line):
            is_code = not is_code
        elif not is_code and not is_example and line.lstrip().startswith(">>> "):
            is_example = True
            fenced += ["", "```pycon"]
        elif is_example and not line.strip():
            is_example = False
            fenced.append("```")
        fenced.append(line.lstrip() if is_example and line.lstrip().startswith((">>>", "...")) else line)
    return [*fenced, "```"] if is_example else fenced


def strip_marks(markdown: str) -> str:
    """Return a page without the words behind a fence's language that tell tests what to do: `bash run`."""
    return _MARKED.sub(r"\1", markdown)


def separate_lists(markdown: str) -> str:
    """Return a page with a blank line between a paragraph and the list that follows it."""
    lines: list[str] = []
    is_code = is_list = False
    for line in markdown.split("\n"):
        if _FENCE.match(line):
            is_code = not is_code
        item = not is_code and _ITEM.match(line) is not None
        if item and not is_list and lines and lines[-1].strip():
            lines.append("")
        is_list = item or (is_list and (not line.strip() or line.startswith(" ")))
        lines.append(line)
    return "\n".join(lines)


def unlink_sources(markdown: str, page: Path, repository: str) -> str:
    """Return a page whose links out of docs/ lead into the repository, or are their text where it has no address.

    Logs a warning, which fails a strict build, for a file that is not there.

    Args:
        page: Path of the page below docs/.
        repository: Address of the repository; "" for none.
    """

    def replaced(link: re.Match[str]) -> str:
        text, target, anchor = link[1], link[2], link[3] or ""
        path = (ROOT / "docs" / page.parent / target).resolve()
        if path.is_relative_to(ROOT / "docs"):
            return link[0]
        if not path.exists():
            _LOG.warning("%s: links to %s, which is not there", page, target)
        if not repository:
            return text
        return f"[{text}]({repository.rstrip('/')}/blob/main/{path.relative_to(ROOT).as_posix()}{anchor})"

    return _LINK.sub(replaced, markdown)
