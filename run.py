"""Run pipelines from the command line: `python run.py --help`. `visionops --help` has a command per task."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from launch.rendering import print_list
from launch.requests import REQUESTS, Request, TrainRequest
from launch.terminal import exit_code, flag_problem, own_fields, request_flags, run_inspection, run_request
from visionops.arguments import Parser, one_of
from visionops.monitoring.simulate import Kind

_EPILOG = """
examples:
  .venv/bin/python run.py  # the sample use case, from rendered images to an endpoint
  .venv/bin/python run.py --config configs/steel.yaml --set data.source.path=/data/vision
  .venv/bin/python run.py --set training.epochs=5 --set training.model=yolo11n
  .venv/bin/python run.py --inspect ~/Downloads/export.zip  # a data card, and a use case that trains it
  .venv/bin/python run.py --pipeline validation --config configs/litter.yaml  # exits 2 if training would stop
  .venv/bin/python run.py --dry-run --config configs/litter.yaml  # show what would run, and with which settings
  .venv/bin/python run.py --pipeline tuning --config configs/casting.yaml  # search for better training settings
  .venv/bin/python run.py --config configs/casting.yaml --tuned  # train with the best of them
  .venv/bin/python run.py --pipeline batch_inference --config configs/faces.yaml  # predict the unlabelled images
  .venv/bin/python run.py --pipeline batch_inference --config configs/faces.yaml --input /data/new --output /data/out
  .venv/bin/python run.py --pipeline quantize  # the champion in INT8, served if its loss is within the limit
  .venv/bin/python run.py --pipeline monitoring  # look for drift in the endpoint's traffic; retrain if needed
  .venv/bin/python run.py --pipeline monitoring --decide-only  # the same, but send no alert and train nothing
  .venv/bin/python run.py --pipeline drift-drill --kind brightness --severity 1  # images in half the light
  .venv/bin/python run.py --pipeline deployment  # serve the champion again
  .venv/bin/python run.py --pipeline deployment --rollback  # restore the previous champion

results of a run:
  .venv/bin/zenml login --local  # the dashboard: runs, data cards, evaluation pictures
  .venv/bin/visionops endpoints  # served models, and the commands that stop or remove them
  .venv/bin/mlflow ui --backend-store-uri sqlite:///.visionops/mlflow/mlflow.db

exit codes: 0 success; 2 an error that you can fix, printed in one line; 130 interrupted
"""

_OWNERS = {name: pipeline for pipeline, request in REQUESTS.items() for name in own_fields(request)}
"""Pipeline of each flag that belongs to one pipeline only."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one pipeline and print its results; see `--help`."""
    parser = _parser()
    arguments = parser.parse_args(argv)

    def work() -> None:
        if arguments.inspect:
            settings = _inspection_settings(parser, arguments)
            output = Path(arguments.output) if arguments.output else None
            run_inspection(arguments.inspect, output, settings, ["python", "run.py"])
        elif arguments.list:
            print_list()
        else:
            request = _to_request(parser, arguments)
            run_request(request, to_command, dry_run=arguments.dry_run, summary_file=arguments.summary)

    return exit_code(work)


def parse(argv: Sequence[str] | None = None) -> Request:
    """Read the flags of a pipeline.

    Raises:
        SystemExit: A flag is unknown or does not belong to the pipeline; code 2.
        ConfigError: The settings of a drill are invalid.
    """
    parser = _parser()
    return _to_request(parser, parser.parse_args(argv))


