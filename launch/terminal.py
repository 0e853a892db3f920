"""Run a request for a command line, print its results and return the exit code."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from launch.preparation import check_plan
from launch.programs import program
from launch.rendering import print_plan, print_summary
from launch.requests import DrillRequest, MonitorRequest, Request, TrainRequest, TuneRequest
from launch.service import launch
from visionops.errors import StackError, VisionOpsError
from visionops.schema_words import describe_expectation

__all__ = [
    "exit_code",
    "flag_problem",
    "following_question",
    "following_request",
    "own_fields",
    "request_flags",
    "run_inspection",
    "run_request",
]


def exit_code(work: Callable[[], None]) -> int:
    """Run ``work`` at a terminal, or in a pod that the cluster may stop.

    Returns:
        0 after success, 2 after an error that the user can fix, which is printed in one line, 130 after Ctrl-C or
        SIGTERM.
    """
    try:
        with _ended_by_interrupt():
            work()
            sys.stdout.flush()
    except VisionOpsError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; run the same command to resume\n")
        return 130
    except BrokenPipeError:  # `| head` has closed the pipe; write nothing more, not even at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


@contextlib.contextmanager
def _ended_by_interrupt() -> Iterator[None]:
    """Handle SIGTERM like Ctrl-C, because a container's first process otherwise ignores it and is killed later."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run_request(
    request: Request,
    to_command: Callable[[Request], Sequence[str]],
    *,
    dry_run: bool = False,
    summary_file: Path | None = None,
) -> None:
    """Launch a request and print the summary of each run, with the next command if there is one.

    Args:
        to_command: From a request to the words of the command line that runs it.
        dry_run: Only check the use case, its data and the stack, and print the plan.
        summary_file: Where the summary goes as JSON, too.

    Raises:
        VisionOpsError: As `launch`; or an alert that could not be sent.
    """
    if dry_run:
        config = request.load_config()
        print_plan(request, config, check_plan(request, config))
        return
    summary = launch(request, print_summary)
    if summary.dags:
        return
    if (following := following_request(request)) is not None:
        print(f"\n{following_question(request)}{_typed(to_command(following))}")
    if summary_file:
        summary.write(summary_file)
    if summary.unsent_alerts:
        raise StackError("; ".join(summary.unsent_alerts))


def following_request(request: Request) -> Request | None:
    """Return the likely next request with the same use case and settings; None for nothing."""
    settings = tuple(text for text in request.settings if not text.startswith(("tuning.", "tuning=")))
    shared: dict[str, Any] = {"config": request.config, "stack": request.stack, "settings": settings}
    if isinstance(request, TuneRequest):
        return TrainRequest(**shared, tuned=True)
    if isinstance(request, DrillRequest):
        return MonitorRequest(**shared, decide_only=True)
    return None


def following_question(request: Request) -> str:
    """Return the line above the next command; empty for none."""
    if not isinstance(request, DrillRequest):
        return ""
    return f"check that monitoring {'detects it' if request.severity else 'reports no drift'}:\n"


def own_fields(request: type[Request]) -> list[str]:
    """Return the fields that only this request has."""
    return [name for name in request.model_fields if name not in Request.model_fields]


def flag_problem(error: ValidationError) -> str:
    """Return the first problem of a request, with its flag."""
    (first, *_) = error.errors()
    name = str(first["loc"][0])
    message = describe_expectation(first)
    return f"--{name.replace('_', '-')}{':' if message.startswith('expected') else ''} {message}"


def request_flags(request: Request) -> list[str]:
    """Return the flags of a request that differ from the defaults, for both command lines."""
    flags = ["--config", str(request.config)]
    if request.stack:
        flags += ["--stack", request.stack]
    for setting in request.settings:
        flags += ["--set", setting]
    if not request.cache:
        flags.append("--no-cache")
    if request.schedule:
        flags += ["--schedule", request.schedule]
    for name in own_fields(type(request)):
        value = getattr(request, name)
        if value != type(request).model_fields[name].default:
            flags += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return flags


def run_inspection(path: Path, output: Path | None, settings: Sequence[str], command: Sequence[str]) -> None:
    """Inspect a data set, write its pages and a use case, and print a description.

    Args:
        path: A folder or an archive.
        output: Folder for the pages; None for ``inspections/NAME``.
        settings: Settings below ``data`` as `KEY=VALUE`, without ``data.``.
        command: Command line that trains with ``--config FILE``, as words.

    Raises:
        VisionOpsError: The data cannot be read, or the pages cannot be written.
    """
    from steps.progress import progress
    from visionops.home import visionops_home
    from visionops.inspection import inspect_data, stops_training, summary_lines, write_inspection

    with progress("inspect", 0) as report:
        found = inspect_data(
            path, visionops_home() / "data", settings, lambda what, done, total: report(done, what, total)
        )
    files = write_inspection(found, output or Path("inspections") / found.name)
    print("\n".join(summary_lines(found)))
    print(f"written   {', '.join(map(str, files))}")
    if stops_training(found):
        print("training would stop on the errors above; fix them, or set validation.severities in the use case")
    print(f"\n{_typed([*command, '--config', str(files[-1])])}")


def _typed(words: Sequence[str]) -> str:
    """Return a command line as it is typed here."""
    return f"{program(words[0])} {shlex.join(words[1:])}"
