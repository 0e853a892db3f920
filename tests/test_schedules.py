"""The documented lines for daily runs work as written."""

from __future__ import annotations

import re
import subprocess
import sys

import yaml

import run
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "how-to" / "monitoring.md").read_text(encoding="utf-8")


def test_the_line_for_crontab_runs_as_cron_runs_it():
    line = next(line for line in PAGE.splitlines() if re.match(r"(\S+ ){4}\S+ {2}cd ", line))
    command = (
        line.split(maxsplit=5)[5].replace("VISIONOPS &&", f"{ROOT} &&").replace(".venv/bin/python", sys.executable)
    )
    assert "%" not in command, "cron takes it for the end of the line"
    bare = {"HOME": "/nonexistent", "LOGNAME": "nobody", "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh"}
    done = subprocess.run(
        ["/bin/sh", "-c", f"{command} --dry-run"], env=bare, capture_output=True, text=True, check=False, timeout=180
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("pipeline  monitoring: ")


def test_the_cron_job_of_a_cluster_runs_one_at_a_time_with_arguments_that_are_known():
    (text,) = re.findall(r"```yaml\n(apiVersion.*?)```", PAGE, re.DOTALL)
    job = yaml.safe_load(text)
    assert job["kind"] == "CronJob"
    assert len(job["spec"]["schedule"].split()) == 5
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["command"][:2] == ["python", "run.py"]
    arguments = run.parse(container["command"][2:])
    assert arguments.pipeline == "monitoring"
    assert (ROOT / arguments.config).is_file()
