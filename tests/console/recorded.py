"""Run a console with recorded answers of ZenML and MLflow, so that no test waits for them.

python -m tests.console.recorded record FILE NAME      # ask the real facts, as VISIONOPS_HOME and ZenML have them
python -m tests.console.recorded serve FILE …          # the console, with the options of `visionops console`
python -m tests.console.recorded answer FILE           # in place of `python -m launch.facts`
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

RECORDING = Path(__file__).with_name("recorded.json")
"""Recorded answers for the sample with rendered images: a training, a drill, its monitoring, a refused training."""

_SILENT = "http://127.0.0.1:9"
"""Address on which nothing listens."""


def main(arguments: list[str]) -> int:
    action, file, *rest = arguments
    if action == "record":
        return _record(Path(file), rest[0])
    if action == "answer":
        return _answer(Path(file))
    from deploy.console.__main__ import main as serve
    from deploy.console.facts import Facts

    Facts.PROGRAM = ("-m", "tests.console.recorded", "answer", file)
    return serve(rest)


def key_of(question: dict[str, Any]) -> str:
    """Return the name of a query, without parts that differ between machines."""
    arguments = {name: value for name, value in question["arguments"].items() if name not in {"file", "files"}}
    return json.dumps([question["fact"], arguments], sort_keys=True)


def _answer(file: Path) -> int:
    known = json.loads(file.read_text())
    recorded = {json.loads(key)[0] for key in known}
    for line in sys.stdin:
        question = json.loads(line)
        if question["fact"] in recorded:
            found = known.get(key_of(question), {"error": "was not recorded"})
        else:
            found = _ask(question)
        sys.stdout.write(json.dumps(found, default=str) + "\n")
        sys.stdout.flush()
    return 0


def _ask(question: dict[str, Any]) -> dict[str, Any]:
    """Query a real fact that is not recorded."""
    from launch.facts import FACTS
    from visionops.errors import VisionOpsError

    try:
        return {"result": FACTS[question["fact"]](None, **question["arguments"])}
    except VisionOpsError as error:
        return {"error": str(error)}


def _record(file: Path, name: str) -> int:
    from launch.facts import FACTS
    from tests.conftest import ROOT
    from visionops.home import visionops_home

    files = {name: str(ROOT / "configs" / f"{name}.yaml")}
    questions: list[dict[str, Any]] = [
        {"fact": "models", "arguments": {"names": [name]}},
        {"fact": "endpoints", "arguments": {}},
        {"fact": "traffic", "arguments": {"files": files}},
        {"fact": "verdicts", "arguments": {"names": [name]}},
        {"fact": "runs", "arguments": {}},
        {"fact": "versions", "arguments": {"name": name}},
        {"fact": "monitoring", "arguments": {"name": name}},
        {"fact": "pictures", "arguments": {"name": name, "file": files[name]}},
        {"fact": "differences", "arguments": {"name": name, "first": "2", "second": "1"}},
        *({"fact": "run", "arguments": {"name": run["name"]}} for run in FACTS["runs"](None)["runs"]),
    ]
    found = {key_of(one): {"result": FACTS[one["fact"]](None, **one["arguments"])} for one in questions}
    for one in found[key_of(questions[1])]["result"]["endpoints"]:
        one["url"] = _SILENT
    text = json.dumps(found, indent=1, sort_keys=True).replace(str(visionops_home()), "/var/lib/visionops")
    file.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
