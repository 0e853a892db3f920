"""Damaged data sets of every format; `make fuzz` reads many more of them."""

from __future__ import annotations

import pytest

from tests.helpers.fuzzing import CASES, fuzz_case
from visionops.data.formats import READERS


def test_every_format_is_fuzzed():
    assert {case.format for case in CASES.values()} == {format_.value for format_ in READERS}


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_damage_is_a_data_set_or_one_line(tmp_path, case):
    outcomes = fuzz_case(case, tmp_path, range(40))
    assert not outcomes.failures
    assert outcomes.count == 40
    assert outcomes.clean + outcomes.with_findings or case.format == "mvtec"  # undamaged files are read
