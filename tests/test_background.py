"""Training lowers the CPU priority of its session, and gives it back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from visionops.background import background_priority

SESSION = Path("/proc/self/autogroup")


@pytest.mark.skipif(not SESSION.exists(), reason="this Linux does not share CPUs by session")
@pytest.mark.parametrize("fails", [False, True])
def test_the_session_has_a_lower_priority_while_the_block_runs(fails: bool) -> None:
    script = """
import sys
from pathlib import Path
from visionops.background import background_priority
session = Path("/proc/self/autogroup")
print(session.read_text().split()[-1])
try:
    with background_priority():
        print(session.read_text().split()[-1])
        with background_priority():  # nothing to lower any more, and nothing to give back
            pass
        print(session.read_text().split()[-1])
        if FAILS:
            raise ValueError
except ValueError:
    pass
print(session.read_text().split()[-1])
"""
    done = subprocess.run(
        [sys.executable, "-c", script.replace("FAILS", str(fails))],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
        capture_output=True,
        text=True,
        check=True,
        start_new_session=True,  # the priority of the session that runs the tests is left alone
    )
    assert done.stdout.split() == ["0", "3", "3", "0"]


@pytest.mark.parametrize("content", [None, "/autogroup-7 nice 9\n", "/autogroup-7 nice -5\n", "something else\n"])
def test_what_is_absent_or_set_by_somebody_is_left_alone(tmp_path: Path, content: str | None) -> None:
    session = tmp_path / "autogroup"
    if content is not None:
        session.write_text(content)
    with background_priority(session):
        assert (session.read_text() if session.exists() else None) == content
    assert (session.read_text() if session.exists() else None) == content
