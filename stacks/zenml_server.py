"""Check the ZenML server that the client uses, if any."""

from __future__ import annotations

import os
import re
from pathlib import Path

import requests
import typer

from visionops.errors import StackError

__all__ = ["active_stack_name", "has_store", "ignore_empty_store", "require_zenml_server"]

_FALLBACK = "local"
_ZENML_DEFAULT = "default"
_PATIENCE_S = 10
_SERVER = re.compile(r"^\s+url: *['\"]?https?://", re.MULTILINE)
"""Line of ZenML's own settings while it is connected to a server."""


def ignore_empty_store() -> None:
    """Remove variables of ZenML's store that are empty from the environment.

    A workflow or a compose file also sets variables without a value, and ZenML fails with a traceback on an empty
    address.
    """
    for name in [name for name, value in os.environ.items() if name.startswith("ZENML_STORE_") and not value]:
        del os.environ[name]


def has_store() -> bool:
    """Return whether ZenML has stacks: on a server, or in a database that an earlier run has made. Imports no ZenML."""
    if os.environ.get("ZENML_STORE_URL"):
        return True
    folder = Path(os.environ.get("ZENML_CONFIG_PATH") or typer.get_app_dir("zenml"))
    try:
        settings = (folder / "config.yaml").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        settings = ""
    stores = Path(os.environ.get("ZENML_LOCAL_STORES_PATH") or folder / "local_stores")
    return bool(_SERVER.search(settings)) or any(stores.glob("*/zenml.db"))


def active_stack_name() -> str:
    """Return the name of ZenML's active stack, or `local` instead of ZenML's own default."""
    from zenml.client import Client

    active = str(Client().active_stack_model.name)
    return _FALLBACK if active == _ZENML_DEFAULT else active


def require_zenml_server(patience: float = _PATIENCE_S) -> None:
    """Check that the ZenML server answers, before ZenML retries for a minute and prints a traceback.

    Args:
        patience: Seconds for it to answer.

    Raises:
        StackError: The server does not answer. An embedded store (no server) always passes.
    """
    ignore_empty_store()
    from zenml.config.global_config import GlobalConfiguration

    url = str(GlobalConfiguration().store_configuration.url)
    if not url.startswith(("http://", "https://")):
        return
    try:
        requests.get(f"{url.rstrip('/')}/health", timeout=patience).raise_for_status()
    except requests.RequestException as error:
        fix = "zenml login --local" if "127.0.0.1" in url or "localhost" in url else f"zenml login {url}"
        raise StackError(
            f"ZenML server {url}: does not answer ({type(error).__name__}); start it with `{fix}`, or go back to the "
            "embedded store with `zenml logout`"
        ) from error
