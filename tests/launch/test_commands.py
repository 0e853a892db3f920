"""Test both command lines against their requests."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import launch.cli
import launch.endpoints
import launch.models
import launch.predict
import launch.schedules
import launch.stopping
import run
from launch import (
    REQUESTS,
    BatchRequest,
    DeployRequest,
    DrillRequest,
    MonitorRequest,
    QuantizeRequest,
    Request,
    TrainRequest,
    TuneRequest,
    ValidateRequest,
)
from launch.terminal import own_fields
from visionops.monitoring.simulate import Kind

WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=1, max_size=8).filter(
    lambda text: not text.startswith("-")
)
SHARED: dict[str, Any] = {
    "config": WORDS.map(Path),
    "settings": st.lists(WORDS, max_size=2).map(tuple),
    "stack": st.none() | WORDS,
    "cache": st.booleans(),
    "schedule": st.none() | st.just("15 6 * * MON-FRI"),
}
OWN: dict[type[Request], dict[str, Any]] = {
    TrainRequest: {"tuned": st.booleans()},
    ValidateRequest: {},
    TuneRequest: {},
    BatchRequest: {"input": st.none() | WORDS, "output": st.none() | WORDS, "shards": st.integers(1, 1000)},
    MonitorRequest: {"retrain": st.booleans(), "decide_only": st.booleans(), "ignore_drills": st.booleans()},
    DrillRequest: {
        "kind": st.sampled_from(list(Kind)),
        "severity": st.floats(0, 10),
        "images": st.integers(1, 1000),
    },
    QuantizeRequest: {},
    DeployRequest: {"rollback": st.booleans()},
}
ANY_REQUEST = st.one_of(st.builds(request, **SHARED, **own) for request, own in OWN.items())


def test_every_field_of_every_request_is_drawn():
    assert set(OWN) == set(REQUESTS.values())
    assert all(set(own) == set(own_fields(request)) for request, own in OWN.items())
    assert set(SHARED) == set(Request.model_fields)


@given(ANY_REQUEST)
def test_run_py_reads_the_command_that_it_writes(request_: Request):
    assert run.parse(run.to_command(request_)[2:]) == request_


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(request_=ANY_REQUEST)
def test_visionops_reads_the_command_that_it_writes(monkeypatch, request_: Request):
    seen = []
    monkeypatch.setattr(launch.cli, "run_request", lambda request, *_, **__: seen.append(request))
    result = CliRunner().invoke(launch.cli.app, launch.cli.to_command(request_)[1:])
    assert (result.exit_code, seen) == (0, [request_]), result.output


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("train --rollback", "No such option"),
        ("deploy --rollback", "No such option"),
        ("drill", "--kind"),
        ("batch --shards 0", "--shards must be 1 to 1000"),
        ("monitor --schedule daily", "is not a cron"),
    ],
)
def test_a_flag_that_is_not_of_the_command_is_an_error(line, words):
    result = CliRunner().invoke(launch.cli.app, shlex.split(line))
    assert result.exit_code == 2
    assert words in result.output


def test_a_dry_run_prints_the_plan_of_run_py(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("ZENML_CONFIG_PATH", str(tmp_path))  # a test before may have left a server that is gone
    assert run.main(["--dry-run", "--pipeline", "monitoring", "--set", "training.epochs=5"]) == 0
    plan = capsys.readouterr().out
    result = CliRunner().invoke(launch.cli.app, ["monitor", "--dry-run", "--set", "training.epochs=5"])
    assert (result.exit_code, result.output) == (0, plan)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_the_flags_of_a_command(shell):
    words = {"bash": {"COMP_WORDS": "visionops monitor --dec", "COMP_CWORD": "2"}}.get(
        shell, {"_TYPER_COMPLETE_ARGS": "visionops monitor --dec", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    )
    result = CliRunner().invoke(
        launch.cli.app, prog_name="visionops", env={"_VISIONOPS_COMPLETE": f"complete_{shell}", **words}
    )
    assert "--decide-only" in result.output
    assert "--retrain" not in result.output


def test_help_has_an_example_of_every_command_that_can_be_run(monkeypatch):
    names = [command.name for command in launch.cli.app.registered_commands]
    monkeypatch.setattr(launch.cli, "run_request", lambda *_, **__: None)
    for module in (launch.endpoints, launch.models, launch.predict, launch.schedules, launch.stopping):
        monkeypatch.setattr(module, "exit_code", lambda _: 0)
    for name in set(names) - {"inspect", "control", "console"}:  # services have their own help
        text = " ".join(CliRunner().invoke(launch.cli.app, [name, "--help"], env={"COLUMNS": "200"}).output.split())
        _, _, example = text.partition("Example: visionops ")
        result = CliRunner().invoke(launch.cli.app, shlex.split(example))
        assert (result.exit_code, example.split()[0]) == (0, name), example


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("drill --kind dark", "--kind: expected brightness, noise, blur, mixed, class-shift or camera"),
        ("drill --kind brigthness", "did you mean 'brightness'?"),
        (
            "train configs/steel.yaml",
            "unexpected argument configs/steel.yaml; did you mean --config configs/steel.yaml?",
        ),
    ],
)
def test_a_clumsy_line_is_answered_with_the_right_one(line: str, words: str):
    result = CliRunner().invoke(launch.cli.app, shlex.split(line))
    assert result.exit_code == 2
    # The frame is as wide as the terminal of whoever runs the tests.
    assert words in " ".join(result.output.replace("│", " ").split())
