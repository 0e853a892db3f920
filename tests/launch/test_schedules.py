"""Test the DAGs for the `schedules` of a use case."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from launch.cli import app
from launch.requests import Request
from launch.schedules import planned
from tests.conftest import ROOT
from visionops.config import load_config
from visionops.errors import ConfigError

SAMPLE = ROOT / "configs" / "sample.yaml"
NONE = ("schedules.training=null", "schedules.monitoring=null", "schedules.retraining=null")


def plans(*settings: str) -> dict[str, tuple[str, str | None, bool]]:
    """Return the pipeline, the schedule and the on-demand flag of each DAG, by its id."""
    base = Request(config=SAMPLE, settings=settings, cache=False)
    found = planned(base, base.load_config())
    assert all(request.settings == settings and not request.cache for request, _ in found)
    return {plan.id: (request.pipeline, request.schedule, plan.is_on_demand) for request, plan in found}


def test_the_example_trains_weekly_monitors_daily_and_retrains_on_mondays():
    assert plans() == {
        "training-sample": ("training", "0 3 * * 0", False),
        "monitoring-sample": ("monitoring", "15 6 * * *", False),
        "retraining-sample": ("training", "0 2 * * 1", False),
    }


def test_what_monitoring_may_start_is_there_without_a_schedule_of_its_own():
    assert plans("schedules.training=null", "schedules.retraining=null") == {
        "monitoring-sample": ("monitoring", "15 6 * * *", False),
        "retraining-sample": ("training", None, True),
    }
    assert plans("schedules.training=null", "schedules.monitoring=null") == {
        "retraining-sample": ("training", "0 2 * * 1", False)
    }


def test_a_schedule_that_is_no_cron_expression_is_refused():
    with pytest.raises(
        ConfigError, match=r"schedules\.training: 'daily' is not a cron expression; expected one such as '15 6"
    ):
        load_config(SAMPLE, ["schedules.training=daily"])


def test_a_use_case_without_schedules_is_an_error_with_the_fix():
    sets = [word for setting in NONE for word in ("--set", setting)]
    done = CliRunner().invoke(app, ["schedule", "--config", str(SAMPLE), *sets])
    assert done.exit_code == 2
    assert "no schedules; set a cron expression for schedules.training" in done.output
