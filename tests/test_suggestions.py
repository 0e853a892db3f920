"""The nearest names to what a person wrote."""

from __future__ import annotations

import pytest

from visionops.suggestions import nearest_names, suggest_name, suggest_variable

CODES = [f"code_{number}" for number in range(40)]


@pytest.mark.parametrize(
    ("word", "known", "near"),
    [
        ("stel", ["steel", "casting"], ["steel"]),
        ("mAP-50", ["map50_95", "map50"], ["map50"]),
        ("EPOCHS", ["epochs"], ["epochs"]),
        ("confidence", ["model", "conf", "iou"], ["conf"]),
        ("dark", ["blur", "noise"], []),
        ("--confg", ["--config", "--images"], ["--config"]),
        ("_", ["a"], []),
    ],
)
def test_case_dashes_and_underscores_do_not_count(word: str, known: list[str], near: list[str]):
    assert nearest_names(word, known) == near


def test_a_short_list_is_given_whole_and_a_long_one_is_cut():
    assert suggest_name("blue", ["b", "a"]) == "known: b, a"
    assert suggest_name("zzz", []) == "known: none"
    assert suggest_name("zzz", CODES) == f"known: {', '.join(CODES[:12])}, … (40 in all)"
    assert suggest_name("code_7x", CODES[:9], "known here") == "did you mean 'code_7'?"


def test_a_variable_that_is_set_and_much_like_the_one_that_is_not_is_named():
    environment = {"HOME": "/", "VISIONOPS_HOME": "x", "VISIONOPS_PASSWORD": "x"}
    wanted = "; VISIONOPS_PASSWORD is set: is it misspelt?"
    assert suggest_variable("VISIONOPS_USER_PASSWORD", environment) == wanted
    assert suggest_variable("VISIONOPS_ADMIN_KEY", environment) == ""
