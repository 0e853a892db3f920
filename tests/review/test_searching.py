"""A filter as a URL query, and the classes that it looks up."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionops.review.errors import Invalid
from visionops.review.findings import findings_in
from visionops.review.items import Origin
from visionops.review.searching import ClassSource, SavedSearch, Search
from visionops.review.states import State, Verdict

TEXTS = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=20)
SHARES = st.integers(0, 20).map(lambda n: n / 20)
DAYS = st.dates(date(2020, 1, 1), date(2030, 1, 1))


@given(
    names=st.lists(TEXTS.filter(bool), max_size=3, unique=True),
    said_by=st.sampled_from(ClassSource),
    confidence=st.none() | st.tuples(SHARES, SHARES).map(sorted),
    days=st.none() | st.tuples(DAYS, DAYS).map(sorted),
    origin=st.none() | st.sampled_from(Origin),
    states=st.lists(st.sampled_from(State), unique=True, max_size=4),
    verdict=st.none() | st.sampled_from(Verdict),
    words=st.tuples(TEXTS, TEXTS, TEXTS, TEXTS),
    page=st.integers(1, 999),
)
def test_a_filter_comes_back_from_its_address(names, said_by, confidence, days, origin, states, verdict, words, page):
    search = Search(
        use_case=words[0] or None,
        names=tuple(names),
        said_by=said_by,
        confidence_from=confidence and confidence[0],
        confidence_to=confidence and confidence[1],
        added_from=days and days[0],
        added_to=days and days[1],
        reference=words[1],
        origin=origin,
        model_version=words[2],
        states=tuple(states),
        verdict=verdict,
        text=words[3],
        page=page,
    )
    assert Search.from_query(search.query()) == search


def test_nothing_set_is_an_empty_address_and_unknown_parameters_are_left_out():
    assert Search().query() == ""
    assert Search.from_query("format=coco&utm=1&page=2") == Search(page=2)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("from=0.9&to=0.1", "confidence: from 0.9 to 0.1 is an empty range; swap the two values"),
        ("from=nan", "confidence: nan is not from 0 to 1"),
        ("from=two", "from: 'two' is not one of its values; remove it from the address"),
        ("since=2026-02-30", "since: '2026-02-30' is not one of its values"),
        ("since=2026-03-02&until=2026-03-01", "date: from 2026-03-02 to 2026-03-01 is an empty range"),
        ("state=lost", "state: 'lost' is not one of its values"),
        ("page=0", "page: 0 is not from 1"),
        ("text=%00", "text: has a control character"),
        ("text=" + "x" * 501, "text: has 501 characters"),
        ("class=a&" * 2000, "address: has 16000 characters"),
        ("&".join(f"class={n}" for n in range(21)), "class: 21 are too many"),
    ],
)
def test_an_address_that_asks_for_nothing_sensible_is_refused(query: str, words: str):
    with pytest.raises(Invalid) as caught:
        Search.from_query(query)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_days_are_whole():
    search = Search(added_from=date(2026, 3, 1), added_to=date(2026, 3, 1))
    assert search.moments == (datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC))


def test_a_saved_filter_has_a_name_of_one_line():
    with pytest.raises(Invalid, match="name: has a line break"):
        SavedSearch("anna", "two\nlines", "")


def test_classes_of_every_form_of_answer_and_label():
    box = {"box": [0, 0, 1, 1]}
    boxes = [{"class_name": "dent", "confidence": c, **box} for c in (0.3, 0.8, 0.5)]
    assert findings_in({"detections": [*boxes, {"class_name": "pit", **box}]}) == {"dent": 0.8, "pit": 1.0}
    answer = {"class_id": 1, "class_name": "ok", "confidence": 0.7, "probabilities": {"ok": 0.7, "defective": 0.3}}
    assert findings_in({"classification": answer}) == {"ok": 0.7}
    assert findings_in({"class_name": "ok"}) == {"ok": 1.0}
    assert findings_in({"attributes": {"rust": answer, "oil": None}}) == {"rust=ok": 0.7}
    assert findings_in({"attributes": {"rust": "none", "oil": None}}) == {"rust=none": 1.0}
    assert findings_in(None) == {}
