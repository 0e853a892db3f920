"""Test the table on a terminal."""

import io

import pytest
from rich.console import Console

import stacks.doctor.diagnosis as diagnosis_module
import stacks.doctor.report as report_module
from stacks.doctor.diagnosis import Diagnosis
from stacks.doctor.findings import CheckResult, State

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML, SQLAlchemy and MLflow warn of their own code


@pytest.mark.parametrize("width", [80, 120])
def test_a_table_fits_the_terminal(monkeypatch, width, tmp_path):
    out = io.StringIO()
    terminal = Console(file=out, width=width, force_terminal=True, color_system=None)
    monkeypatch.setattr(report_module, "Console", lambda **_: terminal)
    long = CheckResult(State.BROKEN, f"s3://vision at https://{'a' * 100}.example.com: is away", "start it")
    row = diagnosis_module.Row("experiment tracker", "visionops_alertmanager", (long,))
    report_module.print_diagnosis(Diagnosis("kubernetes", (row,), 1.5), out)
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert any(line.rstrip().endswith("→ start it") for line in lines)
    assert lines[-1] == "stack kubernetes: 1 broken, in 1.5 s"
