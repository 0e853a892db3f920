"""Answer questions about models, runs and data, one JSON line each, until the input ends: ``python -m launch.facts``.

The console keeps this process running, because ZenML and MLflow take seconds to load and do not belong in a server.
A question is
``{"fact": NAME, "arguments": {...}}``, its answer ``{"result": ...}`` or ``{"error": "one line"}``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from launch.endpoints import endpoints
from launch.facts_data import data, data_card, data_images
from launch.facts_endpoints import traffic_of
from launch.facts_monitoring import monitoring_of, verdicts_of
from launch.facts_pictures import differences_of, pictures_of
from launch.facts_runs import run_of, runs_of
from launch.facts_versions import versions_of
from visionops.errors import VisionOpsError

__all__ = ["FACTS", "main"]


def models(stack: str | None, names: list[str]) -> dict[str, Any]:
    """Return the champion and the newest versions of each use case; see `launch.models.models_of`."""
    from launch.models import models_of

    return models_of(names, stack)


FACTS: dict[str, Callable[..., Any]] = {
    "models": models,
    "data": data,
    "data_card": data_card,
    "data_images": data_images,
    "differences": differences_of,
    "endpoints": endpoints,
    "monitoring": monitoring_of,
    "pictures": pictures_of,
    "run": run_of,
    "runs": runs_of,
    "traffic": traffic_of,
    "verdicts": verdicts_of,
    "versions": versions_of,
}
"""Functions by fact name; each takes the stack and the arguments of the question."""


def main() -> int:
    """Answer until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m launch.facts", description=__doc__)
    parser.add_argument("--stack", help="stack to read; the active one when absent")
    stack: str | None = parser.parse_args().stack
    # Output of libraries must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        answers.write(json.dumps(_answer(stack, line), default=str) + "\n")
        answers.flush()
    return 0


def _answer(stack: str | None, line: str) -> dict[str, Any]:
    try:
        question = json.loads(line)
        return {"result": FACTS[question["fact"]](stack, **question["arguments"])}
    except VisionOpsError as error:
        return {"error": str(error)}
    except Exception as error:  # noqa: BLE001 - the console shows the error, and this process answers the next question
        sys.excepthook(type(error), error, error.__traceback__)
        return {"error": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    sys.exit(main())
