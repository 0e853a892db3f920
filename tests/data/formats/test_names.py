"""Name matching: each kind of difference, in order of trust, and never a guess."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionops.data.formats.names import Level, Match, NameIndex, plain_name

NFC, NFD = (unicodedata.normalize(form, "prüfling_1.jpg") for form in ("NFC", "NFD"))


def found(files: list[str], name: str, bases=(("",),)) -> Match:
    plain = plain_name(name)
    assert plain is not None
    return NameIndex(files).match([plain], bases)[0]


@pytest.mark.parametrize(
    ("file", "name", "level"),
    [
        ("images/a.jpg", "images/a.jpg", Level.EXACT),
        (NFD, NFC, Level.UNICODE),
        (NFC, NFD, Level.UNICODE),
        ("a b.jpg", "a%20b.jpg", Level.PERCENT),
        ("a%20b.jpg", "a b.jpg", Level.PERCENT),
        (NFD, "pr%C3%BCfling_1.jpg", Level.PERCENT),
        ("A.JPG", "a.jpg", Level.CASE),
        ("a.jpg", "images/a.jpg", Level.PREFIX),
        ("images/a.jpg", "a.jpg", Level.PREFIX),
        ("obj_train_data/a.jpg", "data/obj_train_data/a.jpg", Level.PREFIX),
        ("0a1b2c3d-a.jpg", "a.jpg", Level.PREFIX),
        ("a.jpg", "0a1b2c3d-a.jpg", Level.PREFIX),
        ("images/0a1b2c3d-a.jpg", "A.jpg", Level.PREFIX),
        ("line1/a.jpg", "a.jpg", Level.SUBFOLDER),
        ("a.jpg", "line1/a.jpg", Level.SUBFOLDER),
        ("export/line1/a.jpg", "line1/a.jpg", Level.SUBFOLDER),
        ("pics/a.JPG", "data\\a.jpg", Level.SUBFOLDER),
        ("pics/a.jpg", "0a1b2c3d-a.jpg", Level.SUBFOLDER),
    ],
)
def test_each_kind_of_difference(file, name, level):
    match = found([file, "other.jpg"], name)
    assert (match.file, match.level) == (file, level)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("line2/a.jpg", "line1/a.jpg"),  # two cameras
        ("0a1b2c3d-a.jpg", "ffffffff-a.jpg"),  # two uploads of one name
        ("xa.jpg", "a.jpg"),
        ("a.jpeg", "a.jpg"),
        ("zzzzzzzz-a.jpg", "a.jpg"),
    ],
)
def test_names_of_other_files(file, name):
    assert found([file], name) == Match(None)


@pytest.mark.parametrize(
    ("files", "name"),
    [
        (["line1/a.jpg", "line2/a.jpg"], "a.jpg"),
        (["A.jpg", "a.JPG"], "a.jpg"),
        ([NFC, NFD], NFC),  # they look the same, so the intended one is unknown
        (["images/a.jpg", "data/a.jpg"], "a.jpg"),
        (["0a1b2c3d-a.jpg", "ffffffff-a.jpg"], "a.jpg"),
    ],
)
def test_two_files_of_one_name_are_named(files, name):
    match = found(files, name)
    assert match.file is None
    assert sorted(match.rivals) == sorted(files)


def test_names_that_look_alike_are_distinguished_if_both_are_declared():
    assert [match.file for match in NameIndex([NFC, NFD]).match([NFC, NFD])] == [NFC, NFD]


def test_an_exact_match_is_not_matched_by_another_name():
    exact, other = NameIndex(["a.jpg"]).match(["a.jpg", "A.jpg"])
    assert (exact.file, other.file, other.rivals) == ("a.jpg", None, ())


def test_several_names_of_one_file_are_named():
    first, second = NameIndex(["a.jpg"]).match(["line1/a.jpg", "line2/a.jpg"])
    assert first.shared
    assert first.rivals == second.rivals == ("line1/a.jpg", "line2/a.jpg")


def test_a_better_base_wins_and_equal_bases_are_two_files():
    files = ["images/a.jpg", "a.jpg"]
    assert found(files, "a.jpg", (("images/",), ("",))).file == "images/a.jpg"
    assert found(files, "a.jpg", (("images/", ""),)).rivals == ("a.jpg", "images/a.jpg")


@pytest.mark.parametrize(
    "name", ["/a.jpg", "../a.jpg", "x/../../a.jpg", "C:\\a.jpg", "\\\\host\\a.jpg", "..\\a.jpg", ""]
)
def test_names_that_lead_out_are_refused(name):
    assert plain_name(name) is None


printable = st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp", "Cn"], exclude_characters="/\\")
parts = st.text(printable, min_size=1, max_size=8).filter(lambda part: part not in (".", ".."))
names = st.lists(parts, min_size=1, max_size=3).map("/".join).filter(lambda name: plain_name(name) == name)


@given(st.lists(names, min_size=1, max_size=6, unique_by=lambda n: unicodedata.normalize("NFC", n)))
def test_every_file_is_found_by_its_own_name(files):
    assert [match.file for match in NameIndex(files).match(files)] == files


@given(st.lists(names, max_size=6, unique=True), names)
def test_a_match_is_a_file_that_was_listed(files, name):
    match = NameIndex(files).match([name])[0]
    assert match.file is None or match.file in files
    if not match.shared:
        assert set(match.rivals) <= set(files)
