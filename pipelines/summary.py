"""What a run came to: a table that fits a terminal, and the same as JSON."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from zenml.models import PipelineRunResponse

from visionops.config import Config
from visionops.data.dataset import Dataset, Split
from visionops.data.validation import ValidationReport
from visionops.endpoint import Endpoint
from visionops.errors import VisionOpsError
from visionops.registry import GateDecision, RegisteredVersion
from visionops.tasks.base import Evaluation

__all__ = ["print_summary", "summarise", "write_summary"]

_SHOWN = frozenset({"prepared", "validation", "evaluation", "registered_version", "decision", "endpoint"})
"""The artifacts that the table needs: loading a bundle would hash all its files for nothing."""
_HEADLINE = ("map50", "map50_95", "precision", "recall")


def summarise(run: PipelineRunResponse, config: Config, stack: str) -> dict[str, Any]:
    """Collect from the artifacts of a run.

    Returns:
        ``use_case``, ``stack``, ``run``, ``seconds`` and, as far as the pipeline makes them, ``splits``, ``findings``,
        ``metrics``, ``gate``, ``model``, ``endpoint``.
    """
    seconds = (run.end_time - run.start_time).total_seconds() if run.end_time and run.start_time else None
    summary: dict[str, Any] = {"use_case": config.name, "stack": stack, "run": run.name, "seconds": seconds}
    for artifact in _outputs(run).values():
        summary |= _section(artifact)
    if summary.get("model") and summary.get("endpoint"):
        served = summary["endpoint"]["version"] == summary["model"]["version"]
        summary["model"]["alias"] = "champion" if served else "challenger"
    return summary


def _outputs(run: PipelineRunResponse) -> dict[str, Any]:
    return {
        name: versions[0].load()
        for step in run.steps.values()
        for name, versions in step.outputs.items()
        if name in _SHOWN
    }


def _section(artifact: Any) -> dict[str, Any]:
    section: dict[str, Any] = {}
    match artifact:
        case Dataset():
            section = {"splits": artifact.split_counts(), "sample_image": _first_test_image(artifact)}
        case ValidationReport():
            section = {"findings": {str(code): n for code, n in artifact.counts_by_code().items()}}
        case Evaluation():
            section = {"metrics": artifact.metrics, "per_class": artifact.per_class}
        case GateDecision():
            section = {"gate": artifact.model_dump()}
        case RegisteredVersion():
            section = {"model": {"name": artifact.name, "version": artifact.version, "alias": "challenger"}}
        case Endpoint():
            section = {"endpoint": artifact.model_dump()}
    return section


def _first_test_image(dataset: Dataset) -> str:
    paths = dataset.select_split(Split.TEST).paths()
    return str(paths[0]) if paths else "part.jpg"


def print_summary(summary: dict[str, Any]) -> None:
    """Print the table, and a `curl` line that works as it stands."""
    console = Console(highlight=False)
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in _rows(summary):
        table.add_row(label, text)
    console.print()
    console.print(table)
    endpoint = summary.get("endpoint")
    if endpoint:
        image = summary.get("sample_image", "part.jpg")
        console.print(f"\ncurl -F file=@{image} {endpoint['url']}/predict", soft_wrap=True)


def _rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
    seconds = summary["seconds"]
    rows = [("run", f"{summary['run']} on stack {summary['stack']}" + (f", {seconds:.0f} s" if seconds else ""))]
    if splits := summary.get("splits"):
        rows.append(("splits", ", ".join(f"{name} {count}" for name, count in splits.items())))
    if "findings" in summary:
        found = ", ".join(f"{code} {count}" for code, count in summary["findings"].items())
        rows.append(("findings", found or "none"))
    if metrics := summary.get("metrics"):
        rows.append(("test", ", ".join(f"{name} {metrics[name]:.3f}" for name in _HEADLINE)))
        rows.append(("latency", f"p50 {metrics['latency_ms_p50']:.1f} ms, p95 {metrics['latency_ms_p95']:.1f} ms"))
    if gate := summary.get("gate"):
        rows.append(("gate", gate["reason"]))
    if model := summary.get("model"):
        rows.append(("model", f"{model['name']} version {model['version']} ({model['alias']})"))
    endpoint = summary.get("endpoint")
    rows.append(("endpoint", _endpoint_text(endpoint) if endpoint else "none: no model has passed the gate yet"))
    return rows


def _endpoint_text(endpoint: dict[str, Any]) -> str:
    return f"{endpoint['url']} serves {endpoint['name']} version {endpoint['version']} ({endpoint['alias']})"


def write_summary(summary: dict[str, Any], path: Path) -> None:
    """Write as JSON, whole or not at all.

    Raises:
        VisionOpsError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            json.dump(summary, file, indent=1)
        Path(file.name).replace(path)
    except OSError as error:
        raise VisionOpsError(f"--summary {path}: cannot be written ({error.strerror})") from error
