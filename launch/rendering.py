"""Print summaries and plans to a terminal."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

from launch.programs import program
from launch.requests import REQUESTS, DrillRequest, Request, TrainRequest, TuneRequest
from launch.summary import RunSummary
from visionops.batch.report import BatchSummary
from visionops.config import Config
from visionops.endpoint import Endpoint
from visionops.evaluation.result import Evaluation
from visionops.monitoring.simulate import describe_change
from visionops.tuning.report import settings_text
from visionops.tuning.result import TuningResult

__all__ = ["print_list", "print_plan", "print_summary"]

_ROOT = Path(__file__).resolve().parents[1]
_Rows = list[tuple[str, str]]


def print_summary(summary: RunSummary) -> None:
    """Print the summary table and a complete `curl` command, after the command that forwards a cluster's port."""
    # Markup is off, so that [x] or :smile: in the name of a folder is printed unchanged.
    console = Console(highlight=False, markup=False, emoji=False)
    if summary.dags:
        console.print(f"for Airflow, in {summary.dag_folder}: {', '.join(summary.dags)}", soft_wrap=True)
        return
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in _rows(summary):
        table.add_row(label, text)
    console.print()
    console.print(table)
    for file in summary.batch.files if summary.batch else ():
        console.print(f"  {file}", soft_wrap=True)  # outside the table, which would wrap it
    if summary.endpoint:
        if summary.endpoint.record:
            manage = f"{program('zenml')} model-deployer models describe {summary.endpoint.record}"
            console.print(f"\n{manage}   # or logs, stop, start, delete", soft_wrap=True)
        console.print(f"\n{_curl(summary.endpoint, summary.sample_image or 'part.jpg')}", soft_wrap=True)


def print_plan(request: Request, config: Config, stack: str) -> None:
    """Print what a request would run on a stack, with every setting of the use case as YAML."""
    print(f"pipeline  {request.pipeline}: {request.description}")
    print(f"stack     {stack}")
    print(f"use case  {config.name} ({request.config})")
    if isinstance(request, TrainRequest) and request.tuned:
        print("settings  below, overridden by the best ones of the newest tuning")
    if isinstance(request, TuneRequest):
        print(f"trials    {len(config.tuning.grid) or config.tuning.trials}, {config.tuning.parallel} at once")
    if isinstance(request, DrillRequest):
        print(f"drill     {request.images} images, {describe_change(request.kind, request.severity)}")
    print()
    print(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, width=100).rstrip())


def print_list() -> None:
    """Print the available pipelines, use cases and stacks."""
    print("pipelines (--pipeline)")
    for name, request in REQUESTS.items():
        print(f"  {name:<16} {request.description}")
    print("\nuse cases (--config)")
    for path in sorted((_ROOT / "configs").glob("*.yaml")):
        print(f"  configs/{path.name:<20} {_first_comment(path)}")
    print("\nstacks (--stack)")
    for path in sorted((_ROOT / "stacks").glob("*.yaml")):
        print(f"  {path.stem:<12} {_first_comment(path)}")


def _first_comment(path: Path) -> str:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.lstrip("# ") if first.startswith("#") else ""


def _curl(endpoint: Endpoint, image: str) -> str:
    """Return shell commands that send an image to the endpoint."""
    key = f'-H "X-API-Key: $({endpoint.key_command})" ' if endpoint.key_command else ""
    way, url = (f"{endpoint.tunnel} &\n", "http://127.0.0.1:8000") if endpoint.tunnel else ("", endpoint.url)
    return f"{way}curl {key}-F {shlex.quote(f'file=@{_form_path(image)}')} {shlex.quote(f'{url}/predict')}"


def _form_path(path: str) -> str:
    """Return ``path`` for curl's ``file=@``, in double quotes if it has ``;`` or ``,``, which would end it."""
    if not re.search(r'[;,"]|^\s|\s$', path):
        return path
    escaped = path.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _rows(summary: RunSummary) -> _Rows:
    took = f", {summary.seconds:.0f} s" if summary.seconds else ""
    rows = [("run", f"{summary.run} on stack {summary.stack}{took}")]
    if summary.splits:
        rows.append(("splits", ", ".join(f"{name} {count}" for name, count in summary.splits.items())))
    if summary.review:
        rows.append(("review", summary.review.explain()))
    if summary.findings is not None:
        found = ", ".join(f"{code} {count}" for code, count in summary.findings.items())
        rows.append(("findings", found or "none"))
    if summary.evaluation:
        rows += _evaluation_rows(summary.evaluation)
    if gate := summary.gate:
        rows.append(("gate", "\n".join((gate.reason, *(f"warning: {text}" for text in gate.warnings)))))
    if model := summary.model:
        rows.append(("model", f"{model.name} version {model.version} ({model.alias})"))
    if summary.tuning:
        rows += _tuning_rows(summary.tuning)
    if summary.batch:
        rows += _batch_rows(summary.batch)
    rows += _sentences(summary)
    if endpoint := summary.endpoint:
        served = f"{endpoint.name} version {endpoint.version} ({endpoint.alias})"
        rows.append(("endpoint", f"{endpoint.url} serves {served}"))
    elif summary.gate:
        rows.append(("endpoint", "none: no model has passed the gate yet"))
    return rows


def _sentences(summary: RunSummary) -> _Rows:
    rows = []
    if summary.drift:
        rows.append(("drift", summary.drift.explain()))
    if summary.labelled:
        rows.append(("labels", summary.labelled.explain()))
    if summary.estimate:
        rows.append(("estimate", summary.estimate.explain()))
    if summary.retraining:
        rows.append(("decision", summary.retraining.sentence))
    if summary.drill:
        rows.append(("drill", summary.drill.explain()))
    return rows


def _evaluation_rows(evaluation: Evaluation) -> _Rows:
    metrics = evaluation.metrics
    return [
        ("test", ", ".join(_metric_text(name, evaluation) for name in evaluation.headline)),
        ("latency", f"p50 {metrics['latency_ms_p50']:.1f} ms, p95 {metrics['latency_ms_p95']:.1f} ms"),
    ]


def _metric_text(name: str, evaluation: Evaluation) -> str:
    text = f"{name} {evaluation.metrics[name]:.3f}"
    interval = evaluation.intervals.get(name)
    return text if interval is None else f"{text} ({interval[0]:.3f} to {interval[1]:.3f})"


def _tuning_rows(tuning: TuningResult) -> _Rows:
    best, default = tuning.best_trial, tuning.default_value
    gain = "" if default is None else f"; unchanged settings {default:.4f}, a gain of {tuning.gain:.4f}"
    if best.is_default:
        gain = ", the unchanged settings: no trial is better"
    return [
        ("trials", ", ".join(f"{count} {state}" for state, count in tuning.counts().items())),
        ("best", f"trial {tuning.best}: val {tuning.metric} {tuning.value:.4f}{gain}"),
        ("settings", settings_text(best.settings)),
    ]


def _batch_rows(batch: BatchSummary) -> _Rows:
    answered = f"{batch.predicted} predicted now, {batch.failed} failed"
    rows = [
        ("model", f"{batch.model} version {batch.version}"),
        ("images", f"{batch.images} ({answered}) in {batch.seconds:.1f} s"),
    ]
    for name, lot in batch.lots.items():
        shares = ", ".join(f"{label} {share:.1%}" for label, share in lot.shares.items())
        rows.append((f"lot {name}", f"{lot.images} images: {shares or 'nothing found'}"))
    return rows
