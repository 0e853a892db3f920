from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionops.data.formats.assembly import fold_name
from visionops.data.formats.rules import DROPPED, OUTSIDE, UNKNOWN, LabelReader, is_missing, number_of
from visionops.data.label_rules import LabelRule, raw_key

numbers = st.integers(-(10**12), 10**12) | st.floats(-1e9, 1e9).filter(lambda x: not x.is_integer())


@given(value=numbers)
def test_a_number_is_the_same_however_it_is_written(value):
    assert raw_key(value) == raw_key(str(value)) == raw_key(f"  {value}\t")
    if isinstance(value, int):
        assert raw_key(value) == raw_key(f"{value}.0") == raw_key(f"{value}.") == str(value)


@given(first=numbers, second=numbers)
def test_different_numbers_stay_different(first, second):
    assert (raw_key(first) == raw_key(second)) == (float(first) == float(second))


@given(text=st.text())
def test_a_key_is_its_own_key(text):
    assert raw_key(raw_key(text)) == raw_key(text)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("01", 1, False),  # a code with its zero
        ("1_000", 1000, False),  # Python's own way to write numbers
        ("nan", "NaN", False),
        ("", 0, False),
        ("-0", 0, True),
        (".5", 0.5, True),
        ("1e3", 1000, True),
        ("1e999", "inf", False),
        (True, "TRUE", True),
        (True, 1, False),
        ("e\u0301", "\u00e9", True),  # decomposed and composed
        ("1234567", "1234568", False),
        (0.3333333333333333, "0.3333333333333333", True),
        (9007199254740993, "9007199254740992", False),  # beyond the integers that a float holds
    ],
)
def test_which_raw_values_are_the_same(one, other, same):
    assert (raw_key(one) == raw_key(other)) is same


def reader(**rule) -> LabelReader:
    return LabelReader.by_rule("defect", LabelRule(**rule))


def test_lists_of_values():
    read = reader(classes={"none": [0, "free"], "pit": [1.0]}, unknown=["", "?"], drop=["unsure"])
    raws = ["0", "0.0", "free", "1", " 1 ", "", "?", "unsure", "2", "Free"]
    expected = [0, 0, 0, 1, 1, UNKNOWN, UNKNOWN, DROPPED, OUTSIDE, 0]
    assert [read.class_id(raw) for raw in raws] == expected
    assert (read.attribute.class_names, read.attribute.positive) == (("none", "pit"), "pit")


def test_a_value_that_a_class_lists_is_known_even_if_empty():
    assert reader(classes={"none": [""], "pit": [1]}).class_id("") == 0


def test_a_default_takes_all_the_rest_but_not_what_is_unknown():
    read = reader(classes={"none": [0], "other": []}, default="other")
    assert [read.class_id(raw) for raw in ("0", "7", "x", "")] == [0, 1, 1, UNKNOWN]


def test_ranges_include_both_ends():
    read = reader(ranges={"good": (0, 0.2), "bad": (0.8, 1)}, drop=[0.1])
    raws = ["0", "0.2", "0.21", "0.8", "1.0", "1.01", "0.10", "", "x", "nan"]
    expected = [0, 0, OUTSIDE, 1, 1, OUTSIDE, DROPPED, UNKNOWN, OUTSIDE, UNKNOWN]
    assert [read.class_id(raw) for raw in raws] == expected


@given(raw=st.floats(-10, 10), low=st.floats(-5, 0), high=st.floats(1, 5))
def test_ranges_agree_with_comparison(raw, low, high):
    read = reader(ranges={"in": (low, high), "above": (high + 0.5, 20)})
    expected = 0 if low <= raw <= high else 1 if high + 0.5 <= raw <= 20 else OUTSIDE
    assert read.class_id(repr(raw)) == expected


@pytest.mark.parametrize(
    ("values", "names", "positive"),
    [
        (["10", "9", "x", "9.0", ""], ("9", "10", "x"), None),
        (["1", "0"], ("0", "1"), "1"),
        (["yes", "no"], ("no", "yes"), "yes"),
        (["True", "False"], ("false", "true"), "true"),
        (["ok_front", "def_front"], ("def_front", "ok_front"), None),
        (["1", "2"], ("1", "2"), None),
    ],
)
def test_values_become_their_own_classes(values, names, positive):
    attribute = LabelReader.by_values("a", values).attribute
    assert (attribute.class_names, attribute.positive) == (names, positive)


@given(values=st.lists(st.text(max_size=4), min_size=1))
def test_every_value_has_a_class_or_is_not_known(values):
    read = LabelReader.by_values("a", values)
    for value in values:
        class_id = read.class_id(value)
        if is_missing(value):
            assert class_id == UNKNOWN
        else:
            assert fold_name(read.attribute.class_names[class_id]) == fold_name(raw_key(value))


