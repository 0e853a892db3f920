"""Check experiment trackers other than MLflow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stacks.doctor.findings import CheckResult, Examined, broken, ok, warning
from stacks.doctor.machine import check_folder
from stacks.doctor.web import ask
from stacks.tracking import ADAPTERS
from visionops.errors import StackError
from visionops.home import visionops_home

__all__ = ["check_trackio", "check_unknown_tracker", "check_wandb"]

_WANDB = "https://api.wandb.ai"
_OFF = {"offline", "dryrun"}


def check_wandb(examined: Examined) -> Iterator[CheckResult]:
    """Check the server of W&B with the component's key, or the folder of its runs in offline mode."""
    own = examined.component.configuration
    start: dict[str, Any] = own.get("init_kwargs") or {}
    mode = str(start.get("mode") or (own.get("settings") or {}).get("mode") or os.environ.get("WANDB_MODE") or "online")
    if mode in _OFF:
        if examined.is_remote:
            yield warning(
                "offline, but steps run elsewhere: runs are lost with their pods", "set init_kwargs.mode to online"
            )
        folder = start.get("dir") or os.environ.get("WANDB_DIR")
        yield from check_folder(Path(folder) if folder else Path.cwd(), "runs, offline")
        return
    url = os.environ.get("WANDB_BASE_URL", _WANDB).rstrip("/")
    try:
        # W&B also answers without a key, with an empty viewer.
        query = {"query": "query { viewer { username } }"}
        answer = ask(f"{url}/graphql", method="POST", login=("api", str(own.get("api_key") or "")), parameters=query)
    except StackError as error:
        yield broken(f"{url}: W&B does not answer ({error})", "set init_kwargs.mode to offline, or WANDB_BASE_URL")
        return
    if answer.status_code in {401, 403}:
        yield broken(
            f"{url}: refuses the key ({answer.status_code})",
            "set a valid api_key (WANDB_API_KEY), then apply the stack",
        )
    elif not answer.ok:
        yield broken(f"{url}: fails ({answer.status_code})", "retry, then see the server's log")
    else:
        yield ok(f"{url}: W&B answers")


def check_trackio(examined: Examined) -> Iterator[CheckResult]:
    """Check the server of Trackio, or the folder of its database."""
    url = str(examined.component.configuration.get("server_url") or os.environ.get("TRACKIO_SERVER_URL") or "")
    if not url:
        if examined.is_remote:
            yield warning(
                "a folder, but steps run elsewhere: runs are lost with their pods", "set server_url to its server"
            )
        folder = os.environ.get("TRACKIO_DIR") or visionops_home() / "trackio"
        yield from check_folder(Path(folder), "runs")
        return
    shown = url.partition("?")[0]  # a write token may follow
    try:
        answer = ask(shown)
    except StackError as error:
        yield broken(
            f"{shown}: Trackio does not answer ({error})", "start it with `trackio show`, or correct server_url"
        )
        return
    if answer.ok:
        yield ok(f"{shown}: Trackio answers")
    else:
        yield broken(f"{shown}: fails ({answer.status_code})", "see its log, or correct server_url")


def check_unknown_tracker(examined: Examined) -> Iterator[CheckResult]:
    """Report a tracker that steps cannot write to."""
    yield broken(f"no adapter for flavor {examined.component.flavor}", f"use a tracker of flavor {', '.join(ADAPTERS)}")
