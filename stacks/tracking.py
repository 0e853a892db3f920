"""Find the adapter of the active stack's experiment tracker, and the run that is open for a step."""

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
    """Functions for a flavor of experiment trackers that ZenML's component lacks."""

    def set_environment(self) -> None:
        """Set the environment that the tracker's library reads on import; called before the import."""

    def prepare(self, tracker: Any, use_case: str) -> None:
        """Check, before hours of training, that runs can be written.

        Args:
            tracker: ZenML's component.

        Raises:
            StackError: Runs cannot be written.
        """

    def settings(self, use_case: str) -> dict[str, Any]:
        """Return the settings of ZenML's component for the steps of a run."""

    def open_run(self) -> RunTracker:
        """Return the run that ZenML has opened for the step.

        Raises:
            StackError: No run is open.
        """


ADAPTERS: dict[str, TrackerAdapter] = {
    "mlflow": MlflowAdapter(),
    "trackio": TrackioAdapter(),
    "wandb": WandbAdapter(),
}
"""Adapters by ZenML's flavor, which is also the name of the library."""


def prepare_tracker(use_case: str) -> None:
    """Prepare the tracker of the active stack for a run of ``use_case``.

    Raises:
        StackError: The stack has no tracker, the tracker has no adapter, its library is not installed, or runs cannot
            be written.
    """
    from zenml.client import Client

    flavor, adapter = _active_adapter()
    if find_spec(flavor) is None:
        extra = "pipelines" if flavor == "mlflow" else flavor
        raise StackError(f"experiment tracker: {flavor} is not installed; pip install 'visionops[{extra}]'")
    adapter.set_environment()
    adapter.prepare(Client().active_stack.experiment_tracker, use_case)


def tracker_settings(use_case: str) -> dict[str, Any]:
    """Return a pipeline's ``settings`` for the tracker of the active stack.

    Raises:
        StackError: The stack has no tracker, or the tracker has no adapter.
    """
    return {"experiment_tracker": _active_adapter()[1].settings(use_case)}


def active_run() -> RunTracker:
    """Return the run that is open for the step; with a ZenML server it links to the pipeline's run there.

    Raises:
        StackError: No run is open, or the tracker has no adapter.
    """
    from zenml import get_step_context
    from zenml.utils.dashboard_utils import get_run_url

    run = _active_adapter()[1].open_run()
    if url := get_run_url(get_step_context().pipeline_run):
        run.link("zenml", url)
    return run


def _active_adapter() -> tuple[str, TrackerAdapter]:
    """Return the flavor and adapter from ZenML's records, because loading the stack would import the library."""
    from zenml.client import Client
    from zenml.enums import StackComponentType

    stack = Client().active_stack_model
    trackers = stack.components.get(StackComponentType.EXPERIMENT_TRACKER)
    known = ", ".join(ADAPTERS)
    if not trackers:
        raise StackError(f"stack {stack.name!r}: missing experiment tracker; add one of flavor {known}")
    flavor = str(trackers[0].flavor_name)
    if flavor not in ADAPTERS:
        raise StackError(f"stack {stack.name!r}: no adapter for its experiment tracker {flavor!r}; use one of {known}")
    return flavor, ADAPTERS[flavor]
