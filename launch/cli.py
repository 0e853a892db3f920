"""Define the console command `visionops`, with a command per task and the flags of its request."""

from __future__ import annotations

import enum
import importlib.metadata
import inspect
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from typer.core import TyperCommand

from launch.annotate import annotate_app
from launch.endpoints import list_endpoints
from launch.models import list_models, promote_model, write_bundle
from launch.predict import predict_images
from launch.release import release_app
from launch.requests import (
    BatchRequest,
    DeployRequest,
    DrillRequest,
    MonitorRequest,
    QuantizeRequest,
    Request,
    TrainRequest,
    TuneRequest,
    ValidateRequest,
)
from launch.review import review_app
from launch.schedules import schedule_pipelines
from launch.stopping import stop
from launch.terminal import exit_code, flag_problem, own_fields, request_flags, run_inspection, run_request
from launch.users import user_app
from stacks.spec import known_stacks

__all__ = ["app", "to_command"]

app = typer.Typer(
    name="visionops",
    help="Visual inspection from labelled images to a monitored endpoint.",
    epilog="Exit codes: 0 success; 2 an error that you can fix, printed in one line; 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_stack = typer.Typer(help="List, apply and check stacks.", no_args_is_help=True)
app.add_typer(_stack, name="stack")
app.add_typer(review_app, name="review")
app.add_typer(annotate_app, name="annotate")
app.add_typer(release_app, name="release")
app.add_typer(user_app, name="user")

_COMMANDS: dict[str, tuple[type[Request], str, str]] = {
    "train": (
        TrainRequest,
        "Train on a use case; evaluate, gate and serve the model.",
        "visionops train --config configs/steel.yaml --set training.epochs=5",
    ),
    "tune": (
        TuneRequest,
        "Search for better training settings, for `visionops train --tuned`.",
        "visionops tune --config configs/casting.yaml",
    ),
    "monitor": (
        MonitorRequest,
        "Look for drift; send alerts and train again if the policy says so.",
        "visionops monitor --config configs/steel.yaml --decide-only",
    ),
    "batch": (
        BatchRequest,
        "Predict a folder of images, or the unlabelled images of the data set, as tables.",
        "visionops batch --config configs/faces.yaml --input /data/new --output /data/answers",
    ),
    "quantize": (
        QuantizeRequest,
        "Quantize the champion to INT8; serve the result if its loss is within the limit.",
        "visionops quantize --config configs/casting.yaml",
    ),
    "deploy": (DeployRequest, "Serve the champion again.", "visionops deploy --config configs/steel.yaml"),
    "rollback": (
        DeployRequest,
        "Restore the previous champion and serve it.",
        "visionops rollback --config configs/steel.yaml",
    ),
    "drill": (
        DrillRequest,
        "Send changed test images to the endpoint, which `visionops monitor` must detect.",
        "visionops drill --kind brightness --severity 1",
    ),
    "validate": (
        ValidateRequest,
        "Check a data set; fail if training would stop.",
        "visionops validate --config configs/litter.yaml",
    ),
}
"""Request, help and example of each command."""
_FIXED: dict[str, dict[str, Any]] = {"deploy": {"rollback": False}, "rollback": {"rollback": True}}
"""Fields of a request with a fixed value in a command."""
_METAVARS = {
    "input": "FOLDER|URI",
    "output": "FOLDER|URI",
    "config": "FILE",
    "stack": "NAME",
    "schedule": "CRON",
    "settings": "KEY=VALUE",
}


class _Command(TyperCommand):
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0].endswith((".yaml", ".yml")):
            ctx.fail(f"unexpected argument {args[0]}; did you mean --config {args[0]}?")
        return super().parse_args(ctx, args)


def to_command(request: Request) -> list[str]:
    """Return the command line that runs a request, as a list of words."""
    name = next(name for name, (kind, *_) in _COMMANDS.items() if type(request) is kind and _agrees(request, name))
    hidden = {f"--{field}" for field in _FIXED.get(name, ())}
    return ["visionops", name, *(flag for flag in request_flags(request) if flag not in hidden)]


def _agrees(request: Request, name: str) -> bool:
    return all(getattr(request, field) == value for field, value in _FIXED.get(name, {}).items())


def _register(name: str, request: type[Request], text: str, example: str) -> None:
    fixed = _FIXED.get(name, {})

    def command(summary: Path | None, dry_run: bool, **given: Any) -> None:
        known = {key: value for key, value in given.items() if value is not None}

        def work() -> None:
            run_request(_build(request, fixed | known), to_command, dry_run=dry_run, summary_file=summary)

        raise typer.Exit(exit_code(work))

    parameters = [_parameter(request, field) for field in (*own_fields(request), *Request.model_fields)]
    parameters += inspect.signature(_shared, eval_str=True).parameters.values()
    # Typer reads the flags of a command from its signature, so build one from the request's fields.
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [parameter for parameter in parameters if parameter.name not in fixed]
    )
    app.command(name, cls=_Command, help=text, epilog=f"Example: {example}")(command)