def to_command(request: Request) -> list[str]:
    """Return the command line that runs a request, as a list of words."""
    pipeline = [] if isinstance(request, TrainRequest) else ["--pipeline", request.pipeline]
    return ["python", "run.py", *pipeline, *request_flags(request)]


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="run.py",
        description="Visual inspection from labelled images to a monitored endpoint.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--inspect",
        type=Path,
        metavar="PATH",
        help="describe a folder or archive of labelled images, and write its data card, label audit and a use case "
        "that trains it to inspections/NAME or --output FOLDER; runs no pipeline",
    )
    parser.add_argument(
        "--pipeline",
        type=one_of(REQUESTS),
        default="training",
        metavar="NAME",
        help=f"what to run: {', '.join(REQUESTS)} (default: training)",
    )
    parser.add_argument(
        "--config", type=Path, default=None, metavar="FILE", help="use case (default: configs/sample.yaml)"
    )
    parser.add_argument("--stack", metavar="NAME", help="stack for this run (default: the active one, or 'local')")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a setting, for example training.epochs=5; repeatable",
    )
    parser.add_argument("--no-cache", action="store_true", help="run every step again, even if nothing has changed")
    parser.add_argument(
        "--rollback", action="store_true", help="with --pipeline deployment: restore the previous champion"
    )
    parser.add_argument(
        "--tuned",
        action="store_true",
        help="with --pipeline training: the best settings of the newest tuning; --set overrides them",
    )
    parser.add_argument(
        "--input",
        metavar="FOLDER|URI",
        help="with --pipeline batch_inference: folder of images to predict, or s3://bucket/prefix "
        "(default: the unlabelled images of the data set)",
    )
    parser.add_argument(
        "--output",
        metavar="FOLDER|URI",
        help="with --pipeline batch_inference: destination of the tables, a folder or s3://bucket/prefix; "
        "with --inspect: folder for its pages",
    )
    parser.add_argument(
        "--shards",
        type=int,
        metavar="N",
        help="with --pipeline batch_inference: split the images into N steps, parallel on a cluster (default: 1)",
    )
    parser.add_argument(
        "--retrain", action="store_true", help="with --pipeline monitoring: train again, whatever it finds"
    )
    parser.add_argument(
        "--decide-only",
        action="store_true",
        help="with --pipeline monitoring: decide, but send no alert and train nothing",
    )
    parser.add_argument("--ignore-drills", action="store_true", help="with --pipeline monitoring: exclude drills")
    parser.add_argument(
        "--kind", type=one_of(Kind), metavar="KIND", help=f"with --pipeline drift-drill: {', '.join(Kind)}"
    )
    parser.add_argument(
        "--severity",
        type=float,
        metavar="S",
        help="with --pipeline drift-drill: 0 changes nothing, 1 is strong (half the light; the default), at most 10; "
        "brightness below 0 is more light",
    )
    parser.add_argument(
        "--images", type=int, metavar="N", help="with --pipeline drift-drill: number of images to send (default: 200)"
    )
    parser.add_argument(
        "--schedule",
        metavar="CRON",
        help="cron expression for a stack with Airflow, for example '15 6 * * *'; monitoring also retrains",
    )
    parser.add_argument("--summary", type=Path, metavar="FILE", help="write the closing table as JSON, too")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="check the use case, its data, the model's name and the stack, and show the plan; run nothing",
    )
    parser.add_argument("--list", action="store_true", help="list pipelines, use cases and stacks")
    return parser


def _to_request(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> Request:
    given: dict[str, Any] = {"settings": tuple(arguments.set), "cache": not arguments.no_cache}
    for name in ("config", "stack", "schedule", *_OWNERS):
        value = getattr(arguments, name)
        if value is None or value is False:
            continue
        if _OWNERS.get(name, arguments.pipeline) != arguments.pipeline:
            parser.error(f"--{name.replace('_', '-')} needs --pipeline {_OWNERS[name]}")
        given[name] = value
    if arguments.pipeline == "drift-drill" and arguments.kind is None:
        parser.error(f"--pipeline drift-drill needs --kind, one of {', '.join(Kind)}")
    try:
        return REQUESTS[arguments.pipeline](**given)
    except ValidationError as error:
        parser.error(flag_problem(error))


def _inspection_settings(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> list[str]:
    """Return the settings of --inspect; refuse all flags except --output and --set data.…."""
    for flag, value in vars(arguments).items():
        if flag not in {"inspect", "output", "set"} and value != parser.get_default(flag):
            parser.error(f"--{flag.replace('_', '-')} does not belong to --inspect")
    if others := [override for override in arguments.set if not override.startswith("data.")]:
        parser.error(f"--inspect only takes settings of data, for example --set data.format=coco (got {others[0]})")
    return [override.removeprefix("data.") for override in arguments.set]


if __name__ == "__main__":
    sys.exit(main())
