"""What a run came to: a table that fits a terminal, and the same as JSON."""

from __future__ import annotations

import json
import re
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from zenml.client import Client
from zenml.models import PipelineRunResponse

from materializers.dataset import DatasetMaterializer
from visionops.alerts import Told
from visionops.batch import BatchSummary
from visionops.config import Config
from visionops.data.dataset import Split
from visionops.data.shards import StoredDataset
from visionops.data.validation import ValidationReport
from visionops.endpoint import Endpoint
from visionops.errors import VisionOpsError
from visionops.monitoring.drift import DriftReport
from visionops.monitoring.drill import DrillResult
from visionops.monitoring.labelled import LabelledTraffic
from visionops.monitoring.policy import Action, Decision
from visionops.registry import GateDecision, RegisteredVersion
from visionops.tasks.base import Evaluation
from visionops.tuning import TuningResult, settings_text

__all__ = ["is_retraining", "print_summary", "summarise", "write_summary"]

_SHOWN = frozenset(
    {
        "prepared",
        "validation",
        "evaluation",
        "registered_version",
        "decision",
        "endpoint",
        "tuning",
        "batch",
        "drift",
        "labelled_traffic",
        "retraining",
        "drill",
        "told",
    }
)
"""The artifacts that the table needs: loading a bundle would hash all its files for nothing."""

_SENTENCES = (
    ("drift", "drift", "explanation"),
    ("labels", "labelled", "explanation"),
    ("decision", "retraining", "sentence"),
    ("drill", "drill", "explanation"),
)
"""Row, section of the summary, and what of it is said."""


def summarise(run: PipelineRunResponse, config: Config, stack: str) -> dict[str, Any]:
    """Collect from the artifacts of a run.

    Returns:
        ``use_case``, ``stack``, ``run``, ``seconds`` and, as far as the pipeline makes them, ``splits``, ``findings``,
        ``metrics``, ``gate``, ``model``, ``endpoint``, ``tuning``, ``batch``, ``drift``, ``labelled``, ``retraining``,
        ``drill``.
        ``untold``.
    """
    seconds = (run.end_time - run.start_time).total_seconds() if run.end_time and run.start_time else None
    summary: dict[str, Any] = {"use_case": config.name, "stack": stack, "run": run.name, "seconds": seconds}
    for artifact in _outputs(run).values():
        summary |= _section(artifact)
    if summary.get("model") and summary.get("endpoint"):
        served = summary["endpoint"]["version"] == summary["model"]["version"]
        summary["model"]["alias"] = "champion" if served else "challenger"
    return summary


def is_retraining(summary: dict[str, Any]) -> bool:
    """Whether monitoring has decided to train again."""
    return bool(summary.get("retraining", {}).get("action") == Action.RETRAIN)


def _outputs(run: PipelineRunResponse) -> dict[str, Any]:
    return {
        name: _stored(versions[0]) if name == "prepared" else versions[0].load()
        for step in run.steps.values()
        for name, versions in step.outputs.items()
        if name in _SHOWN
    }


def _stored(artifact: Any) -> StoredDataset:
    """Its images do not come to this machine."""
    materializer = DatasetMaterializer(artifact.uri, Client().active_stack.artifact_store)
    stored = materializer.load(StoredDataset)
    assert isinstance(stored, StoredDataset)
    return stored


def _section(artifact: Any) -> dict[str, Any]:
    return next((make(artifact) for kind, make in _SECTIONS.items() if isinstance(artifact, kind)), {})


_SECTIONS: dict[type, Callable[[Any], dict[str, Any]]] = {
    StoredDataset: lambda a: {"splits": a.tables.split_counts(), "sample_image": _first_test_image(a)},
    ValidationReport: lambda a: {"findings": {str(code): n for code, n in a.counts_by_code().items()}},
    Evaluation: lambda a: {
        "metrics": a.metrics,
        "headline": a.headline,
        "intervals": a.intervals,
        "per_class": a.per_class,
    },
    GateDecision: lambda a: {"gate": a.model_dump()},
    RegisteredVersion: lambda a: {"model": {"name": a.name, "version": a.version, "alias": "challenger"}},
    TuningResult: lambda a: {"tuning": a.model_dump(mode="json") | {"counts": a.counts()}},
    BatchSummary: lambda a: {"batch": a.model_dump()},
    DriftReport: lambda a: {"drift": a.model_dump(mode="json") | {"explanation": a.explain()}},
    LabelledTraffic: lambda a: {"labelled": a.model_dump(mode="json") | {"explanation": a.explain()}},
    Decision: lambda a: {"retraining": a.model_dump(mode="json")},
    Told: lambda a: {"untold": list(a.problems)},
    DrillResult: lambda a: {"drill": a.model_dump(mode="json") | {"explanation": a.explain()}},
    Endpoint: lambda a: {"endpoint": a.model_dump()},
}


