"""How a run that failed is reported."""

from __future__ import annotations

import pytest

from stacks.apply import apply
from stacks.session import require_success
from visionops.errors import StackError

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML and SQLAlchemy warn of their own code


@pytest.mark.usefixtures("zenml_home")
@pytest.mark.parametrize(
    ("error", "said"), [("ours", "labels.json: line 3: no class"), ("another", "RuntimeError: two lines")]
)
def test_what_a_failed_step_raised_is_in_the_message_since_its_pod_may_be_gone(error: str, said: str):
    """A run of this machine: ZenML keeps the error of a step in the same way wherever it ran."""
    from zenml.client import Client

    from tests.stacks.failing import fails

    apply("local")
    Client().activate_stack("local")
    with pytest.raises(RuntimeError, match="failure in step"):
        fails(error)
    (run,) = Client().list_pipeline_runs(sort_by="desc:created", size=1).items
    with pytest.raises(StackError, match=rf"run {run.name}: failed at fail; {said}$"):
        require_success(run)
