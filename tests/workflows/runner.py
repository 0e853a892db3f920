"""Runs the `run:` steps of a GitHub workflow on this machine, in a folder, as a runner of GitHub would.

Expressions are put in, conditions hold or do not, and what a step writes to GITHUB_ENV and GITHUB_OUTPUT is there for
the next. Steps of others (`uses:`) are left out and listed.
"""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import ROOT

__all__ = ["Ran", "jobs_of", "run_job"]

_EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}")
_TOKEN = re.compile(r"\s*('(?:[^']|'')*'|&&|\|\||==|!=|!|\(|\)|[\w.-]+)")
_Context = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Ran:
    """What came of a job."""

    code: int
    """Exit code of the first step that failed, else 0."""
    output: str
    """What the steps printed, those that ran."""
    names: tuple[str, ...]
    """Steps that ran, by name or first line."""
    left_out: tuple[str, ...]
    """Actions of others that would have run."""


def jobs_of(workflow: str) -> dict[str, Any]:
    """Return the jobs of a workflow."""
    found: dict[str, Any] = _read(workflow)["jobs"]
    return found


def run_job(workflow: str, job: str, folder: Path, context: _Context, programs: Path | None = None) -> Ran:
    """Run the steps of a job.

    Args:
        context: `github`, `inputs`, `vars`, `secrets` and `matrix`, each a mapping.
        programs: A folder of stand-ins for programs that this machine has not.
    """
    text = _read(workflow)
    own = text["jobs"][job]
    files = {name: folder.parent / f"{folder.name}-{name}" for name in ("GITHUB_ENV", "GITHUB_OUTPUT")}
    variables = _substituted(text.get("env", {}) | own.get("env", {}), context)
    github = {f"GITHUB_{name.upper()}": str(value) for name, value in context.get("github", {}).items()}
    github["GITHUB_WORKSPACE"] = str(folder)
    code, output, names, left_out = 0, "", [], []
    outputs: dict[str, Any] = {}
    for step in own["steps"]:
        now = dict(context) | {"steps": outputs, "env": variables, "failed": code != 0}
        if not _holds(str(step.get("if", "success()")), now):
            continue
        if "uses" in step:
            left_out.append(step["uses"].partition("@")[0])
            continue
        for path in files.values():
            path.write_text("")
        path = os.pathsep.join(str(part) for part in (programs, os.environ["PATH"]) if part)
        environment = os.environ | github | variables | _substituted(step.get("env", {}), now)
        environment |= {name: str(file) for name, file in files.items()} | {"PATH": path}
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        output += done.stdout
        names.append(step.get("name") or step["run"].splitlines()[0])
        code = code or done.returncode
        variables |= _pairs(files["GITHUB_ENV"])
        if "id" in step:
            outputs[step["id"]] = {"outputs": _pairs(files["GITHUB_OUTPUT"])}
    return Ran(code, output, tuple(names), tuple(left_out))


def _read(workflow: str) -> Any:
    return yaml.safe_load((ROOT / ".github" / "workflows" / f"{workflow}.yml").read_text(encoding="utf-8"))


def _pairs(path: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in path.read_text().splitlines())


def _substituted(values: Mapping[str, Any], context: _Context) -> dict[str, str]:
    def put(found: re.Match[str]) -> str:
        value = evaluate(found[1], context)
        return "" if value is None else str(value)

    return {name: _EXPRESSION.sub(put, str(value)) for name, value in values.items()}


def _holds(condition: str, context: _Context) -> bool:
    inner = _EXPRESSION.fullmatch(condition)
    text = inner[1] if inner else condition
    asks = re.search(r"\b(always|failure|success)\(\)", text)
    return bool(evaluate(text, context)) and (asks is not None or not context["failed"])


def evaluate(text: str, context: _Context) -> Any:
    """Return the value of an expression of names, strings, operators and functions of state."""
    tokens = _TOKEN.findall(text)
    value = _either(tokens, context)
    assert not tokens, text
    return value


def _either(tokens: list[str], context: _Context) -> Any:
    value = _both(tokens, context)
    while tokens and tokens[0] == "||":
        del tokens[0]
        other = _both(tokens, context)
        value = value or other
    return value


def _both(tokens: list[str], context: _Context) -> Any:
    value = _compared(tokens, context)
    while tokens and tokens[0] == "&&":
        del tokens[0]
        other = _compared(tokens, context)
        value = value and other
    return value


def _compared(tokens: list[str], context: _Context) -> Any:
    value = _single(tokens, context)
    if tokens and tokens[0] in {"==", "!="}:
        is_equal = tokens.pop(0) == "=="
        return ((value or "") == (_single(tokens, context) or "")) is is_equal
    return value


def _single(tokens: list[str], context: _Context) -> Any:
    token = tokens.pop(0)
    if token == "!":
        return not _single(tokens, context)
    if token == "(":
        value = _either(tokens, context)
        assert tokens.pop(0) == ")"
        return value
    if token.startswith("'"):
        return token[1:-1].replace("''", "'")
    if tokens[:2] == ["(", ")"]:
        del tokens[:2]
        return {"always": True, "failure": context["failed"], "success": not context["failed"]}[token]
    return _looked_up(token.split("."), context)


def _looked_up(path: Sequence[str], context: _Context) -> Any:
    value: Any = context
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
