"""Report the newest pipeline runs, and one run with its steps, settings, metrics and training curves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from launch.facts_zenml import plain, stack_client, stamp
from visionops.errors import RegistryError, VisionOpsError
from visionops.review.errors import NotFound

if TYPE_CHECKING:
    from zenml.models import PipelineRunResponse

__all__ = ["run_of", "runs_of", "use_case_of"]

_OUR_CURVES_ONLY = ("test_", "system/")
"""Prefixes of the metrics that have no value per epoch."""
_MOST_SERIES = 40


def runs_of(stack: str | None, limit: int = 40) -> dict[str, Any]:
    """Return the newest runs of all pipelines, latest first, with their addresses in ZenML and in the tracker.

    Raises:
        StackError: The stack is unknown, or ZenML's server does not answer.
    """
    with stack_client(stack) as client:
        found = client.list_pipeline_runs(sort_by="desc:created", size=limit, hydrate=True)
        return {"runs": [_row(run) for run in found.items], "tracker": _tracker_address()}


def run_of(stack: str | None, name: str) -> dict[str, Any]:
    """Return a run with its steps, its settings by dotted key, its results and its curves.

    Raises:
        NotFound: ZenML has no run of this name.
        StackError: The stack is unknown, or ZenML's server does not answer.
    """
    with stack_client(stack) as client:
        try:
            run = client.get_pipeline_run(name, allow_name_prefix_match=False)
        except KeyError as error:
            raise NotFound(f"run {name}: unknown in ZenML") from error
        return _row(run) | {
            "steps": [_step(label, step) for label, step in run.steps.items()],
            "settings": plain(dict(_flat(_config(run)))),
            **_summary(run),
            **_curves(run),
        }


def use_case_of(run: PipelineRunResponse) -> str:
    """Return the use case of a run; "" for runs of other pipelines."""
    return str(_config(run).get("name", ""))


def _config(run: PipelineRunResponse) -> Mapping[str, Any]:
    found = (run.config.parameters or {}).get("config")
    return found if isinstance(found, Mapping) else {}


def _row(run: PipelineRunResponse) -> dict[str, Any]:
    from zenml.utils.dashboard_utils import get_run_url

    seconds = (run.end_time - run.start_time).total_seconds() if run.end_time and run.start_time else None
    return {
        "name": run.name,
        "pipeline": run.pipeline.name if run.pipeline else "",
        "use_case": use_case_of(run),
        "stack": run.stack.name if run.stack else "",
        "state": run.status.value,
        "started": stamp(run.start_time or run.created),
        "ended": stamp(run.end_time),
        "seconds": seconds,
        "dashboard": get_run_url(run),
    }


def _step(label: str, step: Any) -> dict[str, Any]:
    seconds = (step.end_time - step.start_time).total_seconds() if step.end_time and step.start_time else None
    info = step.exception_info
    said = " ".join((info.message or "").split()) if info else ""
    return {"name": label, "state": step.status.value, "seconds": seconds, "error": said[:1000]}


def _summary(run: PipelineRunResponse) -> dict[str, Any]:
    """Return the results of a run, or why they cannot be read, as the artifact store may have been emptied."""
    from launch.summary import summarize

    try:
        return {"summary": plain(summarize(run, use_case_of(run), "").to_dict()), "summary_problem": ""}
    except (VisionOpsError, OSError, ValueError) as error:
        return {"summary": None, "summary_problem": f"its results cannot be read ({error})"}


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _tracker_address() -> dict[str, str]:
    """Return the tracker's flavor and its address; "" if a browser cannot open it."""
    from zenml.client import Client
    from zenml.enums import StackComponentType

    parts = Client().active_stack_model.components.get(StackComponentType.EXPERIMENT_TRACKER)
    if not parts:
        return {"flavor": "", "uri": ""}
    flavor = str(parts[0].flavor_name)
    if flavor != "mlflow":
        return {"flavor": flavor, "uri": ""}
    tracker: Any = Client().active_stack.experiment_tracker
    return {"flavor": flavor, "uri": str(tracker.get_tracking_uri())}


def _curves(run: PipelineRunResponse) -> dict[str, Any]:
    """Return ``curves``: pairs of epoch and value by metric, ``tracked``: the address, and ``curves_problem``."""
    tracker = _tracker_address()
    none: dict[str, Any] = {"curves": {}, "tracked": "", "curves_problem": ""}
    if tracker["flavor"] != "mlflow":
        where = tracker["flavor"] or "no experiment tracker"
        return none | {"curves_problem": f"curves are only available from MLflow; the stack has {where}"}
    try:
        return none | _mlflow_curves(tracker["uri"], use_case_of(run), run.name)
    except RegistryError as error:
        return none | {"curves_problem": str(error)}


def _mlflow_curves(uri: str, experiment: str, name: str) -> dict[str, Any]:
    import sqlalchemy.exc
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    from visionops.registry import brief_waits

    client = MlflowClient(tracking_uri=uri)
    try:
        with brief_waits():
            found = client.get_experiment_by_name(experiment)
            # Our run names consist of a pipeline's name and digits, so they need no quoting.
            named = f"attributes.run_name = '{name}'"
            runs = client.search_runs([found.experiment_id], named, max_results=1) if found and "'" not in name else []
            if not runs:
                return {"curves_problem": "MLflow has no run of this name: it trained nothing"}
            run = runs[0]
            names = [key for key in sorted(run.data.metrics) if not key.startswith(_OUR_CURVES_ONLY)][:_MOST_SERIES]
            curves = {key: _series(client, run.info.run_id, key) for key in names}
    except (MlflowException, sqlalchemy.exc.SQLAlchemyError, OSError) as error:
        raise RegistryError(f"MLflow: does not answer ({type(error).__name__}); check that its server runs") from error
    address = f"{uri}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}" if uri.startswith("http") else ""
    return {"curves": {key: pairs for key, pairs in curves.items() if pairs}, "tracked": address}


def _series(client: Any, run: str, key: str) -> list[list[float | None]]:
    """Return the last value of each epoch, because a resumed training writes some epochs twice."""
    last = {one.step: plain(float(one.value)) for one in client.get_metric_history(run, key)}
    return [[step, last[step]] for step in sorted(last)]
