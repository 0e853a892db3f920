from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visionops.data.fast_json import parse_json, require_unicode

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(2**63 - 2, 2**64 + 2) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


def outcome(parse, data: bytes) -> str:
    """Return the value with the types of its numbers, or the kind of error and its message."""
    try:
        return repr(parse(data))
    except (ValueError, RecursionError) as error:
        return f"{type(error).__name__}: {error}"


@settings(max_examples=300, deadline=None)
@given(value=values, encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]), ascii_only=st.booleans())
def test_same_values_as_json(value, encoding, ascii_only):
    data = json.dumps(value, ensure_ascii=ascii_only).encode(encoding)
    assert outcome(parse_json, data) == outcome(json.loads, data)


@settings(max_examples=300, deadline=None)
@given(
    data=st.text('0123456789+-.eE[]{},:" \\untrfalsNI\x7fé', max_size=30).map(str.encode) | st.binary(max_size=12),
)
def test_same_errors_as_json(data):
    assert outcome(parse_json, data) == outcome(json.loads, data)


@pytest.mark.parametrize(
    "data",
    [
        b'{"a": 1, "a": 2}',
        b"-0",
        b"1e400",
        b"NaN",
        b'"\\ud800"',
        b'"\xff"',
        b"18446744073709551616",
        b"-9223372036854775809",
        b"0.12345678901234567890123",
        b"[1.5, 12345678901234567890.25, -12345678901234567890]",
        b"[" * 1500 + b"]" * 1500,
    ],
)
def test_differences_between_parsers(data):
    assert outcome(parse_json, data) == outcome(json.loads, data)


@pytest.mark.parametrize(
    "data", [b'["\\ud800"]', b'["\\udc00\\ud800"]', b'["\xed\xa0\x80"]', '["\ud800"]'.encode("utf-16", "surrogatepass")]
)
def test_half_of_a_surrogate_pair_is_refused(data):
    with pytest.raises(ValueError, match="half of a surrogate pair"):
        require_unicode(data, parse_json(data))


@pytest.mark.parametrize(
    "data", [b'["\\ud83d\\ude00"]', b'["\\\\ud800"]', '["\U0001f600"]'.encode(), '["a"]'.encode("utf-16")]
)
def test_whole_pairs_are_text(data):
    require_unicode(data, parse_json(data))
