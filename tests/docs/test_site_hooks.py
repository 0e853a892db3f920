"""Test how the site converts Markdown that is written for GitHub; `make docs` builds the site itself."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from docs.hooks import fence_doctests, separate_lists, strip_marks, unlink_sources

PAGE = Path("how-to/page.md")


def test_a_list_behind_a_paragraph_gets_a_blank_line():
    assert separate_lists("Two:\n- a\n- b\nEnd.") == "Two:\n\n- a\n- b\nEnd."
    assert separate_lists("Two:\n1. a\n2. b") == "Two:\n\n1. a\n2. b"


@pytest.mark.parametrize(
    "text",
    [
        "- a\n  goes on\n- b",
        "- a\n\n  more of it\n\n- b",
        "```bash\necho\n- a\n```",
        "# Title\n\n- a",
        "one - two\nand -three",
    ],
)
def test_what_is_separate_already_stays(text: str):
    assert separate_lists(text) == text


def test_marks_for_tests_are_not_shown():
    assert (
        strip_marks("```bash run\nx\n```\n   ```bash cluster\n   y\n   ```")
        == "```bash\nx\n```\n   ```bash\n   y\n   ```"
    )


def test_an_example_of_a_docstring_is_code():
    lines = ["Text.", "", ">>> f(1)", "2", "", "More.", "", ">>> g()"]
    assert fence_doctests(lines) == [
        *("Text.", "", "", "```pycon", ">>> f(1)", "2", "```", ""),
        *("More.", "", "", "```pycon", ">>> g()", "```"),
    ]


def test_an_example_in_a_fence_stays():
    lines = ["```pycon", ">>> f(1)", "", "```"]
    assert fence_doctests(lines) == lines


def test_a_source_file_is_text_without_an_address_of_the_repository():
    assert unlink_sources("See [`run.py`](../../run.py).", PAGE, "") == "See `run.py`."


def test_a_source_file_leads_into_the_repository():
    linked = unlink_sources("[steps](../../stacks/steps.py#L1)", PAGE, "https://git.example/visionops/")
    assert linked == "[steps](https://git.example/visionops/blob/main/stacks/steps.py#L1)"


def test_a_link_between_pages_stays():
    assert unlink_sources("[d](../decisions/001-layout.md#a)", PAGE, "") == "[d](../decisions/001-layout.md#a)"


def test_a_source_file_that_is_gone_is_a_warning(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, logger="mkdocs"):
        unlink_sources("[x](../../visionops/gone.py)", PAGE, "")
    assert "links to ../../visionops/gone.py, which is not there" in caplog.text
