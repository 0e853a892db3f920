"""The command line of VisionOps: `python run.py --help`."""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from visionops.config import Config, load_config, with_training
from visionops.errors import ConfigError, StackError, VisionOpsError
from visionops.monitoring.simulate import Kind, describe_change

if TYPE_CHECKING:
    from zenml.models import PipelineRunResponse

    from stacks.placement import DagPlan
    from visionops.monitoring.drill import Drill

_ROOT = Path(__file__).resolve().parent
_DEFAULT_CONFIG = Path("configs/sample.yaml")

_EPILOG = """
examples:
  python run.py                                             the sample use case, from rendered images to an endpoint
  python run.py --config configs/steel.yaml --set data.source.path=/data/vision
  python run.py --set training.epochs=5 --set training.model=yolo11n
  python run.py --inspect ~/Downloads/export.zip            what is it? a data card, and a use case that trains it
  python run.py --pipeline validation --config configs/litter.yaml      check a data set; 2 where training would stop
  python run.py --dry-run --config configs/litter.yaml      show what would run, and with which settings
  python run.py --pipeline tuning --config configs/casting.yaml         search for better training settings
  python run.py --config configs/casting.yaml --tuned                   train with the best of them
  python run.py --pipeline batch_inference --config configs/faces.yaml  predict the unlabelled images
  python run.py --pipeline batch_inference --config configs/faces.yaml --input /data/new --output /data/answers
  python run.py --pipeline quantize                         the champion in INT8, served if it loses little enough
  python run.py --pipeline monitoring                       has what the endpoint is asked changed? trains again if so
  python run.py --pipeline monitoring --decide-only         the same, but nobody is told and nothing is trained
  python run.py --pipeline drift-drill --kind brightness --severity 1   images in half the light: monitoring must tell
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
    "validation": "data -> validated: stops where training would, for the CI of a data set",
    "tuning": "data -> validated -> split -> many trainings -> the best settings, for --tuned",
    "batch_inference": "the champion's predictions for a folder, or for the data's unlabelled images, as tables",
    "monitoring": "what the endpoint was asked and people labelled -> drift, performance -> decided -> told -> trained",
    "drift-drill": "test images -> changed by --kind and --severity -> sent to the endpoint, for monitoring to find",
    "quantize": "the champion -> INT8 -> evaluated -> registered -> gated by its loss -> served",
    "deployment": "serve the champion again; with --rollback, the champion before it",
}

_MOST_SHARDS = 1000
"""What an orchestrator can be asked to keep in one run."""

_RETRAINING = "retraining"
"""The training that a monitoring asks for, where Airflow runs both."""
_CRON = re.compile(r"([\d*/,\-A-Za-z]+ ){4}[\d*/,\-A-Za-z]+")

_FLAGS = {
    "rollback": "deployment",
    "tuned": "training",
    "input": "batch_inference",
    "output": "batch_inference",
    "shards": "batch_inference",
    "retrain": "monitoring",
    "decide_only": "monitoring",
    "kind": "drift-drill",
    "severity": "drift-drill",
    "images": "drift-drill",
}
"""Flag to the one pipeline that knows it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one pipeline and report; see the module's help."""
    arguments = _parse(argv)
    if arguments.list:
        _print_list()
        return 0
    try:
        if arguments.inspect:
            _inspect(arguments)
        else:
            _run(arguments)
        sys.stdout.flush()
    except VisionOpsError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command resumes\n")
        return 130
    except BrokenPipeError:  # `| head` has seen enough; nothing more may be written, not even at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="run.py",
        description="Visual inspection from labelled images to a monitored endpoint.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--inspect",
        type=Path,
        metavar="PATH",
        help="say what a folder or archive of labelled images is, and write its data card, label audit and a use case "
        "that trains it (default: to inspections/NAME; or --output FOLDER); runs no pipeline",
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
    parser.add_argument(
        "--tuned",
        action="store_true",
        help="with --pipeline training: the best settings of the newest tuning; what --set says wins",
    )
    parser.add_argument(
        "--input",
        metavar="FOLDER|URI",
        help="with --pipeline batch_inference: images to predict, in a folder or below s3://bucket/prefix "
        "(default: the unlabelled ones of the data set)",
    )
    parser.add_argument(
        "--output",
        metavar="FOLDER|URI",
        help="with --pipeline batch_inference: where its tables go, a folder or s3://bucket/prefix; "
        "with --inspect: where its pages go",
    )
    parser.add_argument(
        "--shards",
        type=int,
        metavar="N",
        help="with --pipeline batch_inference: cut the images into N steps, which a cluster runs at once (default: 1)",
    )
    parser.add_argument(
        "--retrain", action="store_true", help="with --pipeline monitoring: train again, whatever is found"
    )
    parser.add_argument(
        "--decide-only", action="store_true", help="with --pipeline monitoring: decide, but tell nobody, train nothing"
    )
    parser.add_argument(
        "--kind", choices=list(Kind), metavar="KIND", help=f"with --pipeline drift-drill: {', '.join(Kind)}"
    )
    parser.add_argument(
        "--severity",
        type=float,
        metavar="S",
        help="with --pipeline drift-drill: 0 changes nothing, 1 is strong (half the light; the default), at most 10; "
        "brightness below 0 is more light",
    )
    parser.add_argument(
        "--images", type=int, metavar="N", help="with --pipeline drift-drill: how many are sent (default: 200)"
    )
    parser.add_argument(
        "--schedule",
        metavar="CRON",
        help="on a stack with Airflow: run it then, as '15 6 * * *'; monitoring also retrains",
    )
    parser.add_argument("--summary", type=Path, metavar="FILE", help="write the closing table as JSON, too")
    parser.add_argument("--dry-run", action="store_true", help="check the configuration and show the plan; run nothing")
    parser.add_argument("--list", action="store_true", help="list pipelines, use cases and stacks")
    arguments = parser.parse_args(argv)
    if arguments.inspect:
        _refuse_with_inspect(parser, arguments)
        return arguments
    for flag, pipeline in _FLAGS.items():
        given = getattr(arguments, flag)
        if given is not None and given is not False and arguments.pipeline != pipeline:
            parser.error(f"--{flag.replace('_', '-')} goes with --pipeline {pipeline}")
    if arguments.shards is not None and not 1 <= arguments.shards <= _MOST_SHARDS:
        parser.error(f"--shards must be 1 to {_MOST_SHARDS}")
    if arguments.schedule is not None and not _CRON.fullmatch(arguments.schedule):
        parser.error(f"--schedule {arguments.schedule!r} is no cron expression, as '15 6 * * *'")
    if arguments.pipeline == "drift-drill" and arguments.kind is None:
        parser.error(f"--pipeline drift-drill needs --kind, one of {', '.join(Kind)}")
    if arguments.config is None:
        arguments.config = _DEFAULT_CONFIG if _DEFAULT_CONFIG.exists() else _ROOT / _DEFAULT_CONFIG
    return arguments