def _shared(
    *,
    summary: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the summary as JSON.", show_default=False)
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check use case, data and stack, print the plan; run nothing.")
    ] = (False),
) -> None:
    """Declare the flags that every command has in addition to those of its request."""


def _parameter(request: type[Request], field: str) -> inspect.Parameter:
    """Return the flag of a field."""
    info = request.model_fields[field]
    text = " ".join((info.description or "").replace("`", "").split())
    kind: Any = info.annotation
    metavar = _METAVARS.get(field)
    default: Any = None if info.default_factory else info.default
    flag = f"--{field.replace('_', '-')}"
    if field == "settings":
        flag, kind, default = "--set", list[str], []
    elif field == "cache":
        flag, text, default = " /--no-cache", "Run every step again, even if nothing has changed.", True
    elif field == "config":
        kind = Path | None
    elif isinstance(kind, type) and issubclass(kind, enum.Enum):
        # As text: the request checks it, and suggests the nearest value.
        kind, metavar = str, f"[{'|'.join(info.annotation)}]"  # type: ignore[arg-type]
    shown = not isinstance(default, bool) and default not in (None, [])
    option = typer.Option(flag, metavar=metavar, help=text, show_default=shown)
    return inspect.Parameter(
        field,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if info.is_required() else default,
        annotation=Annotated[kind, option],
    )


def _build(request: type[Request], fields: dict[str, Any]) -> Request:
    try:
        return request(**fields)
    except ValidationError as error:
        raise typer.BadParameter(flag_problem(error)) from error


for _name, _command in _COMMANDS.items():
    _register(_name, *_command)


@app.command("inspect")
def _inspect(
    path: Annotated[Path, typer.Argument(help="A folder or archive of labelled images.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option(help="Folder for its pages (default: inspections/NAME).", show_default=False)
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of data, for example format=coco; repeatable."),
    ] = None,
) -> None:
    """Describe a data set; write its card, its label audit and a use case that trains it."""
    wanted = [setting.removeprefix("data.") for setting in settings or ()]
    raise typer.Exit(exit_code(lambda: run_inspection(path, output, wanted, ["visionops", "train"])))


@app.command("schema", epilog="Example: visionops schema")
def _schema() -> None:
    """Print the JSON Schema of use cases, by which an editor completes and checks their YAML."""
    from visionops.config.json_schema import use_case_schema

    typer.echo(json.dumps(use_case_schema(), indent=2, ensure_ascii=False))


app.command("schedule", epilog="Example: visionops schedule --config configs/steel.yaml --stack airflow-local")(
    schedule_pipelines
)
app.command("endpoints", epilog="Example: visionops endpoints --stack kubernetes")(list_endpoints)
app.command("predict", epilog="Example: visionops predict part.jpg --url http://127.0.0.1:8000 --draw drawn")(
    predict_images
)
app.command("stop", epilog="Example: visionops stop training-2026_11_29-03_08_23_603183 --stack kubernetes")(stop)
app.command("models", epilog="Example: visionops models steel casting")(list_models)
app.command("bundle", epilog="Example: visionops bundle steel /srv/bundles/steel-7 --version 7")(write_bundle)
app.command(
    "promote", epilog="Example: visionops promote --config configs/steel.yaml --version 7 --reason 'seen on line 3'"
)(promote_model)


@app.command(
    "control",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    epilog="Example: visionops control --configs configs --keys keys.txt",
)
def _control(context: typer.Context) -> None:
    """Serve runs, models and reviews over HTTP; `visionops control --help` lists its options."""
    from deploy.control.__main__ import main

    raise typer.Exit(main(context.args))


@app.command(
    "console",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    epilog="Example: visionops console --configs configs",
)
def _console(context: typer.Context) -> None:
    """Open the console in a browser; `visionops console --help` lists its options."""
    from deploy.console.__main__ import main

    raise typer.Exit(main(context.args))


def _complete_stack(incomplete: str) -> list[str]:
    return [name for name in known_stacks() if name.startswith(incomplete)]


@_stack.command("list")
def _list_stacks() -> None:
    """List the stacks that have a file."""
    for name in known_stacks():
        typer.echo(name)


@_stack.command("apply")
def _apply_stack(
    name: Annotated[str, typer.Argument(autocompletion=_complete_stack)] = "local",
    activate: Annotated[bool, typer.Option("--activate", help="Make it the active stack.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would change.")] = False,
) -> None:
    """Update a stack to match its file."""
    from stacks.apply import apply_and_print

    raise typer.Exit(exit_code(lambda: apply_and_print(name, dry_run=dry_run, activate=activate)))


@_stack.command("doctor")
def _check_stack(name: Annotated[str | None, typer.Argument(autocompletion=_complete_stack)] = None) -> None:
    """Check each component of a stack, and say how to fix what is broken."""
    from stacks.doctor.__main__ import diagnose_and_print

    raise typer.Exit(diagnose_and_print(name))


def _print_version(wanted: bool) -> None:
    if wanted:
        try:
            typer.echo(importlib.metadata.version("visionops"))
        except importlib.metadata.PackageNotFoundError:
            typer.echo("not installed, runs from its folder")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Declare the flags of `visionops` itself."""


if __name__ == "__main__":
    app()
