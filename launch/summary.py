"""Summarize a run as typed results and as JSON."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionops.alerts import NotificationReport
from visionops.batch.report import BatchSummary
from visionops.data.dataset import Split
from visionops.data.shards import StoredDataset
from visionops.data.validation.report import ValidationReport
from visionops.endpoint import Endpoint
from visionops.errors import VisionOpsError
from visionops.evaluation.result import Evaluation
from visionops.monitoring.drift.report import DriftReport
from visionops.monitoring.drill import DrillResult
from visionops.monitoring.estimation.report import PerformanceEstimate
from visionops.monitoring.labelled import LabelledTraffic
from visionops.monitoring.policy import Action, Decision
from visionops.registry import GateDecision, RegisteredVersion
from visionops.review.versions import ReviewVersion
from visionops.tuning.result import TuningResult

if TYPE_CHECKING:
    from zenml.models import PipelineRunResponse

__all__ = ["ModelSummary", "RunSummary", "summarize"]


@dataclasses.dataclass(frozen=True, slots=True)
class ModelSummary:
    """Model version that a run registered."""

    name: str
    version: str
    alias: str
    """``champion`` if the endpoint serves it, else ``challenger``."""


@dataclasses.dataclass(frozen=True, slots=True)
class RunSummary:
    """Results of a run; a field is None if the pipeline does not produce it."""

    use_case: str
    stack: str
    run: str = ""
    """Name of the run; "" if an orchestrator runs it later."""
    seconds: float | None = None
    steps: dict[str, int] | None = None
    """Number of steps that ``ran`` and that were ``cached``; not part of `to_dict`."""
    splits: dict[str, int] | None = None
    """Number of images in each split."""
    sample_image: str | None = None
    """An image of the test split, to try the endpoint with."""
    findings: dict[str, int] | None = None
    """Number of findings of the validation by code."""
    review: ReviewVersion | None = None
    """Data that a review added."""
    evaluation: Evaluation | None = None
    gate: GateDecision | None = None
    model: ModelSummary | None = None
    endpoint: Endpoint | None = None
    tuning: TuningResult | None = None
    batch: BatchSummary | None = None
    drift: DriftReport | None = None
    labelled: LabelledTraffic | None = None
    estimate: PerformanceEstimate | None = None
    retraining: Decision | None = None
    drill: DrillResult | None = None
    dashboard: str | None = None
    """Address of the run on ZenML's dashboard; None without a ZenML server."""
    unsent_alerts: tuple[str, ...] | None = None
    """Alerts that could not be sent, with the fix; None if there was nothing to send."""
    training: RunSummary | None = None
    """The training that followed a monitoring."""
    dag_folder: str = ""
    """Folder of ``dags``, for Airflow."""
    dags: tuple[str, ...] = ()
    """DAGs that were created instead of a run."""

    @property
    def is_retraining(self) -> bool:
        """Whether monitoring has decided to train again."""
        return self.retraining is not None and self.retraining.action == Action.RETRAIN

    def to_dict(self) -> dict[str, Any]:
        """Return the contents of `--summary FILE`: JSON types only, with a key for each section that exists."""
        found: dict[str, Any] = {
            "use_case": self.use_case,
            "stack": self.stack,
            "run": self.run,
            "seconds": self.seconds,
        }
        if evaluation := self.evaluation:
            found |= {
                "metrics": evaluation.metrics,
                "headline": list(evaluation.headline),
                "intervals": evaluation.intervals,
                "per_class": evaluation.per_class,
            }
        if self.tuning:
            found["tuning"] = self.tuning.model_dump(mode="json") | {"counts": self.tuning.counts()}
        for name in ("gate", "endpoint", "batch", "retraining"):
            if section := getattr(self, name):
                found[name] = section.model_dump(mode="json")
        for name in ("review", "drift", "labelled", "estimate", "drill"):
            if section := getattr(self, name):
                found[name] = section.model_dump(mode="json") | {"explanation": section.explain()}
        if self.model:
            found["model"] = dataclasses.asdict(self.model)
        if self.unsent_alerts is not None:
            found["unsent_alerts"] = list(self.unsent_alerts)
        if self.training:
            found["training"] = self.training.to_dict()
        plain = {name: getattr(self, name) for name in ("splits", "sample_image", "findings", "dashboard")}
        return found | {name: value for name, value in plain.items() if value is not None}

    def write(self, path: Path) -> None:
        """Write `to_dict` as JSON atomically.

        Raises:
            VisionOpsError: The file cannot be written.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
                json.dump(self.to_dict(), file, indent=1)
            Path(file.name).replace(path)
        except OSError as error:
            raise VisionOpsError(f"--summary {path}: cannot be written ({error.strerror})") from error


_ARTIFACTS: dict[str, type] = {
    "prepared": StoredDataset,
    "validation": ValidationReport,
    "review_version": ReviewVersion,
    "evaluation": Evaluation,
    "registered_version": RegisteredVersion,
    "decision": GateDecision,
    "endpoint": Endpoint,
    "tuning": TuningResult,
    "batch": BatchSummary,
    "drift": DriftReport,
    "labelled_traffic": LabelledTraffic,
    "performance_estimate": PerformanceEstimate,
    "retraining": Decision,
    "drill": DrillResult,
    "notification": NotificationReport,
}
"""Types by step output. Other outputs are not loaded, as loading a bundle would hash all its files."""

_RAN, _CACHED = "completed", "cached"
"""ZenML's statuses of successful steps."""

