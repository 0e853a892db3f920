"""Check tracking servers and databases of MLflow, and its model registry."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sqlite3
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from stacks.doctor.findings import CheckResult, Examined, broken, of_error, ok, warning
from stacks.doctor.machine import check_folder
from stacks.doctor.s3 import check_bucket
from stacks.doctor.web import ask
from stacks.spec import ComponentType
from visionops.errors import StackError, VisionOpsError
from visionops.registry import ModelRegistry

__all__ = ["check_registry", "check_tracker"]

_VERSION = re.compile(r"(\d+)\.(\d+)\.\d+\S*")
_REVISION = re.compile(r"""^(down_)?revision\b.*?["'](\w+)["']""", re.MULTILINE)
_API = "api/2.0/mlflow"


def check_tracker(examined: Examined) -> Iterator[CheckResult]:
    """Check the server of an experiment tracker with the component's login, or its database."""
    own = examined.component.configuration
    uri = str(own.get("tracking_uri") or "")
    if uri.startswith(("http://", "https://")):
        yield from _check_server(uri, own)
    elif uri:
        if uri.startswith("sqlite:///") and examined.is_remote:
            yield broken("a database on this machine, but steps run elsewhere", "run `mlflow server`, and set its URL")
        yield from _check_database(uri)
    else:
        yield ok("beside the artifact store")


def check_registry(examined: Examined) -> Iterator[CheckResult]:
    """Check the model registry, its own or the tracker's, with the environment's login, as a run uses it."""
    tracker = examined.stack.components.get(ComponentType.EXPERIMENT_TRACKER)
    beside = str(tracker.configuration.get("tracking_uri") or "") if tracker and tracker.flavor == "mlflow" else None
    uri = str(examined.component.configuration.get("uri") or "") or beside
    if uri is None:
        yield broken("needs an MLflow tracker, which the stack lacks", "use flavor visionops_mlflow, with a uri")
    elif uri.startswith(("http://", "https://")):
        token = os.environ.get("MLFLOW_TRACKING_TOKEN")
        user = os.environ.get("MLFLOW_TRACKING_USERNAME")
        password = os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
        own: dict[str, Any] = {"tracking_token": token, "tracking_username": user, "tracking_password": password}
        own["tracking_insecure_tls"] = os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "") == "true"
        if uri != beside:
            yield from _check_server(uri, own)
        login = "set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and _PASSWORD, which run.py uses"
        answer = _search(uri, "registered-models", own, login)
        where = "the tracker's server" if uri == beside else f"{uri}: its registry"
        yield ok(f"{where} answers") if isinstance(answer, dict) else answer
    elif uri == beside:
        yield ok("in the tracker's database")
    else:
        if uri.startswith("sqlite:///") and examined.is_remote:
            yield broken("a database on this machine, but steps run elsewhere", "run `mlflow server`, and set its URL")
        yield from _check_database(uri)


def _check_server(uri: str, own: dict[str, Any]) -> Iterator[CheckResult]:
    try:
        answer = ask(f"{uri.rstrip('/')}/version", verify=not own.get("tracking_insecure_tls"))
    except StackError as error:
        yield broken(f"{uri}: MLflow does not answer ({error})", "start its server, or set VISIONOPS_MLFLOW to its URL")
        return
    theirs = _VERSION.fullmatch(answer.text.strip())
    if answer.status_code in {401, 403}:
        pass  # a proxy guards every path; the search below tests the login
    elif not answer.ok or not theirs:
        yield broken(f"{uri}: answers, but is not MLflow ({_words(answer)})", "set VISIONOPS_MLFLOW to its server")
        return
    login = "set a valid token or password (MLFLOW_TRACKING_TOKEN), then apply the stack"
    found = _search(uri, "experiments", own, login)
    if isinstance(found, CheckResult):
        yield found
    ours = _VERSION.fullmatch(version("mlflow"))
    if theirs and ours and theirs[1] != ours[1]:
        yield broken(f"{uri}: MLflow {theirs[0]}, but this machine has {ours[0]}", f"run MLflow {ours[0]} there")
    elif theirs and ours and int(theirs[2]) < int(ours[2]):
        yield warning(f"{uri}: MLflow {theirs[0]} is older than {ours[0]} here", f"run MLflow {ours[0]} there")
    elif theirs and not isinstance(found, CheckResult):
        yield ok(f"{uri}: MLflow {theirs[0]}")
    if not isinstance(found, CheckResult):
        yield from _check_artifacts(uri, found, own)


