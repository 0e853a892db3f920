"""A separate ZenML for a test: an empty database and an empty VISIONOPS_HOME."""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock

from tests.conftest import ROOT
from tests.helpers.programs import free_port, started

__all__ = ["empty_database", "own_zenml", "zenml_server"]

_DATABASE = Path("config", "local_stores", "default_zen_store", "zenml.db")


def empty_database(factory: pytest.TempPathFactory) -> Path:
    """Return ZenML's database after its migrations, created by the first worker and copied by all."""
    run = factory.getbasetemp()
    shared = run.parent if "PYTEST_XDIST_WORKER" in os.environ else run
    made = shared / "zenml-empty.db"
    with FileLock(shared / "zenml-empty.lock"):
        if not made.exists():
            folder = factory.mktemp("zenml-template")
            with own_zenml(folder):
                pass
            shutil.copyfile(folder / _DATABASE, made)
    return made


@contextmanager
def own_zenml(folder: Path, database: Path | None = None) -> Iterator[Path]:
    """Give this process its own ZenML in ``folder`` while the block runs, and restore the earlier one afterwards.

    Args:
        database: An `empty_database` to start from. Without it ZenML creates one, in 7 seconds of processor time.

    Yields:
        VISIONOPS_HOME.
    """
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("ACTIVE_PROJECT_ID", "ACTIVE_STACK_ID", "LOCAL_STORES_PATH", "STORE_URL"):
            patch.delenv(f"ZENML_{variable}", raising=False)
        patch.setenv("ZENML_CONFIG_PATH", str(folder / "config"))
        patch.setenv("ZENML_ANALYTICS_OPT_IN", "false")
        patch.setenv("VISIONOPS_HOME", str(folder / "visionops"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # those of ZenML and SQLAlchemy about their own code
            from zenml.client import Client
            from zenml.config.global_config import GlobalConfiguration
            from zenml.stack import stack
            from zenml.utils import source_utils

        if database:
            (folder / _DATABASE).parent.mkdir(parents=True)
            shutil.copyfile(database, folder / _DATABASE)
        before = (GlobalConfiguration.get_instance(), Client.get_instance(), source_utils._CUSTOM_SOURCE_ROOT)
        # Its keys are ids and times, which copies of one database share.
        stacks = dict(stack._STACK_CACHE)
        stack._STACK_CACHE.clear()
        GlobalConfiguration._reset_instance()
        Client._reset_instance()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            store = GlobalConfiguration().zen_store  # created on first use
        source_utils.set_custom_source_root(str(ROOT))  # a worker of xdist has no main module to find it by
        try:
            yield folder / "visionops"
        finally:
            store.engine.dispose()
            GlobalConfiguration._reset_instance(before[0])
            Client._reset_instance(before[1])
            stack._STACK_CACHE.clear()
            stack._STACK_CACHE.update(stacks)
            source_utils.set_custom_source_root(before[2])


@contextmanager
def zenml_server(folder: Path, password: str = "") -> Iterator[str]:
    """Start a ZenML server; yield its address while the block runs.

    Args:
        password: Password of its user `default`. Without one there is no login, and ZenML refuses heartbeats of steps.
    """
    port, home = free_port(), folder / "zenml-server"
    home.mkdir()
    settings = {
        "ZENML_CONFIG_PATH": str(home),
        "ZENML_STORE_URL": f"sqlite:///{home}/zenml.db",
        "ZENML_SERVER": "true",
        "ZENML_SERVER_AUTO_ACTIVATE": "true",
        "ZENML_SERVER_AUTH_SCHEME": "OAUTH2_PASSWORD_BEARER" if password else "NO_AUTH",
        "ZENML_DEFAULT_USER_PASSWORD": password,
        "ZENML_SERVER_DEPLOYMENT_TYPE": "other",
    }
    command = [sys.executable, "-m", "uvicorn", "zenml.zen_server.zen_server_api:app", "--host=127.0.0.1"]
    with started(folder, port, *command, f"--port={port}", ready="/health", env=settings, seconds=600):
        yield f"http://127.0.0.1:{port}"