def _refuse_with_inspect(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Only --output and --set data.… go with --inspect."""
    for flag, value in vars(arguments).items():
        if flag not in {"inspect", "output", "set"} and value != parser.get_default(flag):
            parser.error(f"--{flag.replace('_', '-')} does not go with --inspect")
    if others := [override for override in arguments.set if not override.startswith("data.")]:
        parser.error(f"--inspect takes settings of data only, as --set data.format=coco (got {others[0]})")


def _inspect(arguments: argparse.Namespace) -> None:
    from steps.progress import progress
    from visionops.home import visionops_home
    from visionops.inspection import inspect_data, stops_training, summary_lines, write_inspection

    with progress("inspect", 0) as report:
        found = inspect_data(
            arguments.inspect,
            visionops_home() / "data",
            [override.removeprefix("data.") for override in arguments.set],
            lambda what, done, total: report(done, what, total),
        )
    files = write_inspection(found, Path(arguments.output or Path("inspections") / found.name))
    print("\n".join(summary_lines(found)))
    print(f"written   {', '.join(map(str, files))}")
    if stops_training(found):
        print("training stops on the errors above: correct them, or set validation.severities in the use case")
    print(f"\n{shlex.join(['python', 'run.py', '--config', str(files[-1])])}")


def _print_list() -> None:
    print("pipelines (--pipeline)")
    for name, text in _PIPELINES.items():
        print(f"  {name:<16} {text}")
    print("\nuse cases (--config)")
    for path in sorted((_ROOT / "configs").glob("*.yaml")):
        print(f"  configs/{path.name:<20} {_first_comment(path)}")
    print("\nstacks (--stack)")
    for path in sorted((_ROOT / "stacks").glob("*.yaml")):
        print(f"  {path.stem:<12} {_first_comment(path)}")


def _first_comment(path: Path) -> str:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.lstrip("# ") if first.startswith("#") else ""


def _run(arguments: argparse.Namespace) -> None:
    config = load_config(arguments.config, arguments.set)
    if arguments.pipeline == "tuning":
        from visionops.tuning import require_search

        require_search(config)
    if arguments.pipeline == "drift-drill":
        _drill(arguments)  # a severity without a meaning is refused before anything runs
    if arguments.dry_run:
        _print_plan(arguments, config)
        return
    quieten_libraries()
    from pipelines.outcome import told_to_prometheus
    from pipelines.summary import is_retraining, print_summary, summarise, write_summary
    from stacks.session import open_session

    with open_session(config.name, arguments.stack) as session:
        if arguments.tuned:
            config = _tuned(arguments, config, session.tracking_uri)
        if session.dags:
            _hand_over(arguments, config, session.dags)
            return
        if arguments.schedule:
            raise StackError(
                f"--schedule: stack {session.stack!r} has no Airflow; let cron or a CronJob start this command "
                "(docs/how-to/monitoring.md)"
            )
        with told_to_prometheus(arguments.pipeline, config.name) as summary:
            summary.update(summarise(_RUNNERS[arguments.pipeline](arguments, config), config, session.stack))
        print_summary(summary)
        if is_retraining(summary) and not arguments.decide_only:
            with told_to_prometheus("training", config.name) as training:
                training.update(summarise(_training(arguments, config), config, session.stack))
            summary["training"] = training
            print_summary(training)
    if arguments.pipeline == "tuning":
        print(f"\n{_training_command(arguments)}")
    if arguments.pipeline == "drift-drill":
        print(f"\nhas monitoring seen it?\n{_command(arguments, '--pipeline', 'monitoring', '--decide-only')}")
    if arguments.summary:
        write_summary(summary, arguments.summary)
    if untold := summary.get("untold"):
        raise StackError("; ".join(untold))


def _training(arguments: argparse.Namespace, config: Config) -> PipelineRunResponse:
    from pipelines.training import training
    from visionops.data.sources import data_fingerprint

    fingerprint = data_fingerprint(config.data)
    return _start(training, arguments, config, source_fingerprint=fingerprint)


def _tuned(arguments: argparse.Namespace, config: Config, tracking_uri: str) -> Config:
    """The best settings of the newest search, but for what ``--set`` says."""
    from steps.progress import announce
    from steps.tuning_log import newest_tuning
    from visionops.tuning import settings_text

    told = newest_tuning(tracking_uri, config.name)
    explicit = [override.partition("=")[0].strip() for override in arguments.set]
    settings = {
        key: value
        for key, value in told["settings"].items()
        if not any(f"training.{key}.".startswith(f"{name}.") for name in explicit)
    }
    announce(f"tuned (val {told['metric']} {told['value']:.4f}): {settings_text(settings)}")
    return with_training(config, settings, "--tuned")


def _training_command(arguments: argparse.Namespace) -> str:
    """How to train with what a search has found, ready to be copied."""
    return _command(arguments, "--tuned")


def _command(arguments: argparse.Namespace, *flags: str) -> str:
    """What comes next, of the same use case with the same settings, ready to be copied."""
    stack = ["--stack", arguments.stack] if arguments.stack else []
    sets = [
        part
        for override in arguments.set
        if not override.startswith(("tuning.", "tuning="))
        for part in ("--set", override)
    ]
    return shlex.join(["python", "run.py", "--config", str(arguments.config), *stack, *sets, *flags])


def _validation(arguments: argparse.Namespace, config: Config) -> PipelineRunResponse:
    from pipelines.validation import validation
    from visionops.data.sources import data_fingerprint

    return _start(validation, arguments, config, source_fingerprint=data_fingerprint(config.data))


def _tuning(arguments: argparse.Namespace, config: Config) -> PipelineRunResponse:
    from pipelines.tuning import tuning
    from visionops.data.sources import data_fingerprint

    return _start(tuning, arguments, config, source_fingerprint=data_fingerprint(config.data))


def _batch_label(folder: str | None) -> str:
    from visionops.data.remote import is_uri, mirror_name

    if not folder:
        return "unlabelled"
    if is_uri(folder):
        return mirror_name(folder)
    path = str(Path(folder).absolute())
    return f"{Path(path).name}-{hashlib.sha256(path.encode()).hexdigest()[:8]}"


def _batch_inference(arguments: argparse.Namespace, config: Config) -> PipelineRunResponse:
    from pipelines.batch_inference import batch_inference
    from steps.context import active_registry, shared_place
    from visionops.batch import batch_places, list_images
    from visionops.data.output import open_output
    from visionops.data.remote import is_uri, list_remote
    from visionops.data.sources import data_fingerprint

    champion = active_registry().champion(config.name)  # without one, say so before anything is read
    label = _batch_label(arguments.input)
    folder, output = batch_places((arguments.input, arguments.output), f"{config.name}/{label}", shared_place())
    fingerprint = ""
    if not folder:
        fingerprint = data_fingerprint(config.data)
    elif is_uri(folder):
        list_remote(folder)
    else:
        list_images(Path(folder), config.name)
    open_output(output).names("")  # a place that cannot be read is known now, not after hours
    inputs = {"source_fingerprint": fingerprint, "folder": folder, "output": output, "champion": champion}
    return _start(batch_inference, arguments, config, **inputs, shards=arguments.shards or 1)


def _quantize(arguments: argparse.Namespace, config: Config) -> PipelineRunResponse:
    from pipelines.quantize import quantize
    from steps.context import active_registry
    from visionops.data.sources import data_fingerprint

    active_registry().champion(config.name)  # without one, say so before anything is read
    return _start(quantize, arguments, config, source_fingerprint=data_fingerprint(config.data))


def _monitoring(arguments: argparse.Namespace, config: Config) -> PipelineRunResponse:
    from pipelines.monitoring import monitoring
    from steps.context import active_registry

    if not config.serving.prediction_log:
        raise ConfigError(
            "serving.prediction_log: is false, so no traffic is known; set it to true and run --pipeline deployment"
        )
    active_registry().champion(config.name)  # without one, say so before anything is read
    return _start(monitoring, arguments, config, is_requested=arguments.retrain, tells=not arguments.decide_only)


def _drill(arguments: argparse.Namespace) -> Drill:
    from visionops.monitoring.drill import Drill

    given = {name: value for name in ("severity", "images") if (value := getattr(arguments, name)) is not None}
    return Drill(kind=arguments.kind, **given)


def _drift_drill(arguments: argparse.Namespace, config: Config) -> PipelineRunResponse:
    from pipelines.drift_drill import drift_drill
    from steps.context import live_endpoint
    from visionops.data.sources import data_fingerprint

    live_endpoint(config.name)  # without one, say so before anything is read
    fingerprint = data_fingerprint(config.data)
    return _start(drift_drill, arguments, config, source_fingerprint=fingerprint, drill=_drill(arguments))


def _deployment(arguments: argparse.Namespace, config: Config) -> PipelineRunResponse:
    from pipelines.deployment import deployment

    return _start(deployment, arguments, config, rollback=arguments.rollback)


_RUNNERS: dict[str, Callable[[argparse.Namespace, Config], PipelineRunResponse]] = {
    "training": _training,
    "validation": _validation,
    "tuning": _tuning,
    "batch_inference": _batch_inference,
    "monitoring": _monitoring,
    "drift-drill": _drift_drill,
    "quantize": _quantize,
    "deployment": _deployment,
}


def _hand_over(arguments: argparse.Namespace, config: Config, folder: str) -> None:
    """Make DAGs of a pipeline, for Airflow to run; with a monitoring, one of the training that it may ask for."""
    _RUNNERS[arguments.pipeline](arguments, config)
    made = [_dag_plan(arguments, config).id or f"{arguments.pipeline}-…, at once and once"]
    if arguments.pipeline == "monitoring" and arguments.schedule and not arguments.decide_only:
        retraining = _retraining(arguments)
        _training(retraining, config)
        made.append(_dag_plan(retraining, config).id)
    print(f"for Airflow, in {folder}: {', '.join(made)}")


def _retraining(arguments: argparse.Namespace) -> argparse.Namespace:
    """As if the training had been asked for that follows a monitoring."""
    return argparse.Namespace(**vars(arguments) | {"pipeline": _RETRAINING, "schedule": None})


def _dag_plan(arguments: argparse.Namespace, config: Config) -> DagPlan:
    from stacks.placement import DagPlan

    if arguments.pipeline == _RETRAINING:
        return DagPlan(id=f"{_RETRAINING}-{config.name}", is_on_demand=True)
    if not arguments.schedule:
        return DagPlan()
    if arguments.pipeline != "monitoring" or arguments.decide_only:
        return DagPlan(id=f"{arguments.pipeline}-{config.name}")
    return DagPlan(
        id=f"monitoring-{config.name}",
        after="decide_retraining",
        asks=("python", "-m", "pipelines.asked"),
        starts=f"{_RETRAINING}-{config.name}",
    )


def _start(pipeline: Any, arguments: argparse.Namespace, config: Config, **inputs: Any) -> PipelineRunResponse:
    from zenml.config.schedule import Schedule

    from stacks.session import errors_in_one_line, placement, require_success

    plan = _dag_plan(arguments, config)
    options = placement(pipeline, plan, config=config, **inputs)
    if arguments.schedule:
        options["schedule"] = Schedule(cron_expression=arguments.schedule)
    settings = options.pop("settings", {}) | {"experiment_tracker": {"experiment_name": config.name}}
    # What was read when a DAG was made says nothing of the data when it runs.
    is_cached = False if arguments.no_cache or plan.id else None
    configured = pipeline.with_options(settings=settings, enable_cache=is_cached, **options)
    with errors_in_one_line():
        run: PipelineRunResponse = configured(config=config, **inputs)
        require_success(run)
    return run


def quieten_libraries() -> None:
    """Our own lines tell what happens; a library speaks up when something is wrong. Nothing calls home."""
    defaults = {
        "ZENML_ANALYTICS_OPT_IN": "false",
        "ZENML_LOGGING_VERBOSITY": "CRITICAL",  # it prints a trace of each failed step; the error reaches us anyway
        "ZENML_ENABLE_RICH_TRACEBACK": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_LOGGING_LEVEL": "ERROR",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "DO_NOT_TRACK": "1",
        "AUTO_OPEN_DASHBOARD": "false",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def _print_plan(arguments: argparse.Namespace, config: Config) -> None:
    print(f"pipeline  {arguments.pipeline}: {_PIPELINES[arguments.pipeline]}")
    print(f"stack     {arguments.stack or 'the active one, or local'}")
    print(f"use case  {config.name} ({arguments.config})")
    if arguments.tuned:
        print("settings  below, with the best ones of the newest tuning in their place")
    if arguments.pipeline == "tuning":
        print(f"trials    {len(config.tuning.grid) or config.tuning.trials}, {config.tuning.parallel} at once")
    if arguments.pipeline == "drift-drill":
        drill = _drill(arguments)
        print(f"drill     {drill.images} images, {describe_change(drill.kind, drill.severity)}")
    print()
    print(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, width=100).rstrip())


if __name__ == "__main__":
    sys.exit(main())
