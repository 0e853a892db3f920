"""The command line of VisionOps by pipeline: `python run.py --help`. `visionops --help` has a command per task."""

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
from visionops.monitoring.simulate import Kind

_EPILOG = """
examples:
  .venv/bin/python run.py  # the sample use case, from rendered images to an endpoint
  .venv/bin/python run.py --config configs/steel.yaml --set data.source.path=/data/vision
  .venv/bin/python run.py --set training.epochs=5 --set training.model=yolo11n
  .venv/bin/python run.py --inspect ~/Downloads/export.zip  # what is it? a data card, and a use case that trains it
  .venv/bin/python run.py --pipeline validation --config configs/litter.yaml  # check a data set as a training does
  .venv/bin/python run.py --dry-run --config configs/litter.yaml  # show what would run, and with which settings
  .venv/bin/python run.py --pipeline tuning --config configs/casting.yaml  # search for better training settings
  .venv/bin/python run.py --config configs/casting.yaml --tuned  # train with the best of them
  .venv/bin/python run.py --pipeline batch_inference --config configs/faces.yaml  # predict the unlabelled images
  .venv/bin/python run.py --pipeline batch_inference --config configs/faces.yaml --input /data/new --output /data/out
  .venv/bin/python run.py --pipeline quantize  # the champion in INT8, served if it loses little enough
  .venv/bin/python run.py --pipeline monitoring  # look for drift; train again where that helps
  .venv/bin/python run.py --pipeline monitoring --decide-only  # decide only: send nothing, train nothing
  .venv/bin/python run.py --pipeline drift-drill --kind brightness --severity 1  # images in half the light
  .venv/bin/python run.py --pipeline deployment  # serve the champion again
  .venv/bin/python run.py --pipeline deployment --rollback  # go back to the champion before it

what a run leaves behind:
  .venv/bin/zenml login --local  # the dashboard: runs, data cards, evaluation pictures
  .venv/bin/visionops endpoints  # what is served, and the commands that stop or remove it
  .venv/bin/mlflow ui --backend-store-uri sqlite:///.visionops/mlflow/mlflow.db

exit codes: 0 done; 2 something you can mend, said in one line; 130 interrupted
"""

_OWNERS = {name: pipeline for pipeline, request in REQUESTS.items() for name in own_fields(request)}
"""Flag to the one pipeline that knows it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one pipeline and report; see the module's help."""
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
        SystemExit: A flag that is not known or does not go with the pipeline, with code 2.
        ConfigError: A drill that has no meaning.
    """
    parser = _parser()
    return _to_request(parser, parser.parse_args(argv))


def to_command(request: Request) -> list[str]:
    """The words of the command line that runs a request."""
    pipeline = [] if isinstance(request, TrainRequest) else ["--pipeline", request.pipeline]
    return ["python", "run.py", *pipeline, *request_flags(request)]


def _parser() -> argparse.ArgumentParser:
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
    parser.add_argument(
        "--pipeline", choices=list(REQUESTS), default="training", help="what to run (default: training)"
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
    parser.add_argument("--ignore-drills", action="store_true", help="with --pipeline monitoring: leave drills out")
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
    return parser


def _to_request(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> Request:
    given: dict[str, Any] = {"settings": tuple(arguments.set), "cache": not arguments.no_cache}
    for name in ("config", "stack", "schedule", *_OWNERS):
        value = getattr(arguments, name)
        if value is None or value is False:
            continue
        if _OWNERS.get(name, arguments.pipeline) != arguments.pipeline:
            parser.error(f"--{name.replace('_', '-')} goes with --pipeline {_OWNERS[name]}")
        given[name] = value
    if arguments.pipeline == "drift-drill" and arguments.kind is None:
        parser.error(f"--pipeline drift-drill needs --kind, one of {', '.join(Kind)}")
    try:
        return REQUESTS[arguments.pipeline](**given)
    except ValidationError as error:
        parser.error(flag_problem(error))


def _inspection_settings(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> list[str]:
    """Only --output and --set data.… go with --inspect."""
    for flag, value in vars(arguments).items():
        if flag not in {"inspect", "output", "set"} and value != parser.get_default(flag):
            parser.error(f"--{flag.replace('_', '-')} does not go with --inspect")
    if others := [override for override in arguments.set if not override.startswith("data.")]:
        parser.error(f"--inspect takes settings of data only, as --set data.format=coco (got {others[0]})")
    return [override.removeprefix("data.") for override in arguments.set]


if __name__ == "__main__":
    sys.exit(main())