def _first_test_image(dataset: StoredDataset) -> str:
    paths = dataset.fetch(dataset.tables.select_split(Split.TEST).take_evenly(1)).paths()
    return str(paths[0]) if paths else "part.jpg"


def print_summary(summary: dict[str, Any]) -> None:
    """Print the table, and a `curl` line that works as it stands; before it, what opens the way into a cluster."""
    # No markup: [x] in the name of a folder is no style, and :smile: no picture.
    console = Console(highlight=False, markup=False, emoji=False)
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in _rows(summary):
        table.add_row(label, text)
    console.print()
    console.print(table)
    endpoint = summary.get("endpoint")
    for file in summary.get("batch", {}).get("files", ()):
        console.print(f"  {file}", soft_wrap=True)  # outside the table, which would break it in two
    if endpoint:
        console.print(f"\n{_request(endpoint, summary.get('sample_image', 'part.jpg'))}", soft_wrap=True)


def _request(endpoint: dict[str, Any], image: str) -> str:
    """The lines that ask the endpoint, for a shell."""
    key = f'-H "X-API-Key: $({command})" ' if (command := endpoint.get("key_command")) else ""
    tunnel = endpoint.get("tunnel")
    way, url = (f"{tunnel} &\n", "http://127.0.0.1:8000") if tunnel else ("", endpoint["url"])
    return f"{way}curl {key}-F {shlex.quote(f'file=@{_form_path(image)}')} {shlex.quote(f'{url}/predict')}"


def _form_path(path: str) -> str:
    """``path`` as curl reads it behind ``file=@``: there ``;`` and ``,`` end it, unless it is in double quotes."""
    if not re.search(r'[;,"]|^\s|\s$', path):
        return path
    escaped = path.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
    seconds = summary["seconds"]
    rows = [("run", f"{summary['run']} on stack {summary['stack']}" + (f", {seconds:.0f} s" if seconds else ""))]
    if splits := summary.get("splits"):
        rows.append(("splits", ", ".join(f"{name} {count}" for name, count in splits.items())))
    if "findings" in summary:
        found = ", ".join(f"{code} {count}" for code, count in summary["findings"].items())
        rows.append(("findings", found or "none"))
    if metrics := summary.get("metrics"):
        rows.append(("test", ", ".join(_metric_text(name, summary) for name in summary["headline"])))
        rows.append(("latency", f"p50 {metrics['latency_ms_p50']:.1f} ms, p95 {metrics['latency_ms_p95']:.1f} ms"))
    if gate := summary.get("gate"):
        rows.append(("gate", "\n".join((gate["reason"], *(f"warning: {text}" for text in gate["warnings"])))))
    if model := summary.get("model"):
        rows.append(("model", f"{model['name']} version {model['version']} ({model['alias']})"))
    if tuning := summary.get("tuning"):
        rows += _tuning_rows(tuning)
    if batch := summary.get("batch"):
        rows += _batch_rows(batch)
    for label, name, text in _SENTENCES:
        if section := summary.get(name):
            rows.append((label, section[text]))
    if endpoint := summary.get("endpoint"):
        rows.append(("endpoint", _endpoint_text(endpoint)))
    elif "gate" in summary:
        rows.append(("endpoint", "none: no model has passed the gate yet"))
    return rows


def _tuning_rows(tuning: dict[str, Any]) -> list[tuple[str, str]]:
    best = next(trial for trial in tuning["trials"] if trial["number"] == tuning["best"])
    default, value = tuning["default_value"], tuning["value"]
    gain = "" if default is None else f"; unchanged settings {default:.4f}, a gain of {value - default:.4f}"
    if best["is_default"]:
        gain = ", the unchanged settings: nothing that was tried is better"
    return [
        ("trials", ", ".join(f"{count} {state}" for state, count in tuning["counts"].items())),
        ("best", f"trial {tuning['best']}: val {tuning['metric']} {value:.4f}{gain}"),
        ("settings", settings_text(best["settings"])),
    ]


def _batch_rows(batch: dict[str, Any]) -> list[tuple[str, str]]:
    asked = f"{batch['predicted']} asked now, {batch['failed']} without an answer"
    rows = [
        ("model", f"{batch['model']} version {batch['version']}"),
        ("images", f"{batch['images']} ({asked}) in {batch['seconds']:.1f} s"),
    ]
    for name, lot in batch["lots"].items():
        shares = ", ".join(f"{label} {share:.1%}" for label, share in lot["shares"].items())
        rows.append((f"lot {name}", f"{lot['images']} images: {shares or 'nothing found'}"))
    return rows


def _metric_text(name: str, summary: dict[str, Any]) -> str:
    text = f"{name} {summary['metrics'][name]:.3f}"
    low, high = summary["intervals"].get(name, (None, None))
    return text if low is None else f"{text} ({low:.3f} to {high:.3f})"


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