def _check_artifacts(uri: str, found: dict[str, Any], own: dict[str, Any]) -> Iterator[CheckResult]:
    """Check that runs can write files to the artifact location of the server."""
    places = [str(experiment.get("artifact_location", "")) for experiment in found.get("experiments", ())]
    if not places:
        return
    place = places[0]
    if place.startswith("mlflow-artifacts:"):
        try:
            answer = _get(f"{uri.rstrip('/')}/api/2.0/mlflow-artifacts/artifacts", own)
        except StackError as error:
            yield warning(
                f"{uri}: does not list its artifacts ({error})", "retry, then check the server's artifact store"
            )
            return
        if not answer.ok:
            yield broken(
                f"{uri}: cannot read its artifacts ({_words(answer)})",
                "give it credentials for its --artifacts-destination",
            )
    elif place.startswith("s3://"):
        endpoint = os.environ.get("MLFLOW_S3_ENDPOINT_URL")
        findings = check_bucket(place, {"endpoint_url": endpoint} if endpoint else {}, {})
        yield from (finding for finding in findings if finding.fix)
    elif place.startswith(("/", "file:", "./")):
        yield warning(
            f"{uri}: keeps artifacts in {place}, which only its own machine can write",
            "start it with --serve-artifacts and --artifacts-destination",
        )


def _search(uri: str, what: str, own: dict[str, Any], login: str) -> dict[str, Any] | CheckResult:
    """Return the answer of a search, or a finding that describes the problem.

    Args:
        login: Fix to suggest when the server refuses the login.
    """
    try:
        answer = _get(f"{uri.rstrip('/')}/{_API}/{what}/search", own, max_results=1)
        if answer.status_code == 401:
            return broken(f"{uri}: refuses the login (401)", login)
        if answer.status_code == 403:
            return broken(
                f"{uri}: forbids the request (403 {_words(answer)})", "grant this user the right, or allow this host"
            )
        if not answer.ok:
            return broken(f"{uri}: fails ({_words(answer)})", "see the server's log; its database may be down")
        found: dict[str, Any] = answer.json()
    except requests.JSONDecodeError:
        return broken(f"{uri}: answers, but is not MLflow", "log in to the proxy in front of it, or correct the URL")
    except StackError as error:
        return broken(f"{uri}: does not answer about {what} ({error})", "start its server, or see its log")
    return found


def _get(url: str, own: dict[str, Any], **parameters: int) -> requests.Response:
    token, user = own.get("tracking_token"), own.get("tracking_username")
    return ask(
        url,
        headers={"Authorization": f"Bearer {token}"} if token else None,
        login=(str(user), str(own.get("tracking_password") or "")) if user and not token else None,
        parameters=parameters,
        verify=not own.get("tracking_insecure_tls"),
    )


def _check_database(uri: str) -> Iterator[CheckResult]:
    if uri.startswith("sqlite:///"):
        path = Path(uri.removeprefix("sqlite:///"))
        yield from check_folder(path.parent, "the tracking database")
        if path.exists():
            yield from _check_schema(path)
        return
    try:
        ModelRegistry(uri).ping()
    except VisionOpsError as error:
        yield of_error(error)
    else:
        yield ok(f"{urlsplit(uri).hostname}: opens, and matches the installed MLflow")


def _check_schema(path: Path) -> Iterator[CheckResult]:
    """Check that the installed MLflow can open a database, without importing MLflow, which takes seconds."""
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            ((found,),) = database.execute("SELECT version_num FROM alembic_version").fetchall()
    except (sqlite3.Error, ValueError) as error:
        yield broken(f"{path}: not a database of MLflow ({error})", "restore it, or move it away to get a new one")
        return
    known, newest = _schemas()
    if found in newest:
        yield ok(f"{path}: matches the installed MLflow")
    elif found in known:
        yield broken(
            f"{path}: written by an older MLflow",
            f"back it up, then mlflow db upgrade {shlex.quote(f'sqlite:///{path}')}",
        )
    else:
        yield broken(
            f"{path}: written by a newer MLflow than {version('mlflow')}", "install the newer MLflow, or move it away"
        )


def _schemas() -> tuple[set[str], set[str]]:
    """Return the schema versions that MLflow's migrations know, and the newest of them."""
    place = find_spec("mlflow")
    folders = (place.submodule_search_locations if place else None) or ()
    known: set[str] = set()
    replaced: set[str] = set()
    for folder in folders:
        for path in Path(folder, "store", "db_migrations", "versions").glob("*.py"):
            for down, name in _REVISION.findall(path.read_text(encoding="utf-8")):
                (replaced if down else known).add(name)
    return known, known - replaced


def _words(answer: requests.Response) -> str:
    try:
        said = str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        said = answer.text
    return f"{answer.status_code} {' '.join(said.split())[:160]}".strip()