@pytest.mark.parametrize("raw", ["", " ", "nan", "NaN", "-nan", "?", "N/A", "n/a", "#N/A", "<NA>", "< na >"])
def test_texts_for_no_value_are_not_classes(raw):
    by_values = LabelReader.by_values("a", ["b", raw, "c"])
    assert by_values.attribute.class_names == ("b", "c")
    assert by_values.class_id(raw) == UNKNOWN
    assert reader(classes={"x": ["x"], "y": ["y"]}, default="y").class_id(raw) == UNKNOWN
    assert reader(classes={"x": ["x"], "y": [raw]}).class_id(raw) == 1
    assert reader(classes={"x": ["x"], "y": ["y"]}, drop=[raw], unknown=[]).class_id(raw) == DROPPED


@pytest.mark.parametrize("raw", ["NA", "None", "null", "-", "Unknown"])
def test_what_may_be_a_missing_value_stays_a_class_and_is_noted(raw):
    by_values = LabelReader.by_values("colour", ["red", raw])
    assert by_values.class_id(raw) >= 0
    assert by_values.notes(["red", raw], "colour") == [
        f"Values {raw!r} of column colour look like missing ones; add them to data.labels.colour.unknown if they are."
    ]
    assert not reader(classes={"x": ["x"], "y": [raw]}).notes(["x", raw], "colour")


@pytest.mark.parametrize("raw", ["inf", "-inf", "infinity", "1_000", "1e999", "0x10", "٣", "nan"])
def test_numbers_that_only_python_reads_are_text(raw):
    assert number_of(raw) is None
    assert reader(ranges={"low": (-1e300, 5), "high": (6, 1e300)}).class_id(raw) in (OUTSIDE, UNKNOWN)


def test_values_that_differ_in_case_or_spaces_are_one_class():
    raws = ["Red", "blue", "red", " RED ", "light blue", "Light  Blue", "blue"]
    by_values = LabelReader.by_values("colour", raws)
    assert by_values.attribute.class_names == ("Red", "blue", "light blue")
    assert [by_values.class_id(raw) for raw in raws] == [0, 1, 0, 0, 2, 2, 1]
    assert by_values.notes(raws, "colour") == [
        "'RED', 'red' of column colour read as 'Red': only case or spaces differ.",
        "'Light  Blue' of column colour read as 'light blue': only case or spaces differ.",
    ]


def test_a_rule_matches_as_written_first_and_then_folded():
    read = reader(classes={"upper": ["A"], "lower": ["a"], "b": ["b"]}, drop=["Drop it"])
    assert [read.class_id(raw) for raw in ("A", "a", "B", " b", "dropit")] == [0, 1, 2, 2, DROPPED]
    assert read.notes(["A", "a", "B"], "letter") == ["'B' of column letter read as 'b': only case or spaces differ."]
    assert reader(classes={"x": ["A"], "y": ["a"], "z": ["Ä"]}).class_id("ä") == 2


ORDER = """
import sys
from visionops.data.formats.rules import LabelReader
raws = ["nan", "10", "x", "9", "inf", "1_0", "-nan", "NaN", "b", "X", "?", "1e5"]
print(*LabelReader.by_values("a", raws).attribute.class_names)
"""


def test_the_order_of_classes_does_not_depend_on_the_process():
    command = [sys.executable, "-c", ORDER]
    environments = [{**os.environ, "PYTHONHASHSEED": str(seed)} for seed in range(6)]
    processes = [subprocess.Popen(command, env=e, stdout=subprocess.PIPE) for e in environments]
    printed = {process.communicate()[0] for process in processes}
    assert printed == {b"9 10 100000 1_0 b inf x\n"}


@given(st.permutations(["nan", "10", "x", "9", "inf", "2.5", "?", "b", "-1", "01"]))
def test_the_order_of_classes_does_not_depend_on_the_rows(raws):
    assert LabelReader.by_values("a", raws).attribute.class_names == ("-1", "01", "2.5", "9", "10", "b", "inf", "x")


def test_a_refusal_says_what_is_near():
    read = reader(classes={"scratch": ["scratch"], "pit": ["pit", True]})
    assert read.refusal("Scrach", ["Scrach", "scratch"]) == (
        "'Scrach' is not a value of defect; did you mean 'scratch'?; or add it to a class, unknown or drop of "
        "data.labels.defect"
    )
    assert "known: scratch, pit, true" in read.refusal("7", ["7"])
    assert "quote it" in read.refusal("yes", ["yes"])
    assert "(good 0 to 0.2, bad 0.8 to 1)" in reader(ranges={"good": (0, 0.2), "bad": (0.8, 1)}).refusal("0.5", ["0.5"])


def test_a_value_of_the_rule_that_the_data_lacks_may_be_the_misspelt_one():
    read = reader(classes={"scratch": ["scrach"], "pit": ["pit"]})
    assert read.refusal("scratch", ["scratch", "pit"]) == (
        "'scratch' is not a value of defect; data.labels.defect has 'scrach' instead, which the data does not have: "
        "correct the one that is misspelt"
    )
