"""Check the DAGs of an Airflow that runs steps on this machine."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

from stacks.airflow_dag import CONFIG_FILENAME
from stacks.doctor.findings import CheckResult, Examined, broken, ok, warning
from stacks.doctor.machine import check_folder
from stacks.same_code import CODE_VARIABLE, code_digest

__all__ = ["check_airflow_on_this_machine"]


def check_airflow_on_this_machine(examined: Examined) -> Iterator[CheckResult]:
    """Check that the DAG folder is writable and that each DAG in it comes from the current code."""
    folder = str(examined.component.configuration.get("dag_output_dir") or "")
    if not folder:
        yield broken("no folder for DAGs", "set dag_output_dir to the folder that Airflow reads DAGs from")
        return
    yield from check_folder(Path(folder), "DAGs")
    made = {path.stem: _code(path) for path in sorted(Path(folder).glob("*.zip"))}
    ours = {name: code for name, code in made.items() if code}
    if old := [name for name, code in ours.items() if code != code_digest()]:
        yield warning(
            f"{len(old)} of {len(ours)} DAGs come from other code, so their tasks fail: {', '.join(old)}",
            "create them again (visionops schedule), or remove their files",
        )
    else:
        yield ok(f"{len(ours)} DAGs from this code")


def _code(path: Path) -> str:
    """Return the digest of the code that a DAG was built from, or "" for a DAG that is not ours."""
    try:
        with zipfile.ZipFile(path) as files:
            tasks = json.loads(files.read(CONFIG_FILENAME))["tasks"]
        return str(tasks[0]["operator_args"]["env"][CODE_VARIABLE])
    except (OSError, zipfile.BadZipFile, ValueError, LookupError, TypeError):
        return ""
