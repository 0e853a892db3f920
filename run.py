"""The command line of VisionOps: `python run.py --help`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from visionops.config import Config, load_config
from visionops.errors import VisionOpsError

if TYPE_CHECKING:
    from zenml.models import PipelineRunResponse

_ROOT = Path(__file__).resolve().parent
_DEFAULT_CONFIG = Path("configs/sample.yaml")

_EPILOG = """
examples:
  python run.py                                             the sample use case, from rendered images to an endpoint
  python run.py --config configs/steel.yaml --set data.source.path=/data/vision
  python run.py --set training.epochs=5 --set training.model=yolo11n
  python run.py --dry-run --config configs/litter.yaml      show what would run, and with which settings
  python run.py --pipeline deployment                       serve the champion again
  python run.py --pipeline deployment --rollback            go back to the champion before it

what a run leaves behind:
  zenml login --local          the dashboard: runs, data cards, evaluation pictures
  zenml model-deployer models list
  mlflow ui --backend-store-uri sqlite:///.visionops/mlflow/mlflow.db

exit codes: 0 done; 2 something you can mend, said in one line; 130 interrupted
"""

_PIPELINES = {
    "training": "data -> validated -> split -> trained -> evaluated -> registered -> gated -> served (the default)",
    "deployment": "serve the champion again; with --rollback, the champion before it",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one pipeline and report; see the module's help."""
    arguments = _parse(argv)
    if arguments.list:
        _print_list()
        return 0
    try:
        return _run(arguments)
    except VisionOpsError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command resumes\n")
        return 130


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="run.py",
        description="Visual inspection from labelled images to a monitored endpoint.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--pipeline", choices=_PIPELINES, default="training", help="what to run (default: training)")
    parser.add_argument(
        "--config", type=Path, default=None, metavar="FILE", help="use case (default: configs/sample.yaml)"
    )
    parser.add_argument("--stack", metavar="NAME", help="stack for this run (default: the active one, or 'local')")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a setting, as training.epochs=5; repeatable",
    )
    parser.add_argument("--no-cache", action="store_true", help="run every step again, even where nothing changed")
    parser.add_argument(
        "--rollback", action="store_true", help="with --pipeline deployment: back to the champion before"
    )
    parser.add_argument("--summary", type=Path, metavar="FILE", help="write the closing table as JSON, too")
    parser.add_argument("--dry-run", action="store_true", help="check the configuration and show the plan; run nothing")
    parser.add_argument("--list", action="store_true", help="list pipelines, use cases and stacks")
    arguments = parser.parse_args(argv)
    if arguments.rollback and arguments.pipeline != "deployment":
        parser.error("--rollback goes with --pipeline deployment")
    if arguments.config is None:
        arguments.config = _DEFAULT_CONFIG if _DEFAULT_CONFIG.exists() else _ROOT / _DEFAULT_CONFIG
    return arguments


def _print_list() -> None:
    print("pipelines (--pipeline)")
    for name, text in _PIPELINES.items():
        print(f"  {name:<12} {text}")
    print("\nuse cases (--config)")
    for path in sorted((_ROOT / "configs").glob("*.yaml")):
        print(f"  configs/{path.name:<20} {_first_comment(path)}")
    print("\nstacks (--stack)")
    for path in sorted((_ROOT / "stacks").glob("*.yaml")):
        print(f"  {path.stem:<12} {_first_comment(path)}")


def _first_comment(path: Path) -> str:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.lstrip("# ") if first.startswith("#") else ""


def _run(arguments: argparse.Namespace) -> int:
    config = load_config(arguments.config, arguments.set)
    if arguments.dry_run:
        _print_plan(arguments, config)
        return 0
    _quieten_libraries()
    from pipelines.summary import print_summary, summarise, write_summary
    from stacks.session import open_session

    with open_session(config.name, arguments.stack) as session:
        run = _RUNNERS[arguments.pipeline](arguments, config)
        summary = summarise(run, config, session.stack)
    print_summary(summary)
    if arguments.summary:
        write_summary(summary, arguments.summary)
    return 0


def _training(arguments: argparse.Namespace, config: Config) -> PipelineRunResponse:
    from pipelines.training import training
    from visionops.data.sources import source_fingerprint

    fingerprint = source_fingerprint(config.data.source)
    return _start(training, arguments, config, source_fingerprint=fingerprint)


def _deployment(arguments: argparse.Namespace, config: Config) -> PipelineRunResponse:
    from pipelines.deployment import deployment

    return _start(deployment, arguments, config, rollback=arguments.rollback)


_RUNNERS: dict[str, Callable[[argparse.Namespace, Config], PipelineRunResponse]] = {
    "training": _training,
    "deployment": _deployment,
}


def _start(pipeline: Any, arguments: argparse.Namespace, config: Config, **inputs: Any) -> PipelineRunResponse:
    settings = {"experiment_tracker": {"experiment_name": config.name}}
    configured = pipeline.with_options(settings=settings, enable_cache=False if arguments.no_cache else None)
    run: PipelineRunResponse = configured(config=config, **inputs)
    return run


def _quieten_libraries() -> None:
    """Our own lines tell what happens; a library speaks up when something is wrong. Nothing calls home."""
    defaults = {
        "ZENML_ANALYTICS_OPT_IN": "false",
        "ZENML_LOGGING_VERBOSITY": "CRITICAL",  # it prints a trace of each failed step; the error reaches us anyway
        "ZENML_ENABLE_RICH_TRACEBACK": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_LOGGING_LEVEL": "ERROR",
        "DO_NOT_TRACK": "1",
        "AUTO_OPEN_DASHBOARD": "false",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def _print_plan(arguments: argparse.Namespace, config: Config) -> None:
    print(f"pipeline  {arguments.pipeline}: {_PIPELINES[arguments.pipeline]}")
    print(f"stack     {arguments.stack or 'the active one, or local'}")
    print(f"use case  {config.name} ({arguments.config})\n")
    print(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, width=100).rstrip())


if __name__ == "__main__":
    sys.exit(main())
