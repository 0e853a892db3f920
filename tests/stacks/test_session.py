"""Test how a session is opened and how a failed run is reported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stacks.apply import apply
from stacks.session import require_success
from tests.conftest import ROOT
from visionops.errors import StackError

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML and SQLAlchemy warn of their own code


@pytest.mark.usefixtures("zenml_home")
@pytest.mark.parametrize(
    ("error", "said"), [("ours", "labels.json: line 3: no class"), ("another", "RuntimeError: two lines")]
)
def test_what_a_failed_step_raised_is_in_the_message_since_its_pod_may_be_gone(error: str, said: str):
    """The run is on this machine, because ZenML stores a step's error in the same way everywhere."""
    from zenml.client import Client

    from tests.stacks.failing import fails

    apply("local")
    Client().activate_stack("local")
    with pytest.raises(RuntimeError, match="failure in step"):
        fails(error)
    (run,) = Client().list_pipeline_runs(sort_by="desc:created", size=1).items
    with pytest.raises(StackError, match=rf"run {run.name}: failed at fail; {said}$"):
        require_success(run)


@pytest.mark.usefixtures("zenml_home")
def test_a_flavor_that_is_gone_is_one_line_where_a_stack_is_only_read():
    from stacks.active import viewed_stack

    apply("local")
    with pytest.raises(StackError, match=r"^stack 'local': No module named 'gone'$"), viewed_stack("local"):
        import gone  # noqa: F401 - as ZenML does for a component of the stack


_OPENED = """
import sys
from zenml.client import Client
from zenml.enums import StackComponentType
from stacks.apply import apply
from stacks.session import open_session
apply("local")
client, kind = Client(), StackComponentType.EXPERIMENT_TRACKER
components = {kind: found[0].id for kind, found in client.get_stack("local").components.items()}
made = client.create_stack_component("trackio", "trackio", kind, {"project_name": "visionops"})
client.create_stack("noted", components | {kind: made.id})
with open_session("case", "noted"):
    from trackio.utils import TRACKIO_DIR
    print(TRACKIO_DIR)
"""


def test_trackio_writes_below_our_home_since_it_is_imported_only_when_its_folder_is_set(tmp_path: Path):
    """The test uses a new process, because Trackio reads the folder at the first import."""
    places = {"ZENML_CONFIG_PATH": "zenml", "ZENML_LOCAL_STORES_PATH": "stores", "VISIONOPS_HOME": "home"}
    environment = {name: value for name, value in os.environ.items() if name != "TRACKIO_DIR"}
    environment |= {name: str(tmp_path / folder) for name, folder in places.items()}
    command = [sys.executable, "-c", _OPENED]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == str(tmp_path / "home" / "trackio")
