"""Test the doctor's check of DAGs for an Airflow on this machine."""

import json
import zipfile
from pathlib import Path

from stacks.doctor.airflow import check_airflow_on_this_machine
from stacks.same_code import CODE_VARIABLE, code_digest
from tests.helpers.doctor import examined, trouble, well


def write_dag(path: Path, code: str) -> None:
    with zipfile.ZipFile(path, "w") as files:
        config = {"tasks": [{"operator_args": {"env": {CODE_VARIABLE: code}}}]}
        files.writestr("config.json", json.dumps(config))


def test_dags_of_other_code_are_named(tmp_path):
    component = examined("orchestrator", "visionops_airflow", dag_output_dir=str(tmp_path))
    write_dag(tmp_path / "training-steel.zip", code_digest())
    (tmp_path / "broken.zip").write_bytes(b"no archive")  # not one of our DAGs
    assert "1 DAGs from this code" in well(check_airflow_on_this_machine(component))
    write_dag(tmp_path / "monitoring-steel.zip", "0123")
    seen = trouble(check_airflow_on_this_machine(component))
    assert seen.startswith("warning: 1 of 2 DAGs come from other code, so their tasks fail: monitoring-steel; create")


def test_without_a_folder_airflow_finds_no_dag():
    seen = trouble(check_airflow_on_this_machine(examined("orchestrator", "visionops_airflow")))
    assert seen == "broken: no folder for DAGs; set dag_output_dir to the folder that Airflow reads DAGs from"
