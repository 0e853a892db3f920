"""The experiment tracker of the active stack: which adapter it has, and the run that is open for a step."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Protocol

from stacks.trackers.mlflow import MlflowAdapter
from stacks.trackers.trackio import TrackioAdapter
from stacks.trackers.wandb import WandbAdapter
from visionops.errors import StackError
from visionops.tracking import RunTracker

__all__ = ["ADAPTERS", "TrackerAdapter", "active_run", "prepare_tracker", "tracker_settings"]


class TrackerAdapter(Protocol):
    """What we need of a flavor of experiment trackers beyond ZenML's component."""

    def set_environment(self) -> None:
        """Set what the tracker's library reads when it is imported; called before."""

    def prepare(self, tracker: Any, use_case: str) -> None:
        """See before hours of training that runs can be written.

        Args:
            tracker: ZenML's component.

        Raises:
            StackError: They cannot.
        """

    def settings(self, use_case: str) -> dict[str, Any]:
        """Return the settings of ZenML's component for the steps of a run."""

    def open_run(self) -> RunTracker:
        """Return the run that ZenML has opened for the step.

        Raises:
            StackError: There is none.
        """


ADAPTERS: dict[str, TrackerAdapter] = {
    "mlflow": MlflowAdapter(),
    "trackio": TrackioAdapter(),
    "wandb": WandbAdapter(),
}
"""By ZenML's flavor, which is the name of the library, too."""


def prepare_tracker(use_case: str) -> None:
    """Make the tracker of the active stack ready for a run of ``use_case``.

    Raises:
        StackError: The stack has no tracker, one without an adapter, its library is not installed, or runs cannot be
            written.
    """
    from zenml.client import Client

    flavor, adapter = _active_adapter()
    if find_spec(flavor) is None:
        extra = "pipelines" if flavor == "mlflow" else flavor
        raise StackError(f"experiment tracker: {flavor} is not installed; pip install 'visionops[{extra}]'")
    adapter.set_environment()
    adapter.prepare(Client().active_stack.experiment_tracker, use_case)


def tracker_settings(use_case: str) -> dict[str, Any]:
    """Return what a pipeline's ``settings`` say to the tracker of the active stack.

    Raises:
        StackError: The stack has no tracker, or one without an adapter.
    """
    return {"experiment_tracker": _active_adapter()[1].settings(use_case)}


def active_run() -> RunTracker:
    """Return the run that is open for the step; with a ZenML server it links to the run of the pipeline there.

    Raises:
        StackError: There is none, or no adapter for it.
    """
    from zenml import get_step_context
    from zenml.utils.dashboard_utils import get_run_url

    run = _active_adapter()[1].open_run()
    if url := get_run_url(get_step_context().pipeline_run):
        run.link("zenml", url)
    return run


def _active_adapter() -> tuple[str, TrackerAdapter]:
    """From ZenML's records alone: loading the stack would import the library."""
    from zenml.client import Client
    from zenml.enums import StackComponentType

    stack = Client().active_stack_model
    trackers = stack.components.get(StackComponentType.EXPERIMENT_TRACKER)
    known = ", ".join(ADAPTERS)
    if not trackers:
        raise StackError(f"stack {stack.name!r}: has no experiment tracker; add one of flavor {known}")
    flavor = str(trackers[0].flavor_name)
    if flavor not in ADAPTERS:
        raise StackError(f"stack {stack.name!r}: no adapter for its experiment tracker {flavor!r}; use one of {known}")
    return flavor, ADAPTERS[flavor]
