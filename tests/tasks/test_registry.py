"""Lookup of tasks, and their dependencies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from visionops.config import Config
from visionops.errors import BundleError, TaskError
from visionops.inference.bundle import ModelBundle
from visionops.inference.task_registry import all_tasks, register, served_task, task_names
from visionops.tasks.classification.spec import ClassificationTask
from visionops.tasks.spec import task_for

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {
    "PIL", "cv2", "matplotlib", "mlflow", "numpy", "pyarrow", "sklearn", "torch", "ultralytics", "zenml",
}  # fmt: skip
PLUG_IN = """
from visionops.tasks.classification.spec import ClassificationTask

class Grades(ClassificationTask):
    name = "grades"

SPEC = Grades()
"""


def install(folder: Path, entry: str) -> dict[str, str]:
    """Install a package with an entry point, as pip does; return the environment of a process that has it."""
    info = folder / "grades-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: grades\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[visionops.tasks]\n{entry}\n")
    (folder / "grades_task.py").write_text(PLUG_IN)
    return os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}


def run(code: str, environment: dict[str, str]) -> str:
    done = subprocess.run([sys.executable, "-c", code], env=environment, text=True, capture_output=True, check=True)
    return done.stdout.strip()


def test_ours_come_first_in_a_fixed_order():
    assert task_names()[:3] == ("detection", "classification", "attributes")
    assert [task.name for task in all_tasks()[:3]] == ["detection", "classification", "attributes"]


def test_all_that_a_task_says_of_itself_needs_no_heavy_library():
    code = (
        "import sys; from visionops.inference.task_registry import all_tasks;"
        "[(t.settings(), t.metrics, t.layer, t.answer.model_json_schema()) for t in all_tasks()];"
        f"print(*sorted({HEAVY} & set(sys.modules)))"
    )
    assert run(code, os.environ | {"PYTHONPATH": str(ROOT)}) == ""


def test_a_package_brings_a_task_to_every_process(tmp_path):
    environment = install(tmp_path, "grades = grades_task:SPEC")
    code = (
        "from visionops.inference.task_registry import requirement_of, task_names, served_task;"
        "import sys; assert 'grades_task' not in sys.modules;"
        "print(*task_names(), type(served_task('grades')).__name__);"
        "print(requirement_of('grades'), requirement_of('detection'))"
    )
    said = ["detection classification attributes grades Grades", "grades==1.0 None"]
    assert run(code, environment).splitlines() == said


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("grades = not_there:SPEC", "task 'grades': not_there:SPEC cannot be imported"),
        ("grades = grades_task:NONE", "task 'grades': grades_task:NONE cannot be imported"),
        ("grades = grades_task:Grades", "task 'grades': grades_task:Grades is not a task with that name"),
        ("marks = grades_task:SPEC", "task 'marks': grades_task:SPEC is not a task with that name"),
    ],
)
def test_a_broken_package_is_one_line(tmp_path, entry, words):
    environment = install(tmp_path, entry)
    name = entry.partition(" ")[0]
    code = (
        "from visionops.errors import TaskError\n"
        "from visionops.inference.task_registry import served_task\n"
        f"try: served_task({name!r})\nexcept TaskError as error: print(error)"
    )
    assert run(code, environment).startswith(words)


def test_no_package_takes_the_name_of_one_of_ours(tmp_path):
    environment = install(tmp_path, "classification = grades_task:SPEC")
    code = (
        "from visionops.inference.task_registry import served_task; print(type(served_task('classification')).__name__)"
    )
    assert run(code, environment) == "ClassificationTask"


def test_a_name_is_registered_once():
    register(served_task("detection"))  # the same object again
    with pytest.raises(TaskError, match="task 'classification': is already registered"):
        register(ClassificationTask())


def test_an_unknown_task_is_answered_with_those_that_are_registered(tmp_path):
    from tests.helpers.bundles import make_bundle

    words = "unknown task 'segmentation'; registered are detection, classification, attributes"
    with pytest.raises(TaskError, match=words):
        task_for("segmentation")
    with pytest.raises(ValueError, match=words):
        Config.model_validate({"name": "case", "task": "segmentation", "data": {"source": {"kind": "sample"}}})
    folder = make_bundle(tmp_path / "bundle").folder
    card = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps(card | {"task": "segmentation"}))
    with pytest.raises(BundleError, match=f"bundle.json: task: {words}"):
        ModelBundle.load(folder)