_FIELDS: dict[type, str] = {
    ReviewVersion: "review",
    Evaluation: "evaluation",
    GateDecision: "gate",
    Endpoint: "endpoint",
    TuningResult: "tuning",
    BatchSummary: "batch",
    DriftReport: "drift",
    LabelledTraffic: "labelled",
    PerformanceEstimate: "estimate",
    Decision: "retraining",
    DrillResult: "drill",
}
"""Artifacts that a summary contains unchanged."""


def summarize(run: PipelineRunResponse, use_case: str, stack: str) -> RunSummary:
    """Collect the results of a run from its artifacts."""
    from zenml.utils.dashboard_utils import get_run_url

    sections: dict[str, Any] = {}
    for name, artifact in _outputs(run):
        sections |= _sections(artifact, _ARTIFACTS[name])
    if (
        (model := sections.get("model"))
        and (endpoint := sections.get("endpoint"))
        and endpoint.version == model.version
    ):
        sections["model"] = dataclasses.replace(model, alias="champion")
    seconds = (run.end_time - run.start_time).total_seconds() if run.end_time and run.start_time else None
    steps = _count_steps(step.status for step in run.steps.values())
    sections["dashboard"] = get_run_url(run)
    return RunSummary(use_case=use_case, stack=stack, run=run.name, seconds=seconds, steps=steps, **sections)


def _count_steps(statuses: Iterable[str]) -> dict[str, int]:
    """Count the successful steps that ran and those that were cached."""
    counts = Counter(statuses)
    return {"ran": counts[_RAN], "cached": counts[_CACHED]}


def _outputs(run: PipelineRunResponse) -> list[tuple[str, Any]]:
    return [
        (name, _stored(versions[0]) if name == "prepared" else versions[0].load())
        for step in run.steps.values()
        for name, versions in step.outputs.items()
        if name in _ARTIFACTS
    ]


def _stored(artifact: Any) -> StoredDataset:
    """Load a data set without fetching its images."""
    from zenml.client import Client

    from materializers.dataset import DatasetMaterializer

    materializer = DatasetMaterializer(artifact.uri, Client().active_stack.artifact_store)
    stored = materializer.load(StoredDataset)
    assert isinstance(stored, StoredDataset)
    return stored


def _sections(artifact: Any, kind: type) -> dict[str, Any]:
    if not isinstance(artifact, kind):
        return {}
    if isinstance(artifact, StoredDataset):
        return {"splits": artifact.tables.split_counts(), "sample_image": _first_test_image(artifact)}
    if isinstance(artifact, ValidationReport):
        return {"findings": {str(code): count for code, count in artifact.counts_by_code().items()}}
    if isinstance(artifact, RegisteredVersion):
        return {"model": ModelSummary(artifact.name, artifact.version, "challenger")}
    if isinstance(artifact, NotificationReport):
        return {"unsent_alerts": artifact.problems}
    return {_FIELDS[kind]: artifact}


def _first_test_image(dataset: StoredDataset) -> str:
    paths = dataset.fetch(dataset.tables.select_split(Split.TEST).take_evenly(1)).paths()
    return str(paths[0]) if paths else "part.jpg"
