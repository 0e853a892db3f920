from __future__ import annotations

import pytest

from visionops.data.findings import Code, Finding
from visionops.errors import AnnotationError, one_line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a.jpg: é \u202f 日本", "a.jpg: é \u202f 日本"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("a\u2028b\x85\x1b[2J", "a\\u2028b\\x85\\x1b[2J"),
        ("\udcff.jpg", "\\udcff.jpg"),
    ],
)
def test_messages_are_one_line_that_can_be_printed(text, line):
    assert one_line(text) == str(AnnotationError(text)) == line
    finding = Finding.of(Code.BAD_BOX, text, text)
    assert finding.where == finding.message == line


def test_a_long_message_keeps_its_ends():
    line = one_line("place" + "x" * 100_000 + "fix")
    assert line.startswith("place")
    assert line.endswith("fix")
    assert len(line) < 2100
