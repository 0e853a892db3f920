"""Report what each run of monitoring found, decided and sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from launch.facts_runs import use_case_of
from launch.facts_zenml import plain, stack_client, stamp

if TYPE_CHECKING:
    from zenml.models import PipelineRunResponse

    from visionops.monitoring.drift.report import ColumnDrift, DriftReport

__all__ = ["monitoring_of", "verdicts_of"]

_LOOKED_AT = 100
"""Number of newest monitoring runs to search for those of a use case."""
_WANTED = ("drift", "retraining", "observation", "notification", "labelled_traffic", "performance_estimate", "drill")
_ENDED = {"completed", "cached"}

_read: dict[str, dict[str, Any]] = {}
"""Rows of successful runs by run name, which no longer change."""


def monitoring_of(stack: str | None, name: str, limit: int = 30) -> dict[str, Any]:
    """Return the newest runs of monitoring and drills of a use case, latest first.

    Only the latest report has ``columns`` with all details; the others have ``effects``.

    Raises:
        StackError: The stack is unknown, or ZenML's server does not answer.
    """
    with stack_client(stack) as client:
        found = {}
        for pipeline in ("monitoring", "drift_drill"):
            page = client.list_pipeline_runs(
                pipeline_name=pipeline, sort_by="desc:created", size=_LOOKED_AT, hydrate=True
            )
            ours = [run for run in page.items if use_case_of(run) == name][:limit]
            found[pipeline] = [_row(run) for run in ours]
        runs = found["monitoring"]
        latest = next((run for run in runs if run["drift"]), None)
        for run in runs:
            if run is not latest and run["drift"]:
                run["drift"] = {key: value for key, value in run["drift"].items() if key != "columns"}
        return {"runs": runs, "drills": found["drift_drill"]}


def verdicts_of(stack: str | None, names: list[str]) -> dict[str, Any]:
    """Return each use case's newest monitoring run that made a comparison; None if there is none.

    Raises:
        StackError: The stack is unknown, or ZenML's server does not answer.
    """
    found: dict[str, Any] = dict.fromkeys(names)
    with stack_client(stack) as client:
        page = client.list_pipeline_runs(
            pipeline_name="monitoring", sort_by="desc:created", size=_LOOKED_AT, hydrate=True
        )
        for run in page.items:
            name = use_case_of(run)
            if name in found and found[name] is None and (row := _row(run))["drift"]:
                brief = {key: row["drift"][key] for key in ("drifted", "share", "explanation", "current_images")}
                found[name] = {key: row[key] for key in ("run", "at", "decision")} | {"drift": brief}
    return found


def _row(run: PipelineRunResponse) -> dict[str, Any]:
    if run.name in _read:
        return dict(_read[run.name])
    from zenml.utils.dashboard_utils import get_run_url

    outputs, problem = _outputs(run)
    drift, notification = outputs.get("drift"), outputs.get("notification")
    row = {
        "run": run.name,
        "at": stamp(run.start_time or run.created),
        "state": run.status.value,
        "dashboard": get_run_url(run),
        "problem": problem,
        "drift": drift and _drift(drift),
        "decision": plain(outputs.get("retraining")),
        "observation": plain(outputs.get("observation")),
        "alerts": _alerts(run, outputs),
        "unsent_alerts": list(notification.problems) if notification else [],
        "labelled": outputs["labelled_traffic"].explain() if "labelled_traffic" in outputs else "",
        "estimate": outputs["performance_estimate"].explain() if "performance_estimate" in outputs else "",
        "drill": outputs["drill"].explain() if "drill" in outputs else "",
    }
    if run.status.value in _ENDED:
        _read[run.name] = row
    return dict(row)


def _outputs(run: PipelineRunResponse) -> tuple[dict[str, Any], str]:
    """Return the outputs of a run's steps by name, and why one cannot be read; "" if all can."""
    found: dict[str, Any] = {}
    problem = ""
    for step in run.steps.values():
        for name, versions in step.outputs.items():
            if name in _WANTED and versions:
                try:
                    found[name] = versions[0].load()
                except (OSError, ValueError, KeyError) as error:  # the store may have been emptied
                    problem = f"{name} cannot be read ({type(error).__name__}: {error})"
    return found, problem


def _alerts(run: PipelineRunResponse, outputs: dict[str, Any]) -> list[dict[str, str]]:
    """Return the alerts that the run sent, except resolved ones."""
    if "notification" not in outputs:
        return []
    from visionops.alerts import decision_alerts
    from visionops.config import Config

    config = Config.model_validate((run.config.parameters or {})["config"])
    policy = config.monitoring.policy
    alerts = decision_alerts(config.name, outputs["retraining"], outputs["observation"], policy)
    return [
        {"severity": one.severity.value, "summary": one.summary, "description": one.description}
        for one in alerts
        if one.lasts
    ]


def _drift(report: DriftReport) -> dict[str, Any]:
    return {
        "drifted": report.drifted,
        "share": report.share,
        "explanation": report.explain(),
        "current_images": report.current_images,
        "reference_images": report.reference_images,
        "effects": {column.label: _ratio(column) for column in report.columns},
        "columns": [_column(column) for column in report.columns],
    }


def _ratio(column: ColumnDrift) -> float | None:
    """Return the effect divided by the smallest effect that counts as drift."""
    if column.effect is None or not column.min_effect:
        return None
    ratio: float | None = plain(abs(column.effect) / column.min_effect)
    return ratio


def _column(column: ColumnDrift) -> dict[str, Any]:
    found: dict[str, Any] = plain(column)
    return found | {"label": column.label, "outcome": column.outcome, "said": column.explain()}
